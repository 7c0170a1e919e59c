//! Gathers the status from where things are known.

use std::net::IpAddr;

use crate::certs::board::SiteStatus;
use crate::observe::clients;
use crate::observe::status::Replica;
use crate::observe::status::Route;
use crate::observe::status::Site;
use crate::observe::status::Status;
use crate::observe::status::Upstream;
use crate::shared::Shared;
use crate::upstream::replica;

/// The kernel's table of IPv4 routes.
const ROUTES: &str = "/proc/net/route";

/// The status as it is now.
pub fn collect(shared: &Shared) -> Status {
    let live = shared.live.load();
    let now_ms = replica::now_ms();
    let upstream = |upstream: &replica::Upstream| Upstream {
        name: upstream.name.clone(),
        replicas: upstream
            .replicas()
            .iter()
            .map(|replica| Replica {
                address: replica.address.to_string(),
                load: replica.load_now(),
                state: replica.state(now_ms).to_owned(),
            })
            .collect(),
    };
    let route = |(route, upstream): (&crate::rules::route::Route, usize)| Route {
        route: route.to_string(),
        upstream: live.upstreams[upstream].name.clone(),
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        warnings: warnings(shared),
        sites: shared.office.board().all().into_iter().map(Site::from).collect(),
        routes: live.routes.iter().map(route).collect(),
        upstreams: live.upstreams.iter().map(|known| upstream(known)).collect(),
        requests_in_flight: shared.metrics.in_flight.get(),
        tunnels_open: shared.metrics.tunnels.get(),
    }
}

fn warnings(shared: &Shared) -> Vec<String> {
    // Read anew: networks come and go. Where there is no such file, no router is known.
    let gateways: Vec<IpAddr> =
        std::fs::read_to_string(ROUTES).map(|table| clients::gateways(&table)).unwrap_or_default();
    let hidden = shared.clients.hidden(&gateways).map(clients::Hidden::remedy);
    let refused = shared.reloads.refusal();
    let refused = refused.map(|why| format!("the routes on disk are not those in use: {why}"));
    hidden.into_iter().chain(refused).collect()
}

impl From<SiteStatus> for Site {
    fn from(site: SiteStatus) -> Self {
        // Word for word what the board shows: one description of a site, not two.
        let fields = serde_json::to_value(site).unwrap_or_default();
        serde_json::from_value(fields).unwrap_or_default()
    }
}
