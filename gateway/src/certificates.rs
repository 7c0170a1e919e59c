//! Keeps the private CA and its leaf on disk, and gets the next leaf in time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::Fatal;
use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

use crate::ca;
use crate::ca::Authority;
use crate::ca::Leaf;
use crate::ca::Pems;
use crate::ca::Unfit;
use crate::config::Config;
use crate::store;

/// The longest sleep before looking at the clock again: it may jump, when a laptop wakes or a
/// machine without a battery learns the time.
const LOOK_MAX: Duration = Duration::from_secs(60);

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

    /// A leaf that fits: the one on disk, or a new one, from the root on disk, or a new one.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read or written.
    pub fn open(&self) -> Result<Leaf, Fatal> {
        store::folder(&self.folder, 0o755)
            .and_then(|()| store::folder(&self.folder.join("ca"), 0o755))
            .and_then(|()| store::folder(&self.folder.join("sites"), 0o755))
            .map_err(|error| self.fatal("cannot be made", &error))?;
        let now = OffsetDateTime::now_utc();
        let _lock =
            store::lock(&self.folder).map_err(|error| self.fatal("cannot be locked", &error))?;
        let authority = self.authority(now)?;
        match self.stored_leaf(&authority, now)? {
            Some(leaf) if now < leaf.renew_at() => Ok(leaf),
            _ => self.new_leaf(&authority, now),
        }
    }

    /// How long to wait before [`Self::open`] gives the leaf after `leaf`, at most a minute; zero
    /// when it is time.
    pub fn until_renewal(leaf: &Leaf) -> Duration {
        let left = leaf.renew_at() - OffsetDateTime::now_utc();
        Duration::try_from(left).unwrap_or_default().min(LOOK_MAX)
    }

    fn authority(&self, now: OffsetDateTime) -> Result<Authority, Fatal> {
        let (certificate, key) = (self.folder.join("ca/root.crt"), self.folder.join("ca/root.key"));
        match self.pair(&certificate, &key)? {
            None => {}
            Some(Err(unfit)) => self.set_aside("the private CA", &certificate, &key, &unfit)?,
            Some(Ok(pems)) => match Authority::open(&pems, Arc::clone(&self.provider), now) {
                Ok(authority) => {
                    match store::owner_only(&key) {
                        Ok(true) => log::warn!("{} was open to others", key.display()),
                        Ok(false) => {}
                        Err(error) => log::warn!("{}: {error}", key.display()),
                    }
                    return Ok(authority);
                }
                Err(unfit) => self.set_aside("the private CA", &certificate, &key, &unfit)?,
            },
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

    fn stored_leaf(
        &self,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<Option<Leaf>, Fatal> {
        let (chain, key) = self.leaf_paths();
        let unfit = match self.pair(&chain, &key)? {
            None => return Ok(None),
            Some(Err(unfit)) => unfit,
            Some(Ok(pems)) => match authority.fit(&pems, &self.names, now) {
                Ok(leaf) => return Ok(Some(leaf)),
                Err(unfit) => unfit,
            },
        };
        if matches!(unfit, Unfit::Expired) {
            log::info!("the certificate of {} ran out; making the next", self.site);
        } else {
            let what = format!("the certificate of {}", self.site);
            self.set_aside(&what, &chain, &key, &unfit)?;
        }
        Ok(None)
    }

    fn new_leaf(&self, authority: &Authority, now: OffsetDateTime) -> Result<Leaf, Fatal> {
        let pems = authority
            .issue(&self.names, now, self.life)
            .map_err(|error| Fatal::new("no certificate can be made", error))?;
        let leaf = authority
            .fit(&pems, &self.names, now)
            .map_err(|unfit| Fatal::new("the new certificate does not fit", unfit))?;
        let (chain, key) = self.leaf_paths();
        store::folder(&self.folder.join("sites").join(&self.site), 0o750)
            .and_then(|()| store::write(&key, &pems.key, 0o600))
            .and_then(|()| store::write(&chain, &pems.certificate, 0o644))
            .map_err(|error| self.fatal("cannot be written", &error))?;
        log::info!(not_after:% = leaf.not_after; "made a certificate for {}", self.names.join(" "));
        Ok(leaf)
    }

    fn leaf_paths(&self) -> (PathBuf, PathBuf) {
        let site = self.folder.join("sites").join(&self.site);
        (site.join("chain.pem"), site.join("key.pem"))
    }

    /// Both files, `None` when neither is there.
    fn pair(
        &self,
        certificate: &std::path::Path,
        key: &std::path::Path,
    ) -> Result<Option<Result<Pems, Unfit>>, Fatal> {
        let read = |path| match store::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
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

    fn set_aside(
        &self,
        what: &str,
        certificate: &std::path::Path,
        key: &std::path::Path,
        unfit: &Unfit,
    ) -> Result<(), Fatal> {
        for path in [certificate, key] {
            let aside = store::set_aside(path)
                .map_err(|error| self.fatal("cannot be set aside", &error))?;
            if let Some(aside) = aside {
                log::warn!("{what} is not used ({unfit}): now {}", aside.display());
            }
        }
        Ok(())
    }

    fn fatal(&self, what: &str, error: &std::io::Error) -> Fatal {
        let context = format!("certs: a file in {} {what}", self.folder.display());
        Fatal::new(context, error)
    }
}
