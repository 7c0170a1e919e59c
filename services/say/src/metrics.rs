//! What `say` counts. Names: <https://prometheus.io/docs/practices/naming/>.

use prometheus::Counter;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::Opts;
use prometheus::Registry;

/// Bounds of the synthesis buckets, in seconds: from two words to the longest text.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Counters; a clone counts into the same ones. Nine series and a histogram, whatever is asked.
#[derive(Clone)]
pub struct Metrics {
    /// Label `result`: `hit` or `miss`. A request that joins a running synthesis is a hit.
    cache_requests_total: IntCounterVec,
    /// Seconds of audio made.
    pub audio_seconds_total: Counter,
    /// Requests refused because too many wait, or too much audio is in memory.
    pub busy_total: IntCounter,
    /// Requests whose worker died or ran out of time.
    pub crashes_total: IntCounter,
    /// Requests synthesised.
    pub syntheses_total: IntCounter,
    /// Time from the worker getting a request to the last sample.
    pub synthesis_seconds: Histogram,
    /// Workers that can take a request or have one.
    pub workers_alive: IntGauge,
}

impl Metrics {
    /// Adds them to `registry`.
    ///
    /// # Errors
    ///
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let seconds =
            HistogramOpts::new("say_synthesis_seconds", "Time a worker took for a request.");
        let metrics = Self {
            cache_requests_total: IntCounterVec::new(
                Opts::new(
                    "say_cache_requests_total",
                    "Requests for speech, by whether it was made already.",
                ),
                &["result"],
            )?,
            audio_seconds_total: Counter::new("say_audio_seconds_total", "Seconds of audio made.")?,
            busy_total: IntCounter::new(
                "say_engine_busy_total",
                "Requests refused for want of room.",
            )?,
            crashes_total: IntCounter::new(
                "say_engine_crashes_total",
                "Requests whose worker died or timed out.",
            )?,
            syntheses_total: IntCounter::new("say_syntheses_total", "Requests synthesised.")?,
            synthesis_seconds: Histogram::with_opts(seconds.buckets(BUCKETS.to_vec()))?,
            workers_alive: IntGauge::new("say_workers_alive", "Worker processes that can speak.")?,
        };
        registry.register(Box::new(metrics.cache_requests_total.clone()))?;
        registry.register(Box::new(metrics.audio_seconds_total.clone()))?;
        registry.register(Box::new(metrics.busy_total.clone()))?;
        registry.register(Box::new(metrics.crashes_total.clone()))?;
        registry.register(Box::new(metrics.syntheses_total.clone()))?;
        registry.register(Box::new(metrics.synthesis_seconds.clone()))?;
        registry.register(Box::new(metrics.workers_alive.clone()))?;
        for hit in [true, false] {
            metrics.cache_request(hit, 0);
        }
        Ok(metrics)
    }

    /// Counts requests that the cache had an answer for, or had not.
    pub fn cache_request(&self, hit: bool, count: u64) {
        let result = if hit { "hit" } else { "miss" };
        self.cache_requests_total.with_label_values(&[result]).inc_by(count);
    }
}
