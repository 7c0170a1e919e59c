//! One connection, from its handshake to its end: reads messages, watches over pings and answers, closes.

use std::pin::pin;
use std::time::{Duration, Instant};

use actix_http::ws::{CloseCode, CloseReason};
use actix_web::dev::Payload;
use chassis::Stopping;
use futures_util::StreamExt;
use rand::RngExt;
use tokio::time::{sleep_until, timeout};

use crate::budget::{Budget, Share};
use crate::farm::ConnectionId;
use crate::frames::{Broken, Frames, Incoming};
use crate::hub::Hub;
use crate::keepalive::{Due, Keepalive};
use crate::mailbox::Mailbox;

/// After a close frame the peer gets this long to close its side; closing ours while it still sends would make
/// the kernel reset the connection, and the frame be lost.
const LINGER: Duration = Duration::from_secs(2);

/// And no more than this is read from it meanwhile, in bytes: the rest of a message that is too long.
const LINGER_BYTES_MAX: usize = 64 << 20;

/// Close code 1013, "try again later": <https://www.iana.org/assignments/websocket>.
const TRY_AGAIN_LATER: u16 = 1013;

/// Why a session ends.
#[derive(Debug)]
enum End {
    /// The connection is gone.
    Gone,
    /// The peer closes.
    Closed(Option<CloseReason>),
    /// The hub closes.
    Close(CloseCode, &'static str),
}

/// A connection's two directions.
pub struct Session {
    hub: Hub,
    connection: ConnectionId,
    mailbox: std::sync::Arc<Mailbox>,
    payload: Payload,
    frames: Frames,
    share: Share,
    keepalive: Keepalive,
}

impl Session {
    /// After the handshake; `incoming` bounds what all connections hold of unfinished messages.
    pub fn new(
        hub: Hub,
        (connection, mailbox): (ConnectionId, std::sync::Arc<Mailbox>),
        payload: Payload,
        incoming: &Budget,
    ) -> Self {
        let share = incoming.share();
        let keepalive = Keepalive::new(Instant::now());
        Self { hub, connection, mailbox, payload, frames: Frames::new(), share, keepalive }
    }

    /// Runs until the connection ends. What the participant holds is given back before its peer hears of it.
    pub async fn run(mut self, stopping: Stopping) {
        let leaver = Leaver { hub: self.hub.clone(), connection: self.connection };
        let end = self.serve(&stopping).await;
        drop(leaver);
        log::debug!("<{}> ends: {end:?}", self.connection);
        match end {
            End::Gone => {}
            End::Closed(reason) => self.mailbox.close_with(reason),
            End::Close(code, reason) => {
                let understood = matches!(code, CloseCode::Restart | CloseCode::Error);
                if !understood {
                    self.frames = Frames::new();
                    self.share.hold(0);
                }
                self.mailbox.close(code, reason);
                // Who does not read will not read this either.
                if !self.mailbox.status().overflowed {
                    self.linger(understood).await;
                }
            }
        }
        self.mailbox.finish();
        // The payload is kept, unread, until the last frame is written or lost: were it dropped, actix-web would
        // go on reading and throwing away what a peer sends that takes nothing itself.
        self.mailbox.gone().await;
    }

    async fn serve(&mut self, stopping: &Stopping) -> End {
        let mut stop = pin!(stopping.wait());
        let mut timer = pin!(sleep_until(self.keepalive.until().into()));
        loop {
            let status = self.mailbox.status();
            if status.gone {
                return End::Gone;
            }
            if status.overflowed {
                return End::Close(CloseCode::Policy, "messages are not read");
            }
            let ping = self.keepalive.until();
            let next = status.due.map_or(ping, |due| due.min(ping));
            if timer.deadline() != next.into() {
                timer.as_mut().reset(next.into());
            }
            let chunk = tokio::select! {
                biased;
                () = &mut stop => return End::Close(CloseCode::Restart, ""),
                () = self.mailbox.changed() => continue,
                () = &mut timer => {
                    if let Some(end) = self.timed(Instant::now()) {
                        return end;
                    }
                    continue;
                }
                chunk = self.payload.next() => chunk,
            };
            let Some(Ok(chunk)) = chunk else { return End::Gone };
            self.frames.feed(&chunk);
            if let Some(end) = self.read() {
                return end;
            }
        }
    }

    /// Something is due.
    fn timed(&mut self, now: Instant) -> Option<End> {
        if self.mailbox.status().due.is_some_and(|due| due <= now) {
            log::warn!(
                "<{}> does not answer set_allowed_ips; its connection is dropped",
                self.connection
            );
            return Some(End::Close(CloseCode::Error, "set_allowed_ips was not answered"));
        }
        match self.keepalive.due(now, || rand::rng().random()) {
            Due::Nothing => None,
            Due::Ping(payload) => {
                self.mailbox.ping(payload.to_vec().into());
                None
            }
            Due::Dead => Some(End::Close(CloseCode::Error, "keepalive ping timeout")),
        }
    }

    /// Handles every message that is complete.
    fn read(&mut self) -> Option<End> {
        loop {
            match self.frames.next() {
                Ok(Some(Incoming::Message(message))) => self.hub.receive(self.connection, &message),
                Ok(Some(Incoming::Ping(payload))) => self.mailbox.pong(payload),
                Ok(Some(Incoming::Pong(payload))) => self.keepalive.pong(Instant::now(), &payload),
                Ok(Some(Incoming::Close(reason))) => return Some(End::Closed(reason)),
                Ok(None) => break,
                Err(Broken::TooLong) => {
                    return Some(End::Close(CloseCode::Size, "at most 16 MiB a message"));
                }
                Err(Broken::NoText) => return Some(End::Close(CloseCode::Invalid, "not UTF-8")),
                Err(Broken::Protocol) => return Some(End::Close(CloseCode::Protocol, "")),
            }
        }
        if !self.share.hold(self.frames.held()) {
            return Some(End::Close(
                CloseCode::Other(TRY_AGAIN_LATER),
                "too many long messages at once",
            ));
        }
        None
    }

    /// Reads and forgets what the peer still sends, until it closes too.
    async fn linger(&mut self, understood: bool) {
        let rest = async {
            let mut left = LINGER_BYTES_MAX;
            while let Some(Ok(chunk)) = self.payload.next().await {
                left = left.saturating_sub(chunk.len());
                if left == 0 {
                    break;
                }
                if understood {
                    self.frames.feed(&chunk);
                    let closed = loop {
                        match self.frames.next() {
                            Ok(None) => break !self.share.hold(self.frames.held()),
                            Ok(Some(Incoming::Close(_))) | Err(_) => break true,
                            Ok(Some(_)) => {}
                        }
                    };
                    if closed {
                        break;
                    }
                }
            }
        };
        // Who does not close in time is closed; who is gone already has no body any more.
        tokio::select! {
            _ = timeout(LINGER, rest) => {}
            () = self.mailbox.gone() => {}
        }
    }
}

/// Tells the hub that a participant is gone, also when its session ends by a panic.
struct Leaver {
    hub: Hub,
    connection: ConnectionId,
}

impl Drop for Leaver {
    fn drop(&mut self) {
        self.hub.disconnect(self.connection);
    }
}
