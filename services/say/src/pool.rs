//! The worker processes and the queue in front of them.
//!
//! A thread of its own drives them all: it starts each worker, gives it one request at a time, and
//! starts another when one has gone. The thread lives as long as the process, which matters, since
//! workers die with the thread that started them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use std::time::Instant;

use chassis::Fatal;
use log::error;
use log::info;
use log::warn;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::budget::Budget;
use crate::budget::Counted;
use crate::engine::SAMPLE_RATE_HZ;
use crate::metrics::Metrics;
use crate::process::Heard;
use crate::process::Hello;
use crate::process::Lost;
use crate::process::Worker;
use crate::text::Script;
use crate::voice::Voice;
use crate::wav;
use crate::worker::Limits;
use crate::worker::Outcome;

/// How often a worker that does not start is started again, at first and at last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// More than the worker's own limit, so that the worker can end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Why there is no audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many requests wait, or too much audio is in memory.
    #[error("the speech engine is busy")]
    Busy,
    /// The engine died of this request.
    #[error("the speech engine failed on these words")]
    Crashed,
    /// The engine took too long for this request.
    #[error("the speech engine took too long for these words")]
    TimedOut,
    /// The answer would be too long.
    #[error("too many words: they would take more than {audio_s_max} seconds to speak")]
    TooLong {
        /// The limit, in seconds.
        audio_s_max: u32,
    },
    /// The engine made no sound for these words.
    #[error("nothing to say: these words make no sound")]
    Silent,
    /// The engine refused its own voice or text.
    #[error("the speech engine refused these words")]
    Refused,
}

/// What the pool has to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Worker processes.
    pub workers: usize,
    /// What one request may cost.
    pub limits: Limits,
    /// Requests that may wait.
    pub queue_max: usize,
    /// How long they may wait.
    pub queue_wait_max: Duration,
}

impl Plan {
    /// How long a worker may take to answer.
    fn answer_wait_max(&self) -> Duration {
        Duration::from_secs(self.limits.wall_s_max.into()) + GRACE
    }
}

/// A request in the queue.
struct Job {
    voice: Voice,
    script: Script,
    turn: Turn,
    reply: oneshot::Sender<Result<Counted, Failure>>,
}

/// Whether a request goes to a worker or has waited too long: what comes first.
#[derive(Clone, Default)]
struct Turn(Arc<AtomicBool>);

impl Turn {
    /// True for the first who asks, and for nobody else.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A handle to the workers; clones are handles to the same.
#[derive(Clone)]
pub struct Pool {
    jobs: mpsc::Sender<Job>,
    metrics: Metrics,
    plan: Arc<Plan>,
}

impl Pool {
    /// Starts the workers and waits until one has said hello.
    ///
    /// # Errors
    ///
    /// When the first worker cannot start.
    pub fn start(plan: Plan, budget: Budget, metrics: Metrics) -> Result<(Self, Hello), Fatal> {
        let plan = Arc::new(plan);
        let (jobs, queue) = mpsc::channel(plan.queue_max);
        let (greet, greeted) = sync_channel(plan.workers);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeper = Keeper {
            queue: Arc::new(Mutex::new(queue)),
            plan: Arc::clone(&plan),
            budget,
            metrics: metrics.clone(),
            greet,
        };
        std::thread::Builder::new().name("workers".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut workers = tokio::task::JoinSet::new();
                for slot in 0..keeper.plan.workers {
                    workers.spawn(keeper.clone().keep(slot));
                }
                drop(keeper);
                workers.join_all().await;
            });
        })?;
        match greeted.recv() {
            Ok(Ok(hello)) => Ok((Self { jobs, metrics, plan }, hello)),
            Ok(Err(error)) => Err(Fatal::new("the speech worker did not start", error)),
            Err(error) => Err(Fatal::new("the speech workers ended", error)),
        }
    }

    /// Has `script` spoken with `voice`: a WAV.
    ///
    /// # Errors
    ///
    /// When there is no audio, and why.
    pub async fn speak(&self, voice: Voice, script: Script) -> Result<Counted, Failure> {
        let result = self.ask(voice, script).await;
        match result {
            Err(Failure::Busy) => self.metrics.busy_total.inc(),
            Err(Failure::Crashed | Failure::TimedOut) => self.metrics.crashes_total.inc(),
            _ => {}
        }
        result
    }

    /// Queues the request, and waits for a worker and then for its answer no longer than allowed.
    async fn ask(&self, voice: Voice, script: Script) -> Result<Counted, Failure> {
        let (reply, mut answer) = oneshot::channel();
        let turn = Turn::default();
        let job = Job { voice, script, turn: turn.clone(), reply };
        self.jobs.try_send(job).map_err(|_| Failure::Busy)?;
        let answer = match timeout(self.plan.queue_wait_max, &mut answer).await {
            Ok(answer) => answer,
            Err(_) if turn.take() => return Err(Failure::Busy),
            // A worker has it. Its keeper ends it in time, unless the kernel holds that up.
            Err(_) => {
                let more = timeout(self.plan.answer_wait_max() + GRACE, answer).await;
                more.map_err(|_| Failure::TimedOut)?
            }
        };
        // The workers' thread has gone only when the process ends.
        answer.unwrap_or(Err(Failure::Busy))
    }

    /// Whether a worker can take a request.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.metrics.workers_alive.get() > 0
    }
}

/// Why a worker is no more.
enum End {
    /// The service ends.
    Closed,
    /// It died with nothing to do.
    Idle {
        /// It had answered before.
        used: bool,
    },
    /// It was lost by a request.
    Lost,
}

/// Keeps one worker alive; its fields are shared by all.
#[derive(Clone)]
struct Keeper {
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
    plan: Arc<Plan>,
    budget: Budget,
    metrics: Metrics,
    greet: SyncSender<io::Result<Hello>>,
}

impl Keeper {
    async fn keep(self, slot: usize) {
        let mut failures = 0;
        loop {
            sleep(back_off(failures)).await;
            let (mut worker, hello) = match Worker::start(self.plan.limits).await {
                Ok(started) => started,
                Err(error) => {
                    error!(slot = slot; "a speech worker did not start: {error}");
                    // Full once all have greeted: only the start of the service waits for it.
                    let _ = self.greet.try_send(Err(error));
                    failures += 1;
                    continue;
                }
            };
            info!(slot = slot, pid = worker.id(); "a speech worker is ready: espeak-ng {}, {}", hello.engine, hello.sandbox);
            let _ = self.greet.try_send(Ok(hello));
            self.metrics.workers_alive.inc();
            let end = self.serve(&mut worker).await;
            self.metrics.workers_alive.dec();
            let status = worker.end();
            match end {
                End::Closed => return,
                End::Idle { used: false } => failures += 1,
                End::Idle { used: true } | End::Lost => failures = 0,
            }
            match status {
                Ok(status) => warn!(slot = slot; "a speech worker ended: {status}"),
                Err(error) => error!(slot = slot; "a speech worker is lost: {error}"),
            }
        }
    }

    /// Gives the worker one request after the other.
    async fn serve(&self, worker: &mut Worker) -> End {
        let mut used = false;
        loop {
            let job = tokio::select! {
                biased;
                () = worker.gone() => return End::Idle { used },
                job = self.next() => job,
            };
            let Some(job) = job else { return End::Closed };
            if job.reply.is_closed() || !job.turn.take() {
                continue;
            }
            let start = Instant::now();
            let time = self.plan.answer_wait_max();
            let spoken =
                timeout(time, worker.speak(&job.voice, &job.script, self.budget.reserve())).await;
            let (result, lost) = match spoken {
                Ok(Ok(heard)) => (self.wav(heard, start), false),
                Ok(Err(Lost::NoMemory)) => (Err(Failure::Busy), true),
                Ok(Err(Lost::Died(_)))
                    if start.elapsed().as_secs() >= self.plan.limits.wall_s_max.into() =>
                {
                    (Err(Failure::TimedOut), true)
                }
                Ok(Err(Lost::Died(error))) => {
                    error!("the speech engine failed: {error}");
                    (Err(Failure::Crashed), true)
                }
                Err(_) => (Err(Failure::TimedOut), true),
            };
            answer(job, result);
            if lost {
                return End::Lost;
            }
            used = true;
        }
    }

    async fn next(&self) -> Option<Job> {
        self.queue.lock().await.recv().await
    }

    /// Makes a WAV of what was heard.
    fn wav(&self, mut heard: Heard, start: Instant) -> Result<Counted, Failure> {
        match heard.outcome {
            Outcome::Spoken => {}
            Outcome::TooLong => {
                let audio_s_max = self.plan.limits.samples_max / SAMPLE_RATE_HZ;
                return Err(Failure::TooLong { audio_s_max });
            }
            Outcome::Refused | Outcome::AskAgain => return Err(Failure::Refused),
        }
        let (head, samples) = heard.bytes.split_at_mut(wav::HEAD_BYTES);
        if samples.iter().all(|byte| *byte == 0) {
            return Err(Failure::Silent);
        }
        let length = u32::try_from(samples.len()).map_err(|_| Failure::Refused)?;
        head.copy_from_slice(&wav::head(length));
        self.metrics.syntheses_total.inc();
        self.metrics.synthesis_seconds.observe(start.elapsed().as_secs_f64());
        self.metrics
            .audio_seconds_total
            .inc_by(f64::from(length / wav::SAMPLE_BYTES) / f64::from(SAMPLE_RATE_HZ));
        Ok(Counted::new(heard.bytes, heard.reservation))
    }
}

fn answer(job: Job, result: Result<Counted, Failure>) {
    // A client that has gone wants no answer.
    let _ = job.reply.send(result);
}

/// How long to wait before a worker is started, after so many that ended without use.
fn back_off(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => BACK_OFF.0.saturating_mul(2_u32.saturating_pow(more - 2)).min(BACK_OFF.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Language;
    use crate::voice::Voices;

    /// A pool without workers: what is asked of it stays in the queue.
    fn stuck(queue_max: usize) -> (Pool, mpsc::Receiver<Job>) {
        let (jobs, queue) = mpsc::channel(queue_max);
        let limits = Limits { samples_max: 1, cpu_s_max: 1, wall_s_max: 600 };
        let queue_wait_max = Duration::from_millis(10);
        let plan = Arc::new(Plan { workers: 0, limits, queue_max, queue_wait_max });
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        (Pool { jobs, metrics, plan }, queue)
    }

    fn hello() -> (Voice, Script) {
        let en = Language { code: "en".to_owned(), name: "en".to_owned() };
        let voices = Voices { languages: vec![en], variants: Vec::new() };
        (voices.find("en").unwrap(), Script::parse("hello", 9).unwrap())
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_even_when_there_is_no_worker() {
        let (pool, mut queue) = stuck(1);
        let (voice, script) = hello();
        assert_eq!(pool.speak(voice.clone(), script.clone()).await.err(), Some(Failure::Busy));
        assert_eq!(pool.metrics.busy_total.get(), 1);
        let late = queue.recv().await.unwrap();
        assert!(!late.turn.take(), "no worker speaks for nobody");
    }

    #[tokio::test]
    async fn who_has_a_worker_waits_for_its_answer() {
        let (pool, mut queue) = stuck(1);
        let (voice, script) = hello();
        let worker = async {
            let job = queue.recv().await.unwrap();
            assert!(job.turn.take());
            sleep(2 * pool.plan.queue_wait_max).await;
            answer(job, Err(Failure::Silent));
        };
        let (result, ()) = tokio::join!(pool.speak(voice, script), worker);
        assert_eq!(result.err(), Some(Failure::Silent));
    }

    #[test]
    fn one_loss_is_made_good_at_once_and_many_ever_more_slowly() {
        let waits = [0, 1, 2, 3, 4, 40].map(|failures| back_off(failures).as_millis());
        assert_eq!(waits, [0, 0, 100, 200, 400, 10_000]);
    }
}
