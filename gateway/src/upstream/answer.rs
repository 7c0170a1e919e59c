//! The body of an answer, whatever protocol the service speaks.

use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Frame;
use http_body::SizeHint;

use crate::upstream::http1;
use crate::upstream::http1::answer::AnswerError;
use crate::upstream::http2;
use crate::upstream::replica::Load;
use crate::upstream::stream::Stream;

/// A body as it is asked for.
#[derive(Debug)]
pub enum Answer {
    Http1(Box<http1::answer::Answer>),
    Http2(Box<http2::Answer>),
}

impl Answer {
    /// The next piece.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self {
            Self::Http1(answer) => answer.poll_frame(context),
            Self::Http2(answer) => answer.poll_frame(context),
        }
    }

    /// Gives no longer pieces than this. Those of HTTP/2 are as long as a frame.
    pub fn cut(&mut self, piece_bytes_max: usize) {
        if let Self::Http1(answer) = self {
            answer.cut(piece_bytes_max);
        }
    }

    /// True when nothing more will come.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(answer) => answer.is_end_stream(),
            Self::Http2(answer) => answer.is_end_stream(),
        }
    }

    /// How much more will come.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(answer) => answer.size_hint(),
            Self::Http2(answer) => answer.size_hint(),
        }
    }

    /// The connection itself after a 101, with what was read ahead.
    pub fn into_tunnel(self) -> Option<(Stream, Bytes, Load)> {
        match self {
            Self::Http1(answer) => answer.into_tunnel(),
            Self::Http2(_) => None,
        }
    }
}
