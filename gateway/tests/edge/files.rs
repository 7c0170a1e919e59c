//! Sites whose certificate somebody else keeps in files.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use openssl::ssl::SslConnectorBuilder;
use rustls::HandshakeKind;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;

use crate::support::Answer;
use crate::support::Authority;
use crate::support::Client;
use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::h2_client;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;

/// A folder with a chain and a key, and who signed them.
struct Files {
    folder: TempDir,
    authority: Authority,
    root: PathBuf,
}

impl Files {
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let root = authority.root_in(folder.path());
        let files = Self { folder, authority, root };
        files.put(names, 20);
        files
    }

    fn chain(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Writes another certificate, in place.
    fn put(&self, names: &[&str], days: i64) {
        let (chain, key) = self.authority.issue(names, days);
        fs::write(self.chain(), chain).unwrap();
        fs::write(self.key(), key).unwrap();
    }

    /// As the setting writes a site.
    fn site(&self, names: &str) -> String {
        format!("{names}={},{}", self.chain().display(), self.key().display())
    }

    fn trust(&self) -> impl Fn(&mut SslConnectorBuilder) {
        move |builder| builder.set_ca_file(&self.root).unwrap()
    }
}

fn serial(client: &Client) -> String {
    let certificate = client.get_ref().ssl().peer_certificate().unwrap();
    certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string()
}

fn status(client: &mut Client, host: &str) -> u16 {
    ask(client, host).status
}

fn ask(client: &mut Client, host: &str) -> Answer {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.get_mut().write_all(request.as_bytes()).unwrap();
    read_answer(client, false).unwrap()
}

#[test]
fn each_name_gets_the_certificate_of_its_site() {
    let upstream = Upstream::echo();
    let files = Files::new(&["farm.example", "*.farm.example"]);
    let site = files.site("farm.example,*.farm.example");
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__SITES", &site)]);
    for name in ["farm.example", "a.farm.example"] {
        let mut client = tls(&gateway, name, files.trust()).unwrap();
        let answer = ask(&mut client, name);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("strict-transport-security"), Some("max-age=31536000"));
    }
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    assert_eq!(ask(&mut client, "localhost").field("strict-transport-security"), None);
    let name = r#"gateway_certificate_not_after_timestamp_seconds{site="farm.example"}"#;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((19.0..21.0).contains(&((gateway.metric(name).unwrap() - now) / 86_400.0)));
}

#[test]
fn a_service_says_itself_how_strict_it_is() {
    let upstream = Upstream::start(|call| {
        let answer = "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=0\r\n\
                      Content-Length: 0\r\n\r\n";
        call.write(answer.as_bytes())
    });
    let files = Files::new(&["farm.example"]);
    let site = files.site("farm.example");
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__SITES", &site)]);
    let mut client = tls(&gateway, "farm.example", files.trust()).unwrap();
    let answer = ask(&mut client, "farm.example");
    assert_eq!(answer.field("strict-transport-security"), Some("max-age=0"));
}

#[test]
fn a_connection_is_good_for_what_its_certificate_covers() {
    let upstream = Upstream::echo();
    let files = Files::new(&["farm.example", "b.example"]);
    let site = files.site("farm.example,b.example");
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__SITES", &site)]);
    let mut client = tls(&gateway, "farm.example", files.trust()).unwrap();
    for (host, expected) in [("b.example", 200), ("farm.example", 200), ("localhost", 421)] {
        assert_eq!(status(&mut client, host), expected, "{host}");
    }
    // As after every refusal over HTTP/1.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for (host, expected) in [("127.0.0.1", 200), ("localhost", 200), ("farm.example", 421)] {
        assert_eq!(status(&mut client, host), expected, "{host}");
    }
}

#[test]
fn a_misdirected_request_over_http2_costs_only_itself() {
    let upstream = Upstream::echo();
    let files = Files::new(&["farm.example"]);
    let site = files.site("farm.example");
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__SITES", &site)]);
    let mut ask = h2_client(&gateway);
    for (host, expected) in [("localhost", 200), ("farm.example", 421), ("localhost", 200)] {
        let request = http::Request::get(format!("https://{host}/")).body(Default::default());
        assert_eq!(ask(vec![request.unwrap()])[0].status(), expected, "{host}");
    }
}

#[test]
fn changed_files_are_served_and_bad_ones_are_not() {
    let upstream = Upstream::echo();
    let files = Files::new(&["farm.example"]);
    let site = files.site("farm.example");
    let log = files.folder.path().join("log");
    let gateway = Gateway::start_logged(&upstream.route(), &[("GATEWAY__SITES", &site)], &log);
    let connect = || tls(&gateway, "farm.example", files.trust()).unwrap();
    let mut old = connect();
    let first = serial(&old);
    let other = |than: &str| {
        until("another certificate", || {
            let now = serial(&connect());
            (now != than).then_some(now)
        })
    };
    // In place, then by renaming as most ACME clients do.
    files.put(&["farm.example"], 20);
    let second = other(&first);
    let (chain, key) = files.authority.issue(&["farm.example"], 20);
    for (path, text) in [(files.key(), key), (files.chain(), chain)] {
        let beside = path.with_extension("next");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &path).unwrap();
    }
    let third = other(&second);
    assert_eq!(status(&mut old, "farm.example"), 200);

    let told = |word: &str| {
        until(word, || fs::read_to_string(&log).unwrap().contains(word).then_some(()));
    };
    let (chain, _) = files.authority.issue(&["farm.example"], 20);
    fs::write(files.chain(), chain).unwrap();
    told("the key is not the certificate's");
    files.put(&["other.example"], 20);
    told("the certificate is for other.example, not for farm.example");
    files.put(&["farm.example"], -1);
    told("it has ended; the one in use stays");
    fs::remove_file(files.chain()).unwrap();
    told("chain.pem: No such file");
    assert_eq!(serial(&connect()), third);
    files.put(&["farm.example"], 20);
    other(&third);
}

fn refused(site: &str, command: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
        .envs([
            ("GATEWAY__HTTPS", "127.0.0.1:0"),
            ("GATEWAY__HTTP", "127.0.0.1:0"),
            ("GATEWAY__ADMIN", "127.0.0.1:0"),
            ("GATEWAY__ROUTES", "/=http://127.0.0.1:1"),
            ("GATEWAY__CERTS", folder.path().to_str().unwrap()),
            ("GATEWAY__SITES", site),
        ])
        .args(command)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{stderr}");
    stderr
}

#[test]
fn bad_files_stop_the_start_with_the_reason() {
    let files = Files::new(&["farm.example"]);
    let site = files.site("farm.example");
    let good = fs::read(files.chain()).unwrap();
    let with = |chain: &[u8], word: &str| {
        fs::write(files.chain(), chain).unwrap();
        for command in [&[][..], &["check"]] {
            let error = refused(&site, command);
            let named = error.contains("site farm.example") && error.contains("chain.pem");
            assert!(named && error.contains(word), "{word}: {error}");
        }
    };
    with(&files.authority.issue(&["farm.example"], 20).0, "the key is not the certificate's");
    with(b"", "there is none in the file");
    with(&good[..good.len() / 2], "cannot be read");
    files.put(&["farm.example"], -1);
    with(&fs::read(files.chain()).unwrap(), "it has ended");
    files.put(&["b.example"], 20);
    with(&fs::read(files.chain()).unwrap(), "is for b.example, not for farm.example");
    fs::remove_file(files.key()).unwrap();
    assert!(refused(&site, &[]).contains("key.pem: No such file"));
}

#[test]
fn sessions_resume_over_a_swap_of_certificates() {
    let upstream = Upstream::echo();
    let files = Files::new(&["farm.example"]);
    let site = files.site("farm.example");
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__SITES", &site)]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.root).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let configs = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
        let builder = rustls::ClientConfig::builder_with_protocol_versions(&[version]);
        Arc::new(builder.with_root_certificates(Arc::clone(&roots)).with_no_client_auth())
    });
    let handshake = |config: &Arc<rustls::ClientConfig>| {
        let name = "farm.example".try_into().unwrap();
        let session = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
        let stream = std::net::TcpStream::connect(gateway.https).unwrap();
        let mut client = rustls::StreamOwned::new(session, stream);
        let request = b"GET / HTTP/1.1\r\nHost: farm.example\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        client.conn.handshake_kind()
    };
    for config in &configs {
        assert_eq!(handshake(config), Some(HandshakeKind::Full));
    }
    let connect = || serial(&tls(&gateway, "farm.example", files.trust()).unwrap());
    let first = connect();
    files.put(&["farm.example"], 20);
    until("another certificate", || (connect() != first).then_some(()));
    for config in &configs {
        assert_eq!(handshake(config), Some(HandshakeKind::Resumed));
    }
}
