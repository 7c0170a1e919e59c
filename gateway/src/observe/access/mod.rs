//! The access log: one line a request on stdout. Written by a thread of its own, so that a reader
//! who stalls holds up nobody; what does not fit is dropped and counted.

mod escape;
mod lane;
pub mod line;
mod stamp;
pub mod writer;
