//! The real images under Compose, with real clients. `./test` starts the stack and then these.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the message")]

mod contract;
mod deploying;
mod farm;
mod images;
mod machine;
mod outside;
mod own_service;
mod replacing;
mod scrape;
mod speech;
mod stack;
mod upping;
