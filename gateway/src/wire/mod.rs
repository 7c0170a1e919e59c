//! HTTP/1.1 as bytes, for both sides: towards clients and towards services. Nothing here does I/O.

#[cfg_attr(
    not(test),
    allow(dead_code, reason = "the two sides that use it come with the next commits")
)]
pub mod chunked;
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "the two sides that use it come with the next commits")
)]
pub mod fields;
