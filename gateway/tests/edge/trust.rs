//! The private CA, given to those who are to trust it.

use std::fs;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use openssl::hash::MessageDigest;
use openssl::x509::X509;

use crate::support::Answer;
use crate::support::Authority;
use crate::support::Gateway;
use crate::support::read_answer;

const ROUTES: &str = "/=http://127.0.0.1:1";

fn fingerprint(pem: &[u8]) -> String {
    let digest = X509::from_pem(pem).unwrap().digest(MessageDigest::sha256()).unwrap();
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn ask(gateway: &Gateway, path: &str, host: &str, accept: &str) -> Answer {
    let mut stream = BufReader::new(TcpStream::connect(gateway.http).unwrap());
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    read_answer(&mut stream, false).unwrap()
}

#[test]
fn the_root_is_on_plain_http_in_the_log_and_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let gateway = Gateway::start_logged(ROUTES, &[], &log);
    let pem = fs::read(gateway.root()).unwrap();
    let fingerprint = fingerprint(&pem);
    assert!(fs::read_to_string(&log).unwrap().contains(&fingerprint));

    for path in ["/ca.crt", "/ca/root.crt"] {
        let answer = ask(&gateway, path, "localhost", "*/*");
        assert_eq!((answer.status, &answer.body), (200, &pem));
        assert_eq!(answer.field("content-type"), Some("application/x-x509-ca-cert"));
    }
    let text = ask(&gateway, "/ca", "127.0.0.1:8080", "*/*");
    assert_eq!(text.field("content-type"), Some("text/plain; charset=utf-8"));
    assert!(text.text().contains(&fingerprint));
    assert!(text.text().contains("curl -o hubbub-ca.crt http://127.0.0.1:8080/ca.crt\n"));
    let page = ask(&gateway, "/ca", "localhost", "text/html,application/xhtml+xml,*/*;q=0.8");
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains(&fingerprint));
    assert_eq!(ask(&gateway, "/ca", "example.org", "*/*").status, 308);
    assert_eq!(ask(&gateway, "/cat", "localhost", "*/*").status, 308);

    let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("trust")
        .env("GATEWAY__CERTS", &gateway.certs)
        .env("GATEWAY__ROUTES", ROUTES)
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [&fingerprint, str::from_utf8(&pem).unwrap(), gateway.root().to_str().unwrap()] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_site_that_has_files_gives_no_private_ca() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = Authority::new().issue(&["localhost"], 20);
    let (chain_path, key_path) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    fs::write(&chain_path, chain).unwrap();
    fs::write(&key_path, key).unwrap();
    let site = format!("localhost={},{}", chain_path.display(), key_path.display());
    let gateway = Gateway::start(ROUTES, &[("GATEWAY__SITES", &site)]);
    assert_eq!(ask(&gateway, "/ca", "localhost", "*/*").status, 308);
    assert!(!gateway.root().exists());
}

#[test]
fn without_a_private_ca_the_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(arguments)
            .env("GATEWAY__CERTS", folder.path())
            .env("GATEWAY__ROUTES", ROUTES)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = run(&["trust"]);
    assert!(code == Some(1) && stderr.contains("made at the first start"), "{stderr}");
    let (code, stderr) = run(&["trust", "me"]);
    assert!(code == Some(2) && stderr.contains("\"me\""), "{stderr}");
}

#[test]
fn check_shows_each_site_with_its_mode_and_why() {
    let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("check")
        .env("GATEWAY__ROUTES", "/=http://a:1 farm.lan/=http://a:1")
        .env("GATEWAY__DOMAIN", "farm.net")
        .env("GATEWAY__ACME_EMAIL", "me@farm.net")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = "the settings are good\n\
                    site farm.net: acme (it is public and ACME is configured), for farm.net\n\
                    site farm.lan: internal (farm.lan is private), for farm.lan\n";
    assert_eq!(text, expected);
}
