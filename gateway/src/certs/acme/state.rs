//! What is kept of a site between two tries, on the volume: a restart must not forget that the
//! server was asked and said no.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;

use crate::certs::store;

/// The longest error text that is kept.
const ERROR_BYTES_MAX: usize = 1000;

/// One site's part, as JSON in `acme/<directory host>/<site>.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Failures in a row.
    pub failures: u32,
    /// Of the last one; empty when there is none.
    pub last_error: String,
    /// No try before, in seconds since 1970.
    pub not_before_s: Option<i64>,
    /// The last order failed, and the staging server has not agreed since.
    pub rehearse: bool,
    /// SHA-256 of the certificate that this directory gave last, in hexadecimal.
    pub certificate: String,
}

impl State {
    /// [`Self::not_before_s`] as a time.
    pub fn not_before(&self) -> Option<OffsetDateTime> {
        self.not_before_s.and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
    }

    /// Counts a failure, with the next try at `then`.
    pub fn fail(&mut self, error: &str, then: OffsetDateTime) {
        self.failures = self.failures.saturating_add(1);
        self.last_error = error[..error.floor_char_boundary(ERROR_BYTES_MAX)].to_owned();
        // Rounded up: not a moment before.
        self.not_before_s = Some(then.unix_timestamp() + i64::from(then.nanosecond() > 0));
    }

    /// Forgets the failures.
    pub fn succeed(&mut self, certificate: String) {
        *self = Self { certificate, ..Self::default() };
    }

    /// What is in `path`. What cannot be understood is set aside with a warning, and forgotten.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = match store::read(path) {
            Ok(None) => return Ok(Self::default()),
            Ok(Some(text)) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        text.or_else(|why| {
            if let Some(aside) = store::set_aside(path, "damaged")? {
                log::warn!("{} is not used ({why}): now {}", path.display(), aside.display());
            }
            Ok(Self::default())
        })
    }

    /// Writes it to `path`, for the owner alone.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        store::write(path, &text, 0o600)
    }
}

/// The folder of one directory: `acme/<host>`, with the port when it is not 443.
pub fn folder(certs: &Path, directory: &http::Uri) -> PathBuf {
    let host = directory.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let name = match directory.port_u16() {
        None | Some(443) => host,
        Some(port) => format!("{host}_{port}"),
    };
    certs.join("acme").join(name)
}

/// True when another directory than that of `folder` gave the certificate whose digest this is.
pub fn is_from_elsewhere(certs: &Path, folder: &Path, site: &str, digest: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(certs.join("acme")) else { return false };
    /// Directories that were ever configured; more were not configured by hand.
    const FOLDERS_MAX: usize = 100;
    let others = entries.flatten().map(|entry| entry.path()).filter(|path| path != folder);
    let states = others.take(FOLDERS_MAX).filter_map(|other| {
        let text = store::read(&other.join(format!("{site}.json"))).ok().flatten()?;
        serde_json::from_str::<State>(&text).ok()
    });
    states.into_iter().any(|state| state.certificate == digest)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_failure_is_remembered_and_a_success_forgets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.org.json");
        let mut state = State::load(&path).unwrap();
        assert_eq!(state, State::default());
        let then = datetime!(2026-01-01 00:00:00.5 UTC);
        state.fail("no", then);
        state.fail(&"long ".repeat(1000), then);
        state.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = State::load(&path).unwrap();
        assert_eq!(again, state);
        assert_eq!(again.failures, 2);
        assert!(again.not_before().unwrap() >= then);
        assert!(again.last_error.len() <= ERROR_BYTES_MAX);
        again.succeed("abc".to_owned());
        assert_eq!(again, State { certificate: "abc".to_owned(), ..State::default() });
    }

    #[test]
    fn what_is_damaged_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for damage in ["", "{", r#"{"failures":-1}"#, "null", "\u{0}"] {
            fs::write(&path, damage).unwrap();
            assert_eq!(State::load(&path).unwrap(), State::default(), "{damage:?}");
            assert!(!path.exists());
        }
        fs::write(&path, [0xff; 10]).unwrap();
        assert_eq!(State::load(&path).unwrap(), State::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
    }

    #[test]
    fn each_directory_has_a_folder_of_its_own() {
        for (directory, expected) in [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org"),
            ("https://ACME.example:443/dir", "acme.example"),
            ("https://127.0.0.1:14000/dir", "127.0.0.1_14000"),
            ("https://[::1]:14000/dir", "::1_14000"),
        ] {
            let uri = directory.parse().unwrap();
            assert_eq!(folder(Path::new("/certs"), &uri), Path::new("/certs/acme").join(expected));
        }
    }

    #[test]
    fn a_certificate_of_another_directory_is_known_as_such() {
        let certs = tempfile::tempdir().unwrap();
        let staging = certs.path().join("acme/staging");
        let production = certs.path().join("acme/production");
        fs::create_dir_all(&staging).unwrap();
        fs::create_dir_all(&production).unwrap();
        let state = State { certificate: "abc".to_owned(), ..State::default() };
        state.save(&staging.join("a.json")).unwrap();
        assert!(is_from_elsewhere(certs.path(), &production, "a", "abc"));
        assert!(!is_from_elsewhere(certs.path(), &staging, "a", "abc"));
        assert!(!is_from_elsewhere(certs.path(), &production, "a", "abd"));
        assert!(!is_from_elsewhere(certs.path(), &production, "b", "abc"));
    }
}
