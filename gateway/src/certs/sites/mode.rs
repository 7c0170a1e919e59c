//! Where certificates come from.

use std::path::PathBuf;

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The private CA of this installation.
    Internal,
    /// A public CA, asked by ACME (RFC 8555). Until its certificate is there, the site is served
    /// by the private CA's.
    Acme,
    /// Files that somebody else keeps.
    Files { chain: PathBuf, key: PathBuf },
}

impl Mode {
    /// One word, as `check`, the status and the settings write it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Acme => "acme",
            Self::Files { .. } => "files",
        }
    }
}
