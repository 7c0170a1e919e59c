//! The command line that all binaries share, and the way they end.

use std::ffi::OsString;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Fatal;
use crate::Settings;
use crate::healthcheck;
use crate::limit;
use crate::logs;
use crate::settings;

/// Which process this is; filled by [`about!`](crate::about).
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The binary's name; upper case and `__` it is the prefix of its variables.
    pub name: &'static str,
    /// The version of its package.
    pub version: &'static str,
}

/// An [`About`] with the name and version of the package that calls it.
#[macro_export]
macro_rules! about {
    () => {
        $crate::About { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }
    };
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Serve,
    Check,
    Healthcheck,
    Version,
    Help,
}

/// Runs the process: reads the command line and the settings, then calls `start` (before any
/// thread exists) to serve until it is told to stop.
///
/// Exit codes: 0 after SIGTERM, 2 for settings or usage, 1 for anything else, with one line on
/// stderr that says why.
pub fn run<C: Settings>(about: About, start: impl FnOnce(C) -> Result<(), Fatal>) -> ExitCode {
    match perform(about, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            // Nobody is left to tell when stderr is gone.
            let _: io::Result<()> = writeln!(io::stderr(), "{}: {fatal}", about.name);
            fatal.exit_code()
        }
    }
}

fn perform<C: Settings>(
    about: About,
    start: impl FnOnce(C) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let (command, file) = parse(std::env::args_os().skip(1)).map_err(Fatal::settings)?;
    match command {
        Command::Help => print(&help(about)),
        Command::Version => print(&format!("{} {}\n", about.name, about.version)),
        Command::Check => {
            logs::init()?;
            settings::load::<C>(about.name, file.as_deref())?;
            print("the settings are good\n")
        }
        Command::Healthcheck => {
            let settings: C = settings::load(about.name, file.as_deref())?;
            let address = settings.health_address();
            healthcheck::ask(address)
                .map_err(|error| Fatal::new(format!("not healthy at {address}"), error))
        }
        Command::Serve => {
            logs::init()?;
            limit::raise_open_files();
            start(settings::load(about.name, file.as_deref())?)
        }
    }
}

fn parse(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<(Command, Option<PathBuf>), String> {
    let (mut command, mut file) = (Command::Serve, None);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("check") => command = Command::Check,
            Some("healthcheck") => command = Command::Healthcheck,
            Some("--version" | "-V") => command = Command::Version,
            Some("--help" | "-h") => command = Command::Help,
            Some("--config") => {
                let path = arguments.next().ok_or("--config needs the path of a TOML file")?;
                file = Some(path.into());
            }
            _ => {
                let argument = argument.to_string_lossy();
                return Err(format!("unknown argument {argument:?}; --help lists what there is"));
            }
        }
    }
    Ok((command, file))
}

fn help(About { name, version }: About) -> String {
    let prefix = name.to_ascii_uppercase();
    format!(
        "{name} {version}

usage: {name} [--config FILE] [check | healthcheck]

  (nothing)     serve until SIGTERM
  check         say whether the settings are good, without starting
  healthcheck   ask the running {name} whether it can serve
  --config FILE settings from this TOML file (default: ${prefix}_CONFIG,
                else /etc/hubbub/{name}.toml where there is one)

Every setting can also be given as an environment variable {prefix}__<KEY>.
LOG_FORMAT (auto, text, json, journal) and RUST_LOG (info, debug, …) set the logs.
"
    )
}

/// Tells whoever started this process that it serves: `ready <addresses>` on stdout.
pub fn ready(addresses: &str) {
    // A closed stdout means that nobody waits for the line.
    let _: Result<(), Fatal> = print(&format!("ready {addresses}\n"));
}

fn print(text: &str) -> Result<(), Fatal> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<(Command, Option<PathBuf>), String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_small() {
        assert_eq!(parsed(&[]), Ok((Command::Serve, None)));
        assert_eq!(parsed(&["check"]), Ok((Command::Check, None)));
        let with_file = Ok((Command::Healthcheck, Some("a.toml".into())));
        assert_eq!(parsed(&["--config", "a.toml", "healthcheck"]), with_file);
        for wrong in [&["serve"][..], &["--config"], &["--frobnicate"], &[""]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
