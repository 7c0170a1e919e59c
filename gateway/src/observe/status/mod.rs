//! What the gateway knows of itself now, for people: `gateway status` and `GET /status`.

mod collect;
pub mod command;
mod table;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

pub use collect::collect;

/// Everything that the page has. Moments are RFC 3339 in UTC.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Status {
    pub version: String,
    /// What needs somebody's attention, with the remedy.
    pub warnings: Vec<String>,
    pub sites: Vec<Site>,
    pub routes: Vec<Route>,
    pub upstreams: Vec<Upstream>,
    pub requests_in_flight: i64,
    pub tunnels_open: i64,
}

/// One certificate.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Site {
    pub name: String,
    pub names: Vec<String>,
    /// `internal`, `acme` or `files`: what is wanted.
    pub mode: String,
    /// The same: what is served.
    pub source: Option<String>,
    pub not_after: Option<String>,
    pub renew_at: Option<String>,
    pub last_error: Option<String>,
    pub next_try: Option<String>,
    /// How often it was tried, by outcome.
    pub attempts: BTreeMap<String, u64>,
}

/// One route.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Route {
    pub route: String,
    pub upstream: String,
}

/// One upstream.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Upstream {
    pub name: String,
    pub replicas: Vec<Replica>,
}

/// One address.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Replica {
    pub address: String,
    /// Requests and tunnels that it serves for us.
    pub load: usize,
    /// `well`, or why it gets no requests.
    pub state: String,
}
