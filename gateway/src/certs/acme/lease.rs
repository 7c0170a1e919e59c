//! Who may order for a site: a file with an end, so that of two gateways on one volume only one
//! orders, and a crash of that one holds the other up for no longer than the lease.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;

use crate::certs::store;

/// How long a lease holds when nobody renews it.
pub const LIFE: Duration = Duration::from_secs(60);

/// How often its holder renews it.
pub const RENEWAL: Duration = Duration::from_secs(20);

/// How long another one may take to read and write the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    holder: String,
    until_s: i64,
}

/// The lease of one site, as this process sees it. Every method blocks for what the disk takes.
#[derive(Clone, Debug)]
pub struct Lease {
    path: PathBuf,
    /// Differs for every process.
    holder: String,
}

impl Lease {
    /// The lease of `site` in `folder`, for `holder`.
    pub fn new(folder: &Path, site: &str, holder: &str) -> Self {
        Self { path: folder.join(format!("{site}.lease")), holder: holder.to_owned() }
    }

    /// Takes or renews the lease; false when another one has it.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn take(&self, now: OffsetDateTime) -> io::Result<bool> {
        let _lock = self.lock()?;
        if let Some(held) = self.read()?
            && held.holder != self.holder
            && held.holds_at(now)
        {
            return Ok(false);
        }
        let until = now + LIFE;
        let written = Written { holder: self.holder.clone(), until_s: until.unix_timestamp() };
        let text = serde_json::to_string(&written).map_err(io::Error::other)?;
        store::write(&self.path, &text, 0o600)?;
        Ok(true)
    }

    /// Gives it back, when it is ours.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn give_back(&self) -> io::Result<()> {
        let _lock = self.lock()?;
        match self.read()? {
            Some(held) if held.holder == self.holder => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> io::Result<fs::File> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        store::lock(folder, LOCK_PATIENCE)
    }

    /// What cannot be understood is nobody's.
    fn read(&self) -> io::Result<Option<Written>> {
        match store::read(&self.path) {
            Ok(text) => Ok(text.and_then(|text| serde_json::from_str(&text).ok())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Written {
    /// One that ends later than any lease can was written by a clock that was wrong.
    fn holds_at(&self, now: OffsetDateTime) -> bool {
        let latest = (now + LIFE).unix_timestamp();
        self.until_s > now.unix_timestamp() && self.until_s <= latest + 1
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    #[test]
    fn one_has_it_until_it_is_given_back_or_over() {
        let folder = tempfile::tempdir().unwrap();
        let one = Lease::new(folder.path(), "a", "one");
        let two = Lease::new(folder.path(), "a", "two");
        assert!(one.take(NOW).unwrap());
        assert!(one.take(NOW).unwrap());
        assert!(!two.take(NOW).unwrap());
        two.give_back().unwrap();
        assert!(!two.take(NOW + LIFE / 2).unwrap());
        assert!(two.take(NOW + LIFE).unwrap());
        assert!(!one.take(NOW + LIFE).unwrap());
        two.give_back().unwrap();
        assert!(one.take(NOW + LIFE).unwrap());
        assert!(Lease::new(folder.path(), "b", "two").take(NOW).unwrap(), "another site");
    }

    #[test]
    fn a_lease_from_the_future_or_damaged_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let one = Lease::new(folder.path(), "a", "one");
        let two = Lease::new(folder.path(), "a", "two");
        assert!(one.take(NOW + LIFE * 1000).unwrap());
        assert!(two.take(NOW).unwrap());
        fs::write(folder.path().join("a.lease"), "{").unwrap();
        assert!(one.take(NOW).unwrap());
    }
}
