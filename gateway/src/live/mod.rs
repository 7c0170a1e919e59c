//! The routes as they are just now, and what goes with them. A request takes this once, at its
//! start, and keeps it to its end: a reload swaps a pointer, and what runs does not notice.

use std::sync::Arc;

use crate::observe::counts::RouteMetrics;
use crate::observe::counts::UpstreamMetrics;
use crate::observe::metrics::Metrics;
use crate::observe::series::Book;
use crate::observe::series::Series;
use crate::rules::route::Place;
use crate::rules::route::Routes;
use crate::upstream::replica::Upstream;

/// One table of routes, in use or still used.
pub struct Live {
    pub routes: Routes,
    /// In the order of the routes.
    pub metrics: Vec<Arc<Series<RouteMetrics>>>,
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
        let metrics = routes.iter().map(|route| books.routes.open(&route.to_string())).collect();
        let upstream = |places: &Vec<Place>| {
            let same = before.and_then(|before| {
                before.upstreams.iter().find(|upstream| upstream.places == *places)
            });
            let new = || Arc::new(Upstream::new(places, |name| books.upstreams.open(name)));
            same.map_or_else(new, Arc::clone)
        };
        let upstreams = routes.upstreams().iter().map(upstream).collect();
        Self { routes, metrics, upstreams }
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
