//! `dice` rolls one die over HTTP: `curl https://localhost/dice` shows it as five lines of text.
mod config;
mod face;
mod http;
mod metrics;
mod shown;

use std::process::ExitCode;

use chassis::Fatal;
use chassis::Server;

use crate::config::Config;
use crate::metrics::Metrics;

fn main() -> ExitCode {
    chassis::run(chassis::about!(), serve)
}

fn serve(config: Config) -> Result<(), Fatal> {
    let registry = chassis::registry(&chassis::about!())?;
    let metrics = Metrics::register(&registry)?;
    Server::new(config.listen, config.drain(), registry).run(http::routes(metrics))
}
