//! One folder with one certificate and its key: where it is kept, and who may read it.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::certs::leaf::Pems;
use crate::certs::leaf::Unfit;
use crate::certs::store;

/// A folder of certificates, `sites/<name>` say.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// Whoever may read it besides us.
    group: Option<u32>,
}

impl Folder {
    /// The folder `path`, readable by `group` too where there is one.
    pub fn new(path: PathBuf, group: Option<u32>) -> Self {
        Self { path, group }
    }

    /// The certificate, and those between it and its root.
    pub fn chain(&self) -> PathBuf {
        self.path.join("chain.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.path.join("key.pem")
    }

    /// Both files, `None` when neither is there; or what is wrong with what is there.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn read(&self) -> io::Result<Option<Result<Pems, Unfit>>> {
        pair(&self.chain(), &self.key())
    }

    /// Puts both there. A reader that comes between the two finds a key that does not fit.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn write(&self, pems: &Pems) -> io::Result<()> {
        store::folder(&self.path, 0o750)?;
        if self.group.is_some() {
            store::settle(&self.path, 0o750, self.group).map_err(|error| self.of_group(error))?;
        }
        store::write_for(&self.key(), &pems.key, self.key_mode(), self.group)
            .and_then(|()| {
                store::write_for(&self.chain(), &pems.certificate, self.chain_mode(), self.group)
            })
            .map_err(|error| self.of_group(error))
    }

    /// Gives files that are in use the rights that they should have; says so where it matters. Without
    /// a group only the key's matter.
    pub fn settle(&self) {
        let all = [
            (self.key(), self.key_mode()),
            (self.path.clone(), 0o750),
            (self.chain(), self.chain_mode()),
        ];
        let count = if self.group.is_some() { all.len() } else { 1 };
        for (path, mode) in all.into_iter().take(count) {
            match store::settle(&path, mode, self.group) {
                Ok(true) if path == self.key() => {
                    log::warn!("{} was open to others", path.display());
                }
                Ok(_) => {}
                Err(error) => log::warn!("{}: {}", path.display(), self.of_group(error)),
            }
        }
    }

    /// Renames both out of the way.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub fn set_aside(&self, what: &str, why: &Unfit) -> io::Result<()> {
        set_aside(what, &self.chain(), &self.key(), "damaged", &why.to_string())
    }

    fn key_mode(&self) -> u32 {
        if self.group.is_some() { 0o640 } else { 0o600 }
    }

    fn chain_mode(&self) -> u32 {
        if self.group.is_some() { 0o640 } else { 0o644 }
    }

    /// Only who is in a group may give it something (chown(2)).
    fn of_group(&self, error: io::Error) -> io::Error {
        match self.group {
            Some(group) if error.kind() == io::ErrorKind::PermissionDenied => io::Error::new(
                error.kind(),
                format!("{error}: certs_group: the gateway must be in group {group} (group_add)"),
            ),
            _ => error,
        }
    }
}

/// Both files, `None` when neither is there; or what is wrong with what is there.
///
/// # Errors
///
/// When a file cannot be read.
pub fn pair(certificate: &Path, key: &Path) -> io::Result<Option<Result<Pems, Unfit>>> {
    let missing = || Err("the file is missing".to_owned());
    Ok(match (text(certificate)?, text(key)?) {
        (None, None) => None,
        (certificate, key) => {
            let certificate = certificate.unwrap_or_else(missing).map_err(Unfit::Certificate);
            let key = key.unwrap_or_else(missing).map_err(Unfit::Key);
            Some(certificate.and_then(|certificate| Ok(Pems { certificate, key: key? })))
        }
    })
}

/// What is in a file, if it is there; or why that is no text.
///
/// # Errors
///
/// When it cannot be read.
pub fn text(path: &Path) -> io::Result<Option<Result<String, String>>> {
    match store::read(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Ok(Some(Err(error.to_string())))
        }
        read => Ok(read?.map(Ok)),
    }
}

/// Renames a certificate and its key out of the way, for the reason that `word` names.
///
/// # Errors
///
/// What the file system said.
pub fn set_aside(
    what: &str,
    certificate: &Path,
    key: &Path,
    word: &str,
    why: &str,
) -> io::Result<()> {
    // It may still be the right key. What cannot be closed, or is not there, is said below.
    let _: io::Result<bool> = store::settle(key, 0o600, None);
    for path in [certificate, key] {
        if let Some(aside) = store::set_aside(path, word)? {
            log::warn!("{what} is not used ({why}): now {}", aside.display());
        }
    }
    Ok(())
}
