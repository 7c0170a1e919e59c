//! `gateway status`: asks the running gateway at its admin port.

use std::io;
use std::io::Write;

use chassis::Fatal;
use time::OffsetDateTime;

use crate::config::Config;
use crate::observe::status::Status;
use crate::observe::status::table;

/// Largest page that is read.
const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Prints the status of the gateway with these settings: tables, or with `--json` the page as it is.
///
/// # Errors
///
/// When it does not answer, or with something else.
pub fn run(config: &Config, arguments: &[String]) -> Result<(), Fatal> {
    let json = match arguments {
        [] => false,
        [argument] if argument == "--json" => true,
        _ => return Err(Fatal::settings("usage: gateway status [--json]")),
    };
    let failed = |error: &dyn std::fmt::Display| {
        Fatal::new(format!("no status from the gateway at {}", config.admin), error)
    };
    let page =
        chassis::ask(config.admin, "/status", PAGE_BYTES_MAX).map_err(|error| failed(&error))?;
    let text = match json {
        true => page,
        false => {
            let status: Status = serde_json::from_str(&page).map_err(|error| failed(&error))?;
            table::render(&status, OffsetDateTime::now_utc())
        }
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}
