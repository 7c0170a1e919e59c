//! TLS as it is offered, and certificates by name, swapped while running.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;

/// Protocols by ALPN (RFC 7301), the preferred one first. Who offers none gets HTTP/1.1.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The protocol over QUIC.
const ALPN_QUIC: &[u8] = b"h3";

/// The certificates in use. A new handshake sees a swap at once; connections live on.
#[derive(Debug, Default)]
pub struct Certificates(ArcSwap<Shelf>);

#[derive(Debug, Default, Clone)]
struct Shelf {
    /// By name in lower case; `*.example.org` covers one level.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name no server or one that we do not know (an address, say).
    other: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Serves `key` for `names` from now on, and for unknown names when it is the first.
    pub fn serve(&self, names: &[String], key: &Arc<CertifiedKey>) {
        self.0.rcu(|shelf| {
            let mut shelf = Shelf::clone(shelf);
            for name in names {
                shelf.by_name.insert(name.clone(), Arc::clone(key));
            }
            shelf.other = shelf.by_name.get(&names[0]).cloned();
            shelf
        });
    }

    /// The certificate for `name`.
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let shelf = self.0.load();
        let named = name.and_then(|name| {
            let wildcard = || {
                let (_, parent) = name.split_once('.')?;
                shelf.by_name.get(&format!("*.{parent}"))
            };
            shelf.by_name.get(name).or_else(wildcard)
        });
        named.or(shelf.other.as_ref()).cloned()
    }
}

/// True when a certificate for `names` covers `host`: by name, or by a wildcard one level above
/// (RFC 6125 §6.4.3).
pub fn covers(names: &[String], host: &str) -> bool {
    names.iter().any(|name| match name.strip_prefix('*') {
        Some(parent) => host.split_once('.').is_some_and(|(first, _)| {
            !first.is_empty() && host.strip_prefix(first) == Some(parent)
        }),
        None => name == host,
    })
}

/// Lets rustls ask; the trait wants a type of its own around the shared handle.
#[derive(Debug)]
struct ByName(Arc<Certificates>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        self.0.find(hello.server_name())
    }
}

/// TLS 1.2 and 1.3, X25519MLKEM768 first, with tickets that need no memory of ours (TLS 1.2 ones
/// included) and outlive every swap of certificates.
///
/// # Errors
///
/// When the system gives no randomness.
pub fn server_config(
    provider: Arc<CryptoProvider>,
    certificates: Arc<Certificates>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(certificates)));
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
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(certificates)));
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.alpn_protocols = vec![ALPN_QUIC.to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_level() {
        let names = ["example.org", "*.example.org", "192.0.2.1"].map(str::to_owned);
        for (host, expected) in [
            ("example.org", true),
            ("a.example.org", true),
            ("a.b.example.org", false),
            (".example.org", false),
            ("xexample.org", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("org", false),
        ] {
            assert_eq!(covers(&names, host), expected, "{host}");
        }
    }
}
