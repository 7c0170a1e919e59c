//! What can be set.

use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

/// Settings; each is read from `DICE__<FIELD>`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Time for running requests to finish after SIGTERM, in seconds.
    pub drain_s: u64,
}

impl Config {
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: (Ipv6Addr::UNSPECIFIED, 8080).into(), drain_s: 8 }
    }
}

impl chassis::Settings for Config {
    fn health_address(&self) -> SocketAddr {
        self.listen
    }

    fn check(&self) -> Result<(), String> {
        if self.drain_s > 3600 { Err("drain_s: at most 3600".into()) } else { Ok(()) }
    }
}
