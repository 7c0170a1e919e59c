//! What can be set.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use crate::page::Link;
use crate::proxies::Trusted;
use crate::upstream;

/// Settings; each is read from `HUB__<FIELD>`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 lets the kernel choose. The default is upstream's, for both families.
    pub listen: SocketAddr,
    /// Time for connections to close after SIGTERM, in seconds.
    pub drain_s: u64,
    /// Proxies whose `X-Forwarded-For` is believed: addresses, networks, host names, or `*`.
    pub trusted_proxies: Trusted,
    /// What the front page links: `PATH=Title_with_underscores`, separated by spaces.
    pub links: String,
    /// Free places whose uniqueness differs by at most this are equally good. Wins over upstream's file.
    pub uniqueness_tolerance: Option<f64>,
    /// Connections at a time. An idle one costs some 14 KiB beside the two pots below.
    pub connections_max: usize,
    /// Memory for unfinished incoming messages of all connections, in MiB; one message may have 16.
    pub incoming_mib_max: usize,
    /// Memory for outgoing messages of all connections that peers have not read yet, in MiB.
    pub outgoing_mib_max: usize,
}

impl Config {
    /// Time for connections to close after SIGTERM.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, 2092).into(),
            drain_s: 8,
            trusted_proxies: Trusted::default(),
            links: String::new(),
            uniqueness_tolerance: None,
            connections_max: 8_000,
            incoming_mib_max: 64,
            outgoing_mib_max: 64,
        }
    }
}

impl chassis::Settings for Config {
    fn health_address(&self) -> SocketAddr {
        self.listen
    }

    fn check(&self) -> Result<(), String> {
        Link::read(&self.links).map_err(|error| format!("links: {error}"))?;
        if let Some(tolerance) = self.uniqueness_tolerance {
            upstream::check_tolerance(tolerance)?;
        }
        if self.drain_s > 3600 {
            return Err("drain_s: at most 3600".to_owned());
        }
        for (key, value, least) in [
            ("connections_max", self.connections_max, 1),
            ("incoming_mib_max", self.incoming_mib_max, 16),
            ("outgoing_mib_max", self.outgoing_mib_max, 4),
        ] {
            if !(least..=1 << 20).contains(&value) {
                return Err(format!("{key}: at least {least}, at most {}", 1 << 20));
            }
        }
        upstream::load().map(|_| ())
    }
}
