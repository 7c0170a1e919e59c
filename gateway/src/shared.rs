//! What the requests of a process, a thread and a connection have in common.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use chassis::Stopping;
use http::HeaderValue;
use prometheus::IntGauge;
use prometheus::Registry;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

use crate::certs::office::Office;
use crate::config::Config;
use crate::edge::certificates::Served;
use crate::edge::unread::Unread;
use crate::live::Books;
use crate::live::Live;
use crate::live::Reloads;
use crate::observe::access::writer::AccessLog;
use crate::observe::clients::Clients;
use crate::observe::counts::RouteMetrics;
use crate::observe::metrics::Metrics;
use crate::observe::negotiated::Negotiated;
use crate::rules::addresses::Addresses;
use crate::rules::addresses::Entered;
use crate::rules::forwarded::Peer;
use crate::upstream::pool::Pool;
use crate::upstream::stream::Connector;

/// One a process.
pub struct Shared {
    pub config: Config,
    pub registry: Registry,
    pub metrics: Metrics,
    /// Where the settings ask for it.
    pub access: Option<AccessLog>,
    /// What new requests go by; those that run keep what they began with.
    pub live: ArcSwap<Live>,
    /// Who looks after the certificates.
    pub office: Office,
    /// What the next table is made with.
    pub books: Books,
    pub reloads: Reloads,
    /// For requests that have no route.
    pub no_route: RouteMetrics,
    /// For `https://DOMAIN/metrics`.
    pub metrics_route: RouteMetrics,
    /// Makes the connections to replicas.
    pub connector: Arc<Connector>,
    /// [`Config::requests_max`] as the gauge counts.
    pub requests_max: i64,
    /// Where else it is served (RFC 7838): by HTTP/3, as clients see its port.
    pub alternative: Option<HeaderValue>,
    /// Who connected of late.
    pub clients: Clients,
    /// Connections by client.
    pub addresses: Arc<Addresses>,
    /// Listeners that take connections.
    pub accepting: AtomicUsize,
    /// SIGTERM came: nothing new, and what runs may end.
    pub stopping: Stopping,
    /// The time to end is over.
    pub ending: Stopping,
}

impl Shared {
    /// Everything that follows from the settings.
    pub fn new(
        config: Config,
        registry: Registry,
        metrics: Metrics,
        office: Office,
        connector: Arc<Connector>,
        stopping: Stopping,
        ending: Stopping,
    ) -> Self {
        let route = |name: &str| metrics.route(name);
        let books = Books::new(&metrics);
        let access = || AccessLog::new(config.threads(), &metrics.access_log_dropped);
        Self {
            live: ArcSwap::from_pointee(Live::new(config.routes.clone(), &books, None)),
            books,
            reloads: metrics.reloads(),
            access: config.access_log.then(access),
            no_route: route("none"),
            metrics_route: route("metrics"),
            requests_max: i64::try_from(config.requests_max).unwrap_or(i64::MAX),
            alternative: alternative(&config),
            config,
            registry,
            metrics,
            connector,
            office,
            addresses: Arc::default(),
            clients: Clients::default(),
            accepting: AtomicUsize::new(0),
            stopping,
            ending,
        }
    }
}

/// For a day, after which a client that has not been here for so long asks again.
fn alternative(config: &Config) -> Option<HeaderValue> {
    let text = format!("h3=\":{}\"; ma=86400", config.public_https_port);
    config.http3.then(|| HeaderValue::from_str(&text).ok()).flatten()
}

impl Shared {
    /// Notes who connected. Proxies that the settings name hide nobody: they say who is behind them.
    pub fn see(&self, peer: &Peer) {
        if !peer.trusted && !self.config.proxy_protocol_from.contains(peer.address) {
            self.clients.see(peer.address);
        }
    }

    /// Whether every listener takes connections.
    ///
    /// # Errors
    ///
    /// How many do not.
    pub fn health(&self) -> Result<(), String> {
        let wanted = self.config.threads() * LISTENERS_PER_THREAD;
        let missing = wanted.saturating_sub(self.accepting.load(Ordering::Relaxed));
        match missing {
            0 => Ok(()),
            _ => Err(format!("{missing} of {wanted} listeners take no connections")),
        }
    }
}

/// HTTPS and HTTP.
const LISTENERS_PER_THREAD: usize = 2;

/// Counts a listener as taking connections until it is dropped.
pub struct Accepting(Arc<Shared>);

impl Accepting {
    /// One more.
    pub fn new(shared: &Arc<Shared>) -> Self {
        shared.accepting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One a thread.
pub struct Thread {
    /// From 0.
    pub number: usize,
    pub shared: Arc<Shared>,
    pub pool: Arc<Pool>,
}

/// Held by everything that has to end before the process may; nothing is ever sent.
pub type Alive = mpsc::Sender<std::convert::Infallible>;

/// One a connection of a client, and as long as its last request or tunnel.
pub struct Connection {
    pub thread: Arc<Thread>,
    pub peer: Peer,
    pub negotiated: Negotiated,
    /// The name that the client asked for in the handshake.
    pub server_name: Option<String>,
    /// The certificate that it got there.
    pub certificate: Option<Arc<Served>>,
    /// For HTTP/2; the kernel knows of HTTP/1.
    pub unread: Option<Arc<Unread>>,
    /// Requests so far.
    pub requests: AtomicU64,
    pub open: Open,
}

impl Connection {
    /// The process's part.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.thread.shared
    }
}

/// A place among the connections that may be open, and the count of them.
pub struct Open {
    gauge: IntGauge,
    /// Its client's, once that is known.
    pub entered: Option<Entered>,
    _permit: OwnedSemaphorePermit,
    _alive: Alive,
}

impl Open {
    /// Takes the place.
    pub fn new(gauge: &IntGauge, permit: OwnedSemaphorePermit, alive: Alive) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), entered: None, _permit: permit, _alive: alive }
    }
}

impl Open {
    /// Counts it with those of `gauge` from now on.
    pub fn becomes(&mut self, gauge: IntGauge) {
        gauge.inc();
        self.gauge.dec();
        self.gauge = gauge;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
