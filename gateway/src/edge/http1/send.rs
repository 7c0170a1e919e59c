//! The body of an answer, written as it comes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use http_body::Body;

use crate::edge::http1::answer::Delimited;
use crate::edge::http1::io::Shared;
use crate::edge::http1::out::Out;
use crate::wire::fields;

/// Writes `body` after the head that `out` holds. `trailers` says whether the client takes them.
///
/// # Errors
///
/// When the client is gone or does not read, and when the body is not whole; the connection must
/// then not look as if it were.
pub async fn send<B>(
    io: &Shared,
    out: &mut Out,
    body: B,
    delimited: Delimited,
    trailers: bool,
) -> io::Result<()>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut left = match delimited {
        Delimited::Length(length) => Some(length),
        _ => None,
    };
    let mut ended = delimited == Delimited::Empty;
    let mut closed = ended;
    while !ended {
        let frame = next(io, out, body.as_mut()).await?;
        match frame.map(http_body::Frame::into_data) {
            None => ended = true,
            Some(Ok(data)) => {
                if let Some(left) = &mut left {
                    let over = || io::Error::other("the answer is longer than its length");
                    *left = left.checked_sub(data.len() as u64).ok_or_else(over)?;
                }
                if delimited == Delimited::Chunked {
                    if !data.is_empty() {
                        fields::put_chunk_head(out.small(), data.len());
                        out.data(data);
                        out.small().extend_from_slice(b"\r\n");
                    }
                } else {
                    out.data(data);
                }
                ended = body.is_end_stream();
            }
            Some(Err(frame)) => {
                if let (Ok(map), Delimited::Chunked, true) =
                    (frame.into_trailers(), delimited, trailers)
                {
                    fields::put_trailers(out.small(), &map);
                    closed = true;
                }
                ended = true;
            }
        }
    }
    if left.is_some_and(|left| left > 0) {
        return Err(io::Error::other("the answer is shorter than its length"));
    }
    if delimited == Delimited::Chunked && !closed {
        out.small().extend_from_slice(fields::LAST_CHUNK);
    }
    poll_fn(|context| out.poll_flush(context)).await
}

/// The next frame. While there is none, what was written goes out, and a client that goes ends it.
async fn next<B>(
    io: &Shared,
    out: &mut Out,
    mut body: Pin<&mut B>,
) -> io::Result<Option<http_body::Frame<Bytes>>>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    poll_fn(|context| {
        ready!(out.poll_room(context))?;
        match body.as_mut().poll_frame(context) {
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Err(io::Error::other(format!("the answer broke off: {error}"))))
            }
            Poll::Pending => {
                if let Poll::Ready(Err(error)) = out.poll_flush(context) {
                    return Poll::Ready(Err(error));
                }
                if io.lock().poll_gone(context).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Poll::Pending
            }
        }
    })
    .await
}
