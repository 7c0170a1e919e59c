//! The private CA's root on disk.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use chassis::Fatal;
use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

use crate::certs::ca;
use crate::certs::ca::Authority;
use crate::certs::ca::Unfit;
use crate::certs::folder;
use crate::certs::permitted::Permitted;
use crate::certs::store;

/// `ca/root.crt`, for everybody, and `ca/root.key`.
pub struct RootFolder {
    path: PathBuf,
    /// The key is deleted once a leaf is made that lives as long as the root.
    discards: bool,
    provider: Arc<CryptoProvider>,
}

/// The certificate of the root, in the folder of certificates.
pub fn certificate_path(certs: &Path) -> PathBuf {
    certs.join("ca/root.crt")
}

impl RootFolder {
    /// In the folder of certificates.
    pub fn new(certs: &Path, discards: bool, provider: Arc<CryptoProvider>) -> Self {
        Self { path: certs.join("ca"), discards, provider }
    }

    /// Whether the key is to be deleted.
    pub fn discards(&self) -> bool {
        self.discards
    }

    /// The root on disk; or why it does not fit, `None` when there is none.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn stored(&self, now: OffsetDateTime) -> io::Result<Result<Authority, Option<Unfit>>> {
        let certificate = match folder::text(&self.certificate())? {
            None => None,
            Some(Ok(text)) => Some(text),
            Some(Err(why)) => return Ok(Err(Some(Unfit::Certificate(why)))),
        };
        let key = match folder::text(&self.key())? {
            None => None,
            Some(Ok(text)) => Some(text),
            Some(Err(why)) => return Ok(Err(Some(Unfit::Key(why)))),
        };
        let (certificate, key) = match (certificate, key) {
            (None, None) => return Ok(Err(None)),
            (None, Some(_)) => {
                return Ok(Err(Some(Unfit::Certificate("the file is missing".to_owned()))));
            }
            (Some(_), None) if !self.discards => {
                return Ok(Err(Some(Unfit::Key("the file is missing".to_owned()))));
            }
            (Some(certificate), key) => (certificate, key),
        };
        let opened = Authority::open(&certificate, key.as_deref(), Arc::clone(&self.provider), now);
        if opened.is_ok() && key.is_some() {
            match store::settle(&self.key(), 0o600, None) {
                Ok(true) => log::warn!("{} was open to others", self.key().display()),
                Ok(false) => {}
                Err(error) => log::warn!("{}: {error}", self.key().display()),
            }
        }
        Ok(opened.map_err(Some))
    }

    /// A new root for `names`, on disk.
    ///
    /// # Errors
    ///
    /// The outer one when none can be made, the inner one when it cannot be written.
    pub fn make(
        &self,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<io::Result<Authority>, Fatal> {
        let pems = ca::new_root(&Permitted::only(names), now)
            .map_err(|error| Fatal::new("no root can be made", error))?;
        // The key first: a certificate without its key would be of no use to anybody.
        let written = store::write(&self.key(), &pems.key, 0o600)
            .and_then(|()| store::write(&self.certificate(), &pems.certificate, 0o644));
        if let Err(error) = written {
            return Ok(Err(error));
        }
        log::info!("made a private CA: give {} to clients", self.certificate().display());
        let provider = Arc::clone(&self.provider);
        Authority::open(&pems.certificate, Some(&pems.key), provider, now)
            .map(Ok)
            .map_err(|unfit| Fatal::new("the new root does not fit", unfit))
    }

    /// Renames the root out of the way. Whoever trusts it has to trust the next one.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn set_aside(&self, word: &str, why: &str) -> io::Result<()> {
        folder::set_aside("the private CA", &self.certificate(), &self.key(), word, why)?;
        log::warn!("clients that trusted that private CA have to trust the new one: gateway trust");
        Ok(())
    }

    /// Deletes the key, where that is wished and not done.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn discard(&self) -> io::Result<()> {
        if !self.discards {
            return Ok(());
        }
        match store::remove(&self.key()) {
            Ok(()) => {
                log::info!("discarded the private CA's key, as discard_root_key says");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn certificate(&self) -> PathBuf {
        self.path.join("root.crt")
    }

    fn key(&self) -> PathBuf {
        self.path.join("root.key")
    }
}
