//! Finds a request a connection to a live replica, and lets it wait a bounded time for one.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;

use crate::observe::trip::Trip;
use crate::shared::Thread;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::Lease;
use crate::upstream::replica;
use crate::upstream::replica::DOUBT;
use crate::upstream::replica::Upstream;
use crate::upstream::stream;

/// Why there is no connection.
#[derive(Debug)]
pub enum Missed {
    /// No replica was live for as long as a request may wait.
    NoneLive,
    /// A replica has a certificate that is not believed; waiting would not help.
    Distrusted(rustls::Error),
}

/// A connection to one of the live replicas of `upstream`: a used one where there is one, and
/// where there is a choice none to those that one should `avoid`. `sure` when a used one must not
/// have been closed, as far as the kernel knows.
///
/// # Errors
///
/// [`Missed::NoneLive`] after the time that a request may wait.
pub async fn lease(
    thread: &Thread,
    upstream: &Arc<Upstream>,
    avoid: &[Endpoint],
    sure: bool,
    trip: &mut Trip,
) -> Result<Lease, Missed> {
    let mut tried: Vec<Endpoint> = avoid.to_vec();
    let mut avoiding = !avoid.is_empty();
    // Made when there is nothing to do but to wait, before looking once more: no change is missed.
    let mut waiting = None;
    loop {
        if let Some(replica) = upstream.choose(&tried) {
            trip.replica = Some(Arc::clone(&replica));
            let lease = match thread.pool.reuse(&replica, sure) {
                Some(lease) => Ok(lease),
                None => {
                    let begun = Instant::now();
                    let made = thread.pool.connect(&replica).await;
                    trip.connect += begun.elapsed();
                    made
                }
            };
            match lease {
                Ok(lease) => {
                    if replica.trust() {
                        upstream.wake();
                    }
                    return Ok(lease);
                }
                Err(error) => {
                    log::debug!("{} at {}: {error}", upstream.name, replica.address);
                    upstream.metrics.connect_errors.inc();
                    replica.doubt(replica::now_ms());
                    upstream.fault(&replica);
                    upstream.ask.notify_one();
                    if let Some(error) = stream::distrusted(&error) {
                        return Err(Missed::Distrusted(error.clone()));
                    }
                    tried.push(replica.address.clone());
                }
            }
            continue;
        }
        tried.clear();
        if std::mem::take(&mut avoiding) {
            continue;
        }
        let Some((changes, deadline, _)) = &mut waiting else {
            let shared = &thread.shared;
            upstream.metrics.held.inc();
            // Nobody may have asked since the last replica went.
            upstream.ask.notify_one();
            let deadline = Instant::now() + Duration::from_secs(shared.config.hold_s);
            waiting = Some((upstream.watch(), deadline, Held::new(&shared.metrics.held)));
            continue;
        };
        let begun = Instant::now();
        let over = tokio::select! {
            // New addresses, or a replica in doubt is well again.
            _ = changes.changed() => false,
            // A replica in doubt may be tried: one of those who wait will.
            () = tokio::time::sleep(DOUBT), if !upstream.replicas().is_empty() => false,
            () = tokio::time::sleep_until(*deadline) => true,
        };
        trip.held += begun.elapsed();
        if over {
            return Err(Missed::NoneLive);
        }
    }
}

/// Counts one request that waits.
struct Held(IntGauge);

impl Held {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
