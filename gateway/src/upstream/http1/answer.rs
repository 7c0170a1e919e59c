//! The body of an answer, read as it is asked for; and what becomes of its connection.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body::SizeHint;
use tokio::io::WriteHalf;
use tokio::task::JoinHandle;

use crate::rules::hop;
use crate::upstream::http1::head;
use crate::upstream::http1::head::Framing;
use crate::upstream::http1::send::SendError;
use crate::upstream::pool::Lease;
use crate::upstream::replica::Load;
use crate::upstream::stream::Stream;
use crate::wire::chunked::ChunkError;
use crate::wire::chunked::Decoder;
use crate::wire::chunked::Part;

/// Why an answer is not whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("the service broke off: {0}")]
    Io(#[from] io::Error),
    #[error("the service ended its answer early")]
    Cut,
    #[error("the service's chunks are wrong: {0}")]
    Chunks(#[from] ChunkError),
    #[error("no byte of the answer came for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("the client broke off its request")]
    Client,
}

/// What is still to come.
#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Decoder),
    Close,
    Ended,
}

/// The rest of a request whose answer came before it was all written; gives the writing half back.
pub type Rest = JoinHandle<Result<WriteHalf<Stream>, SendError>>;

/// The body of an answer.
#[derive(Debug)]
pub struct Answer {
    state: State,
    /// Read and not yet passed on.
    buffer: Bytes,
    /// Bytes at its beginning that are known to be data of a chunk.
    announced: usize,
    /// The connection, until the answer is whole or broken.
    lease: Option<Lease>,
    /// The request is still being written.
    rest: Option<Rest>,
    /// It was written, apart from the reading.
    written: Option<WriteHalf<Stream>>,
    /// The connection may serve another request.
    keep: bool,
    /// Longest piece that is passed on at once.
    piece_bytes_max: usize,
    /// Longest time without a byte.
    idle: Duration,
    /// Nothing came when it was last asked for.
    waits: bool,
}

impl Answer {
    /// The body after `head`, which begins with `buffer`.
    pub fn new(
        head: &head::Head,
        buffer: Bytes,
        lease: Lease,
        rest: Option<Rest>,
        keep: bool,
        idle: Duration,
    ) -> Self {
        let state = match head.framing {
            Framing::Empty | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Decoder::default()),
            Framing::Close => State::Close,
        };
        let keep = keep && head.keep;
        let lease = Some(lease);
        Self {
            state,
            buffer,
            announced: 0,
            lease,
            rest,
            written: None,
            keep,
            piece_bytes_max: usize::MAX,
            idle,
            waits: false,
        }
    }

    /// Cuts what is passed on into pieces of at most `bytes`.
    pub fn cut(&mut self, bytes: usize) {
        self.piece_bytes_max = bytes;
    }

    /// Gives the connection back where the answer has no body, or all of it is here already.
    pub fn settle(&mut self) {
        match self.state {
            State::Ended => self.release(self.buffer.is_empty()),
            State::Length(left) if left == self.buffer.len() as u64 => self.release(true),
            _ => {}
        }
    }

    /// The connection itself, with what was read ahead, after a 101.
    pub fn into_tunnel(mut self) -> Option<(Stream, Bytes, Load)> {
        let buffer = std::mem::take(&mut self.buffer);
        let (stream, load) = self.lease.take()?.into_stream()?;
        Some((stream, buffer, load))
    }

    /// The next piece.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let next = ready!(self.poll_next(context));
        if next.is_err() {
            self.state = State::Ended;
            self.lease = None;
            if let Some(rest) = self.rest.take() {
                rest.abort();
            }
        }
        Poll::Ready(next.transpose())
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, AnswerError>> {
        loop {
            if let Some(frame) = self.piece()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if matches!(self.state, State::Ended) {
                return Poll::Ready(Ok(None));
            }
            self.poll_rest(context)?;
            let Some(lease) = &mut self.lease else { return Poll::Ready(Err(AnswerError::Cut)) };
            let Poll::Ready(read) = lease.poll_read(context) else {
                if !self.waits {
                    self.waits = true;
                    lease.timer().set(self.idle);
                }
                ready!(lease.timer().poll(context));
                return Poll::Ready(Err(AnswerError::Idle(self.idle)));
            };
            self.waits = false;
            self.buffer = read?;
            if self.buffer.is_empty() {
                match self.state {
                    State::Close => {
                        self.state = State::Ended;
                        self.release(false);
                    }
                    _ => return Poll::Ready(Err(AnswerError::Cut)),
                }
            }
        }
    }

    /// A frame out of what was read.
    fn piece(&mut self) -> Result<Option<Frame<Bytes>>, ChunkError> {
        let here = self.buffer.len().min(self.piece_bytes_max);
        match &mut self.state {
            State::Chunked(_) => self.chunk(),
            _ if here == 0 => Ok(None),
            State::Ended => Ok(None),
            State::Close => Ok(Some(Frame::data(self.buffer.split_to(here)))),
            State::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(here);
                *left -= here as u64;
                let whole = *left == 0;
                let data = self.buffer.split_to(here);
                if whole {
                    self.finish();
                }
                Ok(Some(Frame::data(data)))
            }
        }
    }

    /// The same of a chunked body.
    fn chunk(&mut self) -> Result<Option<Frame<Bytes>>, ChunkError> {
        let State::Chunked(decoder) = &mut self.state else { return Ok(None) };
        let mut length = std::mem::take(&mut self.announced);
        if length == 0 {
            let (skip, part) = decoder.step(&self.buffer)?;
            drop(self.buffer.split_to(skip));
            match part {
                Part::More => return Ok(None),
                Part::Data(announced) => length = announced,
                Part::End => {
                    let trailers = decoder.take_trailers()?;
                    self.finish();
                    return Ok(trailers.map(|mut trailers| {
                        hop::trailers(&mut trailers);
                        Frame::trailers(trailers)
                    }));
                }
            }
        }
        if length > self.piece_bytes_max {
            self.announced = length - self.piece_bytes_max;
            return Ok(Some(Frame::data(self.buffer.split_to(self.piece_bytes_max))));
        }
        let data = self.buffer.split_to(length);
        // The end may be here already: who passes this on can then say so at once.
        let (skip, part) = decoder.step(&self.buffer)?;
        drop(self.buffer.split_to(skip));
        match part {
            Part::More => {}
            Part::Data(announced) => self.announced = announced,
            Part::End if decoder.has_trailers() => {}
            Part::End => self.finish(),
        }
        Ok(Some(Frame::data(data)))
    }

    /// The answer is whole.
    fn finish(&mut self) {
        self.state = State::Ended;
        // What comes behind an answer belongs to no request.
        self.release(self.buffer.is_empty());
    }

    /// Hears of the end of the request, where the answer came before that.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Result<(), AnswerError> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let Poll::Ready(ended) = Pin::new(rest).poll(context) else { return Ok(()) };
        self.rest = None;
        match ended {
            Ok(Ok(written)) => self.written = Some(written),
            Ok(Err(SendError::Client(_))) => return Err(AnswerError::Client),
            // The service takes no more of it; its answer may come all the same.
            Ok(Err(SendError::Upstream(_))) | Err(_) => self.keep = false,
        }
        Ok(())
    }

    /// Lets go of the connection: to the pool when it is `clean` and nothing else speaks against it.
    fn release(&mut self, clean: bool) {
        let Some(lease) = self.lease.take() else { return };
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let heard = self.poll_rest(context).is_ok();
        // The service may go on to read a request that it has answered. Client and service have
        // time limits of their own, so what writes it is left to itself.
        let unfinished = self.rest.take().is_some();
        if clean && heard && self.keep && !unfinished {
            lease.give_back(self.written.take());
        }
    }

    /// True when nothing more will come.
    pub fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// How much more will come.
    pub fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Ended => SizeHint::with_exact(0),
            State::Length(left) => SizeHint::with_exact(left),
            State::Chunked(_) | State::Close => SizeHint::default(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Nobody wants the rest of the answer, so nobody need read the rest of the request.
        if let Some(rest) = &self.rest {
            rest.abort();
        }
    }
}
