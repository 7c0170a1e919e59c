//! A client's connection, with what was read of it ahead. It holds memory only for that: bytes are
//! read into a buffer that all connections of a thread share, so that an idle one holds none.

mod body;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use http_body::Frame;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::edge::http1::head::Framing;
use crate::relay::inbound::InboundError;
use crate::relay::upgrade::Duplex;
use crate::rules::policy;
use crate::wire::chunked::Decoder;
use crate::wire::chunked::Part;

pub use body::Body;

/// What is read at once, and what may be read ahead of its use.
const READ_BYTES: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// A connection and what was read of it.
pub struct Io<S: ?Sized = dyn Duplex> {
    ahead: BytesMut,
    /// What is to be read of the running request.
    reading: Reading,
    /// Which request that is; a body knows its own.
    turn: u64,
    /// True once the handler has let the body go.
    abandoned: bool,
    /// True while the client waits for a 100.
    expects: bool,
    /// The rest of a 100 that is being written.
    interim: &'static [u8],
    /// Who waits for the client to go, which nobody can see while its body is to be read.
    watcher: Option<Waker>,
    /// Who waits for more of the body.
    reader: Option<Waker>,
    stream: S,
}

#[derive(Debug)]
enum Reading {
    /// Nothing: what comes next is a request.
    Nothing,
    Length(u64),
    Chunked(Box<Decoder>),
    /// Nothing, ever: what comes next cannot be known.
    Lost,
}

/// A connection that a request's body and the server of its answer share. Sections under the lock
/// never await, and a panic in one ends only its connection.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Io>>);

impl Shared {
    /// A connection of which nothing was read.
    pub fn new<S: Duplex + 'static>(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Io {
            ahead: BytesMut::new(),
            reading: Reading::Nothing,
            turn: 0,
            abandoned: true,
            expects: false,
            interim: &[],
            watcher: None,
            reader: None,
            stream,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Io> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Io {
    /// What was read and not used.
    pub fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Takes `length` bytes of what was read.
    pub fn take(&mut self, length: usize) -> Bytes {
        if length == self.ahead.len() {
            // Leaves no memory behind.
            return std::mem::take(&mut self.ahead).freeze();
        }
        self.ahead.split_to(length).freeze()
    }

    /// Begins a request's body; its turn.
    pub fn begin(&mut self, framing: Framing, expects: bool) -> u64 {
        self.reading = match framing {
            Framing::None => Reading::Nothing,
            Framing::Length(length) => Reading::Length(length),
            Framing::Chunked => Reading::Chunked(Box::default()),
        };
        self.abandoned = framing == Framing::None;
        self.expects = expects && framing != Framing::None;
        self.turn += 1;
        self.turn
    }

    /// True while the handler reads the body on, beside its answer.
    pub fn is_read(&self) -> bool {
        !self.abandoned && !matches!(self.reading, Reading::Lost)
    }

    /// True when nothing of the request is left to read, so that another can follow. What is here
    /// already of a body that the handler does not want is thrown away.
    pub fn finished(&mut self) -> bool {
        while self.abandoned && !self.ahead.is_empty() {
            match self.step() {
                Ok(Step::Frame(_)) => {}
                Ok(Step::End | Step::Wait) => break,
                Err(_) => {
                    self.reading = Reading::Lost;
                    break;
                }
            }
        }
        matches!(self.reading, Reading::Nothing)
    }

    /// From now on the body is nobody's: who still reads it learns that it was cut off.
    pub fn close_body(&mut self) {
        self.turn += 1;
        self.expects = false;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// An answer begins: no 100 from now on. The rest of one that was begun.
    pub fn answer(&mut self) -> &'static [u8] {
        self.expects = false;
        std::mem::take(&mut self.interim)
    }

    /// Reads more; 0 at the end.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            self.ahead.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Reads and forgets; 0 at the end.
    pub fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.ahead = BytesMut::new();
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Ready when the client has ended its side, or the connection is broken. Requests that it
    /// sends meanwhile are kept, up to a bound.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.reading, Reading::Nothing) {
            self.watcher = Some(context.waker().clone());
            return Poll::Pending;
        }
        while self.ahead.len() < READ_BYTES {
            match ready!(self.poll_fill(context)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// The next piece of the body.
    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        loop {
            match self.step() {
                Ok(Step::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Step::End) => return Poll::Ready(None),
                Ok(Step::Wait) => {}
                Err(error) => return self.lose(error),
            }
            if let Err(error) = self.invite(context) {
                return self.lose(error.into());
            }
            match self.poll_fill(context) {
                Poll::Ready(Ok(0)) => return self.lose(InboundError::Cut),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return self.lose(error.into()),
                Poll::Pending => {
                    self.reader = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn lose(&mut self, error: InboundError) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        self.reading = Reading::Lost;
        Poll::Ready(Some(Err(error)))
    }

    /// One piece of the body out of what is here.
    fn step(&mut self) -> Result<Step, InboundError> {
        let length = match &mut self.reading {
            Reading::Nothing => return Ok(Step::End),
            Reading::Lost => return Err(InboundError::Cut),
            _ if self.ahead.is_empty() => return Ok(Step::Wait),
            Reading::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.ahead.len());
                *left -= length as u64;
                if *left == 0 {
                    self.end();
                }
                length
            }
            Reading::Chunked(decoder) => {
                let (skip, part) = decoder.step(&self.ahead)?;
                self.ahead.advance(skip);
                match part {
                    Part::More => return Ok(Step::Wait),
                    Part::Data(length) => length,
                    Part::End => {
                        let trailers = decoder.take_trailers()?;
                        if trailers.as_ref().is_some_and(policy::is_framed) {
                            return Err(InboundError::Trailers);
                        }
                        self.end();
                        return Ok(match trailers {
                            Some(trailers) => Step::Frame(Frame::trailers(trailers)),
                            None => Step::End,
                        });
                    }
                }
            }
        };
        Ok(Step::Frame(Frame::data(self.take(length))))
    }

    /// The body has ended.
    fn end(&mut self) {
        self.reading = Reading::Nothing;
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    /// Tells a client that waits for it to go on (RFC 9110 §10.1.1).
    fn invite(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.expects) {
            self.interim = CONTINUE;
        }
        while !self.interim.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, self.interim) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(length)) => self.interim = &self.interim[length..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
            if self.interim.is_empty() {
                // What cannot go at once goes with the next write or read.
                return match Pin::new(&mut self.stream).poll_flush(context) {
                    Poll::Ready(flushed) => flushed,
                    Poll::Pending => Ok(()),
                };
            }
        }
        Ok(())
    }
}

enum Step {
    Frame(Frame<Bytes>),
    End,
    /// More has to come first.
    Wait,
}

/// As a tunnel has it: what was read ahead comes first.
impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut io = self.lock();
        if io.ahead.is_empty() {
            return Pin::new(&mut io.stream).poll_read(context, buffer);
        }
        let length = io.ahead.len().min(buffer.remaining());
        buffer.put_slice(&io.take(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(context)
    }
}
