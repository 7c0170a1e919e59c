//! Upstream's own configuration file, `hub.toml`, read as it is: a farm can switch hubs without editing it.
//!
//! Where upstream starts a hub that is open to everybody by mistake (a mistyped path, an empty `[auth]`), this
//! one does not start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use log::LevelFilter;

/// The variable that names the file; empty counts as unset.
const VARIABLE: &str = "NOT_MY_BOARD_HUB_CONFIG";

/// Where it is otherwise, if it is there.
const DEFAULT_PATH: &str = "/etc/not-my-board/hub.toml";

/// What the file says.
#[derive(Debug, Default, PartialEq)]
pub struct Upstream {
    /// The least important messages that are logged.
    pub log_level: Option<LevelFilter>,
    /// See [`crate::config::Config::uniqueness_tolerance`].
    pub uniqueness_tolerance: Option<f64>,
    /// Keys that mean nothing to either hub.
    pub unknown: Vec<String>,
    /// The file, if there is one.
    pub path: Option<PathBuf>,
}

/// Reads the file that the environment names, or the one at the usual place.
///
/// # Errors
/// When a file that was named is not there, or says what this hub cannot do.
pub fn load() -> Result<Upstream, String> {
    locate(std::env::var_os(VARIABLE), Path::new(DEFAULT_PATH))
}

fn locate(named: Option<OsString>, usual: &Path) -> Result<Upstream, String> {
    let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = match &named {
        Some(path) => path.as_path(),
        None if !usual.exists() => return Ok(Upstream::default()),
        None => usual,
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| match named {
        Some(_) => format!("{VARIABLE} names {shown}: {error}"),
        None => format!("{shown}: {error}"),
    })?;
    let read = read(&text).map_err(|error| format!("{shown}: {error}"))?;
    Ok(Upstream { path: Some(path.to_owned()), ..read })
}

fn read(text: &str) -> Result<Upstream, String> {
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| error.to_string().trim().to_owned())?;
    let mut upstream = Upstream::default();
    for (key, value) in &table {
        match key.as_str() {
            "log_level" => upstream.log_level = Some(level(value)?),
            "uniqueness_tolerance" => upstream.uniqueness_tolerance = Some(tolerance(value)?),
            "auth" if value.as_table().is_some_and(toml::Table::is_empty) => {
                return Err(
                    "auth is empty: remove it to run a hub that is open to everybody".to_owned()
                );
            }
            "auth" => {
                return Err("auth: this version of the hub cannot authenticate anybody, \
                            so it does not start where that is asked for"
                    .to_owned());
            }
            _ => upstream.unknown.push(key.clone()),
        }
    }
    Ok(upstream)
}

fn level(value: &toml::Value) -> Result<LevelFilter, String> {
    match value.as_str() {
        Some("debug") => Ok(LevelFilter::Debug),
        Some("info") => Ok(LevelFilter::Info),
        Some("warning") => Ok(LevelFilter::Warn),
        Some("error") => Ok(LevelFilter::Error),
        _ => Err(format!("log_level: {value} is none of debug, info, warning, error")),
    }
}

fn tolerance(value: &toml::Value) -> Result<f64, String> {
    #[expect(clippy::cast_precision_loss, reason = "a whole number this large is no tolerance")]
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    let number = number.ok_or_else(|| format!("uniqueness_tolerance: {value} is no number"))?;
    check_tolerance(number)?;
    Ok(number)
}

/// A tolerance is a difference of scores.
///
/// # Errors
/// When it is negative or no number.
pub fn check_tolerance(tolerance: f64) -> Result<(), String> {
    if tolerance >= 0.0 {
        Ok(())
    } else {
        Err(format!("uniqueness_tolerance: {tolerance} is not 0 or more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstream_reads_without_authentication_is_read() {
        let upstream =
            read("log_level = 'warning'\nuniqueness_tolerance = 0.5\nlog_levle = 'x'").unwrap();
        assert_eq!(upstream.log_level, Some(LevelFilter::Warn));
        assert_eq!(upstream.uniqueness_tolerance, Some(0.5));
        assert_eq!(upstream.unknown, ["log_levle"]);
        assert_eq!(read("uniqueness_tolerance = 1").unwrap().uniqueness_tolerance, Some(1.0));
        assert_eq!(read("").unwrap(), Upstream::default());
    }

    #[test]
    fn what_cannot_be_done_stops_the_start() {
        for (text, key) in [
            ("[auth]", "auth is empty"),
            ("[auth]\nissuer = 'https://x'", "auth"),
            ("auth = 1", "auth"),
            ("log_level = 'loud'", "log_level"),
            ("log_level = 1", "log_level"),
            ("uniqueness_tolerance = -1", "uniqueness_tolerance"),
            ("uniqueness_tolerance = nan", "uniqueness_tolerance"),
            ("uniqueness_tolerance = 'x'", "uniqueness_tolerance"),
            ("x = ", "x = "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("hub.toml");
        let error = locate(Some(missing.clone().into()), &missing).unwrap_err();
        assert!(error.contains(VARIABLE) && error.contains("hub.toml"), "{error}");
        assert_eq!(locate(None, &missing), Ok(Upstream::default()));
        assert_eq!(locate(Some(OsString::new()), &missing), Ok(Upstream::default()));
        std::fs::write(&missing, "log_level = 'info'").unwrap();
        assert_eq!(locate(None, &missing).unwrap().log_level, Some(LevelFilter::Info));
    }
}
