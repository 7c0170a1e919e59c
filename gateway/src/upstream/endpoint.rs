//! Where one replica listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// An address of a replica, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// HTTP over TCP.
    Tcp(SocketAddr),
    /// HTTP/2 over TCP, from the first byte.
    H2c(SocketAddr),
    /// HTTPS; the name is the one that the certificate must have.
    Tls(SocketAddr, Arc<str>),
    /// HTTP over a socket in the file system.
    Unix(Arc<Path>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::H2c(address) => write!(out, "h2c://{address}"),
            Self::Tls(address, name) => write!(out, "{address} as {name}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}
