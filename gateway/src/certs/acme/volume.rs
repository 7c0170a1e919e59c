//! One site's files on the volume: its certificate and what is known of its tries. Everything here
//! blocks for what the disk takes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

use crate::certs::acme::chain;
use crate::certs::acme::chain::Issued;
use crate::certs::acme::chain::Unfit;
use crate::certs::acme::engine::Engine;
use crate::certs::acme::state;
use crate::certs::acme::state::State;
use crate::certs::folder;
use crate::certs::folder::Folder;
use crate::certs::leaf::Pems;
use crate::certs::sites::Site;
use crate::certs::store;

/// How long another gateway may hold the volume.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Where one site's files are.
#[derive(Clone)]
pub struct Volume {
    certs: PathBuf,
    /// Of the directory.
    folder: PathBuf,
    pub files: Folder,
    site: String,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

/// Tells whether the files of a certificate are still the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp([Option<(u64, u64, i64, i64)>; 2]);

/// What there is.
pub struct Found {
    pub stamp: Stamp,
    pub state: State,
    /// The certificate, unless the stamp is the known one.
    pub issued: Option<Option<Issued>>,
}

impl Volume {
    /// The files of `site`.
    pub fn new(engine: &Engine, site: &Site) -> Self {
        Self {
            certs: engine.certs.clone(),
            folder: engine.main.folder.clone(),
            files: Folder::new(engine.certs.join("sites").join(&site.name), engine.group),
            site: site.name.clone(),
            names: site.names.clone(),
            provider: Arc::clone(&engine.provider),
        }
    }

    /// What there is now; a certificate that was not there at `known` is read. What is damaged is
    /// set aside.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn look(&self, known: Option<&Stamp>, now: OffsetDateTime) -> io::Result<Found> {
        let state = State::load(&self.state_path())?;
        let stamp = self.stamp();
        if known == Some(&stamp) {
            return Ok(Found { stamp, state, issued: None });
        }
        let issued = match self.read(now)? {
            None => None,
            Some(Ok(issued)) => Some(issued),
            Some(Err(Unfit::Useless(why))) => {
                log::info!("{}: the certificate on the volume is not used: {why}", self.site);
                None
            }
            Some(Err(Unfit::Damaged(_))) => self.set_damaged_aside(now)?,
        };
        Ok(Found { stamp: self.stamp(), state, issued: Some(issued) })
    }

    /// Writes a certificate and its key.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn save(&self, pems: &Pems) -> io::Result<()> {
        let _lock = store::lock(&self.certs, LOCK_PATIENCE)?;
        self.files.write(pems)
    }

    /// Writes what is known of the tries.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn save_state(&self, state: &State) -> io::Result<()> {
        state.save(&self.state_path())
    }

    /// Renames a revoked certificate and its key out of the way.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn set_revoked_aside(&self, reason: &str) -> io::Result<()> {
        let _lock = store::lock(&self.certs, LOCK_PATIENCE)?;
        self.rename("revoked", reason)
    }

    fn state_path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.site))
    }

    fn stamp(&self) -> Stamp {
        Stamp([self.files.chain(), self.files.key()].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
        }))
    }

    /// `None` when there is none of this server's.
    fn read(&self, now: OffsetDateTime) -> io::Result<Option<Result<Issued, Unfit>>> {
        let pems = match self.files.read()? {
            None => return Ok(None),
            Some(Ok(pems)) => pems,
            Some(Err(unfit)) => return Ok(Some(Err(Unfit::Damaged(unfit.to_string())))),
        };
        let root = store::read(&self.certs.join("ca/root.crt")).ok().flatten().unwrap_or_default();
        if chain::is_from(&pems, &root) {
            return Ok(None);
        }
        let fit = chain::fit(&pems, &self.names, now, &self.provider);
        Ok(match fit {
            Ok(issued) => {
                let elsewhere =
                    state::is_from_elsewhere(&self.certs, &self.folder, &self.site, &issued.digest);
                self.files.settle();
                (!elsewhere).then_some(Ok(issued))
            }
            Err(unfit) => Some(Err(unfit)),
        })
    }

    /// What looks damaged may be half of what another gateway writes now, so it is looked at again
    /// when nobody writes.
    fn set_damaged_aside(&self, now: OffsetDateTime) -> io::Result<Option<Issued>> {
        let _lock = store::lock(&self.certs, LOCK_PATIENCE)?;
        match self.read(now)? {
            None | Some(Err(Unfit::Useless(_))) => Ok(None),
            Some(Ok(issued)) => Ok(Some(issued)),
            Some(Err(Unfit::Damaged(why))) => {
                self.rename("damaged", &why)?;
                Ok(None)
            }
        }
    }

    fn rename(&self, word: &str, why: &str) -> io::Result<()> {
        let (chain, key) = (self.files.chain(), self.files.key());
        folder::set_aside(&format!("the certificate of {}", self.site), &chain, &key, word, why)
    }
}
