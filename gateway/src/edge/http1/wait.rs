//! The wait for a head: its bytes, its time, and what can end it.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use tokio::time::Instant;
use tokio::time::Sleep;

use crate::edge::http1::head;
use crate::edge::http1::head::Head;
use crate::edge::http1::head::HeadError;
use crate::edge::http1::head::Scan;
use crate::edge::http1::io::Io;
use crate::edge::http1::io::Shared;
use crate::rules::policy::Refusal;

/// What a wait ended with.
#[expect(clippy::large_enum_variant, reason = "taken apart as soon as it is made")]
pub enum Came {
    Head(Head),
    /// Not what a head looks like.
    Bad(HeadError),
    /// The client has ended its side, or sent nothing in time, or nothing more is wanted of it.
    Nothing,
}

/// Waits for one head after the other.
#[derive(Debug)]
pub struct Waiter {
    limit: Duration,
    /// When the head, or its first byte, has to be there.
    until: Option<Instant>,
    /// Set again only when it is over, which is seldom; `until` moves with every request.
    sleep: Option<Pin<Box<Sleep>>>,
    scan: Scan,
    begun: bool,
    /// An empty line before the head was passed over (RFC 9112 §2.2).
    passed: bool,
}

impl Waiter {
    /// A head has to come whole within `limit` of its first byte, and that within `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, until: None, sleep: None, scan: Scan::default(), begun: false, passed: false }
    }

    /// Ready with the next head; not with one that has not begun when the process is `stopped`.
    pub fn poll_head(
        &mut self,
        io: &Shared,
        stopped: Pin<&mut impl Future<Output = ()>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Came>> {
        let mut io = io.lock();
        loop {
            match self.look(&mut io) {
                Ok(Some(head)) => {
                    *self = Self { sleep: self.sleep.take(), ..Self::new(self.limit) };
                    return Poll::Ready(Ok(Came::Head(head)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Ok(Came::Bad(error))),
            }
            match io.poll_fill(context) {
                Poll::Ready(Ok(0)) if self.begun => {
                    return Poll::Ready(Ok(Came::Bad(Refusal::Cut.into())));
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Came::Nothing)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if !self.begun && stopped.poll(context).is_ready() {
            return Poll::Ready(Ok(Came::Nothing));
        }
        self.poll_late(context)
            .map(|()| Ok(if self.begun { Came::Bad(HeadError::Late) } else { Came::Nothing }))
    }

    /// The head, if what was read holds it whole.
    fn look(&mut self, io: &mut Io) -> Result<Option<Head>, HeadError> {
        let ahead = io.ahead();
        if !self.passed && ahead.starts_with(b"\r\n") {
            ahead.advance(2);
            self.passed = true;
            self.scan = Scan::default();
        }
        if ahead.is_empty() {
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.until = None;
        }
        match self.scan.end(ahead)? {
            Some(length) => head::parse(&io.take(length)).map(Some),
            None => Ok(None),
        }
    }

    /// Ready when the time is over.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let until = *self.until.get_or_insert_with(|| Instant::now() + limit);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        loop {
            std::task::ready!(sleep.as_mut().poll(context));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}
