//! What is known about each site's certificate now, for people to see.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use serde::Serialize;
use serde::Serializer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::certs::sites::Site;

/// Where the certificate that is served now came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A public CA.
    #[expect(dead_code, reason = "comes with ACME")]
    Acme,
    /// The private CA: for an ACME site, until the public CA's is there.
    Internal,
    /// Somebody else's files.
    #[expect(dead_code, reason = "comes with files that are watched")]
    Files,
}

/// One site. Moments are UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteStatus {
    pub name: String,
    pub names: Vec<String>,
    /// `internal`, `acme` or `files`: what is wanted.
    pub mode: &'static str,
    /// What is served; `None` while there is nothing.
    pub source: Option<Source>,
    #[serde(serialize_with = "moment")]
    pub not_after: Option<OffsetDateTime>,
    /// When the next one is made or asked for.
    #[serde(serialize_with = "moment")]
    pub renew_at: Option<OffsetDateTime>,
    /// Of the last try, in words for people; `None` after a success.
    pub last_error: Option<String>,
    /// When it is tried again after an error.
    #[serde(serialize_with = "moment")]
    pub next_try: Option<OffsetDateTime>,
    /// How often it was tried, by outcome.
    pub attempts: BTreeMap<&'static str, u64>,
}

impl SiteStatus {
    fn new(site: &Site) -> Self {
        Self {
            name: site.name.clone(),
            names: site.names.clone(),
            mode: site.mode.word(),
            source: None,
            not_after: None,
            renew_at: None,
            last_error: None,
            next_try: None,
            attempts: BTreeMap::new(),
        }
    }
}

fn moment<S: Serializer>(at: &Option<OffsetDateTime>, to: S) -> Result<S::Ok, S::Error> {
    at.and_then(|at| at.format(&Rfc3339).ok()).serialize(to)
}

/// All sites, by name.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<String, SiteStatus>>);

impl Board {
    /// Knows these sites from now on, and no others. What is known about one that stays is kept.
    pub fn list(&self, sites: &[Site]) {
        let mut board = self.lock();
        let mut known = std::mem::take(&mut *board);
        for site in sites {
            let mut status = known.remove(&site.name).unwrap_or_else(|| SiteStatus::new(site));
            status.names.clone_from(&site.names);
            status.mode = site.mode.word();
            board.insert(site.name.clone(), status);
        }
    }

    /// Changes what is known about the site of that name, if there is one.
    pub fn note(&self, site: &str, change: impl FnOnce(&mut SiteStatus)) {
        if let Some(status) = self.lock().get_mut(site) {
            change(status);
        }
    }

    /// Every site, in the order of the names.
    pub fn all(&self) -> Vec<SiteStatus> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, SiteStatus>> {
        // Each change is whole or not begun, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
