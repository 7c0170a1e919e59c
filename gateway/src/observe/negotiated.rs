//! How a connection was negotiated, in words for metrics and logs: small fixed sets.

use rustls::CommonState;
use rustls::NamedGroup;
use rustls::ProtocolVersion;

/// How a connection was negotiated; the same for all its requests.
#[derive(Clone, Copy, Debug)]
pub struct Negotiated {
    /// `1.2` or `1.3`.
    pub tls: &'static str,
    /// `h3`, `h2`, `http/1.1` or `none`.
    pub alpn: &'static str,
    /// The key exchange, see [`key_exchange`].
    pub key_exchange: &'static str,
}

impl Negotiated {
    /// What a finished handshake over TCP came to.
    pub fn of(session: &CommonState) -> Self {
        // A resumption in TLS 1.2 exchanges no keys.
        let group = session.negotiated_key_exchange_group();
        Self {
            tls: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            },
            alpn: match session.alpn_protocol() {
                Some(b"h2") => "h2",
                Some(_) => "http/1.1",
                None => "none",
            },
            key_exchange: group.map_or("none", |group| key_exchange(group.name())),
        }
    }

    /// What is spoken over the connection.
    pub fn protocol(&self) -> Protocol {
        match self.alpn {
            "h3" => Protocol::Http3,
            "h2" => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }
}

/// The name of a group of key exchange (IANA's, "TLS Supported Groups").
pub fn key_exchange(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::secp256r1MLKEM768 => "secp256r1MLKEM768",
        NamedGroup::MLKEM768 => "MLKEM768",
        NamedGroup::MLKEM1024 => "MLKEM1024",
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        _ => "other",
    }
}

/// What a client's connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS, so far.
    Handshake,
    Http1,
    Http2,
    Http3,
    /// HTTP/1.1 without TLS.
    Plain,
}

impl Protocol {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
            Self::Plain => "plain",
        }
    }
}
