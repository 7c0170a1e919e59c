//! Settings in layers: defaults in code, a TOML file, the environment.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use config::Config;
use config::Environment;
use config::File;
use config::FileFormat;
use serde::de::DeserializeOwned;

use crate::Fatal;

/// The settings of one process: a struct with `#[serde(default, deny_unknown_fields)]`, whose
/// `Default` holds the built-in values.
pub trait Settings: DeserializeOwned {
    /// Where `healthcheck` asks for `/healthz`.
    fn health_address(&self) -> SocketAddr;

    /// What serde cannot see: bounds, and settings that must fit each other.
    ///
    /// # Errors
    ///
    /// One line that names the key and what is expected of it.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// What follows from the settings, for the subcommand `check` to show: whole lines.
    ///
    /// # Errors
    ///
    /// What is wrong with something that the settings name, a file say.
    fn report(&self) -> Result<String, Fatal> {
        Ok(String::new())
    }
}

/// Reads the settings of process `name`: environment `<NAME>__<KEY>` (nested keys with `__`),
/// over the TOML file, over the defaults. The file is `given`, else the one that `<NAME>_CONFIG`
/// names, else `/etc/hubbub/<name>.toml` where there is one.
///
/// An empty variable counts as unset, as Compose passes `${UNSET:-}`.
pub(crate) fn load<C: Settings>(name: &str, given: Option<&Path>) -> Result<C, Fatal> {
    let (path, required) = file(name, given);
    // No try_parsing: a secret such as 0123 must stay the text it is. Numbers parse where
    // the field is a number.
    let environment = Environment::with_prefix(&name.to_ascii_uppercase())
        .prefix_separator("__")
        .separator("__")
        .ignore_empty(true);
    let settings: C = Config::builder()
        .add_source(File::from(path).format(FileFormat::Toml).required(required))
        .add_source(environment)
        .build()
        .and_then(Config::try_deserialize)
        .map_err(|error| Fatal::settings(format!("bad settings: {}", told(&error.to_string()))))?;
    settings.check().map_err(|why| Fatal::settings(format!("bad settings: {why}")))?;
    Ok(settings)
}

/// What of an error of `config` may be told: one line, without the excerpt of the file and without
/// the bytes of a variable, either of which may be a secret.
fn told(error: &str) -> String {
    let excerpt = |line: &str| {
        line.trim_start_matches(|character: char| character.is_ascii_digit())
            .trim_start()
            .starts_with('|')
    };
    let lines = error.lines().map(str::trim).filter(|line| !line.is_empty() && !excerpt(line));
    let line = lines.collect::<Vec<_>>().join(": ");
    match line.split_once("non-Unicode data") {
        Some((before, _)) => format!("{before}non-Unicode data"),
        None => line,
    }
}

/// The settings file and whether it must be there.
pub(crate) fn file(name: &str, given: Option<&Path>) -> (PathBuf, bool) {
    let named = std::env::var_os(format!("{}_CONFIG", name.to_ascii_uppercase()));
    let named = named.filter(|path| !path.is_empty());
    match given.map(PathBuf::from).or_else(|| named.map(PathBuf::from)) {
        Some(path) => (path, true),
        None => (PathBuf::from(format!("/etc/hubbub/{name}.toml")), false),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        listen: SocketAddr,
        sides: u8,
        token: String,
    }

    impl Default for Example {
        fn default() -> Self {
            Self { listen: ([127, 0, 0, 1], 0).into(), sides: 6, token: String::new() }
        }
    }

    impl Settings for Example {
        fn health_address(&self) -> SocketAddr {
            self.listen
        }

        fn check(&self) -> Result<(), String> {
            if self.sides == 0 { Err("sides: at least 1".into()) } else { Ok(()) }
        }
    }

    fn from(toml: &str) -> Result<Example, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.toml");
        std::fs::write(&path, toml).unwrap();
        load("example", Some(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_goes_over_the_defaults() {
        let settings = from("sides = 20\ntoken = '0123'").unwrap();
        assert_eq!((settings.sides, settings.token.as_str()), (20, "0123"));
        assert_eq!(settings.listen.port(), 0);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = from("sidez = 6").unwrap_err();
        assert!(error.contains("sidez"), "{error}");
    }

    #[test]
    fn a_bad_value_is_refused_by_key() {
        for (toml, key) in
            [("sides = 'many'", "sides"), ("sides = 0", "sides"), ("listen = 'here'", "listen")]
        {
            let error = from(toml).unwrap_err();
            assert!(error.contains(key), "{toml}: {error}");
        }
    }

    #[test]
    fn an_error_is_one_line_and_tells_no_secret() {
        let error = from("sides = 20\ntoken = 's3cret").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let variable = told("env variable \"X__TOKEN\" contains non-Unicode data: \"s3cret\"");
        assert_eq!(variable, "env variable \"X__TOKEN\" contains non-Unicode data");
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let missing = load::<Example>("example", Some(Path::new("/nowhere/example.toml")));
        assert!(missing.unwrap_err().to_string().contains("/nowhere/example.toml"));
    }
}
