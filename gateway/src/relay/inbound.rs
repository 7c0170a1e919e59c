//! The body of a client's request, whatever protocol it came over.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Body;
use hyper::body::Incoming;

use crate::edge::http1;
use crate::edge::http3::body::H3Body;
use crate::edge::http3::body::H3Error;
use crate::wire::chunked::ChunkError;

/// A body as its protocol's server reads it. Each protocol adds a variant.
#[derive(Debug)]
pub enum Inbound {
    /// There is none.
    None,
    /// From our server of HTTP/1.
    Http1(http1::Body),
    /// From hyper's server.
    Hyper(Incoming),
    /// From HTTP/3.
    H3(Box<H3Body>),
}

/// Why a client's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error(transparent)]
    H3(#[from] H3Error),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error("a trailer would frame or direct the request")]
    Trailers,
    #[error("the client ended before its request did")]
    Cut,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = InboundError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => body.poll_frame(context),
            Self::Hyper(body) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(InboundError::from)))
            }
            Self::H3(body) => {
                let frame = ready!(Pin::new(&mut **body).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(InboundError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.is_end(),
            Self::Hyper(body) => body.is_end_stream(),
            Self::H3(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(body) => body.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Hyper(body) => body.size_hint(),
            Self::H3(body) => body.size_hint(),
        }
    }
}
