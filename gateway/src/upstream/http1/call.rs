//! One request on one connection, up to the head of its answer.

use std::io;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http::StatusCode;

use crate::relay::body::Fault;
use crate::relay::body::Progress;
use crate::relay::body::Upload;
use crate::upstream::http1::answer::Answer;
use crate::upstream::http1::answer::Rest;
use crate::upstream::http1::head;
use crate::upstream::http1::head::HEAD_BYTES_MAX;
use crate::upstream::http1::head::Head;
use crate::upstream::http1::head::HeadError;
use crate::upstream::http1::send::SendError;
use crate::upstream::http1::send::Sending;
use crate::upstream::pool::Lease;

/// Most interim answers (1xx) to one request.
const INTERIM_MAX: u32 = 32;

/// Why there is no answer.
#[derive(Debug)]
pub enum Broken {
    /// Nothing of the request was written.
    Unsent(io::Error),
    /// The connection ended without a byte of an answer; the request may have been acted upon.
    Lost(io::Error),
    /// What came is no answer, or only a part of its head.
    Garbled(String),
    /// No head in time.
    Late,
    /// The client did not send what it said it would.
    Client(Fault),
}

/// Time limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the head of the answer, counted anew while the request's body moves.
    pub answer: Duration,
    /// Without a byte of the answer's body.
    pub idle: Duration,
}

/// A request, and the connection that it has for itself.
pub struct Call<'a> {
    pub lease: Lease,
    pub sending: Sending,
    pub upload: &'a Upload,
    /// True for a HEAD.
    pub to_head: bool,
    pub limits: Limits,
    heard: Heard,
}

/// How far a call is.
#[derive(Default)]
struct Heard {
    sent: bool,
    /// Why writing stopped; the answer may be there all the same.
    failed: Option<io::Error>,
    /// The beginning of a head.
    partial: BytesMut,
    interim: u32,
    progress: Progress,
}

impl<'a> Call<'a> {
    /// A call of which nothing is written yet.
    pub fn new(
        lease: Lease,
        sending: Sending,
        upload: &'a Upload,
        to_head: bool,
        limits: Limits,
    ) -> Self {
        Self { lease, sending, upload, to_head, limits, heard: Heard::default() }
    }

    /// Waits for the head of the answer while it writes the request.
    ///
    /// # Errors
    ///
    /// See [`Broken`]; the connection is closed then.
    pub async fn answer(mut self) -> Result<(Head, Box<Answer>), Broken> {
        self.lease.timer().set(self.limits.answer);
        self.heard.progress = self.upload.progress();
        let (head, buffer) = std::future::poll_fn(|context| self.poll(context)).await?;
        let Self { mut lease, mut sending, limits, heard, .. } = self;
        let keep = heard.failed.is_none();
        let mut rest: Option<Rest> = None;
        if heard.sent {
            lease.keep_buffer(sending.take_buffer());
        } else if keep {
            // Reading and writing may not wait for each other, so the writing is left to a task.
            rest = lease.split().map(|mut half| {
                tokio::spawn(async move {
                    std::future::poll_fn(|context| sending.poll(context, &mut half)).await?;
                    Ok(half)
                })
            });
        }
        let answer = Answer::new(&head, buffer, lease, rest, keep, limits.idle);
        let mut answer = Box::new(answer);
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            answer.settle();
        }
        Ok((head, answer))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(Head, Bytes), Broken>> {
        loop {
            self.write(context)?;
            let read = match self.lease.poll_read(context) {
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.ended(error))),
                Poll::Pending => {
                    ready!(self.lease.timer().poll(context));
                    let now = self.upload.progress();
                    // The body still moves, or waits for the client, who has a limit of its own.
                    if now.frames == self.heard.progress.frames && !now.waiting {
                        return Poll::Ready(Err(Broken::Late));
                    }
                    self.heard.progress = now;
                    self.lease.timer().set(self.limits.answer);
                    continue;
                }
            };
            if read.is_empty() {
                return Poll::Ready(Err(self.ended(io::ErrorKind::UnexpectedEof.into())));
            }
            if let Some(answer) = self.head(read)? {
                return Poll::Ready(Ok(answer));
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<(), Broken> {
        if self.heard.sent || self.heard.failed.is_some() {
            return Ok(());
        }
        let Some(stream) = self.lease.stream() else { return Ok(()) };
        match self.sending.poll(context, stream) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.heard.sent = true,
            Poll::Ready(Err(SendError::Client(fault))) => return Err(Broken::Client(fault)),
            Poll::Ready(Err(SendError::Upstream(error))) if !self.sending.begun => {
                return Err(Broken::Unsent(error));
            }
            // A service that does not want the rest says so and closes: that is to be read.
            Poll::Ready(Err(SendError::Upstream(error))) => self.heard.failed = Some(error),
        }
        Ok(())
    }

    /// The connection ended before there was an answer.
    fn ended(&mut self, error: io::Error) -> Broken {
        let heard = &self.heard;
        if heard.interim > 0 || !heard.partial.is_empty() {
            return Broken::Garbled(format!(
                "the connection ended within an answer's head: {error}"
            ));
        }
        match self.sending.begun {
            true => Broken::Lost(error),
            false => Broken::Unsent(error),
        }
    }

    /// The head of the answer and what follows it, once it is whole.
    fn head(&mut self, read: Bytes) -> Result<Option<(Head, Bytes)>, Broken> {
        let heard = &mut self.heard;
        let mut bytes = read;
        if !heard.partial.is_empty() {
            // A head ends with a line: without one more line end it is still not whole.
            let whole = bytes.contains(&b'\n') || heard.partial.len() >= HEAD_BYTES_MAX;
            heard.partial.extend_from_slice(&bytes);
            if !whole {
                return Ok(None);
            }
            bytes = std::mem::take(&mut heard.partial).freeze();
        }
        loop {
            let garbled = |error: HeadError| Broken::Garbled(error.to_string());
            let Some((length, head)) = head::parse(&bytes, self.to_head).map_err(garbled)? else {
                heard.partial.extend_from_slice(&bytes);
                return Ok(None);
            };
            let rest = bytes.slice(length..);
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some((head, rest)));
            }
            heard.interim += 1;
            if heard.interim > INTERIM_MAX {
                let detail = format!("more than {INTERIM_MAX} interim answers");
                return Err(Broken::Garbled(detail));
            }
            if rest.is_empty() {
                return Ok(None);
            }
            bytes = rest;
        }
    }
}
