//! HTTP/1.1 as bytes, for both sides: towards clients and towards services.

pub mod ahead;
pub mod chunked;
pub mod fields;
pub mod hex;
