//! What the gateway counts. Names: <https://prometheus.io/docs/practices/naming/>.

use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::core::Collector;

use crate::live::Reloads;
use crate::observe::counts::CLASSES;
use crate::observe::counts::Class;
use crate::observe::counts::RouteMetrics;
use crate::observe::counts::UpstreamMetrics;
use crate::observe::negotiated::Negotiated;
use crate::observe::negotiated::Protocol;

/// Buckets of the durations, in seconds.
const BUCKETS_S: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Every metric; a clone is another handle to the same ones.
///
/// Labels: `route` is a route as written in the settings, or `none` or `metrics`;
/// `status` one of five classes; `upstream` an upstream as written; `site` a domain; `protocol`
/// what a connection speaks. All others have a small fixed set of values. A request costs some
/// atomic additions and no look-up: 23 ns, or 42 when two threads count for one route at a time.
#[derive(Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    in_flight_by_route: IntGaugeVec,
    /// Requests of all routes whose answer has not ended: what the bound on them is held against.
    /// The page has them by route.
    pub in_flight: IntGauge,
    reloads: IntCounterVec,
    reload_refused: IntGauge,
    refusals: IntCounterVec,
    /// Requests that wait for a replica now.
    pub held: IntGauge,
    held_total: IntCounterVec,
    connect_errors: IntCounterVec,
    retries: IntCounterVec,
    replicas: IntGaugeVec,
    ejections: IntCounterVec,
    handshakes: IntCounterVec,
    handshake_failures: IntCounterVec,
    connections: IntGaugeVec,
    connections_refused: IntCounterVec,
    /// Connections of HTTP/2 that were ended for a flood.
    pub floods: IntCounter,
    /// Tunnels that are open.
    pub tunnels: IntGauge,
    not_after: IntGaugeVec,
    acme_attempts: IntCounterVec,
    /// Lines of the access log that nobody took in time.
    pub access_log_dropped: IntCounter,
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
        let counter = |name, help| add(registry, IntCounter::with_opts(Opts::new(name, help)));
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
            in_flight_by_route: gauges(
                "gateway_requests_in_flight",
                "Requests whose answer has not ended, by route.",
                &["route"],
            )?,
            in_flight: IntGauge::new("in_flight", "Requests whose answer has not ended.")?,
            refusals: counters(
                "gateway_requests_refused_total",
                "Requests answered 400 since two parsers could read them differently, by reason.",
                &["reason"],
            )?,
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
            ejections: counters(
                "gateway_upstream_ejections_total",
                "Times that a replica was taken out after errors.",
                &["upstream"],
            )?,
            handshakes: counters(
                "gateway_tls_handshakes_total",
                "TLS handshakes that succeeded, by version, ALPN protocol and key exchange.",
                &["version", "alpn", "key_exchange"],
            )?,
            handshake_failures: counters(
                "gateway_tls_handshake_failures_total",
                "TLS handshakes that failed, by reason.",
                &["reason"],
            )?,
            connections: gauges(
                "gateway_connections_open",
                "Connections of clients, by protocol; `handshake` before that is known.",
                &["protocol"],
            )?,
            connections_refused: counters(
                "gateway_connections_refused_total",
                "Connections of clients that were closed at once, by reason.",
                &["reason"],
            )?,
            floods: add(
                registry,
                IntCounter::new(
                    "gateway_http2_floods_total",
                    "Connections of HTTP/2 ended for frames that say nothing, or too many errors.",
                ),
            )?,
            tunnels: gauge("gateway_tunnels_open", "WebSockets that are open.")?,
            not_after: gauges(
                "gateway_certificate_not_after_timestamp_seconds",
                "When a site's certificate ends, in seconds since 1970.",
                &["site"],
            )?,
            reloads: counters(
                "gateway_reloads_total",
                "Changes of the routes while running, by outcome.",
                &["outcome"],
            )?,
            reload_refused: gauge(
                "gateway_reload_refused",
                "1 while the routes on disk are not those in use, since they are no good.",
            )?,
            acme_attempts: counters(
                "gateway_acme_attempts_total",
                "Orders of certificates at an ACME server, by outcome.",
                &["outcome"],
            )?,
            access_log_dropped: counter(
                "gateway_access_log_dropped_total",
                "Lines of the access log that were dropped, as stdout did not take them.",
            )?,
        })
    }

    /// The series of one route, found once so that a request looks up nothing. The same name
    /// gives the same series.
    pub fn route(&self, route: &str) -> RouteMetrics {
        let class = |class| Class {
            requests: self.requests.with_label_values(&[route, class]),
            durations: self.durations.with_label_values(&[route, class]),
        };
        RouteMetrics {
            classes: CLASSES.map(class),
            in_flight: self.in_flight_by_route.with_label_values(&[route]),
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
            ejections: self.ejections.with_label_values(&[upstream]),
        }
    }

    /// The counts of reloads.
    pub fn reloads(&self) -> Reloads {
        let outcome = |outcome| self.reloads.with_label_values(&[outcome]);
        Reloads::new(outcome("accepted"), outcome("refused"), self.reload_refused.clone())
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
        let _: prometheus::Result<()> = self.in_flight_by_route.remove_label_values(&[route]);
    }

    /// Takes the series of an upstream that is gone off the page.
    pub fn remove_upstream(&self, upstream: &str) {
        let counters = [&self.held_total, &self.connect_errors, &self.retries, &self.ejections];
        for counter in counters {
            let _: prometheus::Result<()> = counter.remove_label_values(&[upstream]);
        }
        let _: prometheus::Result<()> = self.replicas.remove_label_values(&[upstream]);
    }

    /// The gauge of open connections that speak `protocol`.
    pub fn connections(&self, protocol: Protocol) -> IntGauge {
        self.connections.with_label_values(&[protocol.as_str()])
    }

    /// Counts a connection that was closed before anything was read of it.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a request that was refused; `reason` is [`crate::rules::policy::Refusal::reason`].
    pub fn refused(&self, reason: &'static str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Counts a handshake.
    pub fn handshake(&self, negotiated: Negotiated) {
        let Negotiated { tls, alpn, key_exchange } = negotiated;
        self.handshakes.with_label_values(&[tls, alpn, key_exchange]).inc();
    }

    /// Counts a failed handshake.
    pub fn handshake_failure(&self, reason: &'static str) {
        self.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// Shows these outcomes before there is one, so that the first is seen as an increase.
    pub fn acme_outcomes(&self, outcomes: impl Iterator<Item = &'static str>) {
        for outcome in outcomes {
            self.acme_attempts.with_label_values(&[outcome]).reset();
        }
    }

    /// Counts an order at an ACME server that came to its end.
    pub fn acme_attempt(&self, outcome: &'static str) {
        self.acme_attempts.with_label_values(&[outcome]).inc();
    }

    /// Says when the certificate of `site` ends.
    pub fn certificate(&self, site: &str, not_after: time::OffsetDateTime) {
        self.not_after.with_label_values(&[site]).set(not_after.unix_timestamp());
    }

    /// Takes the series of a site that is gone off the page.
    pub fn remove_certificate(&self, site: &str) {
        // Only a series that is not there is an error.
        let _: prometheus::Result<()> = self.not_after.remove_label_values(&[site]);
    }
}
