//! What a request must be, and what is changed in it: pure, tested by examples and properties.

pub mod forwarded;
pub mod hop;
pub mod policy;
pub mod route;
