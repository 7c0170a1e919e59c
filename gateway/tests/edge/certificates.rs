//! The private CA, as OpenSSL sees it.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
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

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
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
fn keys_are_for_their_owner_and_the_root_is_for_everybody() {
    let gateway = Gateway::start(ROUTES, &[]);
    assert_eq!(mode(&gateway.root()), 0o644);
    assert_eq!(mode(&gateway.certs.join("ca/root.key")), 0o600);
    assert_eq!(mode(&gateway.certs.join("sites/localhost/key.pem")), 0o600);
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
fn a_restart_keeps_the_ca_and_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let all = || {
        ["ca/root.crt", "ca/root.key", "sites/localhost/chain.pem", "sites/localhost/key.pem"]
            .map(|name| fs::read(certs.join(name)).unwrap())
    };
    let mut gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
    let before = all();
    assert!(gateway.service.terminate().success());
    let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
    assert_eq!(all(), before);
    tls(&gateway, "dice.localhost", |_| {}).unwrap();
}

#[test]
fn another_domain_gets_a_root_of_its_own_and_a_host_below_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
    let root = || fs::read(certs.join("ca/root.crt")).unwrap();
    let first = root();
    for (n, domain) in ["example.org", "192.0.2.7"].into_iter().enumerate() {
        let before = root();
        let settings = [("GATEWAY__DOMAIN", domain)];
        let gateway = Gateway::start_in(certs.clone(), "/=http://127.0.0.1:1", &settings);
        assert_ne!(root(), before);
        tls(&gateway, domain, |_| {}).unwrap();
        assert_eq!(aside(&certs.join("ca"), "replaced").len(), 2 * (n + 1));
    }
    let settings = [("GATEWAY__DOMAIN", "example.org")];
    drop(Gateway::start_in(certs.clone(), "/=http://127.0.0.1:1", &settings));
    let before = root();
    let routes = "/=http://127.0.0.1:1 a.b.example.org/=http://127.0.0.1:1";
    let gateway = Gateway::start_in(certs.clone(), routes, &settings);
    assert_eq!(root(), before);
    assert_ne!(before, first);
    for name in ["a.example.org", "a.b.example.org"] {
        tls(&gateway, name, |_| {}).unwrap();
    }
    tls(&gateway, "c.b.example.org", |_| {}).unwrap_err();
}

/// Names in `folder` that were set aside for that reason.
fn aside(folder: &Path, word: &str) -> Vec<String> {
    let word = format!(".{word}-");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.split_once(&word).map(|(n, _)| n.to_owned())).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_damaged_certificate_is_set_aside_and_made_again_by_the_same_root() {
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let other = openssl::ec::EcKey::generate(
        &openssl::ec::EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap(),
    )
    .unwrap()
    .private_key_to_pem()
    .unwrap();
    for (name, damage) in [
        ("chain.pem", &half as &dyn Fn(&[u8]) -> Vec<u8>),
        ("chain.pem", &|_: &[u8]| Vec::new()),
        ("chain.pem", &|_: &[u8]| vec![0xff; 100]),
        ("key.pem", &half),
        ("key.pem", &|_: &[u8]| other.clone()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
        let root = fs::read(certs.join("ca/root.crt")).unwrap();
        let path = certs.join("sites/localhost").join(name);
        let damaged = damage(&fs::read(&path).unwrap());
        fs::write(&path, &damaged).unwrap();
        let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
        assert_eq!(aside(&certs.join("sites/localhost"), "damaged"), ["chain.pem", "key.pem"]);
        assert_eq!(fs::read(gateway.root()).unwrap(), root);
        tls(&gateway, "localhost", |_| {}).unwrap();
    }
}

#[test]
fn a_damaged_root_is_set_aside_with_what_it_signed() {
    for name in ["root.crt", "root.key"] {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
        let root = fs::read(certs.join("ca/root.crt")).unwrap();
        let path = certs.join("ca").join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
        assert_eq!(aside(&certs.join("ca"), "damaged"), ["root.crt", "root.key"]);
        assert_eq!(aside(&certs.join("sites/localhost"), "damaged"), ["chain.pem", "key.pem"]);
        assert_ne!(fs::read(gateway.root()).unwrap(), root);
        tls(&gateway, "localhost", |_| {}).unwrap();
    }
}

#[test]
fn a_missing_key_is_a_damaged_root() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
    fs::remove_file(certs.join("ca/root.key")).unwrap();
    let gateway = Gateway::start_in(certs.clone(), ROUTES, &[]);
    assert_eq!(aside(&certs.join("ca"), "damaged"), ["root.crt"]);
    tls(&gateway, "localhost", |_| {}).unwrap();
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

#[test]
fn a_discarded_key_is_gone_and_a_restart_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let settings = [("GATEWAY__DISCARD_ROOT_KEY", "true")];
    let all = || {
        ["ca/root.crt", "sites/localhost/chain.pem", "sites/localhost/key.pem"]
            .map(|name| fs::read(certs.join(name)).unwrap())
    };
    drop(Gateway::start_in(certs.clone(), ROUTES, &settings));
    let before = all();
    let gateway = Gateway::start_in(certs.clone(), ROUTES, &settings);
    assert_eq!(all(), before);
    assert!(!certs.join("ca/root.key").exists());
    tls(&gateway, "dice.localhost", |_| {}).unwrap();
    let leaf = certificate(&certs.join("sites/localhost/chain.pem"));
    let root = certificate(&gateway.root());
    assert_eq!(leaf.not_after().diff(root.not_after()).unwrap().days, 0);
}

#[test]
fn a_group_may_read_the_certificates_of_sites_and_nothing_else() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    drop(Gateway::start_in(certs.clone(), ROUTES, &[]));
    let group = fs::metadata(&certs).unwrap().gid();
    let settings = [("GATEWAY__CERTS_GROUP", &*group.to_string())];
    let _gateway = Gateway::start_in(certs.clone(), ROUTES, &settings);
    for (name, expected) in [
        ("sites/localhost", 0o750),
        ("sites/localhost/chain.pem", 0o640),
        ("sites/localhost/key.pem", 0o640),
        ("ca/root.key", 0o600),
    ] {
        assert_eq!(mode(&certs.join(name)), expected, "{name}");
        assert_eq!(fs::metadata(certs.join(name)).unwrap().gid(), group, "{name}");
    }
}

/// What a gateway says that does not start.
fn stderr_of_a_failed_start(certs: &Path, set: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.envs([
        ("GATEWAY__HTTPS", "127.0.0.1:0"),
        ("GATEWAY__HTTP", "127.0.0.1:0"),
        ("GATEWAY__ADMIN", "127.0.0.1:0"),
        ("GATEWAY__ROUTES", ROUTES),
        ("GATEWAY__CERTS", certs.to_str().unwrap()),
    ]);
    set(&mut command);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("file");
    fs::write(&certs, "not a folder").unwrap();
    let stderr = stderr_of_a_failed_start(&certs, |_| {});
    assert!(stderr.contains(certs.to_str().unwrap()), "{stderr}");
}

#[test]
fn a_folder_of_another_user_is_told_with_the_remedy() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    /// `nobody`, for whoever can become it.
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let owner = fs::metadata(folder.path()).unwrap().uid();
    let user = if owner == 0 { NOBODY } else { owner };
    let stderr = stderr_of_a_failed_start(&folder.path().join("certs"), |command| {
        if owner == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
    });
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (path, certs) = (folder.path().display(), folder.path().join("certs"));
    for part in [
        format!("{path} belongs to user {owner} with mode 0555"),
        format!("the gateway, user {user}, has to write there"),
        format!("chown -R {user}:"),
        certs.display().to_string(),
    ] {
        assert!(stderr.contains(&part), "{part}: {stderr}");
    }
}
