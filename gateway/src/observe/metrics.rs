//! What the gateway counts. Names: <https://prometheus.io/docs/practices/naming/>.

use std::time::Duration;

use http::StatusCode;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::core::Collector;

/// Status classes, `1xx` first.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Buckets of the durations, in seconds.
const BUCKETS_S: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Every metric; a clone is another handle to the same ones.
///
/// Labels: `route` is a route as written in the settings, or `none` or `metrics`;
/// `status` one of five classes; `upstream` an upstream as written; `site` a domain.
#[derive(Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    /// Requests whose answer has not ended.
    pub in_flight: IntGauge,
    /// Requests that wait for a replica now.
    pub held: IntGauge,
    held_total: IntCounterVec,
    connect_errors: IntCounterVec,
    retries: IntCounterVec,
    replicas: IntGaugeVec,
    handshakes: IntCounterVec,
    handshake_failures: IntCounterVec,
    connections: IntGaugeVec,
    /// Tunnels that are open.
    pub tunnels: IntGauge,
    not_after: IntGaugeVec,
}

impl Metrics {
    /// Makes every metric and registers it.
    ///
    /// # Errors
    ///
    /// Never for a fresh registry; registering is fallible by its type.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        fn add<M: Collector + Clone + 'static>(
            registry: &Registry,
            metric: prometheus::Result<M>,
        ) -> prometheus::Result<M> {
            let metric = metric?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        }
        let counters = |name, help, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name, help, labels: &[&str]| {
            add(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name, help| add(registry, IntGauge::with_opts(Opts::new(name, help)));
        let durations = HistogramOpts::new(
            "gateway_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
        )
        .buckets(BUCKETS_S.to_vec());
        Ok(Self {
            requests: counters(
                "gateway_requests_total",
                "Requests answered, by route and status class.",
                &["route", "status"],
            )?,
            durations: add(registry, HistogramVec::new(durations, &["route", "status"]))?,
            request_bytes: counters(
                "gateway_request_body_bytes_total",
                "Bytes of request bodies passed on.",
                &["route"],
            )?,
            response_bytes: counters(
                "gateway_response_body_bytes_total",
                "Bytes of response bodies passed on.",
                &["route"],
            )?,
            in_flight: gauge("gateway_requests_in_flight", "Requests whose answer has not ended.")?,
            held: gauge("gateway_requests_held", "Requests that wait for a live replica.")?,
            held_total: counters(
                "gateway_held_requests_total",
                "Requests that had to wait for a live replica.",
                &["upstream"],
            )?,
            connect_errors: counters(
                "gateway_upstream_connect_errors_total",
                "Connections to replicas that failed.",
                &["upstream"],
            )?,
            retries: counters(
                "gateway_upstream_retries_total",
                "Requests sent again on another connection.",
                &["upstream"],
            )?,
            replicas: gauges(
                "gateway_upstream_replicas",
                "Addresses that DNS gives for an upstream.",
                &["upstream"],
            )?,
            handshakes: counters(
                "gateway_tls_handshakes_total",
                "TLS handshakes that succeeded, by version and ALPN protocol.",
                &["version", "alpn"],
            )?,
            handshake_failures: counters(
                "gateway_tls_handshake_failures_total",
                "TLS handshakes that failed, by reason.",
                &["reason"],
            )?,
            connections: gauges(
                "gateway_connections_open",
                "Connections of clients, by listener.",
                &["listener"],
            )?,
            tunnels: gauge("gateway_tunnels_open", "WebSockets that are open.")?,
            not_after: gauges(
                "gateway_certificate_not_after_timestamp_seconds",
                "When a site's certificate ends, in seconds since 1970.",
                &["site"],
            )?,
        })
    }

    /// The series of one route, found once so that a request looks up nothing.
    pub fn route(&self, route: &str) -> RouteMetrics {
        RouteMetrics {
            classes: CLASSES.map(|class| Class {
                requests: self.requests.with_label_values(&[route, class]),
                durations: self.durations.with_label_values(&[route, class]),
            }),
            request_bytes: self.request_bytes.with_label_values(&[route]),
            response_bytes: self.response_bytes.with_label_values(&[route]),
        }
    }

    /// The series of one upstream.
    pub fn upstream(&self, upstream: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            held: self.held_total.with_label_values(&[upstream]),
            connect_errors: self.connect_errors.with_label_values(&[upstream]),
            retries: self.retries.with_label_values(&[upstream]),
            replicas: self.replicas.with_label_values(&[upstream]),
        }
    }

    /// Takes the series of a route that is gone off the page.
    pub fn remove_route(&self, route: &str) {
        for class in CLASSES {
            let labels = [route, class];
            // Only a series that is not there is an error.
            let _: prometheus::Result<()> = self.requests.remove_label_values(&labels);
            let _: prometheus::Result<()> = self.durations.remove_label_values(&labels);
        }
        for bytes in [&self.request_bytes, &self.response_bytes] {
            let _: prometheus::Result<()> = bytes.remove_label_values(&[route]);
        }
    }

    /// Takes the series of an upstream that is gone off the page.
    pub fn remove_upstream(&self, upstream: &str) {
        for counter in [&self.held_total, &self.connect_errors, &self.retries] {
            let _: prometheus::Result<()> = counter.remove_label_values(&[upstream]);
        }
        let _: prometheus::Result<()> = self.replicas.remove_label_values(&[upstream]);
    }

    /// The gauge of a listener: `https` or `http`.
    pub fn connections(&self, listener: &str) -> IntGauge {
        self.connections.with_label_values(&[listener])
    }

    /// Counts a handshake; both labels come from small fixed sets.
    pub fn handshake(&self, version: &str, alpn: &str) {
        self.handshakes.with_label_values(&[version, alpn]).inc();
    }

    /// Counts a failed handshake; `reason` is one of a small fixed set.
    pub fn handshake_failure(&self, reason: &str) {
        self.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// Says when the certificate of `site` ends.
    pub fn certificate(&self, site: &str, not_after: time::OffsetDateTime) {
        self.not_after.with_label_values(&[site]).set(not_after.unix_timestamp());
    }
}

/// See [`Metrics::route`].
pub struct RouteMetrics {
    classes: [Class; 5],
    /// Bytes of request bodies.
    pub request_bytes: IntCounter,
    response_bytes: IntCounter,
}

struct Class {
    requests: IntCounter,
    durations: Histogram,
}

impl RouteMetrics {
    /// Counts a request that ended, and the bytes of its answer.
    pub fn count(&self, status: StatusCode, took: Duration, bytes: u64) {
        self.response_bytes.inc_by(bytes);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.classes[class].requests.inc();
        self.classes[class].durations.observe(took.as_secs_f64());
    }
}

/// See [`Metrics::upstream`].
pub struct UpstreamMetrics {
    /// Requests that had to wait.
    pub held: IntCounter,
    /// Connections that failed.
    pub connect_errors: IntCounter,
    /// Requests sent again.
    pub retries: IntCounter,
    /// Addresses known.
    pub replicas: IntGauge,
}
