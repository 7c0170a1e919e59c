//! The replicas of an upstream: which there are, which is least loaded, which is in doubt.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::sync::watch;

use crate::observe::counts::UpstreamMetrics;
use crate::observe::series::Series;
use crate::rules::route::Place;
use crate::rules::route::Scheme;
use crate::upstream::endpoint::Endpoint;

/// How long a replica that refused a connection is left alone; then one request tries it.
pub const DOUBT: Duration = Duration::from_millis(DOUBT_MS);
const DOUBT_MS: u64 = 250;

/// One address of an upstream.
#[derive(Debug)]
pub struct Replica {
    pub address: Endpoint,
    /// Requests and tunnels that it serves for us, on all threads.
    load: AtomicUsize,
    /// Milliseconds after the process's start until which it is left alone; 0 when it is well.
    doubt_until_ms: AtomicU64,
}

impl Replica {
    fn new(address: Endpoint) -> Self {
        Self { address, load: AtomicUsize::new(0), doubt_until_ms: AtomicU64::new(0) }
    }

    /// Counts one more request, until the guard is dropped.
    pub fn load(self: &Arc<Self>) -> Load {
        self.load.fetch_add(1, Ordering::Relaxed);
        Load(Arc::clone(self))
    }

    /// Requests and tunnels that it serves for us now.
    pub fn load_now(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// `well`, or why it gets no requests; for people.
    pub fn state(&self, now_ms: u64) -> &'static str {
        match self.doubt_until_ms.load(Ordering::Relaxed) {
            0 => "well",
            until if until > now_ms => "refused a connection",
            _ => "to be tried",
        }
    }

    /// It refused a connection.
    pub fn doubt(&self, now_ms: u64) {
        self.doubt_until_ms.store(now_ms + DOUBT_MS, Ordering::Relaxed);
    }

    /// It took a connection; true when it was in doubt before.
    pub fn trust(&self) -> bool {
        self.doubt_until_ms.load(Ordering::Relaxed) != 0
            && self.doubt_until_ms.swap(0, Ordering::Relaxed) != 0
    }

    /// True when it may be asked now. When it is in doubt, only the first who asks gets leave.
    fn admits(&self, now_ms: u64) -> bool {
        let until = self.doubt_until_ms.load(Ordering::Relaxed);
        let again = now_ms + DOUBT_MS;
        until == 0
            || until <= now_ms
                && self
                    .doubt_until_ms
                    .compare_exchange(until, again, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
    }
}

/// One request's share of a replica's load.
#[derive(Debug)]
pub struct Load(Arc<Replica>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The replicas known now.
pub type Replicas = Arc<[Arc<Replica>]>;

/// An upstream, shared by all threads.
pub struct Upstream {
    /// As in the settings, `dice:8080`; a label of metrics and logs.
    pub name: String,
    pub places: Vec<Place>,
    pub metrics: Arc<Series<UpstreamMetrics>>,
    replicas: watch::Sender<Replicas>,
    /// Asks for the addresses before their time.
    pub ask: Arc<Notify>,
}

impl Upstream {
    /// An upstream at `places` whose addresses are not known yet.
    pub fn new(
        places: &[Place],
        metrics: impl FnOnce(&str) -> Arc<Series<UpstreamMetrics>>,
    ) -> Self {
        let name = places.iter().map(Place::to_string).collect::<Vec<_>>().join(",");
        let metrics = metrics(&name);
        let (replicas, _) = watch::channel(Arc::from([]));
        Self { name, places: places.to_vec(), metrics, replicas, ask: Arc::default() }
    }

    /// The name of the service: the first label of its first place's host, unless that is an
    /// address; or the path of its socket.
    pub fn service(&self) -> &str {
        let place = &self.places[0];
        if let Place::Unix(path) = place {
            return path;
        }
        let name = place.host();
        match name.parse::<std::net::IpAddr>() {
            Ok(_) => name,
            Err(_) => name.split('.').next().unwrap_or(name),
        }
    }

    /// True when its services speak HTTP/2 from the first byte.
    pub fn speaks_h2(&self) -> bool {
        matches!(self.places[0], Place::Host { scheme: Scheme::H2c, .. })
    }

    /// The replicas known now.
    pub fn replicas(&self) -> Replicas {
        Arc::clone(&self.replicas.borrow())
    }

    /// One of the replicas, see [`choose`].
    pub fn choose(&self, tried: &[Endpoint]) -> Option<Arc<Replica>> {
        choose(&self.replicas.borrow(), tried, now_ms(), |most| rand::random_range(0..most))
    }

    /// Hears when the replicas change or one is well again.
    pub fn watch(&self) -> watch::Receiver<Replicas> {
        self.replicas.subscribe()
    }

    /// One replica is well again: who waits may try.
    pub fn wake(&self) {
        self.replicas.send_modify(|_| {});
    }

    /// Takes over the addresses that DNS gave. Replicas that stay keep their state. True when
    /// something changed.
    pub fn update(&self, addresses: &[Endpoint]) -> bool {
        let changed = self.replicas.send_if_modified(|replicas| {
            let same = replicas.len() == addresses.len()
                && addresses.iter().all(|a| replicas.iter().any(|r| r.address == *a));
            if !same {
                let known = |address: &Endpoint| {
                    let old = replicas.iter().find(|replica| replica.address == *address);
                    old.cloned().unwrap_or_else(|| Arc::new(Replica::new(address.clone())))
                };
                *replicas = addresses.iter().map(known).collect();
            }
            !same
        });
        self.metrics.replicas.set(i64::try_from(addresses.len()).unwrap_or(i64::MAX));
        changed
    }
}

/// The less loaded of two replicas drawn at random (M. Mitzenmacher, "The Power of Two Choices",
/// 2001) among those that may be asked and were not yet `tried`. `draw(n)` is below `n`.
fn choose(
    replicas: &[Arc<Replica>],
    tried: &[Endpoint],
    now_ms: u64,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<Arc<Replica>> {
    let well = |replica: &&Arc<Replica>| {
        !tried.contains(&replica.address)
            && replica.doubt_until_ms.load(Ordering::Relaxed) <= now_ms
    };
    loop {
        let count = replicas.iter().filter(well).count();
        let first = if count > 1 { draw(count) } else { 0 };
        let mut candidates = replicas.iter().filter(well);
        let one = candidates.nth(first)?;
        let chosen = if count > 1 {
            // A different one, each as likely.
            let second = (first + 1 + draw(count - 1)) % count;
            let other = replicas.iter().filter(well).nth(second).unwrap_or(one);
            let load = |replica: &Replica| replica.load.load(Ordering::Relaxed);
            if load(other) < load(one) { other } else { one }
        } else {
            one
        };
        // Refused leave means that somebody else is trying it: it is not well any more.
        if chosen.admits(now_ms) {
            return Some(Arc::clone(chosen));
        }
    }
}

/// Milliseconds since the first call, never 0.
pub fn now_ms() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(n: u16) -> Endpoint {
        Endpoint::Tcp(([127, 0, 0, 1], n + 1).into())
    }

    fn replicas(count: u16) -> Vec<Arc<Replica>> {
        (0..count).map(|n| Arc::new(Replica::new(endpoint(n)))).collect()
    }

    fn upstream() -> Upstream {
        let metrics =
            crate::observe::metrics::Metrics::register(&prometheus::Registry::new()).unwrap();
        let name = "dice.example".to_owned();
        let places = [Place::Host { name, port: 8080, scheme: Scheme::Http }];
        let book = crate::observe::series::Book::new(move |name| metrics.upstream(name), |_| ());
        Upstream::new(&places, |name| book.open(name))
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen() {
        let replicas = replicas(2);
        let _busy = replicas[0].load();
        for first in [0, 1] {
            let chosen = choose(&replicas, &[], 1, |n| first % n).unwrap();
            assert_eq!(chosen.address, replicas[1].address);
        }
    }

    #[test]
    fn equal_replicas_share_the_load() {
        let replicas = replicas(3);
        let mut loads = Vec::new();
        let mut counts = [0; 3];
        for _ in 0..300 {
            let chosen = choose(&replicas, &[], 1, |n| rand::random_range(0..n)).unwrap();
            let at = replicas.iter().position(|replica| replica.address == chosen.address);
            counts[at.unwrap()] += 1;
            loads.push(chosen.load());
        }
        assert!(counts.iter().all(|count| (80..120).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_replica_in_doubt_is_tried_by_one_request_at_a_time() {
        let replicas = replicas(1);
        replicas[0].doubt(1000);
        let doubt = DOUBT_MS;
        let ask = |now| choose(&replicas, &[], now, |_| 0).is_some();
        assert!(!ask(1000));
        assert!(!ask(1000 + doubt - 1));
        assert!(ask(1000 + doubt));
        assert!(!ask(1000 + doubt));
        assert!(replicas[0].trust());
        assert!(ask(1000 + doubt) && ask(1000 + doubt));
        assert!(!replicas[0].trust());
    }

    #[test]
    fn replicas_that_stay_keep_their_load() {
        let upstream = upstream();
        assert_eq!(upstream.service(), "dice");
        let [a, b, c] = [1, 2, 3].map(endpoint);
        assert!(upstream.update(&[a.clone(), b.clone()]));
        let _load = upstream.replicas()[1].load();
        assert!(!upstream.update(&[b.clone(), a]));
        assert!(upstream.update(&[b, c]));
        let loads: Vec<usize> =
            upstream.replicas().iter().map(|r| r.load.load(Ordering::Relaxed)).collect();
        assert_eq!(loads, [1, 0]);
    }

    proptest! {
        #[test]
        fn a_tried_replica_is_never_chosen_and_another_always_is(
            count in 1u16..8,
            tried in prop::collection::btree_set(0u16..8, 0..8),
            draws in prop::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let replicas = replicas(count);
            let tried: Vec<Endpoint> =
                tried.iter().copied().map(endpoint).collect();
            let mut draws = draws.iter().cycle();
            let chosen =
                choose(&replicas, &tried, 1, |n| draws.next().expect("endless").index(n));
            let left = replicas.iter().filter(|r| !tried.contains(&r.address)).count();
            prop_assert_eq!(chosen.is_some(), left > 0);
            prop_assert!(chosen.is_none_or(|chosen| !tried.contains(&chosen.address)));
        }
    }
}
