//! `gateway` is the only process of Hubbub that faces the internet: TLS, routes, replicas, tunnels.
mod account;
mod admin;
mod answer;
mod body;
mod ca;
mod certificates;
mod config;
mod exchange;
mod exposition;
mod forwarded;
mod hold;
mod hop;
mod listen;
mod metrics;
mod policy;
mod pool;
mod proxy;
mod redirect;
mod replica;
mod resolve;
mod route;
mod scrape;
mod screen;
mod screened;
mod serve;
mod shared;
mod store;
mod tls;
mod tunnel;
mod unread;

use std::process::ExitCode;

fn main() -> ExitCode {
    let about = chassis::about!();
    chassis::run(about, move |config| serve::serve(&about, config))
}
