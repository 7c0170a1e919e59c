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

/// What a waiting frame costs beside its bytes: its handle, its allocation, its place in the queue.
const FRAME_COST: usize = 128;

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
    /// The answer to the peer's last ping, which goes out before the frames. There is never more than one: an
    /// answer to the last answers those before too (RFC 6455 §5.5.3), so a flood of pings costs nothing.
    pong: Option<Bytes>,
    /// What the frames cost.
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
            pong: None,
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

    /// Sends a ping.
    pub fn ping(&self, payload: Bytes) {
        self.push(Message::Ping(payload));
    }

    /// Answers a ping. An answer that still waits is not sent any more.
    pub fn pong(&self, payload: Bytes) {
        let mut state = self.lock();
        if let Some(frame) = state.encode(Message::Pong(payload)) {
            state.pong = Some(frame);
            state.wake();
        }
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
        let Some(frame) = state.encode(message) else { return };
        let bytes = state.bytes + frame.len() + FRAME_COST;
        if bytes > WAITING_BYTES_MAX || !state.share.hold(bytes) {
            // What waits would not be read either. The queue's own memory goes too.
            state.overflowed = true;
            state.frames = VecDeque::new();
            state.pong = None;
            state.bytes = 0;
            state.share.hold(0);
            self.changed.notify_one();
            return;
        }
        state.bytes = bytes;
        state.frames.push_back(frame);
        state.wake();
    }

    /// Sections are short and never await; a panic in one leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The frame as it goes out; `None` when nothing may.
    fn encode(&self, message: Message) -> Option<Bytes> {
        if self.closed || self.gone || self.overflowed {
            return None;
        }
        let mut frame = BytesMut::new();
        Codec::new().encode(message, &mut frame).ok()?;
        Some(frame.freeze())
    }

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
        if let Some(pong) = state.pong.take() {
            return Poll::Ready(Some(Ok(pong)));
        }
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.len() + FRAME_COST;
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

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::budget::Slots;

    fn mailbox(budget: &Budget) -> Arc<Mailbox> {
        Mailbox::new(budget, Slots::new(1).take().unwrap())
    }

    fn next(body: &mut Body) -> Option<Vec<u8>> {
        let Some(Ok(frame)) = body.next().now_or_never()? else { return None };
        Some(frame.to_vec())
    }

    #[test]
    fn only_the_last_ping_is_answered_and_before_what_waits() {
        let mailbox = mailbox(&Budget::new(0));
        mailbox.send("{}".to_owned());
        for payload in ["first", "last"] {
            mailbox.pong(payload.into());
        }
        let mut body = mailbox.body();
        assert_eq!(next(&mut body).unwrap(), b"\x8a\x04last");
        assert_eq!(next(&mut body).unwrap(), b"\x82\x02{}");
        assert_eq!(next(&mut body), None);
    }

    #[test]
    fn a_short_frame_counts_with_what_it_costs_and_overflow_gives_all_of_it_back() {
        let mailbox = mailbox(&Budget::new(8 << 20));
        let sent = (0..).take_while(|_| {
            mailbox.send(String::new());
            !mailbox.status().overflowed
        });
        assert_eq!(sent.count(), WAITING_BYTES_MAX / (FRAME_COST + 2));
        let state = mailbox.lock();
        assert_eq!((state.frames.capacity(), state.bytes), (0, 0));
    }

    #[test]
    fn what_waits_in_one_mailbox_leaves_no_room_in_another() {
        let budget = Budget::new(4 << 20);
        let (first, second) = (mailbox(&budget), mailbox(&budget));
        first.send("x".repeat(3 << 20));
        second.send("x".repeat(2 << 20));
        assert!(!first.status().overflowed && second.status().overflowed);
        drop(first);
        let third = mailbox(&budget);
        third.send("x".repeat(2 << 20));
        assert!(!third.status().overflowed, "what a peer did not read is given back");
    }

    #[test]
    fn what_is_written_does_not_count_any_more() {
        let mailbox = mailbox(&Budget::new(0));
        let mut body = mailbox.body();
        for _ in 0..100_000 {
            mailbox.send("{}".to_owned());
            next(&mut body).unwrap();
        }
        assert!(!mailbox.status().overflowed && mailbox.lock().bytes == 0);
    }
}
