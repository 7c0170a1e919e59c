//! A small ACME server of our own, for what pebble does not have: renewal windows, profiles, IP
//! identifiers, rate limits. It believes every client, and issues real certificates.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::CertificateSigningRequestParams;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::authority::Authority;

/// How the server behaves from now on.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub profiles: Vec<&'static str>,
    /// How long its certificates are valid.
    pub life: Duration,
    /// When a certificate is to be renewed, counted from its issue.
    pub window: Option<(Duration, Duration)>,
}

/// Why an order is refused.
#[derive(Clone, Debug)]
struct Refusal {
    kind: &'static str,
    retry_after: Option<&'static str>,
}

/// An order, as the client wrote it.
#[derive(Clone, Debug)]
pub struct Ordered {
    pub at: std::time::Instant,
    pub identifiers: Value,
    pub profile: Option<String>,
    pub replaces: Option<String>,
    pub refused: bool,
}

/// A running server, until the test ends.
#[derive(Clone)]
pub struct Stub(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    folder: TempDir,
    authority: Authority,
    known: Mutex<Known>,
}

struct Known {
    behaviour: Behaviour,
    /// What the next orders are refused with.
    refusals: VecDeque<Refusal>,
    ordered: Vec<Ordered>,
    /// Certificates by the number of their order.
    chains: HashMap<usize, String>,
    /// Windows that were asked for, by what the certificate is known by.
    windows: Vec<String>,
    answered: HashMap<usize, bool>,
    nonces: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        let life = Duration::from_secs(90 * 24 * 3600);
        Self { profiles: Vec::new(), life, window: None }
    }
}

impl Stub {
    pub fn start(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = Authority::new("the stub's own");
        std::fs::write(folder.path().join("root.pem"), &own.root).unwrap();
        let (certificate, key) = own.server("127.0.0.1");
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let known = Known {
            behaviour,
            refusals: VecDeque::new(),
            ordered: Vec::new(),
            chains: HashMap::new(),
            windows: Vec::new(),
            answered: HashMap::new(),
            nonces: 0,
        };
        let stub = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            folder,
            authority: Authority::new("the stub's intermediate"),
            known: Mutex::new(known),
        }));
        let (serving, tls) = (stub.clone(), Arc::new(tls));
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (stub, tls) = (serving.clone(), Arc::clone(&tls));
                thread::spawn(move || stub.serve(stream, tls));
            }
        });
        stub
    }

    pub fn directory(&self) -> String {
        self.url("dir")
    }

    /// What to trust for talking to it.
    pub fn root(&self) -> PathBuf {
        self.0.folder.path().join("root.pem")
    }

    /// The next order is refused.
    pub fn refuse(&self, kind: &'static str, retry_after: Option<&'static str>) {
        let mut known = self.0.known.lock().unwrap();
        known.refusals.push_back(Refusal { kind, retry_after });
    }

    /// What to trust for what it issues.
    pub fn issuing_root(&self) -> String {
        self.0.authority.root.clone()
    }

    /// Every order so far.
    pub fn ordered(&self) -> Vec<Ordered> {
        self.0.known.lock().unwrap().ordered.clone()
    }

    /// Every question for a window so far.
    pub fn windows(&self) -> Vec<String> {
        self.0.known.lock().unwrap().windows.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}/{path}", self.0.address)
    }

    fn serve(&self, stream: TcpStream, tls: Arc<ServerConfig>) {
        let session = ServerConnection::new(tls).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(session, stream));
        while let Some((method, path, body)) = read(&mut stream) {
            let (status, fields, text) = self.answer(&method, &path, &body);
            let nonce = {
                let mut known = self.0.known.lock().unwrap();
                known.nonces += 1;
                known.nonces
            };
            let mut answer = format!(
                "HTTP/1.1 {status} X\r\nReplay-Nonce: nonce{nonce}\r\nContent-Length: {}\r\n",
                text.len()
            );
            for (name, value) in fields {
                answer.push_str(&format!("{name}: {value}\r\n"));
            }
            answer.push_str("\r\n");
            if method != "HEAD" {
                answer.push_str(&text);
            }
            let stream = stream.get_mut();
            if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut known = self.0.known.lock().unwrap();
        let (resource, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let number: usize = rest.parse().unwrap_or_default();
        match (method, resource.trim_start_matches('/')) {
            ("GET", "dir") => (200, vec![], self.listed(&known.behaviour).to_string()),
            (_, "nonce") => (200, vec![], String::new()),
            ("GET", "ari") => {
                known.windows.push(rest.to_owned());
                let (from, to) = known.behaviour.window.unwrap();
                let now = OffsetDateTime::now_utc();
                let at = |later: Duration| (now + later).format(&Rfc3339).unwrap();
                let window = json!({ "suggestedWindow": { "start": at(from), "end": at(to) } });
                (200, vec![("Retry-After", "21600".to_owned())], window.to_string())
            }
            ("POST", "account") => {
                let fields = vec![("Location", self.url("account/1"))];
                (201, fields, json!({ "status": "valid" }).to_string())
            }
            ("POST", "new") => self.order(&mut known, &payload(body)),
            ("POST", "order") => (200, vec![], self.state(&known, number).to_string()),
            ("POST", "authz") => {
                let identifier = known.ordered[number].identifiers[0].clone();
                let status = if known.answered[&number] { "valid" } else { "pending" };
                let challenge = |kind: &str| {
                    let url = self.url(&format!("chall/{number}"));
                    json!({ "type": kind, "url": url, "token": "tok", "status": "pending" })
                };
                let challenges = [challenge("http-01"), challenge("tls-alpn-01")];
                let authorization =
                    json!({ "identifier": identifier, "status": status, "challenges": challenges });
                (200, vec![], authorization.to_string())
            }
            ("POST", "chall") => {
                known.answered.insert(number, true);
                let url = self.url(&format!("chall/{number}"));
                let state = json!({ "type": "http-01", "url": url, "token": "tok", "status": "processing" });
                (200, vec![], state.to_string())
            }
            ("POST", "finalize") => {
                let csr = payload(body)["csr"].as_str().unwrap().to_owned();
                let chain = self.sign(&csr, known.behaviour.life);
                known.chains.insert(number, chain);
                (200, vec![], self.state(&known, number).to_string())
            }
            ("POST", "cert") => (200, vec![], known.chains[&number].clone()),
            _ => (404, vec![], problem("malformed")),
        }
    }

    fn listed(&self, behaviour: &Behaviour) -> Value {
        let mut directory = json!({
            "newNonce": self.url("nonce"),
            "newAccount": self.url("account"),
            "newOrder": self.url("new"),
            "revokeCert": self.url("revoke"),
            "keyChange": self.url("key"),
            "meta": {},
        });
        if behaviour.window.is_some() {
            directory["renewalInfo"] = self.url("ari").into();
        }
        for profile in &behaviour.profiles {
            directory["meta"]["profiles"][profile] = "a profile".into();
        }
        directory
    }

    fn order(&self, known: &mut Known, wanted: &Value) -> Answer {
        let refusal = known.refusals.pop_front();
        let text = |key: &str| wanted[key].as_str().map(str::to_owned);
        known.ordered.push(Ordered {
            at: std::time::Instant::now(),
            identifiers: wanted["identifiers"].clone(),
            profile: text("profile"),
            replaces: text("replaces"),
            refused: refusal.is_some(),
        });
        if let Some(Refusal { kind, retry_after }) = refusal {
            let fields = retry_after.map(|value| ("Retry-After", value.to_owned()));
            return (429, fields.into_iter().collect(), problem(kind));
        }
        let number = known.ordered.len() - 1;
        known.answered.insert(number, false);
        let fields = vec![("Location", self.url(&format!("order/{number}")))];
        (201, fields, self.state(known, number).to_string())
    }

    fn state(&self, known: &Known, number: usize) -> Value {
        let ordered = &known.ordered[number];
        let status = match (known.answered[&number], known.chains.contains_key(&number)) {
            (false, _) => "pending",
            (true, false) => "ready",
            (true, true) => "valid",
        };
        let mut state = json!({
            "status": status,
            "identifiers": ordered.identifiers,
            "authorizations": [self.url(&format!("authz/{number}"))],
            "finalize": self.url(&format!("finalize/{number}")),
            "certificate": self.url(&format!("cert/{number}")),
        });
        if let Some(replaces) = &ordered.replaces {
            state["replaces"] = replaces.clone().into();
        }
        state
    }

    fn sign(&self, csr: &str, life: Duration) -> String {
        let der = CertificateSigningRequestDer::from(BASE64_URL_SAFE_NO_PAD.decode(csr).unwrap());
        let mut request = CertificateSigningRequestParams::from_der(&der).unwrap();
        let now = OffsetDateTime::now_utc();
        request.params.not_before = now - Duration::from_secs(1);
        request.params.not_after = now + life;
        request.params.use_authority_key_identifier_extension = true;
        let leaf = request.signed_by(&self.0.authority.issuer).unwrap();
        format!("{}{}", leaf.pem(), self.0.authority.root)
    }
}

type Answer = (u16, Vec<(&'static str, String)>, String);

fn problem(kind: &str) -> String {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    json!({ "type": kind, "detail": "as the test wants" }).to_string()
}

/// The JSON that the client signed.
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap_or_default()
}

fn read(stream: &mut impl BufRead) -> Option<(String, String, Vec<u8>)> {
    let mut start = String::new();
    stream.read_line(&mut start).ok().filter(|read| *read > 0)?;
    let mut words = start.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut field = String::new();
        stream.read_line(&mut field).ok().filter(|read| *read > 0)?;
        let field = field.trim_end().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((method, path, body))
}
