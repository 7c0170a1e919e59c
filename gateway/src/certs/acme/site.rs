//! The life of one site's certificate: a task that does what the plan says, and waits in between.
//! What other gateways on the volume did meanwhile is seen before anything is done.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::certs::acme::account::blocking;
use crate::certs::acme::chain;
use crate::certs::acme::chain::Issued;
use crate::certs::acme::engine::Engine;
use crate::certs::acme::engine::Server;
use crate::certs::acme::failure::Failure;
use crate::certs::acme::failure::Outcome;
use crate::certs::acme::held;
use crate::certs::acme::held::Held;
use crate::certs::acme::lease::Lease;
use crate::certs::acme::plan;
use crate::certs::acme::plan::Known;
use crate::certs::acme::plan::Step;
use crate::certs::acme::plan::Window;
use crate::certs::acme::preflight;
use crate::certs::acme::state::State;
use crate::certs::acme::volume::Stamp;
use crate::certs::acme::volume::Volume;
use crate::certs::board::Source;
use crate::certs::leaf::Pems;
use crate::certs::sites::Site;
use crate::certs::source::Outlet;

/// Between two looks at the volume and the clock: another gateway, or somebody with `revoke`, may
/// have changed the one, and the other may jump.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Between two looks while another gateway orders.
const LEASE_PAUSE: Duration = Duration::from_secs(1);

/// For one try in all; each part has an end of its own.
const TRY_TIMEOUT: Duration = Duration::from_secs(900);

/// When to ask for the window again after that failed.
const WINDOW_RETRY: Duration = Duration::from_secs(6 * 3600);

/// The task of one site.
pub struct Task {
    engine: Arc<Engine>,
    site: Site,
    outlet: Arc<Outlet>,
    volume: Volume,
    lease: Lease,
    /// The certificate in use, when it is this server's.
    issued: Option<Issued>,
    /// One that could not be written.
    unsaved: Option<(Pems, State)>,
    stamp: Option<Stamp>,
    window: Option<Window>,
    ask_at: Option<OffsetDateTime>,
    chance: f64,
    /// Where the volume cannot keep when to try again.
    not_before: Option<OffsetDateTime>,
    /// Failures of the volume in a row.
    volume_failures: u32,
}

impl Task {
    /// The task for `site`, which serves what is on the volume from before. Blocks for what the disk
    /// takes.
    pub fn open(engine: &Arc<Engine>, site: &Site, outlet: &Arc<Outlet>) -> Self {
        let folder = &engine.main.folder;
        let mut task = Self {
            volume: Volume::new(engine, site),
            lease: Lease::new(folder, &site.name, &engine.holder),
            engine: Arc::clone(engine),
            site: site.clone(),
            outlet: Arc::clone(outlet),
            issued: None,
            unsaved: None,
            stamp: None,
            window: None,
            ask_at: None,
            chance: rand::random(),
            not_before: None,
            volume_failures: 0,
        };
        match task.volume.look(None, OffsetDateTime::now_utc()) {
            Ok(found) => {
                task.adopt(found.stamp, found.issued);
                task.tell_failure(&found.state);
            }
            Err(error) => log::error!("{}: {error}", site.name),
        }
        task
    }

    /// Keeps the site's certificate, for as long as the task is let live.
    pub async fn keep(mut self) {
        loop {
            let pause = self.turn().await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Does what is to be done now, and says how long to wait.
    async fn turn(&mut self) -> Duration {
        let state = match self.look().await {
            Ok(state) => state,
            Err(failure) => return self.fail_volume(&failure),
        };
        match self.step(&state) {
            Step::Wait(then) => {
                let left = then - OffsetDateTime::now_utc();
                Duration::try_from(left).unwrap_or_default().min(LOOK_PAUSE)
            }
            Step::AskWindow => {
                self.ask_window().await;
                Duration::ZERO
            }
            Step::Rehearse | Step::Order => match self.take_turn().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => LEASE_PAUSE,
                Err(failure) => self.fail_volume(&failure),
            },
        }
    }

    fn step(&self, state: &State) -> Step {
        plan::step(&Known {
            now: OffsetDateTime::now_utc(),
            in_use: self.issued.as_ref().map(|issued| issued.validity()),
            window: self.window,
            chance: self.chance,
            ask_at: self.ask_at,
            not_before: state.not_before().max(self.not_before),
            rehearse: state.rehearse && self.engine.staging.is_some(),
        })
    }

    /// Sees what is on the volume now.
    async fn look(&mut self) -> Result<State, Failure> {
        if let Some((pems, state)) = self.unsaved.clone() {
            let volume = self.volume.clone();
            let saved =
                blocking(move || volume.save(&pems).and_then(|()| volume.save_state(&state)));
            if saved.await.is_ok() {
                log::info!("{}: the certificate is on the volume now", self.site.name);
                self.unsaved = None;
            }
        }
        let (volume, known) = (self.volume.clone(), self.stamp.clone());
        let now = OffsetDateTime::now_utc();
        let found = blocking(move || volume.look(known.as_ref(), now)).await?;
        self.adopt(found.stamp, found.issued);
        Ok(found.state)
    }

    /// Serves the certificate that is new on the volume, if one is.
    fn adopt(&mut self, stamp: Stamp, issued: Option<Option<Issued>>) {
        self.stamp = Some(stamp);
        match issued {
            None => {}
            // What is served goes on being served until there is another one.
            Some(None) if self.unsaved.is_none() => self.issued = None,
            Some(None) => {}
            Some(Some(issued)) => {
                let known = self.issued.as_ref().is_some_and(|old| old.digest == issued.digest);
                if !known {
                    self.serve(issued);
                }
            }
        }
    }

    fn serve(&mut self, issued: Issued) {
        self.outlet.publish(&self.site, Source::Acme, &issued.leaf);
        self.chance = rand::random();
        self.window = None;
        self.ask_at = issued.id.as_ref().map(|_| OffsetDateTime::now_utc());
        self.issued = Some(issued);
    }

    /// Asks the server when it wants the certificate renewed (RFC 9773 §4.2).
    async fn ask_window(&mut self) {
        let now = OffsetDateTime::now_utc();
        self.ask_at = None;
        let Some(id) = self.issued.as_ref().and_then(|issued| issued.id.clone()) else { return };
        let client = self.engine.client();
        let again = plan::ask_again(now, WINDOW_RETRY);
        let account = match self.engine.main.accounts.existing(&client).await {
            Ok(Some(account)) => account,
            // A certificate that somebody else ordered.
            Ok(None) => return,
            Err(failure) => {
                log::debug!("{}: no renewal window: {failure}", self.site.name);
                self.ask_at = Some(again);
                return;
            }
        };
        match account.renewal_info(&id).await {
            Ok((info, retry_after)) => {
                let window = info.suggested_window;
                let window = Window { start: window.start, end: window.end };
                if let Some(why) = &info.explanation_url
                    && self.window != Some(window)
                {
                    log::info!("{}: renewal window moved: {why}", self.site.name);
                }
                self.window = Some(window);
                self.ask_at = Some(plan::ask_again(now, retry_after));
            }
            Err(instant_acme::Error::Unsupported(_)) => return,
            Err(error) => {
                log::debug!("{}: no renewal window: {error}", self.site.name);
                self.ask_at = Some(again);
            }
        }
        let due = plan::due(&Known {
            now,
            in_use: self.issued.as_ref().map(|issued| issued.validity()),
            window: self.window,
            chance: self.chance,
            ask_at: None,
            not_before: None,
            rehearse: false,
        });
        self.outlet.board.note(&self.site.name, |status| status.renew_at = due);
    }

    /// Tries to get a certificate; false when another gateway does.
    async fn take_turn(&mut self) -> Result<bool, Failure> {
        self.engine.folders().await?;
        let lease = self.lease.clone();
        if !blocking(move || lease.take(OffsetDateTime::now_utc())).await? {
            return Ok(false);
        }
        let held = Held::new(&self.lease);
        // Whoever had the lease before may have done it.
        let state = self.look().await?;
        let step = self.step(&state);
        let done = match step {
            Step::Rehearse | Step::Order => self.attempt(state, step).await,
            Step::Wait(_) | Step::AskWindow => Ok(()),
        };
        held.release().await?;
        done.map(|()| true)
    }

    async fn attempt(&mut self, mut state: State, step: Step) -> Result<(), Failure> {
        let failures = state.failures;
        // Counted before it is made: a crash in the middle must not be a way around the limits.
        let mut counted = state.clone();
        counted
            .fail("the last try was cut off", self.next_try(failures + 1, None, Outcome::Rejected));
        self.save_state(&counted).await?;
        let lease = self.lease.clone();
        let working = self.work(&mut state, step == Step::Rehearse);
        let ended = tokio::select! {
            ended = tokio::time::timeout(TRY_TIMEOUT, working) => ended,
            // Never ends.
            () = held::renew(lease) => return Ok(()),
        };
        let ended = ended.unwrap_or_else(|_| {
            let text = format!("not done in {} s", TRY_TIMEOUT.as_secs());
            Err(Failure::new(Outcome::Unreachable, text))
        });
        match ended {
            Ok((pems, issued)) => self.succeed(pems, issued).await,
            Err(failure) => self.fail(state, &failure).await,
        }
    }

    /// The try itself.
    async fn work(&self, state: &mut State, rehearse: bool) -> Result<(Pems, Issued), Failure> {
        let engine = &self.engine;
        let settings = &engine.settings;
        let names = &self.site.names;
        if settings.preflight && (self.issued.is_none() || state.failures > 0) {
            preflight::check(names, settings.http_port, &engine.challenges).await?;
        }
        let kind = settings.first.kind(settings.preflight, state.failures);
        if rehearse && let Some(staging) = &engine.staging {
            let rehearsed = engine.order(staging, names, None, kind).await;
            rehearsed.map_err(|failure| Failure {
                text: format!("at {}: {}", staging.directory.url(), failure.text),
                ..failure
            })?;
            state.rehearse = false;
            self.count(Outcome::Rehearsed);
            log::info!("{}: {} made one", self.site.name, staging.directory.url());
        }
        let replaces = self.issued.as_ref().and_then(|issued| issued.id.clone());
        let Server { directory, .. } = &engine.main;
        log::info!("{}: orders a certificate from {}", self.site.name, directory.url());
        let pems = engine.order(&engine.main, names, replaces, kind).await.inspect_err(|_| {
            state.rehearse = engine.staging.is_some();
        })?;
        let now = OffsetDateTime::now_utc();
        let issued = chain::fit(&pems, names, now, &engine.provider);
        let issued = issued.map_err(|unfit| {
            state.rehearse = engine.staging.is_some();
            Failure::new(Outcome::Rejected, format!("what the server made is no use: {unfit}"))
        })?;
        Ok((pems, issued))
    }

    async fn succeed(&mut self, pems: Pems, issued: Issued) -> Result<(), Failure> {
        let name = self.site.name.clone();
        let not_after = issued.leaf.not_after;
        log::info!(not_after:% = not_after; "{name}: has a new certificate");
        let mut state = State::default();
        state.succeed(issued.digest.clone());
        self.not_before = None;
        self.volume_failures = 0;
        // First on the volume: who sees the certificate also finds it there.
        let (volume, saving) = (self.volume.clone(), pems.clone());
        let saved = match blocking(move || volume.save(&saving)).await {
            Ok(()) => self.save_state(&state).await,
            Err(failure) => {
                log::error!("{name}: the new certificate is not kept: {failure}");
                self.unsaved = Some((pems, state));
                Ok(())
            }
        };
        self.serve(issued);
        self.outlet.board.note(&name, |status| {
            status.last_error = None;
            status.next_try = None;
        });
        self.count(Outcome::Issued);
        saved
    }

    async fn fail(&mut self, mut state: State, failure: &Failure) -> Result<(), Failure> {
        let then = self.next_try(state.failures + 1, failure.retry_after, failure.outcome);
        state.fail(&failure.text, then);
        log::error!("{}: no certificate: {failure}; next try at {then}", self.site.name);
        // In case it cannot be kept.
        self.not_before = Some(then);
        let saved = self.save_state(&state).await;
        self.tell_failure(&state);
        self.count(failure.outcome);
        saved
    }

    /// The volume says no: nothing is ordered, as it would be lost and ordered again. Says how long
    /// to wait.
    fn fail_volume(&mut self, failure: &Failure) -> Duration {
        self.volume_failures = self.volume_failures.saturating_add(1);
        let then = self.next_try(self.volume_failures, None, Outcome::Volume);
        self.not_before = self.not_before.max(Some(then));
        log::error!("{}: {failure}; next try at {then}", self.site.name);
        self.count(Outcome::Volume);
        self.outlet.board.note(&self.site.name, |status| {
            status.last_error = Some(failure.text.clone());
            status.next_try = Some(then);
        });
        Duration::try_from(then - OffsetDateTime::now_utc()).unwrap_or_default()
    }

    fn next_try(
        &self,
        failures: u32,
        retry_after: Option<Duration>,
        outcome: Outcome,
    ) -> OffsetDateTime {
        let mut backoff = self.engine.settings.backoff;
        if matches!(outcome, Outcome::Preflight | Outcome::Volume) {
            backoff.most = backoff.most.min(plan::PREFLIGHT_PAUSE_MAX);
        }
        backoff.after(OffsetDateTime::now_utc(), failures, retry_after, rand::random())
    }

    async fn save_state(&self, state: &State) -> Result<(), Failure> {
        let (volume, state) = (self.volume.clone(), state.clone());
        blocking(move || volume.save_state(&state)).await
    }

    fn tell_failure(&self, state: &State) {
        self.outlet.board.note(&self.site.name, |status| {
            status.last_error = Some(state.last_error.clone()).filter(|error| !error.is_empty());
            status.next_try = state.not_before();
        });
    }

    fn count(&self, outcome: Outcome) {
        self.outlet.tried(&self.site.name, outcome);
    }
}
