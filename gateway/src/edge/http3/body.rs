//! The body of a request over HTTP/3.

use std::fmt;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf;
use bytes::Bytes;
use h3::error::StreamError;
use h3::server::RequestStream;
use http_body::Frame;
use http_body::SizeHint;

use crate::edge::http3::quic::RecvStream;

/// Why a body is not whole.
#[derive(Debug, thiserror::Error)]
pub enum H3Error {
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Malformed (RFC 9114 §4.1.2).
    #[error("the body is not as long as Content-Length says")]
    Length,
}

/// A body that is read when it is asked for.
pub struct H3Body {
    stream: RequestStream<RecvStream, Bytes>,
    /// What `Content-Length` says is to come.
    left: Option<u64>,
    at: At,
    /// Read by [`H3Body::begin`].
    first: Option<Frame<Bytes>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Data,
    Trailers,
    End,
}

impl H3Body {
    /// The body that comes over `stream`.
    pub fn new(stream: RequestStream<RecvStream, Bytes>, length: Option<u64>) -> Self {
        Self { stream, left: length, at: At::Data, first: None }
    }

    /// Waits for the first frame, or for the end, so that it is known whether there is a body at all.
    ///
    /// # Errors
    ///
    /// As reading.
    pub async fn begin(&mut self) -> Result<(), H3Error> {
        self.first = std::future::poll_fn(|context| self.poll(context)).await.transpose()?;
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, H3Error>>> {
        if self.at == At::Data {
            match ready!(self.stream.poll_recv_data(context))? {
                Some(mut data) => {
                    let data = data.copy_to_bytes(data.remaining());
                    if let Some(left) = &mut self.left {
                        match left.checked_sub(data.len() as u64) {
                            Some(rest) => *left = rest,
                            None => return self.fail(H3Error::Length),
                        }
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                None if self.left.is_some_and(|left| left > 0) => {
                    return self.fail(H3Error::Length);
                }
                None => self.at = At::Trailers,
            }
        }
        if self.at == At::Trailers {
            let trailers = ready!(self.stream.poll_recv_trailers(context))?;
            self.at = At::End;
            if let Some(trailers) = trailers {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        }
        Poll::Ready(None)
    }

    fn fail(&mut self, error: H3Error) -> Poll<Option<Result<Frame<Bytes>, H3Error>>> {
        self.at = At::End;
        self.stream.stop_sending(h3::error::Code::H3_MESSAGE_ERROR);
        Poll::Ready(Some(Err(error)))
    }

    /// See [`http_body::Body::poll_frame`].
    pub fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, H3Error>>> {
        let body = self.get_mut();
        match body.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => body.poll(context),
        }
    }

    /// See [`http_body::Body::is_end_stream`].
    pub fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.at == At::End
    }

    /// See [`http_body::Body::size_hint`].
    pub fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        match self.left {
            Some(left) => SizeHint::with_exact(left + first),
            None if self.at == At::End => SizeHint::with_exact(first),
            None => SizeHint::default(),
        }
    }
}

impl fmt::Debug for H3Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "H3Body {{ left: {:?}, at: {:?} }}", self.left, self.at)
    }
}
