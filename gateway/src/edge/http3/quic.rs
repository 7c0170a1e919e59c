//! quinn as h3 wants to see it. h3-quinn would do that, too, but not what is needed here: it reads
//! ahead without a bound (see [`super::frames`]), ends a cut-off answer as if it were whole, and panics
//! when a stream is stopped while it is read.

use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::stream;
use h3::error::Code;
use h3::quic;
use h3::quic::ConnectionErrorIncoming;
use h3::quic::StreamErrorIncoming;
use h3::quic::StreamId;
use h3::quic::WriteBuf;
use quinn::ConnectionError;
use quinn::StoppedError;
use quinn::VarInt;

use crate::edge::http1;
use crate::edge::http3::errors::lost;
use crate::edge::http3::errors::unread;
use crate::edge::http3::errors::unwritten;
use crate::edge::http3::frames::Frames;

/// Most that is taken from quinn at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

type Streams<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send>>;

/// Ends when the client stops reading an answer (with its code), has read it all, or is gone.
pub type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// The [`Stopped`] of the stream that was accepted last; h3 shows nothing of its streams.
pub type LastStopped = Arc<Mutex<Option<Stopped>>>;

/// A connection.
pub struct Connection {
    bidirectional: Streams<(quinn::SendStream, quinn::RecvStream)>,
    unidirectional: Streams<quinn::RecvStream>,
    opener: Opener,
    last_stopped: LastStopped,
}

impl Connection {
    /// `connection` for h3.
    pub fn new(connection: quinn::Connection) -> Self {
        let bidirectional = stream::unfold(connection.clone(), |connection| async {
            Some((connection.accept_bi().await, connection))
        });
        let unidirectional = stream::unfold(connection.clone(), |connection| async {
            Some((connection.accept_uni().await, connection))
        });
        Self {
            bidirectional: Box::pin(bidirectional),
            unidirectional: Box::pin(unidirectional),
            opener: Opener { connection, opening: None },
            last_stopped: LastStopped::default(),
        }
    }

    /// Where to find the [`Stopped`] of each stream right after it was accepted.
    pub fn last_stopped(&self) -> LastStopped {
        Arc::clone(&self.last_stopped)
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let stream = ready!(self.unidirectional.poll_next_unpin(context));
        Poll::Ready(
            accepted(stream).map(|stream| RecvStream::new(stream, Frames::unidirectional())),
        )
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        let (send, recv) = accepted(ready!(self.bidirectional.poll_next_unpin(context)))?;
        let stopped: Stopped = Box::pin(send.stopped());
        *self.last_stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
        let frames = Frames::request(http1::HEAD_BYTES_MAX as u64);
        let (send, recv) = (SendStream::new(send), RecvStream::new(recv, frames));
        Poll::Ready(Ok(BidiStream { send, recv }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.opener.connection.clone(), opening: None }
    }
}

/// What came of waiting for a stream.
fn accepted<T>(stream: Option<Result<T, ConnectionError>>) -> Result<T, ConnectionErrorIncoming> {
    match stream {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) => Err(lost(error)),
        None => Err(ConnectionErrorIncoming::InternalError("no more streams".to_owned())),
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(context)
    }

    fn poll_open_send(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens our own streams: the control stream and those of QPACK.
pub struct Opener {
    connection: quinn::Connection,
    opening: Option<Streams<quinn::SendStream>>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        // RFC 9114 §6.1: a server opens none.
        let reason = "a server opens no stream both ways".to_owned();
        let connection_error = ConnectionErrorIncoming::InternalError(reason);
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }))
    }

    fn poll_open_send(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.opening.get_or_insert_with(|| {
            Box::pin(stream::unfold(connection.clone(), |connection| async {
                Some((connection.open_uni().await, connection))
            }))
        });
        let stream = accepted(ready!(opening.poll_next_unpin(context)));
        Poll::Ready(match stream {
            Ok(stream) => Ok(SendStream::new(stream)),
            Err(connection_error) => {
                Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error })
            }
        })
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(number(code.value()), reason);
    }
}

/// A request's stream.
pub struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(context)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(context)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// What comes from the client. Dropped before its end, it tells the client to send no more.
pub struct RecvStream {
    stream: quinn::RecvStream,
    frames: Frames,
    /// Read and not handed out.
    chunk: Bytes,
    ended: bool,
}

impl RecvStream {
    fn new(stream: quinn::RecvStream, frames: Frames) -> Self {
        Self { stream, frames, chunk: Bytes::new(), ended: false }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            let too_long = |error| StreamErrorIncoming::Unknown(Box::new(error));
            if let Some(piece) = self.frames.next(&mut self.chunk).map_err(too_long)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            // It loses nothing when it is dropped, so it need not be kept.
            let reading = pin!(self.stream.read_chunk(CHUNK_BYTES_MAX, true));
            match ready!(reading.poll(context)) {
                Ok(Some(chunk)) => self.chunk = chunk.bytes,
                Ok(None) => {
                    self.ended = true;
                    return Poll::Ready(Ok(self.frames.end()));
                }
                Err(error) => return Poll::Ready(Err(unread(error))),
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.ended = true;
        // It is fine that nothing more would have come.
        let _: Result<(), _> = self.stream.stop(number(code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.ended {
            // RFC 9114 §4.1.
            quic::RecvStream::stop_sending(self, Code::H3_NO_ERROR.value());
        }
    }
}

/// What goes to the client. Dropped before its end, it tells the client that it is not whole.
pub struct SendStream {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    frames: usize,
    finished: bool,
}

impl SendStream {
    fn new(stream: quinn::SendStream) -> Self {
        Self { stream, writing: None, frames: 0, finished: false }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written = Pin::new(&mut self.stream).poll_write(context, data.chunk());
                data.advance(ready!(written).map_err(unwritten)?);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let reason = "a frame was begun before the last one was written".to_owned();
            let connection_error = ConnectionErrorIncoming::InternalError(reason);
            return Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error });
        }
        self.frames += 1;
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(context))?;
        self.finished = true;
        Poll::Ready(
            self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))),
        )
    }

    fn reset(&mut self, code: u64) {
        self.finished = true;
        // It is fine that it had ended already.
        let _: Result<(), _> = self.stream.reset(number(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        // h3 leaves its own answer to a head that is too long, one frame, without an end.
        let whole = self.finished || (self.frames == 1 && self.writing.is_none());
        if !whole || std::thread::panicking() {
            quic::SendStream::reset(self, Code::H3_INTERNAL_ERROR.value());
        }
    }
}

/// Both have the same 62 bits.
fn id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(id)).expect("a stream's number is a QUIC integer")
}

fn number(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
