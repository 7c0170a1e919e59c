//! The real gateway binary, asked by real clients of HTTP/3, WebSockets, gRPC and the web, and by a scanner of TLS, which
//! `./test` installs. `cargo test` leaves these out; `./test` runs them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod chromium;
mod grpc;
mod http3;
mod python;
mod sslyze;
#[expect(dead_code, unused_imports, reason = "the tests in edge use the rest")]
#[path = "../edge/support/mod.rs"]
mod support;
mod websockets;
