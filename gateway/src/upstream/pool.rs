//! Connections to replicas, kept for the next request. Each thread has its own, so that a
//! connection and the requests on it stay on one thread.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::ReadBuf;
use tokio::io::ReadHalf;
use tokio::io::WriteHalf;

use crate::upstream::endpoint::Endpoint;
use crate::upstream::http2::Senders;
use crate::upstream::replica::Load;
use crate::upstream::replica::Replica;
use crate::upstream::stream::Connector;
use crate::upstream::stream::Stream;
use crate::upstream::timer::Timer;

/// Unused connections kept per replica and thread.
const IDLE_MAX: usize = 64;

/// What is read from a replica at once.
const READ_BYTES: usize = 64 * 1024;

/// Up to here a piece is copied out of the thread's buffer; a longer one takes the buffer with it.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// How often unused connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one thread.
pub struct Pool {
    idle: Mutex<HashMap<Endpoint, Vec<Idle>>>,
    buffers: Mutex<Buffers>,
    /// How long a connection is kept unused.
    keep: Duration,
    connect: Duration,
    connector: Arc<Connector>,
    /// Those that many requests share.
    pub senders: Senders,
}

/// What all connections of the thread read into, so that none holds memory while it waits, and
/// what one writes a head from.
#[derive(Default)]
struct Buffers {
    read: BytesMut,
    head: Vec<u8>,
}

struct Idle {
    stream: Stream,
    replica: Arc<Replica>,
    timer: Timer,
    since: Instant,
}

/// A connection that one request has for itself.
pub struct Lease {
    pub address: Endpoint,
    /// True when it served a request before, and so may have been closed meanwhile.
    pub reused: bool,
    /// `None` only for a moment.
    wire: Option<Wire>,
    timer: Timer,
    pool: Arc<Pool>,
    load: Load,
}

/// The connection, or the half that is left to read from.
enum Wire {
    Whole(Stream),
    Reading(ReadHalf<Stream>),
}

impl Pool {
    /// An empty pool that keeps connections for `keep` and waits `connect` for new ones.
    pub fn new(keep: Duration, connect: Duration, connector: Arc<Connector>) -> Arc<Self> {
        let (idle, buffers) = (Mutex::default(), Mutex::default());
        Arc::new(Self { idle, buffers, keep, connect, connector, senders: Senders::default() })
    }

    /// An unused connection to `replica`, the last one given back. One that is known to be closed
    /// is none; where it matters (`sure`), the kernel is asked.
    pub fn reuse(self: &Arc<Self>, replica: &Arc<Replica>, sure: bool) -> Option<Lease> {
        let mut idle = lock(&self.idle);
        let list = idle.get_mut(&replica.address)?;
        while let Some(Idle { mut stream, timer, since, .. }) = list.pop() {
            if since.elapsed() < self.keep && is_quiet(&mut stream) && !(sure && speaks(&stream)) {
                drop(idle);
                return Some(self.lease(stream, timer, replica, true));
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
        Ok(self.lease(stream, Timer::new(self.keep), replica, false))
    }

    /// Drops the unused connections to `address`: one of them turned out to be dead.
    pub fn forget(&self, address: &Endpoint) {
        lock(&self.idle).remove(address);
    }

    /// Drops what was unused for too long or was closed, again and again.
    pub async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            lock(&self.idle).retain(|_, list| {
                list.retain_mut(|idle| {
                    idle.since.elapsed() < self.keep
                        && !idle.replica.is_gone()
                        && is_quiet(&mut idle.stream)
                });
                !list.is_empty()
            });
        }
    }

    /// A buffer to write a head into; empty.
    pub fn head_buffer(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.buffers).head)
    }

    fn lease(
        self: &Arc<Self>,
        stream: Stream,
        timer: Timer,
        replica: &Arc<Replica>,
        reused: bool,
    ) -> Lease {
        let (address, load) = (replica.address.clone(), replica.load());
        let wire = Some(Wire::Whole(stream));
        Lease { address, reused, wire, timer, pool: Arc::clone(self), load }
    }

    /// Reads what there is, into a buffer that is held no longer than that; empty at the end.
    fn poll_read<S: AsyncRead + Unpin>(
        &self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<Bytes>> {
        let buffer = &mut lock(&self.buffers).read;
        // A new one only when a long piece took the last with it.
        buffer.reserve(READ_BYTES);
        let length = ready!(pin!(stream.read_buf(buffer)).poll(context))?;
        if length > COPY_BYTES_MAX {
            return Poll::Ready(Ok(buffer.split().freeze()));
        }
        let piece = Bytes::copy_from_slice(buffer);
        buffer.clear();
        Poll::Ready(Ok(piece))
    }
}

/// Sections under these locks are short and never await; a panic in one ends only its request.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// True when the replica has neither closed the connection nor said anything unasked, as far as
/// the runtime has heard. It costs no system call.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let context = &mut Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(context, &mut buffer).is_pending()
}

/// The same, asked of the kernel.
fn speaks(stream: &Stream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let heard = stream.socket().peek(&mut byte);
    !matches!(heard, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Lease {
    /// The connection, to write to; `None` once it was split.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.wire {
            Some(Wire::Whole(stream)) => Some(stream),
            _ => None,
        }
    }

    /// The half to write to, for another task. Reading goes on here.
    pub fn split(&mut self) -> Option<WriteHalf<Stream>> {
        let Wire::Whole(stream) = self.wire.take()? else { return None };
        let (reading, writing) = tokio::io::split(stream);
        self.wire = Some(Wire::Reading(reading));
        Some(writing)
    }

    /// Its time limit.
    pub fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    /// The bytes that come next; none at the end of the connection.
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match &mut self.wire {
            Some(Wire::Whole(stream)) => self.pool.poll_read(context, stream),
            Some(Wire::Reading(half)) => self.pool.poll_read(context, half),
            None => Poll::Ready(Ok(Bytes::new())),
        }
    }

    /// Gives the buffer of a head that was written back to the thread.
    pub fn keep_buffer(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let kept = &mut lock(&self.pool.buffers).head;
        if kept.capacity() < buffer.capacity() && buffer.capacity() <= READ_BYTES {
            *kept = buffer;
        }
    }

    /// The answer is whole: another request may have the connection, with the half that was
    /// `written` to if it was split.
    pub fn give_back(mut self, written: Option<WriteHalf<Stream>>) {
        let stream = match (self.wire.take(), written) {
            (Some(Wire::Whole(stream)), _) => stream,
            (Some(Wire::Reading(reading)), Some(writing)) => reading.unsplit(writing),
            _ => return,
        };
        let Self { address, timer, pool, load, .. } = self;
        let replica = Arc::clone(&load.0);
        drop(load);
        if replica.is_gone() {
            return;
        }
        let mut idle = lock(&pool.idle);
        let list = match idle.get_mut(&address) {
            Some(list) => list,
            None => idle.entry(address).or_default(),
        };
        if list.len() < IDLE_MAX {
            list.push(Idle { stream, replica, timer, since: Instant::now() });
        }
    }

    /// The connection itself, which became a tunnel, and its share of the load.
    pub fn into_stream(self) -> Option<(Stream, Load)> {
        match self.wire {
            Some(Wire::Whole(stream)) => Some((stream, self.load)),
            _ => None,
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a connection to {}", self.address)
    }
}
