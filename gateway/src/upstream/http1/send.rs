//! Writes a request: its head and its body as it comes, the first piece together with the head.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf;
use bytes::Bytes;
use hyper::body::Body;
use tokio::io::AsyncWrite;

use crate::relay::body::Fault;
use crate::relay::body::Upload;
use crate::upstream::http1::request::Coding;
use crate::wire::fields;

/// Why a request could not be written to its end.
#[derive(Debug)]
pub enum SendError {
    /// The connection to the service broke. It may have answered before that.
    Upstream(io::Error),
    /// The client did not send what it said it would.
    Client(Fault),
}

/// A request that is being written.
#[derive(Debug)]
pub struct Sending {
    /// The head, or the framing of the next piece, from `at` on.
    framing: Vec<u8>,
    at: usize,
    data: Bytes,
    /// What ends a piece.
    tail: &'static [u8],
    coding: Coding,
    upload: Upload,
    /// Nothing more comes from the client.
    ended: bool,
    /// True once a byte was written.
    pub begun: bool,
}

impl Sending {
    /// A request that begins with `head`.
    pub fn new(head: Vec<u8>, coding: Coding, upload: Upload) -> Self {
        let ended = coding == Coding::Empty;
        let (data, tail) = (Bytes::new(), &[][..]);
        Self { framing: head, at: 0, data, tail, coding, upload, ended, begun: false }
    }

    /// The buffer that the head was written from, once all of it was; for the next one.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        match self.at == self.framing.len() {
            true => {
                self.at = 0;
                std::mem::take(&mut self.framing)
            }
            false => Vec::new(),
        }
    }

    /// Writes on; ready when all was written.
    pub fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), SendError>> {
        loop {
            if !self.ended && self.data.is_empty() && self.tail.is_empty() {
                match self.gather(context) {
                    Poll::Ready(gathered) => gathered.map_err(SendError::Client)?,
                    Poll::Pending if self.at == self.framing.len() => {
                        let flushed = Pin::new(&mut *stream).poll_flush(context);
                        if let Poll::Ready(Err(error)) = flushed {
                            return Poll::Ready(Err(SendError::Upstream(error)));
                        }
                        return Poll::Pending;
                    }
                    // The head need not wait for the body.
                    Poll::Pending => {}
                }
            }
            if self.at == self.framing.len() && self.data.is_empty() && self.tail.is_empty() {
                if !self.ended {
                    continue;
                }
                let flushed = ready!(Pin::new(stream).poll_flush(context));
                return Poll::Ready(flushed.map_err(SendError::Upstream));
            }
            let written = ready!(self.write(context, stream)).map_err(SendError::Upstream)?;
            self.begun = true;
            self.advance(written);
        }
    }

    fn write<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let framing = &self.framing[self.at..];
        let written = if self.data.is_empty() && self.tail.is_empty() {
            ready!(Pin::new(stream).poll_write(context, framing))?
        } else {
            let parts = [IoSlice::new(framing), IoSlice::new(&self.data), IoSlice::new(self.tail)];
            ready!(Pin::new(stream).poll_write_vectored(context, &parts))?
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    fn advance(&mut self, mut written: usize) {
        let framing = written.min(self.framing.len() - self.at);
        self.at += framing;
        written -= framing;
        let data = written.min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[written - data..];
    }

    /// Takes the next piece from the client.
    fn gather(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let next = ready!(Pin::new(&mut self.upload).poll_frame(context));
        if self.at == self.framing.len() {
            self.framing.clear();
            self.at = 0;
        }
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                return Poll::Ready(Err(self.upload.progress().fault.unwrap_or(Fault::Broken)));
            }
            None => return Poll::Ready(self.end()),
        };
        match frame.into_data() {
            Ok(data) => self.piece(data),
            Err(frame) => {
                if let (Ok(trailers), Coding::Chunked) = (frame.into_trailers(), self.coding) {
                    fields::put_trailers(&mut self.framing, &trailers);
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(self.end())
            }
        }
    }

    fn piece(&mut self, data: Bytes) -> Poll<Result<(), Fault>> {
        match &mut self.coding {
            Coding::Empty => {}
            Coding::Length(left) => match left.checked_sub(data.len() as u64) {
                None => return Poll::Ready(Err(Fault::Broken)),
                Some(rest) => {
                    *left = rest;
                    self.ended = rest == 0;
                    self.data = data;
                }
            },
            Coding::Chunked if data.is_empty() => {}
            Coding::Chunked => {
                fields::put_chunk_head(&mut self.framing, data.len());
                self.data = data;
                self.ended = self.upload.is_end_stream();
                self.tail = if self.ended { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The client has sent all.
    fn end(&mut self) -> Result<(), Fault> {
        self.ended = true;
        match self.coding {
            Coding::Length(1..) => Err(Fault::Broken),
            Coding::Chunked => {
                self.framing.extend_from_slice(fields::LAST_CHUNK);
                Ok(())
            }
            Coding::Empty | Coding::Length(0) => Ok(()),
        }
    }
}
