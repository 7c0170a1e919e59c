//! Keeps the private CA and its leaf on disk, and gets the next leaf in time.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::Fatal;
use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

use crate::certs::ca;
use crate::certs::ca::Authority;
use crate::certs::ca::Leaf;
use crate::certs::ca::Pems;
use crate::certs::ca::Unfit;
use crate::certs::store;
use crate::config::Config;

/// The longest sleep before looking at the clock again: it may jump, when a laptop wakes or a
/// machine without a battery learns the time.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// How long another gateway may hold the folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// When the folder is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The root is made when there is none, or none that fits.
    Start,
    /// Clients trust the root by now: it stays, whatever the clock says.
    Renewal,
}

/// What is served, and whether a restart would find it.
pub struct Opened {
    pub leaf: Leaf,
    /// The leaf, when it could not be written: for [`Keeper::save`].
    pub unsaved: Option<Pems>,
}

/// The folder of certificates, for one site.
pub struct Keeper {
    folder: PathBuf,
    site: String,
    names: Vec<String>,
    life: Duration,
    provider: Arc<CryptoProvider>,
}

impl Keeper {
    /// The keeper for the domain and routes of `config`.
    pub fn new(config: &Config, provider: Arc<CryptoProvider>) -> Self {
        Self {
            folder: config.certs.clone(),
            site: config.domain.as_str().to_owned(),
            names: ca::names(config.domain.as_str(), config.routes.hosts()),
            life: Duration::from_secs(config.certificate_life_s),
            provider,
        }
    }

    /// The site's name, and the names on its certificate.
    pub fn site(&self) -> (&str, &[String]) {
        (&self.site, &self.names)
    }

    /// A leaf that fits: the one on disk, or a new one, from the root on disk, or a new one. Of a
    /// folder that cannot be written only the root has to be there.
    ///
    /// Blocks, for [`LOCK_PATIENCE`] and what the disk takes.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read, another gateway holds it, or there is no root that fits and
    /// none can or may be made.
    pub fn open(&self, moment: Moment) -> Result<Opened, Fatal> {
        self.open_at(moment, OffsetDateTime::now_utc())
    }

    fn open_at(&self, moment: Moment, now: OffsetDateTime) -> Result<Opened, Fatal> {
        store::folder(&self.folder, 0o755)
            .and_then(|()| store::folder(&self.folder.join("ca"), 0o755))
            .and_then(|()| store::folder(&self.folder.join("sites"), 0o755))
            .map_err(|error| self.fatal("cannot be made", &error))?;
        let lock = store::lock(&self.folder, LOCK_PATIENCE);
        let authority = match (self.stored_authority(now)?, &lock, moment) {
            (Ok(authority), ..) => authority,
            (Err(_), Err(error), _) => return Err(self.fatal("cannot be locked", error)),
            (Err(unfit), Ok(_), Moment::Start) => self.new_authority(unfit.as_ref(), now)?,
            (Err(unfit), Ok(_), Moment::Renewal) => {
                let why = unfit.map_or_else(|| "it is missing".to_owned(), |u| u.to_string());
                return Err(Fatal::new("the private CA is replaced only at a start", why));
            }
        };
        if let Err(error) = &lock {
            log::warn!("{} cannot be locked: {error}", self.folder.display());
        }
        match (self.stored_leaf(&authority, now)?, lock) {
            (Ok(leaf), _) if now < leaf.renew_at() => Ok(Opened { leaf, unsaved: None }),
            (_, Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(self.fatal("cannot be locked", &error))
            }
            (stored, lock) => {
                let writable = lock.and_then(|lock| {
                    if let Err(Some(unfit)) = &stored {
                        self.set_leaf_aside(unfit)?;
                    }
                    Ok(lock)
                });
                self.new_leaf(&authority, now, writable.map(|_| ()))
            }
        }
    }

    /// Writes a leaf that could not be written before.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn save(&self, pems: &Pems) -> io::Result<()> {
        let _lock = store::lock(&self.folder, LOCK_PATIENCE)?;
        self.write_leaf(pems)
    }

    /// How long to wait before [`Self::open`] gives the leaf after `leaf`, at most a minute; zero
    /// when it is time.
    pub fn until_renewal(leaf: &Leaf) -> Duration {
        let left = leaf.renew_at() - OffsetDateTime::now_utc();
        Duration::try_from(left).unwrap_or_default().min(LOOK_MAX)
    }

    /// The root on disk; or why it does not fit, `None` when there is none.
    fn stored_authority(
        &self,
        now: OffsetDateTime,
    ) -> Result<Result<Authority, Option<Unfit>>, Fatal> {
        let (certificate, key) = self.root_paths();
        Ok(match self.pair(&certificate, &key)? {
            None => Err(None),
            Some(pems) => pems
                .and_then(|pems| Authority::open(&pems, Arc::clone(&self.provider), now))
                .inspect(|_| close(&key))
                .map_err(Some),
        })
    }

    fn new_authority(
        &self,
        unfit: Option<&Unfit>,
        now: OffsetDateTime,
    ) -> Result<Authority, Fatal> {
        let (certificate, key) = self.root_paths();
        if let Some(unfit) = unfit {
            set_aside("the private CA", &certificate, &key, unfit)
                .map_err(|error| self.fatal("cannot be set aside", &error))?;
        }
        let pems = ca::new_root(now).map_err(|error| Fatal::new("no root can be made", error))?;
        // The key first: a certificate without its key would be of no use to anybody.
        store::write(&key, &pems.key, 0o600)
            .and_then(|()| store::write(&certificate, &pems.certificate, 0o644))
            .map_err(|error| self.fatal("cannot be written", &error))?;
        log::info!("made a private CA: give {} to clients", certificate.display());
        Authority::open(&pems, Arc::clone(&self.provider), now)
            .map_err(|unfit| Fatal::new("the new root does not fit", unfit))
    }

    /// The leaf on disk; or why it does not fit, `None` when there is none.
    fn stored_leaf(
        &self,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<Result<Leaf, Option<Unfit>>, Fatal> {
        let (chain, key) = self.leaf_paths();
        Ok(match self.pair(&chain, &key)? {
            None => Err(None),
            Some(pems) => pems
                .and_then(|pems| authority.fit(&pems, &self.names, now))
                .inspect(|_| close(&key))
                .map_err(Some),
        })
    }

    fn set_leaf_aside(&self, unfit: &Unfit) -> io::Result<()> {
        if matches!(unfit, Unfit::Expired) {
            log::info!("the certificate of {} ran out; making the next", self.site);
            return Ok(());
        }
        let (chain, key) = self.leaf_paths();
        set_aside(&format!("the certificate of {}", self.site), &chain, &key, unfit)
    }

    /// The next leaf, on disk too where that is `writable`.
    fn new_leaf(
        &self,
        authority: &Authority,
        now: OffsetDateTime,
        writable: io::Result<()>,
    ) -> Result<Opened, Fatal> {
        let pems = authority
            .issue(&self.names, now, self.life)
            .map_err(|error| Fatal::new("no certificate can be made", error))?;
        let leaf = authority
            .fit(&pems, &self.names, now)
            .map_err(|unfit| Fatal::new("the new certificate does not fit", unfit))?;
        let names = self.names.join(" ");
        log::info!(not_after:% = leaf.not_after; "made a certificate for {names}");
        let unsaved = match writable.and_then(|()| self.write_leaf(&pems)) {
            Ok(()) => None,
            Err(error) => {
                let folder = self.folder.display();
                log::error!("the certificate is not kept: a file in {folder}: {error}");
                Some(pems)
            }
        };
        Ok(Opened { leaf, unsaved })
    }

    fn write_leaf(&self, pems: &Pems) -> io::Result<()> {
        let (chain, key) = self.leaf_paths();
        store::folder(&self.folder.join("sites").join(&self.site), 0o750)?;
        store::write(&key, &pems.key, 0o600)?;
        store::write(&chain, &pems.certificate, 0o644)
    }

    fn root_paths(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("ca/root.crt"), self.folder.join("ca/root.key"))
    }

    fn leaf_paths(&self) -> (PathBuf, PathBuf) {
        let site = self.folder.join("sites").join(&self.site);
        (site.join("chain.pem"), site.join("key.pem"))
    }

    /// Both files, `None` when neither is there.
    fn pair(&self, certificate: &Path, key: &Path) -> Result<Option<Result<Pems, Unfit>>, Fatal> {
        let read = |path| match store::read(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(Some(Err(error.to_string())))
            }
            Err(error) => Err(self.fatal("cannot be read", &error)),
            Ok(text) => Ok(text.map(Ok)),
        };
        let missing = || Err("the file is missing".to_owned());
        Ok(match (read(certificate)?, read(key)?) {
            (None, None) => None,
            (certificate, key) => {
                Some(certificate.unwrap_or_else(missing).map_err(Unfit::Certificate).and_then(
                    |certificate| {
                        let key = key.unwrap_or_else(missing).map_err(Unfit::Key)?;
                        Ok(Pems { certificate, key })
                    },
                ))
            }
        })
    }

    fn fatal(&self, what: &str, error: &io::Error) -> Fatal {
        let context = format!("certs: a file in {} {what}", self.folder.display());
        Fatal::new(context, error)
    }
}

/// Takes the rights of others from a key that is in use.
fn close(key: &Path) {
    match store::owner_only(key) {
        Ok(true) => log::warn!("{} was open to others", key.display()),
        Ok(false) => {}
        Err(error) => log::warn!("{}: {error}", key.display()),
    }
}

fn set_aside(what: &str, certificate: &Path, key: &Path, unfit: &Unfit) -> io::Result<()> {
    // It may still be the right key. What cannot be closed, or is not there, is said below.
    let _: io::Result<bool> = store::owner_only(key);
    for path in [certificate, key] {
        if let Some(aside) = store::set_aside(path)? {
            log::warn!("{what} is not used ({unfit}): now {}", aside.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn keeper() -> (TempDir, Keeper) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { certs: folder.path().to_owned(), ..Config::default() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        (folder, Keeper::new(&config, provider))
    }

    fn der(opened: &Opened) -> Vec<u8> {
        opened.leaf.certified.cert[0].to_vec()
    }

    #[test]
    fn a_root_that_has_ended_is_replaced_at_a_start_only() {
        let (_folder, keeper) = keeper();
        keeper.open(Moment::Start).unwrap();
        let (certificate, _) = keeper.root_paths();
        let root = fs::read(&certificate).unwrap();
        let later = OffsetDateTime::now_utc() + time::Duration::days(11 * 365);
        assert!(keeper.open_at(Moment::Renewal, later).is_err());
        assert_eq!(fs::read(&certificate).unwrap(), root);
        assert!(keeper.open(Moment::Renewal).is_ok(), "when the clock is right again");
        keeper.open_at(Moment::Start, later).unwrap();
        assert_ne!(fs::read(&certificate).unwrap(), root);
    }

    #[test]
    fn every_key_is_closed_to_others_in_use_or_set_aside() {
        let (_folder, keeper) = keeper();
        keeper.open(Moment::Start).unwrap();
        let (chain, key) = keeper.leaf_paths();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let loosen = || fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        loosen();
        keeper.open(Moment::Start).unwrap();
        assert_eq!(mode(&key), 0o600);
        loosen();
        fs::write(&chain, "damaged").unwrap();
        keeper.open(Moment::Start).unwrap();
        let keys = fs::read_dir(key.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let keys: Vec<PathBuf> =
            keys.filter(|path| path.to_str().unwrap().contains("key.pem")).collect();
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| mode(key) == 0o600));
    }

    #[test]
    fn a_leaf_that_cannot_be_written_is_served_and_written_later() {
        let (_folder, keeper) = keeper();
        keeper.open(Moment::Start).unwrap();
        let (chain, key) = keeper.leaf_paths();
        fs::remove_file(&chain).unwrap();
        fs::remove_file(&key).unwrap();
        // In the way of the new file, even for a user whom no mode stops.
        let obstacle = key.with_extension("pem.new");
        fs::create_dir(&obstacle).unwrap();
        let opened = keeper.open(Moment::Start).unwrap();
        let pems = opened.unsaved.as_ref().unwrap();
        assert!(keeper.save(pems).is_err());
        fs::remove_dir(&obstacle).unwrap();
        keeper.save(pems).unwrap();
        let again = keeper.open(Moment::Start).unwrap();
        assert_eq!(der(&again), der(&opened));
        assert!(again.unsaved.is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_locked_needs_only_its_root() {
        let (folder, keeper) = keeper();
        let first = keeper.open(Moment::Start).unwrap();
        fs::remove_file(folder.path().join(".lock")).unwrap();
        // No file to write into, even for a user whom no mode stops.
        fs::create_dir(folder.path().join(".lock")).unwrap();
        assert_eq!(der(&keeper.open(Moment::Start).unwrap()), der(&first));
        let (chain, key) = keeper.leaf_paths();
        fs::write(&chain, "damaged").unwrap();
        let other = keeper.open(Moment::Start).unwrap();
        assert!(other.unsaved.is_some() && der(&other) != der(&first));
        assert_eq!(fs::read_to_string(&chain).unwrap(), "damaged");
        assert!(key.exists());
        fs::remove_file(keeper.root_paths().0).unwrap();
        assert!(keeper.open(Moment::Start).is_err());
    }
}
