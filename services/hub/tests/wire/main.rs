//! The real hub, asked over raw `WebSockets` by a client library that is not ours. **Must** in a name or a
//! comment means: real exporters and agents depend on it.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the message")]

mod addresses;
mod bounds;
mod dialect;
mod http;
mod keepalive;
mod login;
mod peer;
mod places;
mod queue;
mod races;
mod reservations;
mod start;
