//! Settings of the gateway, each read from `GATEWAY__<FIELD>`.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chassis::Fatal;
use serde::Deserialize;

use crate::certs::acme;
use crate::certs::acme::settings::First;
use crate::certs::files;
use crate::certs::sites;
use crate::certs::sites::given::GivenSites;
use crate::live::sources;
use crate::rules::addresses;
use crate::rules::domain::Domain;
use crate::rules::forwarded::Trusted;
use crate::rules::rate::Least;
use crate::rules::routes_file;
use crate::rules::table::Routes;
use crate::upstream::stream::Connector;

/// Settings; times are whole seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name (or address) that the private certificate is for, with everything below it.
    pub domain: Domain,
    /// Where plain HTTP is redirected to HTTPS.
    pub http: SocketAddr,
    /// Where HTTPS is served.
    pub https: SocketAddr,
    /// Where `/healthz` and `/metrics` of the gateway itself are, in plain HTTP.
    pub admin: SocketAddr,
    /// Whether HTTP/3 is served, over UDP at the address of `https`.
    pub http3: bool,
    /// Folder of the certificates.
    pub certs: PathBuf,
    /// `[HOST]/PREFIX=http://NAME:PORT`, whitespace separated.
    pub routes: Routes,
    /// A file of more routes, watched while the gateway runs. It need not be there, unless it is
    /// another than by default.
    pub routes_file: PathBuf,
    /// Sites whose certificates are files that somebody else keeps.
    pub sites: GivenSites,
    /// Whom a public CA may write to. With this or a directory, public names get their certificates
    /// by ACME.
    pub acme_email: String,
    /// The URL of a CA's ACME directory; empty: Let's Encrypt, when there is an address to write to.
    pub acme_directory: String,
    /// PEM file of a root to trust for talking to the ACME server, beside the public ones.
    pub acme_root: String,
    /// What binds the account to one with the server's owner (RFC 8555 §7.3.4): both or neither.
    pub acme_eab_kid: String,
    pub acme_eab_key: Secret,
    /// The kind of certificate; empty: the server's default, and `shortlived` for addresses.
    pub acme_profile: String,
    /// How names are proven: `auto`, `http-01` or `tls-alpn-01` first. A failure changes it.
    pub acme_challenge: First,
    /// Whether names are looked up and asked at port 80 before they are ordered.
    pub acme_preflight: bool,
    /// That port, where a test cannot have port 80.
    pub acme_http_port: u16,
    /// The server that has to agree after a failure; empty: Let's Encrypt's own for Let's Encrypt.
    pub acme_staging_directory: String,
    /// Pause after the first failure; it doubles with each one more.
    pub acme_backoff_s: u64,
    pub acme_backoff_max_s: u64,
    /// The port of HTTPS as clients see it; redirects name it.
    pub public_https_port: u16,
    /// Who knows this may read `https://DOMAIN/metrics`; empty: nobody.
    pub metrics_token: Secret,
    /// One line a request on stdout.
    pub access_log: bool,
    /// The lines hold the query, which may hold secrets.
    pub log_queries: bool,
    /// The lines hold the `User-Agent`.
    pub log_user_agents: bool,
    /// Addresses and CIDRs of proxies in front, whose forwarding fields are believed.
    pub trusted_proxies: Trusted,
    /// Addresses and CIDRs of load balancers in front that say whose connection they pass on, in
    /// a PROXY protocol header. Each of their connections must begin with one.
    pub proxy_protocol_from: Trusted,
    /// Time for what runs to finish after SIGTERM.
    pub drain_s: u64,
    /// How long a request waits for a replica when none is live.
    pub hold_s: u64,
    /// Threads that serve; 0 takes one per core.
    pub threads: usize,
    /// Most connections of clients at once; more wait in the kernel.
    pub connections_max: usize,
    /// Most of them from one client; see [`Self::connections_of`] for what is so when it is unset.
    pub connections_per_address_max: Option<usize>,
    /// Most requests (and tunnels) at once; more are answered 503. One whose answer is left unread
    /// holds about 150 kB.
    pub requests_max: usize,
    /// Most of them from one client; see [`Self::requests_of`].
    pub requests_per_address_max: Option<usize>,
    /// Time for a TLS handshake.
    pub handshake_s: u64,
    /// Time for a request's head, and for a connection between two requests.
    pub header_s: u64,
    /// Time for a TCP connection to a replica.
    pub connect_s: u64,
    /// Time for the head of an upstream's answer, counted anew while the request's body moves.
    pub answer_s: u64,
    /// Time without a byte after which a body, either way, is given up.
    pub idle_s: u64,
    /// A file of roots (PEM) that are trusted for `https://` upstreams, beside the public ones.
    pub upstream_root: Option<PathBuf>,
    /// What a client has to move of a body, either way, on average; 0 asks for nothing but that
    /// `idle_s` holds.
    pub body_bytes_per_s_min: u64,
    /// Most bytes of a request's body, where the route has no limit of its own; 0 is no limit.
    pub body_bytes_max: u64,
    /// How long a connection to a replica is kept unused: less than the services keep theirs.
    pub pool_idle_s: u64,
    /// How long a certificate of the private CA is valid; renewed after two thirds.
    pub certificate_life_s: u64,
    /// Deletes the private CA's key once its certificate is made, which then lives as long as the CA.
    pub discard_root_key: bool,
    /// Id of the group that may read the sites' certificates and keys.
    pub certs_group: Option<u32>,
}

/// Where more routes are looked for.
pub const ROUTES_FILE: &str = "/etc/hubbub/routes.toml";

/// 90 days: the longest life of a leaf, in seconds.
pub const CERTIFICATE_LIFE_MAX_S: u64 = 90 * 24 * 3600;

impl Default for Config {
    fn default() -> Self {
        let any = |port: u16| SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        Self {
            domain: Domain::localhost(),
            http: any(8080),
            https: any(8443),
            admin: any(9000),
            http3: true,
            certs: "/certs".into(),
            routes: Routes::default(),
            routes_file: ROUTES_FILE.into(),
            sites: GivenSites::default(),
            acme_email: String::new(),
            acme_directory: String::new(),
            acme_root: String::new(),
            acme_eab_kid: String::new(),
            acme_eab_key: Secret::default(),
            acme_profile: String::new(),
            acme_challenge: First::default(),
            acme_preflight: true,
            acme_http_port: 80,
            acme_staging_directory: String::new(),
            acme_backoff_s: 60,
            acme_backoff_max_s: 4 * 3600,
            public_https_port: 443,
            metrics_token: Secret::default(),
            access_log: true,
            log_queries: false,
            log_user_agents: false,
            trusted_proxies: Trusted::default(),
            proxy_protocol_from: Trusted::default(),
            drain_s: 8,
            hold_s: 10,
            threads: 0,
            connections_max: 2048,
            connections_per_address_max: None,
            requests_max: 1024,
            requests_per_address_max: None,
            handshake_s: 10,
            header_s: 30,
            connect_s: 2,
            answer_s: 60,
            idle_s: 120,
            upstream_root: None,
            body_bytes_per_s_min: 240,
            body_bytes_max: 16 * 1024 * 1024,
            pool_idle_s: 4,
            certificate_life_s: CERTIFICATE_LIFE_MAX_S,
            discard_root_key: false,
            certs_group: None,
        }
    }
}

impl chassis::Settings for Config {
    fn health_address(&self) -> SocketAddr {
        self.admin
    }

    fn check(&self) -> Result<(), String> {
        for (key, value, least, most) in [
            ("connections_max", self.connections_max as u64, 1, 1_000_000),
            (
                "connections_per_address_max",
                self.connections_per_address_max.unwrap_or(1) as u64,
                1,
                1_000_000,
            ),
            ("requests_max", self.requests_max as u64, 1, 1_000_000),
            (
                "requests_per_address_max",
                self.requests_per_address_max.unwrap_or(1) as u64,
                1,
                1_000_000,
            ),
            ("threads", self.threads as u64, 0, 1024),
            ("drain_s", self.drain_s, 0, 3600),
            ("hold_s", self.hold_s, 0, 3600),
            ("handshake_s", self.handshake_s, 1, 3600),
            ("header_s", self.header_s, 1, 3600),
            ("connect_s", self.connect_s, 1, 3600),
            ("answer_s", self.answer_s, 1, 86_400),
            ("idle_s", self.idle_s, 1, 86_400),
            ("body_bytes_max", self.body_bytes_max, 0, routes_file::BODY_BYTES_MAX),
            ("body_bytes_per_s_min", self.body_bytes_per_s_min, 0, 1_000_000),
            ("pool_idle_s", self.pool_idle_s, 0, 3600),
            ("public_https_port", u64::from(self.public_https_port), 1, 65_535),
            ("acme_http_port", u64::from(self.acme_http_port), 1, 65_535),
            ("acme_backoff_s", self.acme_backoff_s, 1, 86_400),
            ("acme_backoff_max_s", self.acme_backoff_max_s, 1, 7 * 86_400),
            ("certificate_life_s", self.certificate_life_s, 3, CERTIFICATE_LIFE_MAX_S),
        ] {
            if value < least || value > most {
                return Err(format!("{key}: {value} is not from {least} to {most}"));
            }
        }
        acme::check(self)?;
        sites::configured(self).map(drop)
    }

    fn report(&self) -> Result<String, Fatal> {
        let whole = sources::whole(self.clone()).map_err(Fatal::settings)?;
        let sites = sites::configured(&whole).map_err(Fatal::settings)?;
        files::check(&sites)?;
        Connector::of(self)?;
        Ok(sites.iter().map(|site| format!("{site}\n")).collect())
    }
}

impl Config {
    /// Threads that serve.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }

    /// Whether public names get certificates by ACME.
    pub fn acme_is_configured(&self) -> bool {
        !self.acme_email.trim().is_empty() || !self.acme_directory.trim().is_empty()
    }

    /// How many connections the client at `address` may have.
    pub fn connections_of(&self, address: IpAddr) -> usize {
        self.share_of(address, self.connections_per_address_max, self.connections_max)
    }

    /// How many requests the client at `address` may have at once.
    pub fn requests_of(&self, address: IpAddr) -> usize {
        self.share_of(address, self.requests_per_address_max, self.requests_max)
    }

    /// What the client at `address` may have of `all`.
    ///
    /// Without a setting, a quarter of all for an address of the internet, and no limit for private
    /// ones: Docker's proxy, or a NAT, may stand between us and everybody there is. Proxies that we
    /// were told of speak for many and never have a limit.
    fn share_of(&self, address: IpAddr, set: Option<usize>, all: usize) -> usize {
        let address = address.to_canonical();
        if self.trusted_proxies.contains(address) || self.proxy_protocol_from.contains(address) {
            return usize::MAX;
        }
        match set {
            Some(most) => most,
            None if addresses::is_private(address) => usize::MAX,
            None => (all / 4).max(1),
        }
    }

    /// The least that a client has to move of a body.
    pub fn least(&self) -> Least {
        let patience = Duration::from_secs(self.idle_s);
        Least { bytes_per_s: self.body_bytes_per_s_min, patience }
    }

    /// [`Self::drain_s`] as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

/// A text that is never written to a log.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Option<String>);

impl Secret {
    /// The text, unless it is empty.
    pub fn reveal(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_some() { "set" } else { "unset" })
    }
}

#[cfg(test)]
mod tests {
    use chassis::Settings as _;

    use super::*;

    fn routed() -> Config {
        Config { routes: "/=http://hub:8080".parse().unwrap(), ..Config::default() }
    }

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(routed().check(), Ok(()));
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_bounds_is_named() {
        let config = Config { certificate_life_s: CERTIFICATE_LIFE_MAX_S + 1, ..routed() };
        assert!(config.check().unwrap_err().starts_with("certificate_life_s:"));
        let config = Config { header_s: 0, ..routed() };
        assert!(config.check().unwrap_err().starts_with("header_s:"));
    }

    #[test]
    fn only_who_is_known_to_speak_for_many_has_no_limit() {
        let config = Config {
            trusted_proxies: "192.0.2.1".parse().unwrap(),
            proxy_protocol_from: "198.51.100.0/24".parse().unwrap(),
            ..routed()
        };
        let of = |config: &Config, address: &str| config.connections_of(address.parse().unwrap());
        for (address, expected) in [
            ("203.0.113.1", 512),
            ("2001:db8::1", 512),
            ("172.18.0.1", usize::MAX),
            ("::ffff:172.18.0.1", usize::MAX),
            ("192.0.2.1", usize::MAX),
            ("198.51.100.7", usize::MAX),
        ] {
            assert_eq!(of(&config, address), expected, "{address}");
        }
        for (address, expected) in [("203.0.113.1", 256), ("172.18.0.1", usize::MAX)] {
            assert_eq!(config.requests_of(address.parse().unwrap()), expected, "{address}");
        }
        let config = Config { connections_per_address_max: Some(10), ..config };
        for (address, expected) in [
            ("203.0.113.1", 10),
            ("172.18.0.1", 10),
            ("192.0.2.1", usize::MAX),
            ("198.51.100.7", usize::MAX),
        ] {
            assert_eq!(of(&config, address), expected, "{address}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(secret.reveal(), Some("hunter2"));
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(Secret::from(" ".to_owned()).reveal(), None);
    }
}
