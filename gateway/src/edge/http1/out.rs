//! Bytes on their way to a client: small pieces are copied together, large ones are not copied, and
//! what goes out together is one record of TLS where it fits.

use std::cell::RefCell;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::time::Sleep;

use crate::edge::http1::io::Shared;

/// A piece that is longer is not copied.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// What may wait for more to go with it.
const BATCH_BYTES: usize = 16 * 1024;

/// Buffers that a thread keeps for its next answers, and how large they may have grown.
const SPARE_MAX: usize = 16;
const SPARE_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What a connection has to say.
pub struct Out {
    io: Shared,
    /// Before `data`.
    head: Vec<u8>,
    /// A piece that was not copied.
    data: Bytes,
    /// After it.
    tail: Vec<u8>,
    /// How much of `head`, and of `tail`, was written.
    at: (usize, usize),
    flushed: bool,
    /// Runs while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    stall_limit: Duration,
}

impl Out {
    /// For a client that may leave what it is sent for `stall_limit`.
    pub fn new(io: Shared, stall_limit: Duration) -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self {
            io,
            head: spare.unwrap_or_default(),
            data: Bytes::new(),
            tail: Vec::new(),
            at: (0, 0),
            flushed: true,
            stall: None,
            stall_limit,
        }
    }

    /// Where small pieces are written to.
    pub fn small(&mut self) -> &mut Vec<u8> {
        if self.data.is_empty() { &mut self.head } else { &mut self.tail }
    }

    /// Adds a piece of a body. Only one large one can wait: ready [`Self::poll_room`] first.
    pub fn data(&mut self, data: Bytes) {
        if data.len() > COPY_BYTES_MAX && self.data.is_empty() {
            self.data = data;
        } else {
            self.small().extend_from_slice(&data);
        }
    }

    /// Ready when another piece can be added.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.data.is_empty() && self.head.len() < BATCH_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(context)
    }

    /// Ready when everything is on its way.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(context))?;
        if !self.flushed {
            match Pin::new(&mut self.io).poll_flush(context) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return self.poll_stall(context),
            }
            self.flushed = true;
            self.stall = None;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let head = &self.head[self.at.0..];
            let tail = &self.tail[self.at.1..];
            if head.is_empty() && self.data.is_empty() && tail.is_empty() {
                self.head.clear();
                self.tail.clear();
                self.at = (0, 0);
                return Poll::Ready(Ok(()));
            }
            let slices = [IoSlice::new(head), IoSlice::new(&self.data), IoSlice::new(tail)];
            let io = Pin::new(&mut self.io);
            let written = if self.data.is_empty() && tail.is_empty() {
                io.poll_write(context, head)
            } else {
                io.poll_write_vectored(context, &slices)
            };
            let written = match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => written?,
                Poll::Pending => return self.poll_stall(context),
            };
            self.flushed = false;
            self.stall = None;
            let from_head = written.min(head.len());
            let from_data = (written - from_head).min(self.data.len());
            self.at.0 += from_head;
            self.at.1 += written - from_head - from_data;
            if from_data == self.data.len() {
                self.data = Bytes::new();
            } else {
                self.data.advance(from_data);
            }
            if self.data.is_empty() && self.at.0 == self.head.len() && !self.tail.is_empty() {
                // What is added next goes behind what is left of the tail.
                std::mem::swap(&mut self.head, &mut self.tail);
                self.tail.clear();
                self.at = (self.at.1, 0);
            }
        }
    }

    /// The client takes nothing just now.
    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let limit = self.stall_limit;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stall.as_mut().poll(context));
        let why = "the client does not read";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.head);
        buffer.clear();
        if buffer.capacity() <= SPARE_BYTES_MAX {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_MAX {
                    spare.push(buffer);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::task::Waker;

    use tokio::io::AsyncRead;
    use tokio::io::ReadBuf;

    use super::*;
    use crate::wire::fields;

    /// A client that takes at most so many bytes before it has to be asked once more.
    struct Narrow {
        most: usize,
        full: bool,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl AsyncRead for Narrow {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
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
            self.taken.lock().unwrap().extend_from_slice(&bytes[..length]);
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

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn wherever_the_client_stops_taking_the_order_stays() {
        let context = &mut Context::from_waker(Waker::noop());
        let pieces = [5000, 3, 4500, 6000, 1].map(|length| Bytes::from(vec![b'x'; length]));
        let mut expected = b"head".to_vec();
        for piece in &pieces {
            fields::put_chunk_head(&mut expected, piece.len());
            expected.extend_from_slice(piece);
            expected.extend_from_slice(b"\r\n");
        }
        // The first large piece ends at 4 + 6 + 5000, its line end two bytes later.
        for most in [500, 5009, 5010, 5011, 5012, 5013, 5018, 100_000] {
            let taken = Arc::<Mutex<Vec<u8>>>::default();
            let client = Narrow { most, full: false, taken: Arc::clone(&taken) };
            let mut out = Out::new(Shared::new(client), Duration::from_secs(60));
            out.small().extend_from_slice(b"head");
            for piece in &pieces {
                while out.poll_room(context).is_pending() {}
                fields::put_chunk_head(out.small(), piece.len());
                out.data(piece.clone());
                out.small().extend_from_slice(b"\r\n");
            }
            while out.poll_flush(context).is_pending() {}
            assert!(*taken.lock().unwrap() == expected, "at most {most}");
        }
    }
}
