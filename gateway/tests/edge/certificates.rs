//! The private CA, as OpenSSL sees it.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use openssl::nid::Nid;
use openssl::ssl::SslConnectorBuilder;
use openssl::ssl::SslVersion;
use openssl::x509::X509;
use openssl::x509::X509StoreContext;
use openssl::x509::store::X509StoreBuilder;
use rustls::HandshakeKind;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;

const ROUTES: &str = "/=http://127.0.0.1:1 dice.localhost/=http://127.0.0.1:1";

fn certificate(path: &Path) -> X509 {
    X509::from_pem(&fs::read(path).unwrap()).unwrap()
}

fn text(certificate: &X509) -> String {
    String::from_utf8(certificate.to_text().unwrap()).unwrap()
}

fn days(certificate: &X509) -> i32 {
    certificate.not_before().diff(certificate.not_after()).unwrap().days
}

fn curve(certificate: &X509) -> Option<Nid> {
    certificate.public_key().unwrap().ec_key().unwrap().group().curve_name()
}

#[test]
fn the_chain_is_what_openssl_and_the_specifications_ask_for() {
    let gateway = Gateway::start(ROUTES, &[]);
    let root = certificate(&gateway.root());
    let leaf = certificate(&gateway.certs.join("sites/localhost/chain.pem"));

    let shown = text(&root);
    assert!(
        shown.contains("Basic Constraints: critical\n                CA:TRUE, pathlen:0"),
        "{shown}"
    );
    assert!(
        shown.contains("Key Usage: critical\n                Certificate Sign, CRL Sign\n"),
        "{shown}"
    );
    let constraints = "Name Constraints: critical\n                Permitted:\n                  \
                       DNS:localhost\n                  IP:127.0.0.0/255.0.0.0\n";
    assert!(shown.contains(constraints) && !shown.contains("Excluded"), "{shown}");
    assert_eq!(curve(&root), Some(Nid::SECP384R1));
    assert!((3649..=3652).contains(&days(&root)), "{shown}");
    assert!(root.verify(&root.public_key().unwrap()).unwrap());

    let shown = text(&leaf);
    let names = "DNS:localhost, IP Address:127.0.0.1, \
                 IP Address:0:0:0:0:0:0:0:1, DNS:dice.localhost\n";
    assert!(shown.contains(names), "{shown}");
    assert!(
        shown.contains("Extended Key Usage: \n                TLS Web Server Authentication\n"),
        "{shown}"
    );
    assert!(
        shown
            .contains("Key Usage: critical\n                Digital Signature, Key Encipherment\n"),
        "{shown}"
    );
    assert!(shown.contains("Authority Key Identifier"), "{shown}");
    assert!(!shown.contains("CA:TRUE"), "{shown}");
    assert_eq!(curve(&leaf), Some(Nid::X9_62_PRIME256V1));
    assert!(days(&leaf) <= 90, "{shown}");

    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(root).unwrap();
    let mut context = X509StoreContext::new().unwrap();
    let chain = openssl::stack::Stack::new().unwrap();
    let valid = context.init(&store.build(), &leaf, &chain, |c| c.verify_cert()).unwrap();
    assert!(valid);
}

#[test]
fn openssl_shakes_hands_at_1_2_and_1_3_and_not_below() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    for (version, shown) in [(SslVersion::TLS1_2, "TLSv1.2"), (SslVersion::TLS1_3, "TLSv1.3")] {
        for (offer, expected) in [
            (None, None),
            (Some(&b"\x08http/1.1"[..]), Some(&b"http/1.1"[..])),
            (Some(b"\x02h2\x08http/1.1"), Some(b"h2")),
            (Some(b"\x08http/1.1\x02h2"), Some(b"h2")),
        ] {
            for name in ["localhost", "127.0.0.1"] {
                let set = |builder: &mut SslConnectorBuilder| {
                    builder.set_min_proto_version(Some(version)).unwrap();
                    builder.set_max_proto_version(Some(version)).unwrap();
                    if let Some(offer) = offer {
                        builder.set_alpn_protos(offer).unwrap();
                    }
                };
                let mut client = tls(&gateway, name, set).unwrap();
                assert_eq!(client.get_ref().ssl().version_str(), shown);
                assert_eq!(client.get_ref().ssl().selected_alpn_protocol(), expected);
                if expected != Some(b"h2") {
                    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
                    client.get_mut().write_all(request.as_bytes()).unwrap();
                    assert_eq!(read_answer(&mut client, false).unwrap().status, 200);
                }
            }
        }
    }
    let old = tls(&gateway, "localhost", |builder| {
        builder.set_cipher_list("DEFAULT@SECLEVEL=0").unwrap();
        builder.set_min_proto_version(None).unwrap();
        builder.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    });
    assert!(old.is_err());
    let other = tls(&gateway, "example.org", |_| {}).unwrap_err();
    assert!(other.contains("verify failed"), "{other}");
    let name = r#"gateway_tls_handshakes_total{alpn="http/1.1",version="1.2"}"#;
    assert_eq!(gateway.metric(name), Some(2.0));
    let failed = r#"gateway_tls_handshake_failures_total{reason="protocol"}"#;
    assert!(gateway.metric(failed).unwrap() >= 1.0);
}

#[test]
fn both_versions_resume_sessions() {
    use std::io::Read;
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(gateway.root()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let name = "localhost".try_into().unwrap();
            let session = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
            let stream = TcpStream::connect(gateway.https).unwrap();
            let mut client = rustls::StreamOwned::new(session, stream);
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            client.write_all(request).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            let kind = client.conn.handshake_kind();
            assert_eq!(kind, Some(expected), "{version:?}");
        }
    }
}

#[test]
fn a_certificate_is_renewed_while_connections_live_on() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__CERTIFICATE_LIFE_S", "6")]);
    let serial = |client: &crate::support::Client| {
        let certificate = client.get_ref().ssl().peer_certificate().unwrap();
        certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string()
    };
    let mut old = tls(&gateway, "localhost", |_| {}).unwrap();
    let first = serial(&old);
    until("another certificate", || {
        let client = tls(&gateway, "localhost", |_| {}).unwrap();
        (serial(&client) != first).then_some(())
    });
    old.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut old, false).unwrap().status, 200);
    let answer = exchange(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(answer.status, 200);
    let not_after = gateway
        .metric(r#"gateway_certificate_not_after_timestamp_seconds{site="localhost"}"#)
        .unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(not_after > now && not_after < now + 7.0);
}

#[test]
fn a_renewal_that_has_to_wait_holds_up_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let settings = [("GATEWAY__CERTIFICATE_LIFE_S", "6")];
    let mut gateway = Gateway::start_in(certs.clone(), ROUTES, &settings);
    let held = fs::OpenOptions::new().write(true).open(certs.join(".lock")).unwrap();
    held.lock().unwrap();
    let name = r#"gateway_certificate_not_after_timestamp_seconds{site="localhost"}"#;
    let not_after = gateway.metric(name).unwrap();
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    // The renewal begins after two thirds of the life. The page comes from where it is done.
    until("the certificate's end", || {
        assert_eq!(gateway.metric(name), Some(not_after));
        (now() > not_after).then_some(())
    });
    drop(held);
    until("the next certificate", || (gateway.metric(name)? > not_after).then_some(()));
    let held = fs::OpenOptions::new().write(true).open(certs.join(".lock")).unwrap();
    held.lock().unwrap();
    let not_after = gateway.metric(name).unwrap();
    until("the certificate's end", || (now() > not_after).then_some(()));
    assert!(gateway.service.terminate().success());
}
