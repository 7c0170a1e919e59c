//! Upstreams that are no plain TCP port: sockets in the file system, and HTTPS.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::pkey::Private;
use openssl::ssl::SslAcceptor;
use openssl::ssl::SslMethod;
use openssl::x509::X509;
use openssl::x509::X509NameBuilder;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::extension::SubjectAlternativeName;

use crate::support::Gateway;
use crate::support::exchange;

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Answers every request on `stream` that comes in one piece, until it ends.
fn answer(mut stream: impl Read + Write, text: &str) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
        let length = text.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn a_socket_in_the_file_system_is_an_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("say.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(|| answer(stream.unwrap(), "over unix"));
        }
    });
    let gateway = Gateway::start(&format!("/=unix:{}", path.display()), &[]);
    for _ in 0..3 {
        assert_eq!(exchange(&gateway, GET).text(), "over unix");
    }
    let missing = folder.path().join("none.sock");
    let settings = [("GATEWAY__HOLD_S", "0")];
    let gateway = Gateway::start(&format!("/=unix:{}", missing.display()), &settings);
    assert_eq!(exchange(&gateway, GET).status, 503);
}

/// A self-signed certificate for `name` and 127.0.0.1, in `folder`.
fn certificate(folder: &Path, name: &str) -> (X509, PKey<Private>, std::path::PathBuf) {
    let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(openssl::ec::EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.append_extension(BasicConstraints::new().build().unwrap()).unwrap();
    let names =
        SubjectAlternativeName::new().dns(name).build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build();
    let path = folder.join("upstream.crt");
    fs::write(&path, certificate.to_pem().unwrap()).unwrap();
    (certificate, key, path)
}

fn https(certificate: &X509, key: &PKey<Private>) -> SocketAddr {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(certificate).unwrap();
    acceptor.set_private_key(key).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let acceptor = acceptor.clone();
            thread::spawn(move || {
                let Ok(stream) = acceptor.accept(stream.unwrap()) else { return };
                let name = stream.ssl().servername(openssl::ssl::NameType::HOST_NAME);
                let text = format!("over TLS as {}", name.unwrap_or("nobody"));
                answer(stream, &text);
            });
        }
    });
    address
}

#[test]
fn an_https_upstream_is_believed_only_with_a_root_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key, root) = certificate(folder.path(), "localhost");
    let port = https(&certificate, &key).port();
    let route = format!("/=https://localhost:{port}");
    let settings = [("GATEWAY__UPSTREAM_ROOT", root.to_str().unwrap())];
    let gateway = Gateway::start(&route, &settings);
    for _ in 0..3 {
        assert_eq!(exchange(&gateway, GET).text(), "over TLS as localhost");
    }
    // The same certificate without its root, and for another name than the one asked for.
    for (route, settings) in [(route, &[][..]), (format!("/=https://127.0.0.1:{port}"), &settings)]
    {
        let gateway = Gateway::start(&route, settings);
        let answer = exchange(&gateway, GET);
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains("certificate"), "{}", answer.text());
    }
}

#[test]
fn roots_that_cannot_be_read_are_told_at_the_start_and_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, missing) = (folder.path().join("empty.pem"), folder.path().join("missing.pem"));
    fs::write(&empty, "").unwrap();
    for path in [&empty, &missing] {
        for arguments in [&["check"][..], &[]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
            command.args(arguments).env_clear().env("GATEWAY__UPSTREAM_ROOT", path);
            command.env("GATEWAY__CERTS", folder.path().join("certs"));
            for address in ["HTTPS", "HTTP", "ADMIN"] {
                command.env(format!("GATEWAY__{address}"), "127.0.0.1:0");
            }
            let output = command.env("GATEWAY__ROUTES", "/=https://hub:8443").output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "{text}");
            let named = text.contains("upstream_root: ") && text.contains(path.to_str().unwrap());
            assert!(named, "{text}");
        }
    }
}
