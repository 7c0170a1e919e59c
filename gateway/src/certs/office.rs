//! Looks after the certificates of all sites: one task each, so that one that fails delays no other.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use chassis::Fatal;
use rustls::crypto::CryptoProvider;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::certs::acme::challenges::Challenges;
use crate::certs::board::Board;
use crate::certs::board::Source;
use crate::certs::ca::Pems;
use crate::certs::ca::Root;
use crate::certs::files;
use crate::certs::files::Seen;
use crate::certs::keeper::Keeper;
use crate::certs::keeper::Moment;
use crate::certs::keeper::Opened;
use crate::certs::leaf::Leaf;
use crate::certs::sites::Mode;
use crate::certs::sites::Site;
use crate::certs::source::Outlet;
use crate::config::Config;
use crate::edge::certificates::Certificates;

/// After a certificate could not be renewed.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// What looks after one ACME site for as long as there is that site.
pub type AcmeTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Begins to look after an ACME site: hands over at once what is on the volume, and gives the task
/// that goes on with it. That task is dropped when the site is no more.
pub type AcmeStart = Box<dyn Fn(&Site) -> AcmeTask + Send + Sync>;

/// One a process.
pub struct Office {
    config: Config,
    provider: Arc<CryptoProvider>,
    outlet: Arc<Outlet>,
    /// Where the tasks run.
    runtime: Handle,
    sites: ArcSwap<Vec<Site>>,
    root: ArcSwapOption<Root>,
    acme: OnceLock<AcmeStart>,
    tasks: Mutex<Tasks>,
}

/// What runs now.
#[derive(Default)]
struct Tasks {
    /// By the site's name.
    sites: BTreeMap<String, (Site, AbortHandle)>,
    /// For the leaf of the private CA.
    private: Option<AbortHandle>,
}

/// Certificates for sites that are new, ready to be served: see [`Office::prepare`].
pub struct Prepared {
    sites: Vec<Site>,
    private: Option<(Keeper, Opened)>,
    files: Vec<(Site, Seen, Leaf)>,
}

impl Office {
    /// One that looks after nothing yet; its tasks will run in `runtime`.
    pub fn new(
        config: Config,
        provider: Arc<CryptoProvider>,
        outlet: Arc<Outlet>,
        runtime: Handle,
    ) -> Self {
        Self {
            config,
            provider,
            outlet,
            runtime,
            sites: ArcSwap::default(),
            root: ArcSwapOption::empty(),
            acme: OnceLock::new(),
            tasks: Mutex::default(),
        }
    }

    /// Gets what `sites` need before they are served: the leaf of the private CA, and the files.
    /// Nothing changes yet for those who are served now. Blocks.
    ///
    /// # Errors
    ///
    /// What a site cannot have. While running, also a name for which clients would have to trust
    /// another root.
    pub fn prepare(&self, sites: Vec<Site>, moment: Moment) -> Result<Prepared, Fatal> {
        let mut files = Vec::new();
        for site in &sites {
            if let Mode::Files { chain, key } = &site.mode
                && !self.runs(site)
            {
                let (seen, leaf) = files::load(site, chain, key, &self.provider)?;
                files.push((site.clone(), seen, leaf));
            }
        }
        let keeper = Keeper::new(&self.config, &sites, Arc::clone(&self.provider));
        let private = match keeper {
            Some(keeper) => {
                let opened = keeper.open(moment)?;
                Some((keeper, opened))
            }
            None => None,
        };
        Ok(Prepared { sites, private, files })
    }

    /// Serves what was prepared, and ends what looked after sites that are no more. A site that did
    /// not change goes on undisturbed.
    pub fn adopt(&self, prepared: Prepared) {
        let Prepared { sites, private, files } = prepared;
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.sites.retain(|_, (site, task)| {
            let stays = sites.contains(site);
            if !stays {
                task.abort();
            }
            stays
        });
        self.outlet.list(&sites);
        let sites = Arc::new(sites);
        self.sites.store(Arc::clone(&sites));
        if let Some(task) = tasks.private.take() {
            task.abort();
        }
        self.root.store(private.as_ref().map(|(_, opened)| Arc::new(opened.root.clone())));
        if let Some((keeper, opened)) = private {
            self.outlet.publish_private(&sites, &opened.leaf, opened.renew_at);
            let outlet = Arc::clone(&self.outlet);
            let task = self.runtime.spawn(renew(Arc::new(keeper), opened, sites, outlet));
            tasks.private = Some(task.abort_handle());
        }
        for (site, seen, leaf) in files {
            self.outlet.publish(&site, Source::Files, &leaf);
            let (outlet, provider) = (Arc::clone(&self.outlet), Arc::clone(&self.provider));
            let task =
                self.runtime.spawn(files::watch(site.clone(), (seen, leaf), outlet, provider));
            tasks.sites.insert(site.name.clone(), (site, task.abort_handle()));
        }
        self.start_acme(&mut tasks);
    }

    /// Has `start` look after the ACME sites, those of now and those of later. Only the first call
    /// counts.
    pub fn look_after_acme(&self, start: AcmeStart) {
        if self.acme.set(start).is_ok() {
            self.start_acme(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Starts what looks after those ACME sites that have nothing yet.
    fn start_acme(&self, tasks: &mut Tasks) {
        let Some(start) = self.acme.get() else { return };
        for site in self.sites.load().iter().filter(|site| site.mode == Mode::Acme) {
            if !tasks.sites.contains_key(&site.name) {
                let task = self.runtime.spawn(start(site));
                tasks.sites.insert(site.name.clone(), (site.clone(), task.abort_handle()));
            }
        }
    }

    /// What is answered to ACME servers now.
    pub fn challenges(&self) -> &Challenges {
        &self.outlet.challenges
    }

    /// The certificates that are served.
    pub fn certificates(&self) -> &Certificates {
        &self.outlet.certificates
    }

    /// What is known about each site's certificate.
    pub fn board(&self) -> &Board {
        &self.outlet.board
    }

    /// The sites as they are now.
    pub fn sites(&self) -> Arc<Vec<Site>> {
        self.sites.load_full()
    }

    /// What clients of internal sites trust.
    pub fn root(&self) -> Option<Arc<Root>> {
        self.root.load_full()
    }

    fn runs(&self, site: &Site) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.sites.get(&site.name).is_some_and(|(running, _)| running == site)
    }
}

/// Gets the next leaf of the private CA when it is time, again and again; and writes one that is not
/// on disk yet.
async fn renew(
    keeper: Arc<Keeper>,
    mut opened: Opened,
    sites: Arc<Vec<Site>>,
    outlet: Arc<Outlet>,
) {
    loop {
        let wait = opened.until_renewal();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
            if let Some(pems) = opened.unsaved.take() {
                opened.unsaved = save(&keeper, pems).await;
            }
            continue;
        }
        // On a thread of its own: a disk that hangs must not hold up what this one does.
        let again = Arc::clone(&keeper);
        let next = tokio::task::spawn_blocking(move || again.open(Moment::Running)).await;
        match next.unwrap_or_else(|error| Err(Fatal::new("certs", error))) {
            Ok(next) => {
                opened = next;
                outlet.publish_private(&sites, &opened.leaf, opened.renew_at);
            }
            Err(error) => {
                let not_after = opened.leaf.not_after;
                log::error!("{error}; the certificate in use ends {not_after}");
                for site in sites.iter().filter(|site| site.mode == Mode::Internal) {
                    outlet.board.note(&site.name, |s| s.last_error = Some(error.to_string()));
                }
                tokio::time::sleep(RENEWAL_PAUSE).await;
            }
        }
    }
}

/// Tries to write a leaf; gives it back when that fails.
async fn save(keeper: &Arc<Keeper>, pems: Pems) -> Option<Pems> {
    let keeper = Arc::clone(keeper);
    let saved = tokio::task::spawn_blocking(move || match keeper.save(&pems) {
        Ok(()) => None,
        Err(error) => {
            log::error!("the certificate in use is still not kept: {error}");
            Some(pems)
        }
    });
    saved.await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use tokio::sync::mpsc;

    use super::*;
    use crate::certs::sites;
    use crate::observe::metrics::Metrics;

    #[tokio::test]
    async fn an_acme_site_that_stays_goes_on_and_one_that_went_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { certs: folder.path().to_owned(), ..Config::default() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let outlet = Arc::new(Outlet::new("farm.net", metrics));
        let office = Office::new(config, provider, outlet, Handle::current());
        let planned =
            |hosts: &[&str]| sites::plan("farm.net", hosts.iter().copied(), &[], true).unwrap();
        let adopt = |hosts: &[&str], moment| {
            office.adopt(office.prepare(planned(hosts), moment).unwrap());
        };
        adopt(&["a.farm.net"], Moment::Start);
        // Each task tells when it is dropped.
        let (begun, mut starts) = mpsc::unbounded_channel();
        let (gone, mut ends) = mpsc::unbounded_channel();
        struct Told(String, mpsc::UnboundedSender<String>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _: Result<(), _> = self.1.send(self.0.clone());
            }
        }
        office.look_after_acme(Box::new(move |site| {
            begun.send(site.name.clone()).unwrap();
            let told = Told(site.name.clone(), gone.clone());
            Box::pin(async move {
                let _told = told;
                std::future::pending().await
            })
        }));
        let two = [starts.try_recv().unwrap(), starts.try_recv().unwrap()];
        assert_eq!(two, ["farm.net", "a.farm.net"]);
        adopt(&["b.farm.net"], Moment::Running);
        assert_eq!(starts.try_recv().unwrap(), "b.farm.net");
        assert!(starts.try_recv().is_err());
        assert_eq!(ends.recv().await.unwrap(), "a.farm.net");
        assert!(ends.try_recv().is_err());
        // The private CA stands in for all of them.
        let source = |site: &str| {
            let all = office.board().all();
            all.into_iter().find(|status| status.name == site).unwrap().source
        };
        assert_eq!(source("b.farm.net"), Some(Source::Internal));
        assert!(office.certificates().find(Some("b.farm.net")).unwrap().covers("b.farm.net"));
    }
}
