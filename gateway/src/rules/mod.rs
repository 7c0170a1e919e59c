//! What a request must be, and what is changed in it: pure, tested by examples and properties.

pub mod addresses;
pub mod domain;
pub mod flood;
pub mod forwarded;
pub mod hop;
pub mod policy;
pub mod proxied;
pub mod rate;
pub mod route;
pub mod routes_file;
pub mod table;
pub mod trace;
pub mod websocket;
pub mod ws_frames;
