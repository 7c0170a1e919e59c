//! The binary, with a folder of certificates of its own.

use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ChildStdout;
use std::process::Command;

use harness::Service;
use tempfile::TempDir;

/// A running gateway.
pub struct Gateway {
    pub service: Service,
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    pub certs: PathBuf,
    // Removed with the gateway, unless the folder is somebody else's.
    _folder: Option<TempDir>,
}

impl Gateway {
    /// A gateway with these routes and further settings, and a new folder.
    pub fn start(routes: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = Self::start_in(folder.path().join("certs"), routes, settings);
        gateway._folder = Some(folder);
        gateway
    }

    /// The same, with the folder `certs`.
    pub fn start_in(certs: PathBuf, routes: &str, settings: &[(&str, &str)]) -> Self {
        let service = Service::spawn(command(&certs, routes, settings));
        Self::around(service, certs)
    }

    /// A gateway with a new folder, and its stdout after the ready line: the access log.
    pub fn start_heard(routes: &str, settings: &[(&str, &str)]) -> (Self, BufReader<ChildStdout>) {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let (service, stdout) = Service::spawn_heard(command(&certs, routes, settings));
        let mut gateway = Self::around(service, certs);
        gateway._folder = Some(folder);
        (gateway, stdout)
    }

    /// A gateway with a new folder, whose logs go to the file `log`.
    pub fn start_logged(routes: &str, settings: &[(&str, &str)], log: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let mut command = command(&certs, routes, settings);
        command.stderr(std::fs::File::create(log).unwrap());
        let mut gateway = Self::around(Service::spawn(command), certs);
        gateway._folder = Some(folder);
        gateway
    }

    fn around(service: Service, certs: PathBuf) -> Self {
        let address = |index: usize| -> SocketAddr {
            service.address(index).split_once("//").unwrap().1.parse().unwrap()
        };
        let (https, http, admin) = (address(0), address(1), address(2));
        Self { service, https, http, admin, certs, _folder: None }
    }

    /// The certificate to trust.
    pub fn root(&self) -> PathBuf {
        self.certs.join("ca/root.crt")
    }

    /// The value of one metric of the gateway: the sum over the series that have (at least) the
    /// labels in `name`, each written as on the page.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = harness::get(&format!("http://{}/metrics", self.admin), &[]);
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let wanted =
            || labels.split("\",").map(|l| l.trim_end_matches('"')).filter(|l| !l.is_empty());
        let values = page.text().lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let has = |label: &str| format!(",{labels}").contains(&format!(",{label}\""));
            wanted().all(has).then(|| value.parse::<f64>().unwrap())
        });
        values.reduce(|sum, value| sum + value)
    }

    /// The most memory that the process ever had, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.service.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes * 1024
    }
}

/// The binary on ports that the kernel chooses, over a clean environment.
fn command(certs: &Path, routes: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.env_clear().env("GATEWAY__CERTS", certs).envs([
        ("GATEWAY__HTTPS", "127.0.0.1:0"),
        ("GATEWAY__HTTP", "127.0.0.1:0"),
        ("GATEWAY__ADMIN", "127.0.0.1:0"),
        ("GATEWAY__ROUTES", routes),
        ("GATEWAY__THREADS", "2"),
    ]);
    command.envs(settings.iter().copied());
    command
}
