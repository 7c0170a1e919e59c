//! What every Hubbub process needs and no domain knows.
//!
//! A binary is three lines: `chassis::run(chassis::about!(), start)`, where `start` takes the
//! process's own [`Settings`]. Around it, the chassis reads the command line and the settings
//! ([`run()`]; [`run_with`] has further subcommands), writes logs (macros of [`log`], in three
//! formats), says when it is ready ([`ready`]), counts ([`registry()`]) and words its errors
//! ([`Problem`], [`Fatal`]). With the feature `server`, [`Server`] is the actix-web server that the
//! services run on; the gateway, which has its own, leaves the feature out.
#![warn(unreachable_pub)]

mod bind;
mod excerpt;
mod fatal;
mod healthcheck;
mod id;
mod limit;
mod logs;
pub mod problem;
mod registry;
mod run;
#[cfg(feature = "server")]
mod server;
mod settings;
mod stop;

pub use bind::bind;
pub use bind::bind_each;
pub use excerpt::excerpt;
pub use fatal::Fatal;
pub use healthcheck::ask;
pub use id::random_id;
pub use problem::Problem;
pub use registry::registry;
pub use run::About;
pub use run::Command;
pub use run::print;
pub use run::ready;
pub use run::run;
pub use run::run_with;
pub use run::settings_again;
pub use run::settings_file;
#[cfg(feature = "server")]
pub use server::Server;
pub use settings::Settings;
pub use stop::Stopping;
pub use stop::stop_signal;
