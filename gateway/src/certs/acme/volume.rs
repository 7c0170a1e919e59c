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
                if known != Some(&Stamp::default()) {
                    log::info!("{}: the certificate on the volume is not used: {why}", self.site);
                }
                // Read again at each look, and so before each order: the clock may be what is wrong.
                return Ok(Found { stamp: Stamp::default(), state, issued: Some(None) });
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
        if chain::is_private(&pems, &root) {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::certs::acme::chain::tests::made;
    use crate::certs::ca;
    use crate::certs::ca::Authority;
    use crate::certs::permitted::Permitted;

    const NAME: &str = "a.example";

    fn volume(certs: &Path) -> Volume {
        store::folder(&certs.join("ca"), 0o755).unwrap();
        store::folder(&certs.join("acme/ca.example"), 0o700).unwrap();
        Volume {
            certs: certs.to_owned(),
            folder: certs.join("acme/ca.example"),
            files: Folder::new(certs.join("sites").join(NAME), None),
            site: NAME.to_owned(),
            names: vec![NAME.to_owned()],
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        }
    }

    #[test]
    fn what_had_ended_by_a_wrong_clock_is_found_once_it_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(folder.path());
        let start = OffsetDateTime::now_utc();
        volume.save(&made(&[NAME], start)).unwrap();
        let wrong = volume.look(None, start + time::Duration::days(4000)).unwrap();
        assert!(matches!(wrong.issued, Some(None)));
        let right = volume.look(Some(&wrong.stamp), start).unwrap();
        assert!(matches!(right.issued, Some(Some(_))));
        // And is then not read at each look.
        assert!(volume.look(Some(&right.stamp), start).unwrap().issued.is_none());
    }

    #[test]
    fn the_leaf_of_a_private_ca_is_never_the_server_s_even_when_that_ca_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(folder.path());
        let (now, names) = (OffsetDateTime::now_utc(), [NAME.to_owned()]);
        let root = || ca::new_root(&Permitted::only(&names), now).unwrap();
        let (of_before, of_now) = (root(), root());
        let provider = Arc::clone(&volume.provider);
        let authority =
            Authority::open(&of_before.certificate, Some(&of_before.key), provider, now).unwrap();
        let life = Duration::from_secs(3600);
        volume.save(&authority.issue(&names, now, life).unwrap().unwrap()).unwrap();
        for known in [&of_before, &of_now] {
            fs::write(folder.path().join("ca/root.crt"), &known.certificate).unwrap();
            assert!(matches!(volume.look(None, now).unwrap().issued, Some(None)));
        }
    }
}
