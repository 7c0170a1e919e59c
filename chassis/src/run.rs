//! The command line that all binaries share, and the way they end.

use std::ffi::OsStr;
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

/// A subcommand that only one binary has, beside those of every binary.
#[derive(Debug)]
pub struct Command<C> {
    /// One word.
    pub name: &'static str,
    /// What follows the name, as the usage text writes it, like `[--json]`; may be empty.
    pub arguments: &'static str,
    /// What it does, in one line of the usage text.
    pub summary: &'static str,
    /// Does it, with what followed the name. [`Fatal::settings`] is for bad arguments.
    pub run: fn(&C, &[String]) -> Result<(), Fatal>,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Serve,
    Check,
    Healthcheck,
    Version,
    Help,
    /// The command at that index, with its arguments.
    Own(usize, Vec<String>),
}

/// Runs the process: reads the command line and the settings, then calls `start` (before any
/// thread exists) to serve until it is told to stop.
///
/// Exit codes: 0 after SIGTERM, 2 for settings or usage, 1 for anything else, with one line on
/// stderr that says why.
pub fn run<C: Settings>(about: About, start: impl FnOnce(C) -> Result<(), Fatal>) -> ExitCode {
    run_with(about, start, &[])
}

/// The same, for a binary that has subcommands of its own.
pub fn run_with<C: Settings>(
    about: About,
    start: impl FnOnce(C) -> Result<(), Fatal>,
    commands: &[Command<C>],
) -> ExitCode {
    match perform(about, start, commands) {
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
    commands: &[Command<C>],
) -> Result<(), Fatal> {
    let names: Vec<&str> = commands.iter().map(|command| command.name).collect();
    let (asked, file) = parse(std::env::args_os().skip(1), &names).map_err(Fatal::settings)?;
    match asked {
        Asked::Help => print(&help(about, commands)),
        Asked::Version => print(&format!("{} {}\n", about.name, about.version)),
        Asked::Check => {
            logs::init()?;
            let settings: C = settings::load(about.name, file.as_deref())?;
            print(&format!("the settings are good\n{}", settings.report()?))
        }
        Asked::Own(index, arguments) => {
            logs::init()?;
            let settings: C = settings::load(about.name, file.as_deref())?;
            (commands[index].run)(&settings, &arguments)
        }
        Asked::Healthcheck => {
            let settings: C = settings::load(about.name, file.as_deref())?;
            let address = settings.health_address();
            healthcheck::healthy(address)
                .map_err(|error| Fatal::new(format!("not healthy at {address}"), error))
        }
        Asked::Serve => {
            logs::init()?;
            limit::raise_open_files();
            start(settings::load(about.name, file.as_deref())?)
        }
    }
}

/// The settings of a process that serves, read anew from where it read them when it started.
///
/// # Errors
///
/// What is wrong with them now.
pub fn settings_again<C: Settings>(about: About) -> Result<C, Fatal> {
    let (_, file) = parse(std::env::args_os().skip(1), &[]).map_err(Fatal::settings)?;
    settings::load(about.name, file.as_deref())
}

/// The file that [`settings_again`] reads, which need not be there.
#[must_use]
pub fn settings_file(about: About) -> PathBuf {
    let given = parse(std::env::args_os().skip(1), &[]).ok().and_then(|(_, file)| file);
    settings::file(about.name, given.as_deref()).0
}

/// `own` are the names of further commands: what follows one belongs to it, but for the options
/// that every command has.
fn parse(
    mut arguments: impl Iterator<Item = OsString>,
    own: &[&str],
) -> Result<(Asked, Option<PathBuf>), String> {
    let (mut asked, mut file) = (Asked::Serve, None);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--version" | "-V") => return Ok((Asked::Version, file)),
            Some("--help" | "-h") => return Ok((Asked::Help, file)),
            Some("--config") => {
                let path = arguments.next().ok_or("--config needs the path of a TOML file")?;
                file = Some(path.into());
            }
            text => asked = next(asked, text, own).ok_or_else(|| unknown(&argument))?,
        }
    }
    Ok((asked, file))
}

/// What is asked for with one more word; `None` when the word makes no sense there.
fn next(asked: Asked, word: Option<&str>, own: &[&str]) -> Option<Asked> {
    let word = word?;
    match asked {
        Asked::Serve => match word {
            "check" => Some(Asked::Check),
            "healthcheck" => Some(Asked::Healthcheck),
            name => {
                let index = own.iter().position(|own| *own == name)?;
                Some(Asked::Own(index, Vec::new()))
            }
        },
        Asked::Own(index, mut arguments) => {
            arguments.push(word.to_owned());
            Some(Asked::Own(index, arguments))
        }
        _ => None,
    }
}

fn unknown(argument: &OsStr) -> String {
    format!("unknown argument {:?}; --help lists what there is", argument.to_string_lossy())
}

fn help<C>(About { name, version }: About, commands: &[Command<C>]) -> String {
    let prefix = name.to_ascii_uppercase();
    let names: String = commands.iter().map(|command| format!(" | {}", command.name)).collect();
    let own: String = commands.iter().map(help_line).collect();
    format!(
        "{name} {version}

usage: {name} [--config FILE] [check | healthcheck{names}]

  (nothing)     serve until SIGTERM
  check         say whether the settings are good, without starting
  healthcheck   ask the running {name} whether it can serve
{own}  --config FILE settings from this TOML file (default: ${prefix}_CONFIG,
                else /etc/hubbub/{name}.toml where there is one)

Every setting can also be given as an environment variable {prefix}__<KEY>.
LOG_FORMAT (auto, text, json, journal) and RUST_LOG (info, debug, …) set the logs.
"
    )
}

/// In the columns of the others; below its own name when that is too long for them.
fn help_line<C>(command: &Command<C>) -> String {
    let call = format!("{} {}", command.name, command.arguments);
    let call = call.trim_end();
    match call.len() <= 13 {
        true => format!("  {call:<13} {}\n", command.summary),
        false => format!("  {call}\n{:16}{}\n", "", command.summary),
    }
}

/// Tells whoever started this process that it serves: `ready <addresses>` on stdout.
pub fn ready(addresses: &str) {
    // A closed stdout means that nobody waits for the line.
    let _: Result<(), Fatal> = print(&format!("ready {addresses}\n"));
}

/// Writes `text` to stdout, as the answer of a subcommand.
///
/// # Errors
///
/// When stdout is closed.
pub fn print(text: &str) -> Result<(), Fatal> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<(Asked, Option<PathBuf>), String> {
        parse(arguments.iter().map(OsString::from), &["trust", "revoke"])
    }

    #[test]
    fn the_command_line_is_small() {
        assert_eq!(parsed(&[]), Ok((Asked::Serve, None)));
        assert_eq!(parsed(&["check"]), Ok((Asked::Check, None)));
        let with_file = Ok((Asked::Healthcheck, Some("a.toml".into())));
        assert_eq!(parsed(&["--config", "a.toml", "healthcheck"]), with_file);
        for wrong in [
            &["serve"][..],
            &["--config"],
            &["--frobnicate"],
            &[""],
            &["check", "trust"],
            &["healthcheck", "x"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_follows_an_own_command_is_its_own() {
        assert_eq!(parsed(&["trust"]), Ok((Asked::Own(0, Vec::new()), None)));
        let arguments = ["a.example", "--reason", "check"].map(str::to_owned).to_vec();
        let line = ["revoke", "a.example", "--config", "a.toml", "--reason", "check"];
        assert_eq!(parsed(&line), Ok((Asked::Own(1, arguments), Some("a.toml".into()))));
        assert_eq!(parsed(&["revoke", "--help"]), Ok((Asked::Help, None)));
        assert!(parsed(&["status"]).unwrap_err().contains("\"status\""));
    }

    #[test]
    fn the_usage_text_lists_own_commands_too() {
        let nothing = |_: &(), _: &[String]| Ok(());
        let command =
            |name, arguments| Command { name, arguments, summary: "does it", run: nothing };
        let about = About { name: "example", version: "1.2.3" };
        let text = help(about, &[command("trust", ""), command("revoke", "NAME --reason R")]);
        assert!(text.contains("[check | healthcheck | trust | revoke]\n"), "{text}");
        assert!(text.contains("\n  trust         does it\n"), "{text}");
        assert!(text.contains("\n  revoke NAME --reason R\n                does it\n"), "{text}");
    }
}
