//! Watches what routes come from, and swaps the table when it has changed.
//!
//! By looking once a second: that works for bind mounts, renames and every editor's way to write,
//! which file events do not.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::About;
use tokio::signal::unix::Signal;
use tokio::time::Instant;

use crate::certs::keeper::Moment;
use crate::certs::sites;
use crate::config::Config;
use crate::live::Live;
use crate::live::sources;
use crate::shared::Shared;
use crate::upstream::resolve;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What has changed is looked at again after this: somebody may still be writing it.
const SETTLE: Duration = Duration::from_millis(100);

/// A file that went away may be about to come back: some editors delete before they write.
const GONE: Duration = Duration::from_secs(2);

/// What was refused is judged again after this: a certificate's file or the volume may have been in
/// the way.
const RETRY: Duration = Duration::from_secs(5);

/// What was seen at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The text of the settings file.
    settings: Result<Option<String>, String>,
    /// The text of the routes file.
    routes: Result<Option<String>, String>,
}

/// Watches the sources of a process's routes.
pub struct Watcher {
    about: About,
    shared: Arc<Shared>,
    /// As the process started with them, or as they were reloaded since; without the routes file.
    settings: Config,
    settings_file: PathBuf,
    /// The text of the settings file that they came from.
    taken: Result<Option<String>, String>,
    /// What was judged last.
    judged: Seen,
    /// Why that is not used, if it is not, and when that was found.
    refusal: Option<(String, Instant)>,
}

impl Watcher {
    /// A watcher of `settings` (without the routes file's), and what was `seen` before that file was
    /// read.
    pub fn new(about: About, shared: Arc<Shared>, settings: Config, seen: Seen) -> Self {
        let settings_file = chassis::settings_file(about);
        let taken = seen.settings.clone();
        Self { about, shared, settings, settings_file, taken, judged: seen, refusal: None }
    }

    /// Looks each second, and when `asked` (by SIGHUP).
    pub async fn run(mut self, mut asked: Signal) {
        loop {
            let forced = tokio::select! {
                () = tokio::time::sleep(PAUSE) => false,
                _ = asked.recv() => true,
            };
            // Who asks has finished writing.
            let seen = if forced { self.look().await } else { self.settled().await };
            let changed = seen != self.judged;
            let over = |(_, at): &(_, Instant)| forced || at.elapsed() >= RETRY;
            if !changed && !self.refusal.as_ref().is_some_and(over) {
                if forced {
                    log::info!("SIGHUP: nothing has changed in the routes");
                }
                continue;
            }
            self.judged = seen;
            match self.take().await {
                Ok(()) => self.refusal = None,
                Err(why) => self.refuse(why, changed, forced),
            }
        }
    }

    /// Uses what was seen last.
    async fn take(&mut self) -> Result<(), String> {
        let (config, settings) = self.judge()?;
        self.accept(config).await?;
        self.settings = settings;
        self.taken = self.judged.settings.clone();
        Ok(())
    }

    /// What is there, once it does not change from one look to the next.
    async fn settled(&self) -> Seen {
        let mut seen = self.look().await;
        for _ in 0..10 {
            if seen == self.judged {
                break;
            }
            let gone = |now: &Result<Option<String>, String>, then: &Result<_, _>| {
                matches!(now, Ok(None)) && now != then
            };
            let vanished = gone(&seen.routes, &self.judged.routes)
                || gone(&seen.settings, &self.judged.settings);
            tokio::time::sleep(if vanished { GONE } else { SETTLE }).await;
            let next = self.look().await;
            if next == seen {
                break;
            }
            seen = next;
        }
        seen
    }

    /// On a thread of its own: a disk that hangs must not hold up what this one does.
    async fn look(&self) -> Seen {
        let (settings, routes) = (self.settings_file.clone(), self.settings.routes_file.clone());
        let seen = tokio::task::spawn_blocking(move || look(&settings, &routes)).await;
        seen.unwrap_or_else(|_| self.judged.clone())
    }

    /// The settings that shall hold now, with the routes file's part and without it.
    fn judge(&self) -> Result<(Config, Config), String> {
        let mut settings = self.settings.clone();
        if self.judged.settings != self.taken {
            let fresh: Config =
                chassis::settings_again(self.about).map_err(|error| error.to_string())?;
            settings.routes = fresh.routes.clone();
            settings.sites = fresh.sites.clone();
            if format!("{settings:?}") != format!("{fresh:?}") {
                log::warn!(
                    "{}: only `routes` and `sites` are taken while running; the rest of what \
                     changed needs a restart",
                    self.settings_file.display()
                );
            }
        }
        let routes = self.judged.routes.as_ref();
        let routes = routes.map_err(|why| sources::unreadable(&settings, why))?;
        let whole = sources::join(settings.clone(), routes.as_deref())?;
        Ok((whole, settings))
    }

    /// Certificates first, then the routes: no request meets a name without one.
    async fn accept(&self, config: Config) -> Result<(), String> {
        let shared = &self.shared;
        let sites = sites::configured(&config)?;
        if sites != **shared.office.sites() {
            // It reads and writes files.
            let office = Arc::clone(shared);
            let prepare = move || office.office.prepare(sites, Moment::Running);
            let prepared = tokio::task::spawn_blocking(prepare).await;
            let prepared = prepared.map_err(|error| error.to_string())?;
            shared.office.adopt(prepared.map_err(|error| error.to_string())?);
        }
        let count = config.routes.iter().len();
        let before = shared.live.load_full();
        let live = Live::new(config.routes.clone(), &shared.books, Some(&before));
        for upstream in &live.upstreams {
            if !before.upstreams.iter().any(|known| Arc::ptr_eq(known, upstream)) {
                resolve::start(upstream, &shared.connector);
            }
        }
        shared.live.store(Arc::new(live));
        shared.reloads.accepted();
        log::info!("reloaded: {count} routes");
        Ok(())
    }

    /// Tells why, once for each content and reason, and to who asks.
    fn refuse(&mut self, why: String, changed: bool, forced: bool) {
        let told = !changed && self.refusal.as_ref().is_some_and(|(known, _)| *known == why);
        if !told || forced {
            log::error!("not reloaded, what was good goes on: {why}");
        }
        if !told {
            self.shared.reloads.refused(why.clone());
        }
        self.refusal = Some((why, Instant::now()));
    }
}

impl Seen {
    /// A first look at the sources of `settings`.
    pub fn first(about: &About, settings: &Config) -> Self {
        look(&chassis::settings_file(*about), &settings.routes_file)
    }
}

fn look(settings: &Path, routes: &Path) -> Seen {
    Seen { settings: sources::read(settings), routes: sources::read(routes) }
}
