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

/// A piece that is longer is not copied.
const COPY_BYTES_MAX: usize = 1024;

/// How much of small pieces goes out at once.
const BATCH_BYTES: usize = 16 * 1024;

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
    /// From `at` on: the head, small pieces, and the framing of the next large one.
    framing: Vec<u8>,
    at: usize,
    data: Bytes,
    /// What ends a piece.
    tail: &'static [u8],
    coding: Coding,
    upload: Upload,
    /// Something came from the client.
    gathered: bool,
    /// Nothing more comes from it.
    ended: bool,
    /// True once a byte was written.
    pub begun: bool,
}

impl Sending {
    /// A request that begins with `head`.
    pub fn new(head: Vec<u8>, coding: Coding, upload: Upload) -> Self {
        let ended = coding == Coding::Empty;
        let (data, tail) = (Bytes::new(), &[][..]);
        let (gathered, begun) = (false, false);
        Self { framing: head, at: 0, data, tail, coding, upload, gathered, ended, begun }
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
            let mut waits = false;
            // What is not written waits for the service, and the client for both of them.
            let mut more = !self.gathered || self.at == self.framing.len();
            while more && self.has_room() {
                match self.gather(context) {
                    Poll::Ready(gathered) => gathered.map_err(SendError::Client)?,
                    // What is there need not wait for more.
                    Poll::Pending => waits = true,
                }
                // Before anything is written, one piece: two could not be sent again.
                more = self.begun && !waits;
            }
            if self.at == self.framing.len() && self.data.is_empty() && self.tail.is_empty() {
                let flushed = match (self.ended, waits) {
                    (true, _) => ready!(Pin::new(stream).poll_flush(context)),
                    (false, false) => continue,
                    (false, true) => match Pin::new(&mut *stream).poll_flush(context) {
                        Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                        Poll::Ready(failed) => failed,
                    },
                };
                return Poll::Ready(flushed.map_err(SendError::Upstream));
            }
            let written = ready!(self.write(context, stream)).map_err(SendError::Upstream)?;
            self.begun = true;
            self.advance(written);
        }
    }

    /// True when another piece can be added. A client may send pieces of one byte: each alone would
    /// be a call of the kernel and a packet.
    fn has_room(&self) -> bool {
        let written = self.at == self.framing.len();
        let small = written || self.framing.len() < BATCH_BYTES;
        !self.ended && self.data.is_empty() && self.tail.is_empty() && small
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
        self.gathered = true;
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
        if self.data.len() <= COPY_BYTES_MAX {
            self.framing.extend_from_slice(&std::mem::take(&mut self.data));
            self.framing.extend_from_slice(std::mem::take(&mut self.tail));
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

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use prometheus::IntCounter;

    use super::*;
    use crate::edge::http1;
    use crate::relay::inbound::Inbound;
    use crate::rules::rate::Least;

    /// A service that takes at most so many bytes before it has to be asked once more.
    struct Narrow {
        most: usize,
        full: bool,
        taken: Vec<u8>,
        writes: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.full = !self.full;
            if !self.full {
                return Poll::Pending;
            }
            let length = bytes.len().min(self.most);
            self.taken.extend_from_slice(&bytes[..length]);
            self.writes += 1;
            Poll::Ready(Ok(length))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(context, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A request whose body is of chunks of these lengths, and what it is once written.
    fn request(chunks: &[usize]) -> (Sending, Upload, Vec<u8>) {
        let mut body = Vec::new();
        for length in chunks {
            fields::put_chunk_head(&mut body, *length);
            body.resize(body.len() + length, b'x');
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(fields::LAST_CHUNK);
        let least = Least { bytes_per_s: 0, patience: Duration::from_secs(60) };
        let bytes = IntCounter::new("bytes", "of it").unwrap();
        let inbound = Inbound::Http1(http1::Body::chunked(&body));
        let upload = Upload::new(inbound, least, None, &bytes);
        let sending = Sending::new(b"head".to_vec(), Coding::Chunked, upload.clone());
        (sending, upload, [b"head", &body[..]].concat())
    }

    /// The writes that it takes to send such a request.
    fn writes(chunks: &[usize], most: usize) -> usize {
        let (mut sending, _, expected) = request(chunks);
        let mut service = Narrow { most, full: false, taken: Vec::new(), writes: 0 };
        let context = &mut Context::from_waker(Waker::noop());
        let mut polls = 0..1_000_000;
        while sending.poll(context, &mut service).is_pending() {
            polls.next().expect("it ends");
        }
        assert!(service.taken == expected, "{chunks:?}, at most {most}");
        service.writes
    }

    #[test]
    fn no_more_is_taken_from_the_client_while_the_service_takes_nothing() {
        let (mut sending, upload, _) = request(&[1, 1, 1]);
        let mut service = Narrow { most: 6, full: true, taken: Vec::new(), writes: 0 };
        let context = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            service.full = true;
            assert!(sending.poll(context, &mut service).is_pending());
            assert_eq!(upload.progress().frames, 1);
        }
        assert!(upload.rewind());
        // A part of the first piece goes, and nothing is asked for in place of it.
        let (mut sending, upload, _) = request(&[1, 1, 1]);
        service.full = false;
        for _ in 0..2 {
            assert!(sending.poll(context, &mut service).is_pending());
            assert_eq!(upload.progress().frames, 1);
            service.full = true;
        }
    }

    #[test]
    fn pieces_of_one_byte_go_together() {
        // The head and the first piece, which may have to be sent again; then as much as fits.
        assert_eq!(writes(&[1; 8000], usize::MAX), 4);
    }

    #[test]
    fn the_order_stays_wherever_the_service_stops_taking() {
        for most in [100, 1000, 1031, 4096, 100_000] {
            writes(&[1, 1500, 1, 1, 1024, 1025, 20_000, 3, 3, 17_000, 1], most);
            writes(&[1; 5000], most);
        }
    }
}
