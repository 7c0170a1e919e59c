//! `hub` brings boards and their users together: it speaks the protocol of not-my-board 0.13.0, so that its
//! exporters, agents and command line work with it unchanged, and shows the front page.
mod budget;
mod config;
mod farm;
mod frames;
mod http;
mod hub;
mod keepalive;
mod listing;
mod mailbox;
mod metrics;
mod page;
mod place;
mod proxies;
mod rpc;
mod session;
mod upstream;

use std::process::ExitCode;

use chassis::{Fatal, Server};

use crate::budget::Budget;
use crate::config::Config;
use crate::http::Shared;
use crate::hub::Hub;
use crate::metrics::Gauges;
use crate::page::Link;
use crate::proxies::Proxies;
use crate::upstream::Upstream;

/// Upstream's default.
const UNIQUENESS_TOLERANCE: f64 = 0.01;

fn main() -> ExitCode {
    chassis::run(chassis::about!(), serve)
}

fn serve(config: Config) -> Result<(), Fatal> {
    let upstream = upstream::load().map_err(Fatal::settings)?;
    greet(&upstream);
    let tolerance = config
        .uniqueness_tolerance
        .or(upstream.uniqueness_tolerance)
        .unwrap_or(UNIQUENESS_TOLERANCE);
    let registry = chassis::registry(&chassis::about!())?;
    let gauges = Gauges::register(&registry)?;
    let shared = Shared {
        hub: Hub::new(
            tolerance,
            config.connections_max,
            mebibytes(config.outgoing_mib_max),
            gauges,
        ),
        incoming: mebibytes(config.incoming_mib_max),
        links: Link::read(&config.links).map_err(Fatal::settings)?,
        proxies: Proxies::new(config.trusted_proxies.clone()),
    };
    Server::new(config.listen, config.drain(), registry).run(http::routes(shared))
}

fn mebibytes(count: usize) -> Budget {
    Budget::new(count << 20)
}

/// Says how the hub is set up, and sets the log as upstream's file asks.
fn greet(upstream: &Upstream) {
    if let Some(path) = &upstream.path {
        log::info!("Config file \"{}\" read", path.display());
        for key in &upstream.unknown {
            log::warn!("Config file \"{}\": unknown key {key}", path.display());
        }
    }
    log::warn!("Authentication is disabled");
    if let Some(level) = upstream.log_level {
        log::set_max_level(level);
    }
}
