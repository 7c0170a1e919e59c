//! Sessions are resumed in both versions of TLS, and the key exchange that outlives quantum computers
//! is preferred.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::HandshakeKind;
use rustls::NamedGroup;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::SupportedProtocolVersion;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::support::Gateway;
use crate::support::LONG;
use crate::support::Upstream;

fn config(gateway: &Gateway, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gateway.root()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_protocol_versions(&[version]);
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One request on a connection of its own; how the handshake went.
fn handshake(gateway: &Gateway, config: &Arc<ClientConfig>) -> (HandshakeKind, Option<NamedGroup>) {
    let session =
        ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(gateway.https).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let group = stream.conn.negotiated_key_exchange_group().map(|group| group.name());
    (stream.conn.handshake_kind().unwrap(), group)
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    for (version, resumed, by) in [
        // No keys are exchanged again (RFC 5246 §7.3).
        (&rustls::version::TLS12, None, "none"),
        (&rustls::version::TLS13, Some(NamedGroup::X25519MLKEM768), "X25519MLKEM768"),
    ] {
        let config = config(&gateway, version);
        assert_eq!(handshake(&gateway, &config).0, HandshakeKind::Full, "{version:?}");
        for _ in 0..3 {
            let expected = (HandshakeKind::Resumed, resumed);
            assert_eq!(handshake(&gateway, &config), expected, "{version:?}");
        }
        let counted = format!(
            r#"gateway_tls_handshakes_total{{alpn="none",key_exchange="{by}",version="{}"}}"#,
            if by == "none" { "1.2" } else { "1.3" },
        );
        assert!(gateway.metric(&counted).unwrap() >= 3.0, "{counted}");
    }
}
