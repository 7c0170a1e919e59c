//! Certificates from an ACME server (RFC 8555): what to do when is pure, in `plan`; the rest asks,
//! answers challenges and keeps files. `site` is where it comes together.

mod account;
mod chain;
pub mod challenges;
mod client;
pub mod engine;
pub mod failure;
mod held;
mod lease;
mod order;
mod plan;
mod preflight;
pub mod revoke;
pub mod settings;
pub mod site;
mod state;
mod volume;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::certs::acme::engine::Engine;
use crate::certs::acme::settings::Settings;
use crate::certs::acme::site::Task;
use crate::certs::office::AcmeStart;
use crate::certs::source::Outlet;
use crate::config::Config;

/// How a site that gets its certificate by ACME is looked after. There may be none yet, and one after
/// a reload.
///
/// # Errors
///
/// The setting that is wrong, and what is expected of it.
pub fn start(
    config: &Config,
    provider: &Arc<CryptoProvider>,
    outlet: &Arc<Outlet>,
) -> Result<AcmeStart, String> {
    let engine = Arc::new(Engine::new(config, provider, outlet.challenges.clone())?);
    let outlet = Arc::clone(outlet);
    Ok(Box::new(move |site| Box::pin(Task::open(&engine, site, &outlet).keep())))
}

/// Looks at the settings of ACME, and at the file that they name.
///
/// # Errors
///
/// The setting that is wrong, and what is expected of it.
pub fn check(config: &Config) -> Result<(), String> {
    let settings = Settings::new(config)?;
    match &settings.root {
        Some(_) => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            client::Trust::new(settings.root.as_deref(), provider).map(drop)
        }
        None => Ok(()),
    }
}
