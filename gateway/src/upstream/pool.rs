//! Connections to replicas, kept for the next request. Each thread has its own, so that a
//! connection and the requests on it stay on one thread.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;
use std::time::Instant;

use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use crate::relay::body::Upload;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::replica::Load;
use crate::upstream::replica::Replica;
use crate::upstream::stream::Connector;

/// Unused connections kept per replica and thread.
const IDLE_MAX: usize = 64;

/// Largest head of an answer, and what is read from a replica at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How often unused connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one thread.
pub struct Pool {
    idle: Mutex<HashMap<Endpoint, Vec<Idle>>>,
    /// How long a connection is kept unused.
    keep: Duration,
    connect: Duration,
    connector: Arc<Connector>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    task: Task,
    since: Instant,
}

/// A connection that one request has for itself.
pub struct Lease {
    pub sender: SendRequest<Upload>,
    pub address: Endpoint,
    /// True when it served a request before, and so may have been closed meanwhile.
    pub reused: bool,
    task: Task,
    pool: Arc<Pool>,
    load: Load,
}

/// What drives a connection; ends with this. By itself it would not end while the replica reads
/// nothing: it waits to write then, and learns of nothing else, not even that nobody wants the
/// answer any more. It would hold the body, and with that the client's connection, all that time.
#[derive(Debug)]
struct Task(Option<AbortHandle>);

impl Task {
    /// Lets it end by itself.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Pool {
    /// An empty pool that keeps connections for `keep` and waits `connect` for new ones.
    pub fn new(keep: Duration, connect: Duration, connector: Arc<Connector>) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), keep, connect, connector })
    }

    /// An unused connection to `replica`, the last one given back.
    pub fn reuse(self: &Arc<Self>, replica: &Arc<Replica>) -> Option<Lease> {
        let mut idle = self.lock();
        let list = idle.get_mut(&replica.address)?;
        while let Some(Idle { sender, task, since }) = list.pop() {
            if sender.is_ready() && since.elapsed() < self.keep {
                drop(idle);
                return Some(self.lease(sender, task, replica, true));
            }
        }
        None
    }

    /// A new connection to `replica`.
    ///
    /// # Errors
    ///
    /// What the kernel said, or `TimedOut`.
    pub async fn connect(self: &Arc<Self>, replica: &Arc<Replica>) -> io::Result<Lease> {
        let connect = self.connector.connect(&replica.address);
        let stream = tokio::time::timeout(self.connect, connect).await??;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BYTES_MAX)
            .max_headers(256)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let task = tokio::spawn(async move {
            // A request on it hears of the error itself.
            if let Err(error) = connection.with_upgrades().await {
                log::debug!("connection to a replica: {error}");
            }
        });
        Ok(self.lease(sender, Task(Some(task.abort_handle())), replica, false))
    }

    /// Drops the unused connections to `address`: one of them turned out to be dead.
    pub fn forget(&self, address: &Endpoint) {
        self.lock().remove(address);
    }

    /// Drops what was unused for too long, again and again.
    pub async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            self.lock().retain(|_, list| {
                list.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.keep);
                !list.is_empty()
            });
        }
    }

    fn lease(
        self: &Arc<Self>,
        sender: SendRequest<Upload>,
        task: Task,
        replica: &Arc<Replica>,
        reused: bool,
    ) -> Lease {
        let (pool, load) = (Arc::clone(self), replica.load());
        Lease { sender, address: replica.address.clone(), reused, task, pool, load }
    }

    fn keep(&self, address: Endpoint, sender: SendRequest<Upload>, task: Task) {
        let mut idle = self.lock();
        let list = idle.entry(address).or_default();
        if list.len() < IDLE_MAX {
            list.push(Idle { sender, task, since: Instant::now() });
        }
    }

    /// Sections under this lock are short and never await.
    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Lease {
    /// The answer is whole: another request may have the connection.
    pub fn give_back(self) {
        let Self { mut sender, address, pool, load, task, .. } = self;
        drop(load);
        if sender.is_ready() {
            pool.keep(address, sender, task);
        } else if sender.is_closed() {
            task.leave();
        } else {
            // The connection's task has not come round to it yet.
            tokio::spawn(async move {
                match tokio::time::timeout(SWEEP, sender.ready()).await {
                    Ok(Ok(())) => pool.keep(address, sender, task),
                    // Ended, or the service answered before it has read the whole request, which
                    // it may go on to do. Client and replica have time limits of their own.
                    _ => task.leave(),
                }
            });
        }
    }

    /// Leaves the connection to itself (it became a tunnel) and keeps the count of its load.
    pub fn into_load(self) -> Load {
        self.task.leave();
        self.load
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "a connection to {}", self.address)
    }
}
