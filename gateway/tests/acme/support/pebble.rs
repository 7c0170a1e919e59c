//! The real ACME server pebble, with the DNS of pebble-challtestsrv.

use std::fs;
use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use super::Place;
use super::authority::Authority;
use super::until;

/// A running pebble; ended when dropped.
pub struct Pebble {
    pub place: Place,
    folder: TempDir,
    server: Child,
    dns: Child,
    environment: Vec<(String, String)>,
}

impl Pebble {
    /// With no waiting before it looks at challenges, and these variables.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_with(environment, &json!({}))
    }

    /// The same, with these settings of its own.
    pub fn start_with(environment: &[(&str, &str)], settings: &serde_json::Value) -> Self {
        let place = Place::new();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let authority = Authority::new("pebble's own");
        let (certificate, key) = authority.server(&place.ip.to_string());
        fs::write(path("root.pem"), &authority.root).unwrap();
        fs::write(path("server.pem"), certificate).unwrap();
        fs::write(path("server.key"), key).unwrap();
        let mut pebble = json!({
            "listenAddress": place.at(2).to_string(),
            "managementListenAddress": place.at(3).to_string(),
            "certificate": path("server.pem"),
            "privateKey": path("server.key"),
            "httpPort": place.http().port(),
            "tlsPort": place.https().port(),
        });
        for (key, value) in settings.as_object().unwrap() {
            pebble[key] = value.clone();
        }
        fs::write(path("pebble.json"), json!({ "pebble": pebble }).to_string()).unwrap();
        let mut dns = Command::new("pebble-challtestsrv");
        let nothing = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""];
        dns.args(nothing).arg("-dns01").arg(place.at(4).to_string());
        dns.arg("-management").arg(place.at(5).to_string());
        dns.arg("-defaultIPv4").arg(place.ip.to_string());
        let dns = spawn(dns, &path("dns.log"));
        let environment: Vec<(String, String)> = [("PEBBLE_VA_NOSLEEP", "1")]
            .iter()
            .chain(environment)
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let server = serve(&path("pebble.json"), &path("pebble.log"), place, &environment);
        let pebble = Self { place, folder, server, dns, environment };
        pebble.wait();
        pebble
    }

    /// Ends it and starts it anew, with nothing of what it knew.
    pub fn restart(&mut self) {
        end(&mut self.server);
        let path = |name: &str| self.folder.path().join(name);
        let log = path("pebble.log");
        self.server = serve(&path("pebble.json"), &log, self.place, &self.environment);
        self.wait();
    }

    fn wait(&self) {
        for index in [2, 3, 5] {
            until("pebble's ports", || TcpStream::connect(self.place.at(index)).ok());
        }
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.place.at(2))
    }

    /// The certificate to trust for talking to it.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// The certificate to trust for what it issues: another one with every start.
    pub fn issuing_root(&self) -> String {
        self.manage("roots/0")
    }

    /// What it says of the certificate with that serial number in hexadecimal.
    pub fn status(&self, serial: &str) -> serde_json::Value {
        serde_json::from_str(&self.manage(&format!("cert-status-by-serial/{serial}"))).unwrap()
    }

    fn manage(&self, path: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", "--cacert"]);
        curl.arg(self.root()).arg(format!("https://{}/{path}", self.place.at(3)));
        harness::run(&mut curl).success().text()
    }

    /// Every name has this address from now on.
    pub fn resolve_all_to(&self, address: &str) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", "--data"]);
        curl.arg(format!(r#"{{"ip":"{address}"}}"#));
        curl.arg(format!("http://{}/set-default-ipv4", self.place.at(5)));
        let _done = harness::run(&mut curl).success();
    }

    /// What it wrote so far, since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("pebble.log")).unwrap()
    }

    /// How many requests it got for that path, such as `/order-plz`.
    pub fn calls(&self, path: &str) -> usize {
        let call = format!("POST {path} ");
        self.log().lines().filter(|line| format!("{line} ").contains(&call)).count()
    }
}

fn serve(
    config: &std::path::Path,
    log: &std::path::Path,
    place: Place,
    environment: &[(String, String)],
) -> Child {
    let mut server = Command::new("pebble");
    server.arg("-config").arg(config).arg("-dnsserver").arg(place.at(4).to_string());
    server.env_clear().envs(environment.iter().cloned());
    spawn(server, log)
}

fn spawn(mut command: Command, log: &std::path::Path) -> Child {
    let log = File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| {
        panic!("{command:?} does not start ({error}); it is in Debian's package: apt-get install pebble")
    })
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _: std::io::Result<()> = child.kill();
    let _: std::io::Result<std::process::ExitStatus> = child.wait();
}

impl Drop for Pebble {
    fn drop(&mut self) {
        end(&mut self.server);
        end(&mut self.dns);
    }
}
