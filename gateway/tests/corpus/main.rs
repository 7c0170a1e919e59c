//! Requests that smuggle or are malformed, written byte by byte to the real gateway, in front of a
//! canary that keeps every byte it gets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod canary;
mod floods;
mod frames;
mod h2;
mod http1;
#[expect(dead_code, unused_imports, reason = "shared with the tests of the edge")]
#[path = "../edge/support/mod.rs"]
mod support;
mod table;
