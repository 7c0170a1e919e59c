//! Starts real binaries and real images and talks to them; links none of them.
//!
//! [`Service`] is one binary on a port of the kernel's choice, for the tests beside a crate.
//! [`Stack`] is the whole of Compose, started by `./test`, for the tests in `tests/system`.

mod http;
mod service;
mod stack;

pub use http::Reply;
pub use http::get;
pub use http::send;
pub use service::Service;
pub use stack::Output;
pub use stack::Stack;
pub use stack::run;
