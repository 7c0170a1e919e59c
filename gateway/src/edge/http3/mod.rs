//! HTTP/3 (RFC 9114): h3 on quinn, with the bounds that h3 leaves to others in between.

mod answer;
pub mod body;
pub mod connection;
pub mod endpoint;
mod errors;
mod frames;
mod quic;
mod request;
