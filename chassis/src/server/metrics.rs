//! What every service counts. Names: <https://prometheus.io/docs/practices/naming/>.

use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounterVec;
use prometheus::Opts;
use prometheus::Registry;

/// Bounds of the duration buckets, in seconds: from a cache hit to a long wait.
const BUCKETS: [f64; 12] =
    [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Requests by route. A route is a pattern of the service's own, never the client's path, so
/// the series are bounded: routes × nine methods × the statuses that handlers use.
pub(super) struct Metrics {
    requests_total: IntCounterVec,
    request_duration_seconds: HistogramVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests_total = IntCounterVec::new(
            Opts::new("http_requests_total", "Requests answered, by route, method and status."),
            &["route", "method", "status"],
        )?;
        let request_duration_seconds = HistogramVec::new(
            HistogramOpts::new(
                "http_request_duration_seconds",
                "Time from a request's head to its response's head, by route and status.",
            )
            .buckets(BUCKETS.to_vec()),
            &["route", "status"],
        )?;
        registry.register(Box::new(requests_total.clone()))?;
        registry.register(Box::new(request_duration_seconds.clone()))?;
        Ok(Self { requests_total, request_duration_seconds })
    }

    pub(super) fn count(&self, route: &str, method: &str, status: u16, duration_s: f64) {
        let status = status.to_string();
        self.requests_total.with_label_values(&[route, method, &status]).inc();
        self.request_duration_seconds.with_label_values(&[route, &status]).observe(duration_s);
    }
}
