//! The place where whoever got a certificate hands it over to be served.

use std::sync::Arc;

use crate::certs::board::Board;
use crate::certs::board::Source;
use crate::certs::ca::Leaf;
use crate::edge::tls::Certificates;
use crate::observe::metrics::Metrics;

/// What follows from a new certificate: handshakes use it, the board and the metrics tell of it.
pub struct Outlet {
    pub certificates: Arc<Certificates>,
    pub board: Board,
    metrics: Metrics,
}

impl Outlet {
    /// One that has no certificate yet.
    pub fn new(metrics: Metrics) -> Self {
        Self { certificates: Arc::default(), board: Board::default(), metrics }
    }

    /// Serves `leaf` for `names`, those of `site`, from now on. Connections that are open live on.
    pub fn publish(&self, site: &str, names: &[String], source: Source, leaf: &Leaf) {
        self.certificates.serve(names, &leaf.certified);
        self.metrics.certificate(site, leaf.not_after);
        self.board.note(site, |status| {
            status.source = Some(source);
            status.not_after = Some(leaf.not_after);
            status.renew_at = Some(leaf.renew_at());
        });
    }
}
