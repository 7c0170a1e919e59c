//! The real binary on a port of the kernel's choice.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the message")]

mod bounds;
mod hostile;
mod speech;
mod start;
mod support;
mod voices;
mod whisper;
mod workers;
