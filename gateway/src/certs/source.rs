//! The place where whoever got a certificate hands it over to be served.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::certs::acme::challenges::Challenges;
use crate::certs::acme::failure::Outcome;
use crate::certs::board::Board;
use crate::certs::board::Source;
use crate::certs::leaf::Leaf;
use crate::certs::sites::Mode;
use crate::certs::sites::Site;
use crate::edge::certificates::Certificates;
use crate::observe::metrics::Metrics;

/// What follows from a new certificate: handshakes use it, the board and the metrics tell of it.
pub struct Outlet {
    pub certificates: Arc<Certificates>,
    pub board: Board,
    /// What is answered to ACME servers now.
    pub challenges: Challenges,
    metrics: Metrics,
}

impl Outlet {
    /// One that has no certificate yet; `domain` is whose certificate unknown names get.
    pub fn new(domain: &str, metrics: Metrics) -> Self {
        let certificates = Arc::new(Certificates::new(domain));
        metrics.acme_outcomes(Outcome::ALL.into_iter().map(Outcome::as_str));
        let challenges = Challenges::default();
        Self { certificates, board: Board::default(), challenges, metrics }
    }

    /// Counts a try to get a certificate for `site` by ACME.
    pub fn tried(&self, site: &str, outcome: Outcome) {
        self.metrics.acme_attempt(outcome.as_str());
        self.board.note(site, |status| {
            *status.attempts.entry(outcome.as_str()).or_default() += 1;
        });
    }

    /// Serves `leaf`, from files or from a public CA, for `site` from now on. Connections that are
    /// open live on.
    pub fn publish(&self, site: &Site, source: Source, leaf: &Leaf) {
        self.certificates.set(&site.name, &site.names, leaf, source);
        self.metrics.certificate(&site.name, leaf.not_after);
        self.board.note(&site.name, |status| {
            status.source = Some(source);
            status.not_after = Some(leaf.not_after);
            status.renew_at = (source == Source::Acme).then(|| leaf.renew_at());
            status.last_error = None;
            status.next_try = None;
        });
    }

    /// Serves the leaf of the private CA: for internal sites, and for ACME sites while they have no
    /// other.
    pub fn publish_private(&self, sites: &[Site], leaf: &Leaf, renew_at: OffsetDateTime) {
        self.certificates.set_private(leaf);
        for site in sites {
            let is_internal = site.mode == Mode::Internal;
            let is_files = matches!(site.mode, Mode::Files { .. });
            self.board.note(&site.name, |status| {
                if is_files || status.source == Some(Source::Acme) {
                    return;
                }
                status.source = Some(Source::Internal);
                status.not_after = Some(leaf.not_after);
                status.renew_at = is_internal.then_some(renew_at);
                self.metrics.certificate(&site.name, leaf.not_after);
                if is_internal {
                    status.last_error = None;
                    status.next_try = None;
                }
            });
        }
    }

    /// Serves these sites and no others from now on.
    pub fn list(&self, sites: &[Site]) {
        let gone = self.board.list(sites);
        for site in &gone {
            self.metrics.remove_certificate(site);
        }
        self.certificates.retain(|site| !gone.iter().any(|gone| gone == site));
    }
}
