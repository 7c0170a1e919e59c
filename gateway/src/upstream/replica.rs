//! The replicas of an upstream: which there are, which is least loaded, which is in doubt.

mod choice;

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::observe::counts::UpstreamMetrics;
use crate::observe::seldom::Seldom;
use crate::observe::series::Series;
use crate::rules::route::Place;
use crate::rules::route::Scheme;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::health::Health;

/// How long a replica that refused a connection is left alone; then one request tries it.
pub const DOUBT: Duration = Duration::from_millis(DOUBT_MS);
const DOUBT_MS: u64 = 250;

/// Checks in a row that must fail before a replica is not well.
const FAILED_CHECKS: u32 = 2;

/// One address of an upstream.
#[derive(Debug)]
pub struct Replica {
    pub address: Endpoint,
    /// The address in words, for the log.
    pub label: String,
    /// Requests and tunnels that it serves for us, on all threads.
    load: AtomicUsize,
    /// Milliseconds after the process's start until which it is left alone; 0 when it is well.
    doubt_until_ms: AtomicU64,
    /// On the same clock, until when it is out after errors.
    out_until_ms: AtomicU64,
    health: Mutex<Health>,
    /// True while there are errors to forget: without any, an answer costs one look.
    troubled: AtomicBool,
    /// Checks that failed in a row; of a new one that has a check, as many as make it unwell.
    failed_checks: AtomicU32,
    /// DNS has it no more.
    gone: AtomicBool,
}

impl Replica {
    /// `checked` when it has to pass a check before it is well.
    fn new(address: Endpoint, checked: bool) -> Self {
        Self {
            label: address.to_string(),
            address,
            load: AtomicUsize::new(0),
            doubt_until_ms: AtomicU64::new(0),
            out_until_ms: AtomicU64::new(0),
            health: Mutex::default(),
            troubled: AtomicBool::new(false),
            failed_checks: AtomicU32::new(if checked { FAILED_CHECKS } else { 0 }),
            gone: AtomicBool::new(false),
        }
    }

    /// It gave an error; true when that puts it out.
    fn failed(&self, now_ms: u64) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        self.troubled.store(true, Ordering::Relaxed);
        let out_until_ms = health.failed(now_ms);
        self.out_until_ms.fetch_max(out_until_ms.unwrap_or(0), Ordering::Relaxed);
        out_until_ms.is_some()
    }

    /// It gave an answer.
    pub fn answered(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
            self.troubled.store(false, Ordering::Relaxed);
            health.answered();
        }
    }

    /// It was checked; true when that changes whether it is well.
    pub fn checked(&self, well: bool) -> bool {
        let before = self.failed_checks.load(Ordering::Relaxed);
        // One task writes this.
        let now = if well { 0 } else { (before + 1).min(FAILED_CHECKS) };
        self.failed_checks.store(now, Ordering::Relaxed);
        (before >= FAILED_CHECKS) != (now >= FAILED_CHECKS)
    }

    /// True when neither its errors nor its checks speak against it.
    fn is_well(&self, now_ms: u64) -> bool {
        self.out_until_ms.load(Ordering::Relaxed) <= now_ms
            && self.failed_checks.load(Ordering::Relaxed) < FAILED_CHECKS
    }

    /// True once DNS has it no more: what runs may end, and no connection is kept for more.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
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
        if self.failed_checks.load(Ordering::Relaxed) >= FAILED_CHECKS {
            return "not well, says its check";
        }
        if !self.is_well(now_ms) {
            return "put out after errors";
        }
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
pub struct Load(pub Arc<Replica>);

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
    /// The path by which they are asked whether they are well.
    check: ArcSwapOption<String>,
    /// Asks for the addresses before their time.
    pub ask: Arc<Notify>,
    complaints: Seldom,
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
        let (check, ask, complaints) = (ArcSwapOption::empty(), Arc::default(), Seldom::default());
        Self { name, places: places.to_vec(), metrics, replicas, check, ask, complaints }
    }

    /// The path by which replicas are asked whether they are well.
    pub fn check(&self) -> Option<Arc<String>> {
        self.check.load_full()
    }

    /// Asks replicas by this path from now on. Those that are known stay as well as they are thought
    /// to be, until they are asked.
    pub fn set_check(&self, check: Option<&str>) {
        if check.is_none() {
            for replica in &*self.replicas() {
                replica.checked(true);
            }
        }
        self.check.store(check.map(|path| Arc::new(path.to_owned())));
    }

    /// `replica` gave an error, which may put it out.
    pub fn fault(&self, replica: &Replica) {
        if replica.failed(now_ms()) {
            self.metrics.ejections.inc();
            log::warn!("{}: {} is put out after errors", self.name, replica.address);
        }
    }

    /// Tells the log what a request met with; once in a while, however many do.
    pub fn complain(&self, level: log::Level, what: fmt::Arguments<'_>) {
        match self.complaints.due(now_ms()) {
            None => {}
            Some(0) => log::log!(level, "{}: {what}", self.name),
            Some(more) => log::log!(level, "{}: {what} ({more} such lines left out)", self.name),
        }
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

    /// One of the replicas, see [`choice::choose`].
    pub fn choose(&self, tried: &[Endpoint]) -> Option<Arc<Replica>> {
        choice::choose(&self.replicas.borrow(), tried, now_ms(), |most| rand::random_range(0..most))
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
                    let checked = self.check.load().is_some();
                    let new = || Arc::new(Replica::new(address.clone(), checked));
                    old.cloned().unwrap_or_else(new)
                };
                for gone in replicas.iter().filter(|known| !addresses.contains(&known.address)) {
                    gone.gone.store(true, Ordering::Relaxed);
                }
                *replicas = addresses.iter().map(known).collect();
            }
            !same
        });
        self.metrics.replicas.set(i64::try_from(addresses.len()).unwrap_or(i64::MAX));
        changed
    }
}

/// Milliseconds since the first call, never 0.
pub fn now_ms() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(n: u16) -> Endpoint {
        Endpoint::Tcp(([127, 0, 0, 1], n + 1).into())
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
    fn one_that_is_new_waits_for_its_check_and_one_that_left_is_gone() {
        let upstream = upstream();
        let [a, b] = [1, 2].map(endpoint);
        upstream.update(std::slice::from_ref(&a));
        let old = Arc::clone(&upstream.replicas()[0]);
        upstream.set_check(Some("/healthz"));
        upstream.update(&[a.clone(), b.clone()]);
        for _ in 0..20 {
            assert_eq!(upstream.choose(&[]).unwrap().address, a);
        }
        upstream.update(std::slice::from_ref(&b));
        assert!(old.is_gone());
        assert_eq!(upstream.choose(&[]).unwrap().address, b, "the only one");
        upstream.set_check(None);
        assert!(upstream.replicas()[0].is_well(now_ms()));
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
}
