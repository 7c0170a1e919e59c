//! The body of a request, for whoever reads it while its connection waits for the answer.

use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Frame;

use super::Reading;
use super::Shared;
use crate::relay::inbound::InboundError;

/// The body of a request on a connection.
pub struct Body {
    io: Shared,
    turn: u64,
    /// True once its end was seen; the connection may have gone on.
    ended: bool,
}

impl Body {
    /// The body that began as `turn`.
    pub fn new(io: Shared, turn: u64) -> Self {
        Self { io, turn, ended: false }
    }

    /// The next piece.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut io = self.io.lock();
        if io.turn != self.turn {
            return Poll::Ready(Some(Err(InboundError::Cut)));
        }
        let frame = io.poll_body(context);
        self.ended = matches!(io.reading, Reading::Nothing);
        frame
    }

    /// True when nothing is left.
    pub fn is_end(&self) -> bool {
        self.ended
    }

    /// How much is left, where that is known.
    pub fn left(&self) -> Option<u64> {
        if self.ended {
            return Some(0);
        }
        let io = self.io.lock();
        match io.reading {
            Reading::Length(left) if io.turn == self.turn => Some(left),
            _ => None,
        }
    }
}

#[cfg(test)]
impl Body {
    /// A chunked body that has come already.
    pub fn chunked(bytes: &[u8]) -> Self {
        let (_, nothing_more) = tokio::io::duplex(1);
        let io = Shared::new(nothing_more);
        let turn = io.lock().begin(crate::edge::http1::head::Framing::Chunked, false);
        io.lock().ahead().extend_from_slice(bytes);
        Self::new(io, turn)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut io = self.io.lock();
        if io.turn == self.turn {
            io.abandoned = true;
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Body({})", self.turn)
    }
}
