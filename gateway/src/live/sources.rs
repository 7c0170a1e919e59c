//! Where routes come from: the settings, and the routes file.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use crate::config::Config;
use crate::config::ROUTES_FILE;
use crate::rules::routes_file;
use crate::rules::routes_file::FILE_BYTES_MAX;

/// `settings` with what the routes file adds to them.
///
/// # Errors
///
/// Why that is no good, with the file, the line and the key.
pub fn whole(settings: Config) -> Result<Config, String> {
    let text = read(&settings.routes_file).map_err(|why| unreadable(&settings, &why))?;
    join(settings, text.as_deref())
}

/// The same, with what was read from the file; `None` when there is none.
///
/// # Errors
///
/// See [`whole`].
pub fn join(mut settings: Config, file: Option<&str>) -> Result<Config, String> {
    let path = settings.routes_file.display();
    match file {
        Some(text) => {
            let file = routes_file::parse(text).map_err(|error| format!("{path}: {error}"))?;
            settings.routes =
                file.over(&settings.routes).map_err(|error| format!("{path}: {error}"))?;
            settings.sites = settings
                .sites
                .with(&file.sites)
                .map_err(|why| format!("{}: {why}", settings.routes_file.display()))?;
        }
        None if settings.routes_file == Path::new(ROUTES_FILE) => {}
        None => return Err(format!("routes_file: there is no file {path}")),
    }
    if settings.routes.is_empty() {
        let path = settings.routes_file.display();
        return Err(format!(
            "routes: there is none; write for example /=http://hub:8080, or a [[route]] in {path}"
        ));
    }
    Ok(settings)
}

/// Why the routes file cannot be read, by the names that its owner knows.
pub fn unreadable(settings: &Config, why: &str) -> String {
    format!("routes_file: {} cannot be read: {why}", settings.routes_file.display())
}

/// The text of a file, where there is one; no more than [`FILE_BYTES_MAX`] and one byte of it.
///
/// # Errors
///
/// What the kernel said, or that it is no text.
pub fn read(path: &Path) -> Result<Option<String>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // A pipe would make the watcher wait for ever.
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read.map(|_| Some(text)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(routes: &str, file: &Path) -> Config {
        Config { routes: routes.parse().unwrap(), routes_file: file.into(), ..Config::default() }
    }

    #[test]
    fn the_file_adds_to_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.toml");
        let error = whole(settings("/=http://a:1", &path)).unwrap_err();
        assert!(error.starts_with("routes_file: there is no file"), "{error}");
        std::fs::write(&path, "[[route]]\nat = '/b'\nto = 'http://b:1'\n").unwrap();
        assert_eq!(whole(settings("/=http://a:1", &path)).unwrap().routes.iter().count(), 2);
        assert_eq!(whole(settings("", &path)).unwrap().routes.iter().count(), 1);
        std::fs::write(&path, [0xff]).unwrap();
        let error = whole(settings("/=http://a:1", &path)).unwrap_err();
        assert!(error.contains("routes.toml cannot be read"), "{error}");
        let error = whole(settings("/=http://a:1", folder.path())).unwrap_err();
        assert!(error.contains("it is no file"), "{error}");
    }

    #[test]
    fn the_file_of_the_defaults_need_not_be_there_but_some_route_must() {
        let defaults = |routes| settings(routes, Path::new(ROUTES_FILE));
        assert!(join(defaults("/=http://a:1"), None).is_ok());
        assert!(join(defaults(""), None).unwrap_err().starts_with("routes: there is none"));
        assert!(join(defaults(""), Some("")).unwrap_err().contains(ROUTES_FILE));
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let settings = settings("/=http://a:1", Path::new("/x/routes.toml"));
        let error = join(settings, Some("[[route]]\nat = '/'\nto = 'http://b:1'\n")).unwrap_err();
        assert!(error.starts_with("/x/routes.toml: line 1: at: `/` is a route"), "{error}");
    }
}
