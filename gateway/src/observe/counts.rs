//! The metrics of one route and of one upstream, found once so that a request looks up nothing.

use std::time::Duration;

use http::StatusCode;
use prometheus::Histogram;
use prometheus::IntCounter;
use prometheus::IntGauge;

/// Status classes, `1xx` first.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See [`Metrics::route`](crate::observe::metrics::Metrics::route).
pub struct RouteMetrics {
    pub classes: [Class; 5],
    /// Requests whose answer has not ended.
    pub in_flight: IntGauge,
    /// Bytes of request bodies.
    pub request_bytes: IntCounter,
    /// Bytes of the bodies of answers.
    pub response_bytes: IntCounter,
}

/// What is counted by status class.
pub struct Class {
    pub requests: IntCounter,
    pub durations: Histogram,
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

/// See [`Metrics::upstream`](crate::observe::metrics::Metrics::upstream).
pub struct UpstreamMetrics {
    /// Requests that had to wait.
    pub held: IntCounter,
    /// Connections that failed.
    pub connect_errors: IntCounter,
    /// Requests sent again.
    pub retries: IntCounter,
    /// Addresses known.
    pub replicas: IntGauge,
    /// Times that a replica was taken out after errors.
    pub ejections: IntCounter,
}
