//! The side of the clients: connections taken, shaken hands with, and served.

pub mod listen;
pub mod redirect;
pub mod screen;
pub mod screened;
pub mod tls;
pub mod unread;
