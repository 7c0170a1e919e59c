//! From bytes to messages: RFC 6455 framing by actix-http's codec, with the bounds that it lacks. Pure.
//!
//! The codec reads a frame to its end before it looks at its length, and reserves the length that the peer
//! claims; so the length is looked at here first. actix-ws would not help: it reads by the same codec.

use actix_codec::Decoder;
use actix_http::ws::{CloseReason, Codec, Frame, Item};
use actix_web::web::Bytes;
use bytes::BytesMut;

/// The longest message that is taken, in bytes; upstream's limit.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A buffer that held more than this is given back once it holds half of that, in bytes.
const KEPT_BYTES: usize = 2 << 10;

/// The longest control frame, RFC 6455 §5.5, in bytes.
const CONTROL_BYTES_MAX: u64 = 125;

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message, text or binary.
    Message(Bytes),
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// An answer to a ping.
    Pong(Bytes),
    /// The peer is done.
    Close(Option<CloseReason>),
}

/// Why the connection cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// A message above [`MESSAGE_BYTES_MAX`].
    TooLong,
    /// A text that is not UTF-8.
    NoText,
    /// Against the framing's rules.
    Protocol,
}

/// Puts messages together.
#[derive(Debug)]
pub struct Frames {
    codec: Codec,
    buffer: BytesMut,
    /// The most that the buffer's memory held: its capacity says only how much there is behind what was read.
    filled: usize,
    /// The message whose last fragment has not come; true when it is text.
    partial: Option<(bool, BytesMut)>,
}

impl Frames {
    /// At the start of a connection.
    pub fn new() -> Self {
        Self {
            codec: Codec::new().max_size(MESSAGE_BYTES_MAX),
            buffer: BytesMut::new(),
            filled: 0,
            partial: None,
        }
    }

    /// Takes bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.filled = self.filled.max(self.buffer.len());
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.buffer.len() + self.partial.as_ref().map_or(0, |(_, part)| part.len())
    }

    /// The next message or control frame, if it is complete.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn next(&mut self) -> Result<Option<Incoming>, Broken> {
        loop {
            let Some(frame) = self.frame()? else { return Ok(None) };
            let message = match frame {
                Frame::Text(text) => checked(true, text)?,
                Frame::Binary(bytes) => bytes,
                Frame::Ping(bytes) => return Ok(Some(Incoming::Ping(bytes))),
                Frame::Pong(bytes) => return Ok(Some(Incoming::Pong(bytes))),
                Frame::Close(reason) => return Ok(Some(Incoming::Close(reason))),
                Frame::Continuation(Item::FirstText(bytes)) => {
                    self.partial = Some((true, BytesMut::from(&bytes[..])));
                    continue;
                }
                Frame::Continuation(Item::FirstBinary(bytes)) => {
                    self.partial = Some((false, BytesMut::from(&bytes[..])));
                    continue;
                }
                Frame::Continuation(Item::Continue(bytes)) => {
                    if let Some((_, part)) = &mut self.partial {
                        part.extend_from_slice(&bytes);
                    }
                    continue;
                }
                Frame::Continuation(Item::Last(bytes)) => {
                    let (text, mut part) = self.partial.take().ok_or(Broken::Protocol)?;
                    part.extend_from_slice(&bytes);
                    checked(text, part.freeze())?
                }
            };
            return Ok(Some(Incoming::Message(message)));
        }
    }

    /// The next frame, if it is complete.
    fn frame(&mut self) -> Result<Option<Frame>, Broken> {
        let Some((header, length)) = declared(&self.buffer) else { return Ok(None) };
        let control = self.buffer[0] & 0x08 != 0;
        if control && length > CONTROL_BYTES_MAX {
            return Err(Broken::Protocol);
        }
        let length = usize::try_from(length).map_err(|_| Broken::TooLong)?;
        let before = self.partial.as_ref().filter(|_| !control).map_or(0, |(_, part)| part.len());
        if length > MESSAGE_BYTES_MAX - before {
            return Err(Broken::TooLong);
        }
        // A frame against the rules (no mask, a reserved bit) is refused at once, not after its last byte.
        let rules_broken = self.buffer[0] & 0x70 != 0 || self.buffer[1] & 0x80 == 0;
        if !rules_broken && self.buffer.len() < header + length {
            return Ok(None);
        }
        let frame = self.codec.decode(&mut self.buffer).map_err(|_| Broken::Protocol);
        if self.filled > KEPT_BYTES && self.buffer.len() <= self.filled / 2 {
            // What came behind a long frame, be it one byte, would keep all of its memory.
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.filled = self.buffer.len();
        }
        frame
    }
}

fn checked(text: bool, message: Bytes) -> Result<Bytes, Broken> {
    if text && std::str::from_utf8(&message).is_err() {
        return Err(Broken::NoText);
    }
    Ok(message)
}

/// The length of the frame's header and of its payload as the header has it, RFC 6455 §5.2.
fn declared(buffer: &[u8]) -> Option<(usize, u64)> {
    let mask = usize::from(buffer.get(1)? >> 7) * 4;
    match buffer[1] & 0x7f {
        126 => Some((4 + mask, u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?).into())),
        127 => Some((10 + mask, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?))),
        length => Some((2 + mask, length.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A masked frame; the mask of zeros changes nothing.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    fn all(bytes: &[u8]) -> (Vec<Incoming>, Option<Broken>) {
        let mut frames = Frames::new();
        frames.feed(bytes);
        let mut read = Vec::new();
        loop {
            match frames.next() {
                Ok(Some(incoming)) => read.push(incoming),
                Ok(None) => return (read, None),
                Err(broken) => return (read, Some(broken)),
            }
        }
    }

    #[test]
    fn fragments_make_one_message_and_control_frames_may_come_between() {
        let bytes =
            [frame(0x01, b"he"), frame(0x89, b"?"), frame(0x00, b"ll"), frame(0x80, b"o")].concat();
        let expected = vec![
            Incoming::Ping(Bytes::from_static(b"?")),
            Incoming::Message(Bytes::from_static(b"hello")),
        ];
        assert_eq!(all(&bytes), (expected, None));
    }

    #[test]
    fn a_message_of_16_mib_is_taken_and_one_byte_more_is_not() {
        let longest = vec![b' '; MESSAGE_BYTES_MAX];
        assert_eq!(all(&frame(0x82, &longest)).0.len(), 1);
        let longer = vec![b' '; MESSAGE_BYTES_MAX + 1];
        assert_eq!(
            all(&frame(0x82, &longer)[..14]),
            (vec![], Some(Broken::TooLong)),
            "the header is enough"
        );
        let fragments = [frame(0x02, &longest), frame(0x80, b" ")].concat();
        assert_eq!(all(&fragments), (vec![], Some(Broken::TooLong)));
    }

    #[test]
    fn a_frame_that_claims_to_be_endless_takes_no_memory() {
        let mut frames = Frames::new();
        frames.feed(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(frames.next(), Err(Broken::TooLong));
        let mut frames = Frames::new();
        frames.feed(&frame(0x82, &[0; 1 << 20])[..100]);
        assert_eq!(frames.next(), Ok(None));
        assert!(frames.buffer.capacity() < 1 << 12, "nothing is reserved for what has not come");
    }

    #[test]
    fn a_byte_behind_a_long_frame_does_not_keep_its_memory() {
        let mut frames = Frames::new();
        frames.feed(&frame(0x82, &vec![b' '; MESSAGE_BYTES_MAX]));
        frames.feed(&[0x82]);
        let message = frames.next().unwrap();
        assert!(message.is_some() && frames.held() == 1);
        drop(message);
        assert!(!frames.buffer.try_reclaim(1 << 12), "there is no memory behind the byte");
    }

    #[test]
    fn what_is_against_the_rules_is_refused() {
        for (bytes, broken) in [
            (vec![0x82, 0x01, b'x'], Broken::Protocol),
            (frame(0xc2, b"x"), Broken::Protocol),
            (frame(0x83, b"x"), Broken::Protocol),
            (frame(0x80, b"x"), Broken::Protocol),
            (frame(0x89, &[0; 126]), Broken::Protocol),
            (frame(0x09, b"x"), Broken::Protocol),
            ([frame(0x01, b"x"), frame(0x81, b"x")].concat(), Broken::Protocol),
            (frame(0x81, b"\xff"), Broken::NoText),
            ([frame(0x01, b"\xc3"), frame(0x80, b"x")].concat(), Broken::NoText),
        ] {
            assert_eq!(all(&bytes), (vec![], Some(broken)), "{bytes:x?}");
        }
        assert_eq!(all(&frame(0x82, b"\xff")).0.len(), 1, "binary is not looked at");
        let split = [frame(0x01, b"\xc3"), frame(0x80, b"\xa9")].concat();
        assert_eq!(all(&split).0, [Incoming::Message(Bytes::from_static("é".as_bytes()))]);
    }

    proptest! {
        #[test]
        fn the_cuts_between_reads_do_not_matter(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
            cut in 1..50_usize,
        ) {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| frame(0x82, part)).collect();
            let mut frames = Frames::new();
            let mut read = Vec::new();
            for piece in bytes.chunks(cut) {
                frames.feed(piece);
                while let Some(incoming) = frames.next().unwrap() {
                    read.push(incoming);
                }
            }
            let expected: Vec<_> = parts.into_iter().map(|part| Incoming::Message(part.into())).collect();
            prop_assert_eq!(read, expected);
            prop_assert_eq!(frames.held(), 0);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            all(&bytes);
        }
    }
}
