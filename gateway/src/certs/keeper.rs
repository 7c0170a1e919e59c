//! Keeps the private CA and its leaf on disk, and gets the next leaf in time.
//!
//! There is one leaf of the private CA: for all internal names, and for those of ACME sites, which it
//! serves until theirs is there.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::Fatal;
use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

use crate::certs::ca::Authority;
use crate::certs::ca::Leaf;
use crate::certs::ca::Pems;
use crate::certs::ca::Root;
use crate::certs::ca::Unfit;
use crate::certs::folder::Folder;
use crate::certs::root;
use crate::certs::root::RootFolder;
use crate::certs::sites::Mode;
use crate::certs::sites::Site;
use crate::certs::sites::names_of;
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
    Running,
}

/// What is served, and whether a restart would find it.
pub struct Opened {
    pub leaf: Leaf,
    pub root: Root,
    /// When the next leaf is due.
    pub renew_at: OffsetDateTime,
    /// The leaf, when it could not be written: for [`Keeper::save`].
    pub unsaved: Option<Pems>,
}

impl Opened {
    /// How long to wait before [`Keeper::open`] gives the leaf after this one, at most a minute; zero
    /// when it is time.
    pub fn until_renewal(&self) -> Duration {
        let left = self.renew_at - OffsetDateTime::now_utc();
        Duration::try_from(left).unwrap_or_default().min(LOOK_MAX)
    }
}

/// The private CA's part of the folder of certificates.
pub struct Keeper {
    certs: PathBuf,
    /// For logs: the site, or what the leaf is for.
    what: String,
    folder: Folder,
    root: RootFolder,
    /// Of internal sites: the leaf has to cover them.
    names: Vec<String>,
    /// Of ACME sites: it covers those that the root may sign for. Nobody has to trust it there, so they
    /// are no reason for another root.
    waiting: Vec<String>,
    life: Duration,
}

impl Keeper {
    /// The keeper of the leaf that `sites` need, in the folders of `config`; `None` when they need
    /// none.
    pub fn new(config: &Config, sites: &[Site], provider: Arc<CryptoProvider>) -> Option<Self> {
        let names = names_of(sites, &Mode::Internal);
        let waiting = names_of(sites, &Mode::Acme);
        let site = sites.iter().find(|site| site.mode == Mode::Internal);
        let path = match site {
            Some(site) => config.certs.join("sites").join(&site.name),
            None => config.certs.join("ca/stand-in"),
        };
        let what = site.map_or("sites that wait for ACME", |site| &site.name).to_owned();
        let any = !(names.is_empty() && waiting.is_empty());
        any.then(|| Self {
            certs: config.certs.clone(),
            what,
            folder: Folder::new(path, config.certs_group.filter(|_| site.is_some())),
            root: RootFolder::new(&config.certs, config.discard_root_key, provider),
            names,
            waiting,
            life: Duration::from_secs(config.certificate_life_s),
        })
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
        for below in ["", "ca", "sites"] {
            let path = self.certs.join(below);
            store::folder(&path, 0o755).map_err(|error| self.fatal("cannot be made", &error))?;
        }
        let lock = store::lock(&self.certs, LOCK_PATIENCE);
        let authority = self.authority(&lock, moment, now)?;
        if let Err(error) = &lock {
            log::warn!("{} cannot be locked: {error}", self.certs.display());
        }
        match (self.stored_leaf(&authority, now)?, lock) {
            (Ok(leaf), lock) if self.lasts(&authority, &leaf, now) => {
                if lock.is_ok() {
                    self.discard(&authority);
                }
                let renew_at = self.renew_at(&authority, &leaf);
                Ok(Opened { leaf, root: authority.root().clone(), renew_at, unsaved: None })
            }
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
                self.new_leaf(&authority, moment, now, writable.map(|_| ()))
            }
        }
    }

    /// Writes a leaf that could not be written before.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn save(&self, pems: &Pems) -> io::Result<()> {
        let _lock = store::lock(&self.certs, LOCK_PATIENCE)?;
        self.folder.write(pems)?;
        self.root.discard()
    }

    /// The root that signs: the one on disk while it fits, or at a start a new one.
    fn authority(
        &self,
        lock: &io::Result<File>,
        moment: Moment,
        now: OffsetDateTime,
    ) -> Result<Authority, Fatal> {
        let stored = self.root.stored(now).map_err(|error| self.fatal("cannot be read", &error))?;
        let unfit = match stored {
            Ok(authority) => match self.refused(&authority, moment) {
                None => {
                    if moment == Moment::Start && authority.permitted().is_open() {
                        hint(&self.certs);
                    }
                    return Ok(authority);
                }
                Some(name) => Some(Err(name.clone())),
            },
            Err(unfit) => unfit.map(Ok),
        };
        if let (Some(Err(name)), Moment::Running) = (&unfit, moment) {
            let why = format!(
                "clients trust a root that may not sign for {name}; a restart makes one that may, \
                 which they then have to trust"
            );
            return Err(Fatal::new("certs: the private CA", why));
        }
        let why = match &unfit {
            None => "it is missing".to_owned(),
            Some(Ok(unfit)) => unfit.to_string(),
            Some(Err(name)) => format!("it may not sign for {name}"),
        };
        match (lock, moment) {
            (_, Moment::Running) => {
                Err(Fatal::new("the private CA is replaced only at a start", why))
            }
            (Err(error), _) => Err(self.fatal("cannot be locked", error)),
            (Ok(_), Moment::Start) => {
                match unfit {
                    None => Ok(()),
                    Some(Ok(_)) => self.root.set_aside("damaged", &why),
                    Some(Err(_)) => self.root.set_aside("replaced", &why),
                }
                .map_err(|error| self.fatal("cannot be set aside", &error))?;
                self.new_root(now)
            }
        }
    }

    /// The first name for which there has to be another root, if there is one. Where no site is
    /// internal, nobody trusts the root, so at a start it may as well sign for all.
    fn refused(&self, authority: &Authority, moment: Moment) -> Option<&String> {
        let refused = |name: &&String| !authority.permitted().allows(name);
        match self.names.is_empty() {
            false => self.names.iter().find(refused),
            true if moment == Moment::Start => self.waiting.iter().find(refused),
            // Some name it must have.
            true if self.waiting.iter().all(|name| refused(&name)) => self.waiting.first(),
            true => None,
        }
    }

    /// The names of a leaf that `authority` signs.
    fn names_from(&self, authority: &Authority) -> Vec<String> {
        let waiting = self.waiting.iter().filter(|name| authority.permitted().allows(name));
        self.names.iter().chain(waiting).cloned().collect()
    }

    fn new_root(&self, now: OffsetDateTime) -> Result<Authority, Fatal> {
        let all = [&self.names[..], &self.waiting].concat();
        let made = self.root.make(&all, now)?;
        made.map_err(|error| self.fatal("cannot be written", &error))
    }

    /// The leaf on disk; or why it does not fit, `None` when there is none.
    fn stored_leaf(
        &self,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<Result<Leaf, Option<Unfit>>, Fatal> {
        let pems = self.folder.read().map_err(|error| self.fatal("cannot be read", &error))?;
        Ok(match pems {
            None => Err(None),
            Some(pems) => pems
                .and_then(|pems| match authority.can_sign() {
                    true => authority.fit(&pems, &self.names_from(authority), now),
                    // No better one can be made, so it may cover more, and not who waits for ACME.
                    false => authority.cover(&pems, &self.names, now),
                })
                .inspect(|_| self.folder.settle())
                .map_err(Some),
        })
    }

    /// Whether there is nothing to do about a leaf that fits. Where the root's key is to be
    /// discarded, it has to live as long as the root.
    fn lasts(&self, authority: &Authority, leaf: &Leaf, now: OffsetDateTime) -> bool {
        match (authority.can_sign(), self.root.discards()) {
            (false, _) => true,
            (true, true) => leaf.not_after >= authority.not_after(),
            (true, false) => now < leaf.renew_at(),
        }
    }

    fn set_leaf_aside(&self, unfit: &Unfit) -> io::Result<()> {
        let what = format!("the certificate of {}", self.what);
        match unfit {
            Unfit::Expired | Unfit::Names(_) => {
                log::info!("{what} is not used ({unfit}); making the next");
                Ok(())
            }
            unfit => self.folder.set_aside(&what, unfit),
        }
    }

    /// The next leaf, on disk too where that is `writable`.
    fn new_leaf(
        &self,
        authority: &Authority,
        moment: Moment,
        now: OffsetDateTime,
        writable: io::Result<()>,
    ) -> Result<Opened, Fatal> {
        let life = match self.root.discards() {
            true => Duration::try_from(authority.not_after() - now).unwrap_or_default() * 2,
            false => self.life,
        };
        let names = self.names_from(authority);
        let issued = authority
            .issue(&names, now, life)
            .map_err(|error| Fatal::new("no certificate can be made", error))?;
        let Some(pems) = issued else {
            return self.without_key(moment, now, writable);
        };
        let leaf = authority
            .fit(&pems, &names, now)
            .map_err(|unfit| Fatal::new("the new certificate does not fit", unfit))?;
        let names = names.join(" ");
        log::info!(not_after:% = leaf.not_after; "made a certificate for {names}");
        let unsaved = match writable.and_then(|()| self.folder.write(&pems)) {
            Ok(()) => {
                self.discard(authority);
                None
            }
            Err(error) => {
                let error = self.told(&error);
                log::error!(
                    "the certificate is not kept: a file in {}: {error}",
                    self.certs.display()
                );
                Some(pems)
            }
        };
        let renew_at = self.renew_at(authority, &leaf);
        Ok(Opened { leaf, root: authority.root().clone(), renew_at, unsaved })
    }

    /// A leaf is needed that the root, whose key was discarded, cannot sign.
    fn without_key(
        &self,
        moment: Moment,
        now: OffsetDateTime,
        writable: io::Result<()>,
    ) -> Result<Opened, Fatal> {
        let why = "its key was discarded, and the certificate does not fit";
        if moment == Moment::Running {
            let why =
                format!("{why}; a restart makes a new root, which clients then have to trust");
            return Err(Fatal::new("certs: the private CA cannot sign", why));
        }
        writable
            .and_then(|()| self.root.set_aside("replaced", why))
            .map_err(|error| self.fatal("cannot be set aside", &error))?;
        let authority = self.new_root(now)?;
        self.new_leaf(&authority, moment, now, Ok(()))
    }

    /// Discards the root's key where that is wished: the leaf is on disk and lives as long.
    fn discard(&self, authority: &Authority) {
        if authority.can_sign()
            && let Err(error) = self.root.discard()
        {
            log::error!("the private CA's key is not discarded: {error}");
        }
    }

    /// When the leaf after `leaf` is due: only at its end where the root keeps no key to sign one with.
    fn renew_at(&self, authority: &Authority, leaf: &Leaf) -> OffsetDateTime {
        match authority.can_sign() && !self.root.discards() {
            true => leaf.renew_at(),
            false => leaf.not_after,
        }
    }

    fn told(&self, error: &io::Error) -> String {
        let remedy = store::remedy(&self.certs, error).map(|remedy| format!(": {remedy}"));
        format!("{error}{}", remedy.unwrap_or_default())
    }

    fn fatal(&self, what: &str, error: &io::Error) -> Fatal {
        let context = format!("certs: a file in {} {what}", self.certs.display());
        Fatal::new(context, self.told(error))
    }
}

/// Roots that were made before there were constraints are kept: clients trust them.
fn hint(certs: &Path) {
    let (certificate, ca) = (root::certificate_path(certs), certs.join("ca"));
    log::info!(
        "{} may sign for any name, so guard its key; to get one that may sign for yours only, move \
         the files in {} away, restart, and let clients trust the new one",
        certificate.display(),
        ca.display(),
    );
}

#[cfg(test)]
mod tests;
