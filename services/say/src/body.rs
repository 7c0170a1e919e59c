//! A body that is sent piece by piece.
//!
//! actix-web copies a body that comes whole into the connection's buffer, whole: each slow client
//! would hold its own copy. From pieces it takes the next one only when the last is on its way.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use actix_web::body::BodySize;
use actix_web::body::MessageBody;
use bytes::Bytes;

/// Bytes of one piece, which is about what a connection holds.
const PIECE_BYTES: usize = 64 << 10;

/// Shared bytes, of which this is what is left to send.
pub struct Body(pub Bytes);

impl MessageBody for Body {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let length = self.0.len().min(PIECE_BYTES);
        Poll::Ready((length > 0).then(|| Ok(self.0.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn the_pieces_are_the_whole() {
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let whole: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut body = Body(Bytes::from(whole.clone()));
            assert_eq!(body.size(), BodySize::Sized(length as u64));
            let mut sent = Vec::new();
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut body).poll_next(&mut context) {
                assert!((1..=PIECE_BYTES).contains(&piece.len()));
                sent.extend(piece);
            }
            assert!(sent == whole, "{length}");
        }
    }
}
