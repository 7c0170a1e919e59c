//! What is said of a request once it has ended: one line in the access log, and the counts.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use http::Method;
use http::StatusCode;
use prometheus::IntGauge;

use crate::metrics::RouteMetrics;

/// How a connection was negotiated; the same for all its requests.
#[derive(Clone, Copy, Debug)]
pub struct Negotiated {
    /// `1.2` or `1.3`.
    pub tls: &'static str,
    /// `h2`, `http/1.1` or `none`.
    pub alpn: &'static str,
}

/// A request's record, closed when it is dropped.
pub struct Account {
    pub request_id: HeaderValue,
    pub method: Method,
    pub host: String,
    /// Without the query, which may hold secrets.
    pub path: String,
    pub status: StatusCode,
    pub client: IpAddr,
    /// `-` until one was chosen.
    pub upstream: String,
    pub negotiated: Negotiated,
    route: Arc<RouteMetrics>,
    _in_flight: InFlight,
    begun: Instant,
    bytes: u64,
    /// Why the answer is not whole.
    broken: Option<String>,
}

/// Counts one request as in flight until it is dropped.
pub struct InFlight(IntGauge);

impl InFlight {
    /// One more.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }

    /// How many there are, this one included.
    pub fn count(&self) -> usize {
        usize::try_from(self.0.get()).unwrap_or_default()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Account {
    /// Opens the record of a request from `client`.
    pub fn open(
        method: Method,
        path: String,
        client: IpAddr,
        negotiated: Negotiated,
        route: Arc<RouteMetrics>,
        in_flight: InFlight,
    ) -> Self {
        Self {
            request_id: HeaderValue::from_static("-"),
            method,
            host: String::new(),
            path,
            status: StatusCode::OK,
            client,
            upstream: String::new(),
            negotiated,
            route,
            _in_flight: in_flight,
            begun: Instant::now(),
            bytes: 0,
            broken: None,
        }
    }

    /// The request belongs to this route.
    pub fn route(&mut self, route: &Arc<RouteMetrics>) {
        self.route = Arc::clone(route);
    }

    /// Bytes of the body were handed to the client's connection.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The answer broke off.
    pub fn broke(&mut self, why: impl Display) {
        self.broken.get_or_insert_with(|| why.to_string());
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        self.route.count(self.status, took);
        self.route.response_bytes.inc_by(self.bytes);
        if !log::log_enabled!(target: "access", log::Level::Info) {
            return;
        }
        let upstream = if self.upstream.is_empty() { "-" } else { &self.upstream };
        let request_id = self.request_id.to_str().unwrap_or("-");
        let ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
        let broken = self.broken.as_deref().unwrap_or_default();
        log::info!(
            target: "access",
            request_id = request_id,
            method = self.method.as_str(),
            host = self.host.as_str(),
            path = self.path.as_str(),
            status = self.status.as_u16(),
            bytes = self.bytes,
            ms = ms,
            client:% = self.client,
            upstream = upstream,
            tls = self.negotiated.tls,
            alpn = self.negotiated.alpn,
            broken = broken;
            "{} {} {}", self.method, self.path, self.status.as_u16()
        );
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.method, self.path)
    }
}
