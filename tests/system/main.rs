//! The real images under Compose, with real clients. `./test` starts the stack and then these.
