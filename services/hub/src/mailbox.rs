//! The way out of a connection: frames that wait to be written, and the time by which its peer has to answer.
//!
//! actix-ws has a sender for this, which holds 32 messages of any length and then makes the sender wait. Here
//! nobody waits: a peer that does not read what it is sent is dropped, and bytes are what is bounded.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use actix_codec::Encoder;
use actix_http::ws::{CloseCode, CloseReason, Codec, Message};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::Notify;

use crate::budget::{Budget, Share, Slot};

/// The most that waits for one peer, in bytes: a few of the longest messages.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Shared by the hub, which puts messages in, the session, which watches over it, and the response's body.
#[derive(Debug)]
pub struct Mailbox {
    state: Mutex<State>,
    changed: Notify,
    /// The connection counts until its last byte is written or lost, which may be after its participant is
    /// gone: a peer that does not read keeps its socket that long.
    _slot: Slot,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    share: Share,
    writer: Option<Waker>,
    /// When the peer's answer is due.
    due: Option<Instant>,
    /// A close frame is the last that goes out (RFC 6455 §5.5.1).
    closed: bool,
    /// The body ends after the last frame.
    finished: bool,
    overflowed: bool,
    /// The body is gone: there is no connection any more.
    gone: bool,
}

/// What the session needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// When the peer's answer is due.
    pub due: Option<Instant>,
    /// The peer does not read what it is sent.
    pub overflowed: bool,
    /// There is no connection any more.
    pub gone: bool,
}

impl Mailbox {
    /// An empty one, whose long messages count against `budget`.
    pub fn new(budget: &Budget, slot: Slot) -> Arc<Self> {
        let state = State {
            frames: VecDeque::new(),
            bytes: 0,
            share: budget.share(),
            writer: None,
            due: None,
            closed: false,
            finished: false,
            overflowed: false,
            gone: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), _slot: slot })
    }

    /// Sends a text as a binary frame, as upstream does.
    pub fn send(&self, text: String) {
        self.push(Message::Binary(text.into()));
    }

    /// Sends a ping or pong.
    pub fn control(&self, message: Message) {
        self.push(message);
    }

    /// Sends a close frame; nothing goes out after it.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let description = (!reason.is_empty()).then(|| reason.to_owned());
        self.push(Message::Close(Some(CloseReason { code, description })));
        self.lock().closed = true;
    }

    /// Echoes the peer's close frame.
    pub fn close_with(&self, reason: Option<CloseReason>) {
        self.push(Message::Close(reason));
        self.lock().closed = true;
    }

    /// Ends the connection once all frames are written.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.finished = true;
        state.wake();
    }

    /// The time by which the peer has to answer, or that it has none.
    pub fn set_due(&self, due: Option<Instant>) {
        self.lock().due = due;
        self.changed.notify_one();
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        let state = self.lock();
        Status { due: state.due, overflowed: state.overflowed, gone: state.gone }
    }

    /// Returns when the status has changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns when there is no connection any more.
    pub async fn gone(&self) {
        while !self.status().gone {
            self.changed().await;
        }
    }

    /// The body of the handshake's response.
    pub fn body(self: &Arc<Self>) -> Body {
        Body(Arc::clone(self))
    }

    fn push(&self, message: Message) {
        let mut state = self.lock();
        if state.closed || state.gone || state.overflowed {
            return;
        }
        let mut frame = BytesMut::new();
        if Codec::new().encode(message, &mut frame).is_err() {
            return;
        }
        let bytes = state.bytes + frame.len();
        if bytes > WAITING_BYTES_MAX || !state.share.hold(bytes) {
            // What waits would not be read either.
            state.overflowed = true;
            state.frames.clear();
            state.bytes = 0;
            state.share.hold(0);
            self.changed.notify_one();
            return;
        }
        state.bytes = bytes;
        state.frames.push_back(frame.freeze());
        state.wake();
    }

    /// Sections are short and never await; a panic in one leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

/// The frames as a response's body; actix-web takes the next when the socket has room.
#[derive(Debug)]
pub struct Body(Arc<Mailbox>);

impl Stream for Body {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.len();
            let bytes = state.bytes;
            state.share.hold(bytes);
            return Poll::Ready(Some(Ok(frame)));
        }
        if state.finished {
            return Poll::Ready(None);
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.0.lock().gone = true;
        self.0.changed.notify_one();
    }
}
