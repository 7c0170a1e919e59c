//! The routes as they are just now, and what goes with them. A request takes its line once, at its
//! start, and keeps it to its end: a reload swaps a pointer, and what runs does not notice.

pub mod reload;
pub mod sources;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use prometheus::IntCounter;
use prometheus::IntGauge;

use crate::observe::counts::RouteMetrics;
use crate::observe::counts::UpstreamMetrics;
use crate::observe::metrics::Metrics;
use crate::observe::series::Book;
use crate::observe::series::Series;
use crate::rules::route::Limits;
use crate::rules::route::Route;
use crate::rules::table::Routes;
use crate::rules::table::Target;
use crate::upstream::replica::Upstream;

/// One route, and what its requests need. They keep no more than this: a WebSocket that is open for
/// a month keeps nothing of the other routes.
pub struct Line {
    pub limits: Limits,
    pub metrics: Arc<Series<RouteMetrics>>,
    pub upstream: Arc<Upstream>,
}

/// One table of routes.
pub struct Live {
    pub routes: Routes,
    /// In the order of the routes.
    lines: Vec<Arc<Line>>,
    /// In the order of the routes' upstreams.
    pub upstreams: Vec<Arc<Upstream>>,
}

/// What a table is made with; the same for all tables of a process.
pub struct Books {
    routes: Arc<Book<RouteMetrics>>,
    upstreams: Arc<Book<UpstreamMetrics>>,
}

impl Books {
    /// No series yet.
    pub fn new(metrics: &Metrics) -> Self {
        let (make, remove) = (metrics.clone(), metrics.clone());
        let routes = Book::new(move |l| make.route(l), move |l| remove.remove_route(l));
        let (make, remove) = (metrics.clone(), metrics.clone());
        let upstreams = Book::new(move |l| make.upstream(l), move |l| remove.remove_upstream(l));
        Self { routes, upstreams }
    }
}

impl Live {
    /// The table for `routes`. An upstream that `before` has too goes on as it is, with what is known
    /// of its replicas.
    pub fn new(routes: Routes, books: &Books, before: Option<&Self>) -> Self {
        let upstream = |target: &Target| {
            let same = before.and_then(|before| {
                before.upstreams.iter().find(|upstream| upstream.places == target.places)
            });
            let new = || Arc::new(Upstream::new(&target.places, |name| books.upstreams.open(name)));
            let upstream = same.map_or_else(new, Arc::clone);
            upstream.set_check(target.check.as_deref());
            upstream
        };
        let upstreams: Vec<Arc<Upstream>> = routes.upstreams().iter().map(upstream).collect();
        let line = |(route, upstream): (&Route, usize)| {
            Arc::new(Line {
                limits: route.limits,
                metrics: books.routes.open(&route.to_string()),
                upstream: Arc::clone(&upstreams[upstream]),
            })
        };
        let lines = routes.iter().map(line).collect();
        Self { routes, lines, upstreams }
    }

    /// The line for `path` on `host`, as [`Routes::find`] wants them.
    pub fn find(&self, host: &str, path: &str) -> Option<Arc<Line>> {
        self.routes.find(host, path).map(|index| Arc::clone(&self.lines[index]))
    }
}

/// How reloads went.
pub struct Reloads {
    refusal: Mutex<Option<String>>,
    pub accepted: IntCounter,
    pub refused: IntCounter,
    /// 1 while what is on disk is not what is used.
    pub stale: IntGauge,
}

impl Reloads {
    /// None so far.
    pub fn new(accepted: IntCounter, refused: IntCounter, stale: IntGauge) -> Self {
        Self { refusal: Mutex::default(), accepted, refused, stale }
    }

    /// What is on disk is used.
    pub fn accepted(&self) {
        self.note(None);
        self.accepted.inc();
        self.stale.set(0);
    }

    /// What is on disk is not used.
    pub fn refused(&self, why: String) {
        self.note(Some(why));
        self.refused.inc();
        self.stale.set(1);
    }

    /// Why what is on disk now is not used, if it is not.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, refusal: Option<String>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn an_upstream_that_stays_is_the_same_and_a_route_that_went_leaves_the_page() {
        let registry = Registry::new();
        let books = Books::new(&Metrics::register(&registry).unwrap());
        let page = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let table = |text: &str| text.parse::<Routes>().unwrap();
        let old = Live::new(table("/=http://hub:1 /dice=http://dice:1"), &books, None);
        let new = Live::new(table("/=http://hub:1 /coin=http://coin:1"), &books, Some(&old));
        let hub =
            |live: &Live| Arc::clone(live.upstreams.iter().find(|u| u.name == "hub:1").unwrap());
        assert!(Arc::ptr_eq(&hub(&old), &hub(&new)));
        assert!(page().contains("route=\"/dice\"") && page().contains("upstream=\"dice:1\""));
        // Its last request has ended.
        drop(old);
        assert!(!page().contains("\"/dice\"") && !page().contains("\"dice:1\""), "{}", page());
        assert!(page().contains("route=\"/coin\"") && page().contains("upstream=\"hub:1\""));
    }
}
