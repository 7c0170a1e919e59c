//! Logs on stderr: text for a person, JSON for a collector, prefixed lines for systemd.
//!
//! `LOG_FORMAT` is `text`, `json`, `journal` or `auto` (the default: text on a terminal, journal
//! under systemd, else JSON). `RUST_LOG` sets the level as `env_logger` reads it; default `info`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use env_logger::Builder;
use log::Level;
use log::Record;
use log::kv::Key;
use log::kv::Value;
use log::kv::VisitSource;
use serde_json::Map;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::Fatal;

/// What is logged unless `RUST_LOG` says otherwise. actix-server tells at `info` what the ready
/// line tells; its dispatcher tells at `error` of every client that speaks no HTTP, and rustls at
/// `warn` of every one that asks for an address.
const FILTER: &str = "info,actix_server=warn,actix_http::h1::dispatcher=off,rustls=error";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Journal,
}

/// Starts logging. A second call keeps the first logger.
pub(crate) fn init() -> Result<(), Fatal> {
    let format = std::env::var_os("LOG_FORMAT").unwrap_or_default();
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let format = choose(&format, io::stderr().is_terminal(), under_systemd)?;
    // Empty counts as unset, as for all settings.
    let filter = std::env::var_os("RUST_LOG").filter(|filter| !filter.is_empty());
    let filter = filter.as_deref().map_or_else(|| FILTER.into(), OsStr::to_string_lossy);
    let mut builder = Builder::new();
    builder.parse_filters(&filter);
    let word: fn(&Record<'_>) -> String = match format {
        Format::Text => |record| text(record, now()),
        Format::Json => |record| json(record, now()),
        Format::Journal => journal,
    };
    builder.format(move |out, record| match is_moot(record, DOOR_SHUT.load(Ordering::Relaxed)) {
        true => Ok(()),
        false => writeln!(out, "{}", word(record)),
    });
    // A test binary may have a logger already; the first one stays.
    let _: Result<(), log::SetLoggerError> = builder.try_init();
    // A panic ends one request; its words belong into the log, on one line.
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}

/// True once the listening socket was shut on purpose.
static DOOR_SHUT: AtomicBool = AtomicBool::new(false);

/// From now on actix-server complains of its listening socket, which is shut on purpose.
#[cfg(feature = "server")]
pub(crate) fn door_is_shut() {
    DOOR_SHUT.store(true, Ordering::Relaxed);
}

/// True for what says nothing that matters.
fn is_moot(record: &Record<'_>, door_shut: bool) -> bool {
    door_shut && record.target() == "actix_server::accept"
}

fn choose(wanted: &OsStr, terminal: bool, under_systemd: bool) -> Result<Format, Fatal> {
    match wanted.to_str() {
        Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some("journal") => Ok(Format::Journal),
        Some("" | "auto") => Ok(match (terminal, under_systemd) {
            (true, _) => Format::Text,
            (false, true) => Format::Journal,
            (false, false) => Format::Json,
        }),
        _ => Err(Fatal::settings("LOG_FORMAT: write auto, text, json or journal")),
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// RFC 3339 in UTC with three places always, so that lines sort as text.
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// `2026-11-21T23:00:00.123Z`.
fn timestamp(at: OffsetDateTime) -> String {
    at.format(TIMESTAMP).unwrap_or_default()
}

/// `2026-11-21T23:00:00.123Z INFO  access: GET /dice status=200`.
fn text(record: &Record<'_>, at: OffsetDateTime) -> String {
    let head = format!("{} {:<5} {}: ", timestamp(at), record.level(), record.target());
    line(head, record)
}

/// `<6>access: GET /dice status=200`; the number is syslog's severity, `sd-daemon(3)`.
fn journal(record: &Record<'_>) -> String {
    let severity = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    line(format!("<{severity}>{}: ", record.target()), record)
}

/// The message and its values on one line, whatever a client put into them.
fn line(mut line: String, record: &Record<'_>) -> String {
    push_escaped(&mut line, &record.args().to_string());
    let mut values = Values::default();
    // Collecting into memory cannot fail.
    let _: Result<(), log::kv::Error> = record.key_values().visit(&mut values);
    for (key, value) in values.0 {
        line.push(' ');
        push_escaped(&mut line, &key);
        line.push('=');
        match value {
            serde_json::Value::String(text) => push_escaped(&mut line, &text),
            other => line.push_str(&other.to_string()),
        }
    }
    line
}

/// Control characters would let a client forge lines or drive the reader's terminal.
fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            write!(line, "{}", character.escape_default()).expect("a string takes any text");
        } else {
            line.push(character);
        }
    }
}

/// `{"time":…,"level":"info","target":"access","message":"GET /dice","status":200}`.
fn json(record: &Record<'_>, at: OffsetDateTime) -> String {
    let mut object = Map::new();
    object.insert("time".into(), timestamp(at).into());
    object.insert("level".into(), record.level().as_str().to_ascii_lowercase().into());
    object.insert("target".into(), record.target().into());
    object.insert("message".into(), record.args().to_string().into());
    let mut values = Values::default();
    // Collecting into memory cannot fail.
    let _: Result<(), log::kv::Error> = record.key_values().visit(&mut values);
    for (key, value) in values.0 {
        object.entry(key).or_insert(value);
    }
    serde_json::Value::Object(object).to_string()
}

#[derive(Default)]
struct Values(Vec<(String, serde_json::Value)>);

impl<'kvs> VisitSource<'kvs> for Values {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.push((key.as_str().to_owned(), to_json(&value)));
        Ok(())
    }
}

fn to_json(value: &Value<'_>) -> serde_json::Value {
    if let Some(value) = value.to_bool() {
        value.into()
    } else if let Some(value) = value.to_u64() {
        value.into()
    } else if let Some(value) = value.to_i64() {
        value.into()
    } else if let Some(value) = value.to_f64() {
        value.into()
    } else {
        value.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_record(message: &str, check: impl FnOnce(&Record<'_>)) {
        let values = [("status", Value::from(200)), ("path", Value::from("/a\nb"))];
        check(
            &Record::builder()
                .level(Level::Info)
                .target("access")
                .key_values(&values)
                .args(format_args!("{message}"))
                .build(),
        );
    }

    #[test]
    fn a_json_line_holds_the_values_with_their_types() {
        with_record("GET", |record| {
            let line: serde_json::Value =
                serde_json::from_str(&json(record, OffsetDateTime::UNIX_EPOCH)).unwrap();
            assert_eq!(line["time"], "1970-01-01T00:00:00.000Z");
            assert_eq!(line["level"], "info");
            assert_eq!(line["status"], 200);
            assert_eq!(line["path"], "/a\nb");
        });
    }

    #[test]
    fn nobody_can_forge_a_line() {
        with_record("GET\n<0>forged\x1b[2J", |record| {
            let expected = "<6>access: GET\\n<0>forged\\u{1b}[2J status=200 path=/a\\nb";
            assert_eq!(journal(record), expected);
            assert!(!json(record, OffsetDateTime::UNIX_EPOCH).contains('\n'));
        });
    }

    #[test]
    fn the_format_follows_where_stderr_goes() {
        for (wanted, terminal, systemd, format) in [
            ("", true, false, Format::Text),
            ("auto", false, false, Format::Json),
            ("auto", false, true, Format::Journal),
            ("text", false, true, Format::Text),
            ("json", true, false, Format::Json),
        ] {
            assert_eq!(choose(OsStr::new(wanted), terminal, systemd).unwrap(), format, "{wanted}");
        }
        assert!(choose(OsStr::new("xml"), true, false).is_err());
    }
}
