//! The binary, asked by OpenSSL.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use harness::Output;
use harness::Service;
use openssl::ssl::Ssl;
use openssl::ssl::SslContext;
use openssl::ssl::SslMethod;
use openssl::ssl::SslStream;
use openssl::ssl::SslVerifyMode;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::LONG;
use super::Pebble;
use super::Place;
use super::until;

const BINARY: &str = env!("CARGO_BIN_EXE_gateway");

/// Where requests go: nowhere, as no test here looks at an answer's body.
const ROUTES: &str = "/=http://127.0.0.1:1";

/// Settings of one gateway, and how to start it.
#[derive(Clone)]
pub struct Plan {
    pub certs: PathBuf,
    settings: Vec<(String, String)>,
}

/// A running gateway.
pub struct Gateway {
    pub service: Service,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    pub certs: PathBuf,
    plan: Plan,
}

impl Plan {
    /// One more setting, or another value of it.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let key = format!("GATEWAY__{key}");
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, value.to_owned()));
        self
    }

    /// Starts it.
    pub fn start(&self) -> Gateway {
        self.start_by(Command::new(BINARY))
    }

    /// Starts it with its certificates on a file system of 64 KiB that it alone sees; we see it
    /// where [`Gateway::certs`] says.
    pub fn start_on_small_disk(&self) -> Gateway {
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let flags: &[&str] = if is_root { &["--mount"] } else { &["--mount", "--map-root-user"] };
        let may = Command::new("unshare").args(flags).arg("true").output().unwrap();
        assert!(
            may.status.success(),
            "a file system of the test's own needs root, or user namespaces: {}",
            String::from_utf8_lossy(&may.stderr)
        );
        fs::create_dir_all(&self.certs).unwrap();
        let mount = "mount -t tmpfs -o size=64k,mode=0700 tmpfs \"$0\" && exec \"$1\"";
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", mount]).arg(&self.certs).arg(BINARY);
        let mut gateway = self.start_by(command);
        let root = PathBuf::from(format!("/proc/{}/root", gateway.service.id()));
        gateway.certs = root.join(self.certs.strip_prefix("/").unwrap());
        gateway
    }

    fn start_by(&self, mut command: Command) -> Gateway {
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.settings.iter().cloned());
        let service = Service::spawn(command);
        let address = |index: usize| -> SocketAddr {
            service.address(index).split_once("//").unwrap().1.parse().unwrap()
        };
        let (https, admin) = (address(0), address(2));
        Gateway { service, https, admin, certs: self.certs.clone(), plan: self.clone() }
    }

    /// Runs a subcommand with the same settings.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().envs(self.settings.iter().cloned());
        harness::run(&mut command)
    }
}

impl Gateway {
    /// One whose certificates are in `certs`, for farm.net, by the ACME server at `directory`.
    pub fn plan(place: Place, certs: PathBuf, directory: &str, root: &std::path::Path) -> Plan {
        Plan { certs: certs.clone(), settings: Vec::new() }
            .set("HTTPS", &place.https().to_string())
            .set("HTTP", &place.http().to_string())
            .set("ADMIN", "127.0.0.1:0")
            .set("CERTS", certs.to_str().unwrap())
            .set("ROUTES", ROUTES)
            .set("THREADS", "1")
            .set("DRAIN_S", "0")
            .set("DOMAIN", "farm.net")
            .set("ACME_DIRECTORY", directory)
            .set("ACME_ROOT", root.to_str().unwrap())
            // The names of the tests have no address but in pebble's own DNS.
            .set("ACME_PREFLIGHT", "false")
            .set("ACME_BACKOFF_S", "1")
            .set("ACME_BACKOFF_MAX_S", "2")
    }

    /// The same, by that pebble.
    pub fn plan_with(pebble: &Pebble, certs: PathBuf) -> Plan {
        Self::plan(pebble.place, certs, &pebble.directory(), &pebble.root())
    }

    /// The certificate that a client gets who asks for `name`, whoever made it.
    pub fn certificate(&self, name: &str) -> X509 {
        self.stream(name).ssl().peer_certificate().unwrap()
    }

    /// Waits for a certificate for `name` by the ACME server, other than `old`.
    pub fn issued(&self, name: &str, old: Option<&X509>) -> X509 {
        let old = old.map(serial);
        until(&format!("a certificate for {name}"), || {
            let certificate = self.certificate(name);
            (!is_private(&certificate) && Some(serial(&certificate)) != old).then_some(certificate)
        })
    }

    /// The status of the answer to a request by a client that trusts `root` alone.
    pub fn trusted(&self, name: &str, root: &str) -> Result<u16, String> {
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(X509::from_pem(root.as_bytes()).unwrap()).unwrap();
        let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
        context.set_cert_store(store.build());
        context.set_verify(SslVerifyMode::PEER);
        let mut stream = connect(self.https, context.build(), name)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| format!("no answer: {answer:?}"))
    }

    /// A connection as a client of `name` has it, whoever made the certificate.
    pub fn stream(&self, name: &str) -> SslStream<TcpStream> {
        let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
        context.set_verify(SslVerifyMode::NONE);
        connect(self.https, context.build(), name).unwrap()
    }

    /// How often a try ended so.
    pub fn attempts(&self, outcome: &str) -> u64 {
        let page = harness::get(&format!("http://{}/metrics", self.admin), &[]);
        let name = format!("gateway_acme_attempts_total{{outcome=\"{outcome}\"}} ");
        let line = page.text().lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// Ends it as a crash would, and starts it anew.
    pub fn crash(self) -> Self {
        let plan = self.plan.clone();
        drop(self);
        plan.start()
    }

    /// What is kept of farm.net's tries, when there is something.
    pub fn state(&self) -> Option<serde_json::Value> {
        self.state_of("farm.net")
    }

    /// The same of `site`.
    pub fn state_of(&self, site: &str) -> Option<serde_json::Value> {
        let folders = fs::read_dir(self.certs.join("acme")).ok()?;
        let mut paths = folders.map(|folder| folder.unwrap().path().join(format!("{site}.json")));
        let text = paths.find_map(|path| fs::read_to_string(path).ok())?;
        serde_json::from_str(&text).ok()
    }
}

/// True for a certificate of the gateway's private CA.
pub fn is_private(certificate: &X509) -> bool {
    let issuer = certificate.issuer_name().to_der().unwrap();
    String::from_utf8_lossy(&issuer).contains("Hubbub private CA")
}

/// Hexadecimal, as pebble writes it.
pub fn serial(certificate: &X509) -> String {
    let number = certificate.serial_number().to_bn().unwrap();
    number.to_hex_str().unwrap().to_string().to_lowercase()
}

fn connect(
    to: SocketAddr,
    context: SslContext,
    name: &str,
) -> Result<SslStream<TcpStream>, String> {
    let stream = TcpStream::connect(to).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut ssl = Ssl::new(&context).unwrap();
    match name.parse() {
        Ok(address) => ssl.param_mut().set_ip(address).unwrap(),
        Err(_) => {
            ssl.set_hostname(name).unwrap();
            ssl.param_mut().set_host(name).unwrap();
        }
    }
    ssl.connect(stream).map_err(|error| error.to_string())
}
