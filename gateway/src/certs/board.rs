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
    Acme,
    /// The private CA: for an ACME site, until the public CA's is there.
    Internal,
    /// Somebody else's files.
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
    /// Knows these sites from now on, and no others. What is known about one that stays, in the same
    /// mode, is kept; the names of those that do not stay come back.
    pub fn list(&self, sites: &[Site]) -> Vec<String> {
        let mut board = self.lock();
        let mut known = std::mem::take(&mut *board);
        let mut gone = Vec::new();
        known.retain(|name, status| {
            sites.iter().any(|site| site.name == *name && site.mode.word() == status.mode) || {
                gone.push(name.clone());
                false
            }
        });
        for site in sites {
            let mut status = known.remove(&site.name).unwrap_or_else(|| SiteStatus::new(site));
            status.names.clone_from(&site.names);
            board.insert(site.name.clone(), status);
        }
        gone
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::sites;

    #[test]
    fn what_is_known_of_a_site_that_stays_is_kept() {
        let planned =
            |hosts: &[&str]| sites::plan("farm.net", hosts.iter().copied(), &[], true).unwrap();
        let board = Board::default();
        board.list(&planned(&["a.farm.net", "b.farm.net"]));
        board.note("a.farm.net", |status| status.last_error = Some("no answer".to_owned()));
        board.note("nobody.net", |status| status.last_error = Some("never".to_owned()));
        assert_eq!(board.list(&planned(&["a.farm.net", "c.farm.net"])), ["b.farm.net"]);
        let all = serde_json::to_value(board.all()).unwrap();
        let names: Vec<&str> =
            all.as_array().unwrap().iter().map(|site| site["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a.farm.net", "c.farm.net", "farm.net"]);
        assert_eq!(all[0]["last_error"], "no answer");
        assert_eq!((&all[1]["mode"], &all[1]["not_after"]), (&"acme".into(), &().into()));
    }
}
