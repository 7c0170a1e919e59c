//! TLS as it is offered.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;

use crate::certs::acme::challenges;
use crate::certs::acme::challenges::Challenges;
use crate::edge::certificates::ByName;
use crate::edge::certificates::Certificates;

/// Protocols by ALPN (RFC 7301), the preferred one first. Who offers none gets HTTP/1.1.
const ALPN: [&[u8]; 3] = [b"h2", b"http/1.1", challenges::ALPN];

/// The protocol over QUIC.
const ALPN_QUIC: &[u8] = b"h3";

/// TLS 1.2 and 1.3, X25519MLKEM768 first, with tickets that need no memory of ours (TLS 1.2 ones
/// included) and outlive every swap of certificates.
///
/// # Errors
///
/// When the system gives no randomness.
pub fn server_config(
    provider: Arc<CryptoProvider>,
    certificates: Arc<Certificates>,
    challenges: Challenges,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { certificates, challenges }));
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// The same for QUIC (RFC 9001 §4.2): TLS 1.3 only, and no data before the handshake is done, which
/// others could send again (RFC 9001 §9.2).
///
/// # Errors
///
/// When the system gives no randomness.
pub fn quic_config(
    provider: Arc<CryptoProvider>,
    certificates: Arc<Certificates>,
    challenges: Challenges,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { certificates, challenges }));
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.alpn_protocols = vec![ALPN_QUIC.to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}
