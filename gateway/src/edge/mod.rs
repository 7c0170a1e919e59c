//! The side of the clients: connections taken, shaken hands with, and served.

pub mod admin;
pub mod arrive;
pub mod certificates;
pub mod clients;
pub mod counted;
pub mod handshake;
pub mod http1;
pub mod http2;
pub mod http3;
pub mod listen;
pub mod plain;
pub mod redirect;
pub mod streams;
pub mod tls;
pub mod unread;
