//! Bodies, passed on piece by piece: the request's towards the upstream, the response's towards
//! the client. Nothing is collected; a piece is asked for when the other side has room.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use std::time::Instant;

use bytes::Buf;
use bytes::Bytes;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Body;
use prometheus::IntCounter;
use tokio::time::Sleep;

use crate::edge::unread::Watch;
use crate::observe::account::Account;
use crate::observe::account::CLIENT_GONE;
use crate::observe::negotiated::Protocol;
use crate::relay::inbound::Inbound;
use crate::relay::inbound::InboundError;
use crate::rules::forwarded;
use crate::rules::hop;
use crate::rules::rate::Least;
use crate::rules::rate::Pace;
use crate::upstream::answer::Answer;
use crate::upstream::http1::answer::AnswerError;

/// What HTTP/2 sends at once: with the nine bytes of a frame's head it fills one TLS record (2^14
/// bytes, RFC 8446 §5.1), where 2^14 bytes would take two.
const HTTP2_PIECE_BYTES_MAX: usize = 16_384 - 9;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("no byte came for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("it came at less than {0} bytes/s for too long")]
    Slow(u64),
    #[error("more than {0} bytes came")]
    TooLarge(NonZeroU64),
    /// An upstream's answer.
    #[error(transparent)]
    Broken(#[from] AnswerError),
    /// A client's request.
    #[error(transparent)]
    Client(#[from] InboundError),
}

/// Runs while nothing comes, and only then costs a timer.
#[derive(Debug)]
struct Patience {
    least: Least,
    pace: Pace,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    fn new(least: Least) -> Self {
        Self { least, pace: Pace::new(least), waiting: None }
    }

    /// Something came.
    fn renew(&mut self, bytes: usize) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.pace.moved(bytes, waited);
    }

    /// Nothing came; ready when that has been so for too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        let left = self.pace.left();
        let begin = || (Instant::now(), Box::pin(tokio::time::sleep(left)));
        let (_, sleep) = self.waiting.get_or_insert_with(begin);
        ready!(sleep.as_mut().poll(context));
        let silent = left >= self.least.patience;
        Poll::Ready(match silent {
            true => BodyError::Idle(left),
            false => BodyError::Slow(self.least.bytes_per_s),
        })
    }
}

/// A request's body on its way to the upstream. A clone shares it: when the first try failed
/// before anything was read, the clone goes with the second.
#[derive(Clone, Debug, Default)]
pub struct Upload(Option<Arc<Mutex<Source>>>);

#[derive(Debug)]
struct Source {
    body: Inbound,
    patience: Patience,
    bytes_max: Option<NonZeroU64>,
    bytes: IntCounter,
    /// The same of this body alone.
    received: Arc<AtomicU64>,
    progress: Progress,
    /// The first piece, while it is the only one that was taken.
    first: Option<Bytes>,
    /// It is to be given once more.
    again: bool,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// True when nothing is left to send.
    pub ended: bool,
    /// Frames passed on.
    pub frames: u64,
    /// True while the client is to send the next one.
    pub waiting: bool,
    /// What the client did wrong, if it did.
    pub fault: Option<Fault>,
}

/// How a client's body failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It stopped sending, or as good as.
    Idle,
    /// It broke off, or its framing was wrong.
    Broken,
    /// It sent more than so many bytes.
    TooLarge(NonZeroU64),
}

impl Upload {
    /// The body of a request; empty ones cost nothing.
    pub fn new(
        body: Inbound,
        least: Least,
        bytes_max: Option<NonZeroU64>,
        bytes: &IntCounter,
    ) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        let progress = Progress::default();
        let (bytes, received) = (bytes.clone(), Arc::default());
        let source = Source {
            body,
            patience: Patience::new(least),
            bytes_max,
            bytes,
            received,
            progress,
            first: None,
            again: false,
        };
        Self(Some(Arc::new(Mutex::new(source))))
    }

    /// True when there is no body.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The count of its bytes, which outlives it; `None` when there is no body.
    pub fn received(&self) -> Option<Arc<AtomicU64>> {
        self.0.as_ref().map(|source| Arc::clone(&lock(source).received))
    }

    /// Makes it begin once more, where no more of it is gone than its first piece. False when that
    /// cannot be.
    pub fn rewind(&self) -> bool {
        let Some(source) = &self.0 else { return true };
        let source = &mut *lock(source);
        let progress = &source.progress;
        source.again = progress.frames == 1 && source.first.is_some();
        progress.fault.is_none() && (progress.frames == 0 || source.again)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        match &self.0 {
            None => Progress { ended: true, ..Progress::default() },
            Some(source) => lock(source).progress,
        }
    }
}

/// Sections under this lock are short and never await; a panic in one ends only its request.
fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(source) = &self.0 else { return Poll::Ready(None) };
        let source = &mut *lock(source);
        if std::mem::take(&mut source.again) {
            let first = source.first.clone().unwrap_or_default();
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match Pin::new(&mut source.body).poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                source.patience.renew(frame.data_ref().map_or(0, Bytes::len));
                if let Some(trailers) = frame.trailers_mut() {
                    // Some services take them for fields of the head.
                    hop::trailers(trailers);
                    forwarded::drop_claims(trailers);
                }
                source.progress.waiting = false;
                source.progress.frames += 1;
                let first = source.progress.frames == 1;
                source.first = frame.data_ref().filter(|_| first).cloned();
                source.progress.ended = source.body.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    source.bytes.inc_by(data.remaining() as u64);
                    let before =
                        source.received.fetch_add(data.remaining() as u64, Ordering::Relaxed);
                    let all = before + data.remaining() as u64;
                    if let Some(max) = source.bytes_max.filter(|max| all > max.get()) {
                        source.progress.fault = Some(Fault::TooLarge(max));
                        return Poll::Ready(Some(Err(BodyError::TooLarge(max))));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                source.progress.fault = Some(Fault::Broken);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                source.progress.ended = true;
                source.progress.waiting = false;
                Poll::Ready(None)
            }
            Poll::Pending => {
                source.progress.waiting = true;
                let error = ready!(source.patience.poll(context));
                source.progress.fault = Some(Fault::Idle);
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|source| {
            let source = lock(source);
            !source.again && source.body.is_end_stream()
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(source) => lock(source).body.size_hint(),
        }
    }
}

/// The body of an answer, with what has to happen when it ends.
#[derive(Debug)]
pub struct Download {
    content: Content,
    /// Written when this is dropped; `None` when a tunnel writes it later.
    account: Option<Account>,
    /// Where the client's connection can leave it unread without the kernel's knowing.
    watch: Option<Watch>,
}

#[derive(Debug)]
enum Content {
    /// The gateway's own words.
    Own(Bytes),
    /// An upstream's.
    Relayed(Answer),
}

impl Download {
    /// What the gateway itself says.
    pub fn own(text: impl Into<Bytes>, account: Option<Account>) -> Self {
        let watch = account.as_ref().and_then(Account::watch);
        Self { content: Content::Own(text.into()), account, watch }
    }

    /// An upstream's answer.
    pub fn relayed(mut answer: Answer, account: Account) -> Self {
        let watch = account.watch();
        if account.protocol() == Protocol::Http2 {
            answer.cut(HTTP2_PIECE_BYTES_MAX);
        }
        let content = Content::Relayed(answer);
        Self { content, account: Some(account), watch }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let (Content::Relayed(relayed), Some(account)) = (&self.content, &mut self.account)
            && !relayed.is_end_stream()
        {
            account.broke(CLIENT_GONE);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { content, account, watch } = self.get_mut();
        let frame = match content {
            Content::Own(text) if text.is_empty() => None,
            Content::Own(text) => Some(Ok(Frame::data(std::mem::take(text)))),
            Content::Relayed(relayed) => match relayed.poll_frame(context) {
                Poll::Ready(frame) => frame.map(|frame| frame.map_err(BodyError::from)),
                Poll::Pending => {
                    if let Some(watch) = watch {
                        watch.caught_up();
                    }
                    return Poll::Pending;
                }
            },
        };
        if let Some(watch) = watch {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            watch.given(data.map_or(0, Bytes::len));
        }
        match (&frame, account) {
            (Some(Ok(frame)), Some(account)) => {
                if let Some(data) = frame.data_ref() {
                    account.sent(data.len());
                }
            }
            (Some(Err(error)), Some(account)) => account.broke(error),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(text) => text.is_empty(),
            Content::Relayed(relayed) => relayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(text) => SizeHint::with_exact(text.len() as u64),
            Content::Relayed(relayed) => relayed.size_hint(),
        }
    }
}
