//! Follows the frames of a WebSocket in one direction, without looking into them: a frame of our own
//! may go only between two.
//!
//! Sources: RFC 6455 §5.2 (frames), §5.4 (control frames may come between fragments), §7.4 (codes).

/// Longest head: two bytes, eight of length, four of the mask.
const HEAD_BYTES_MAX: usize = 14;

const CLOSE: u8 = 0x8;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// "Service restart" (<https://www.iana.org/assignments/websocket>): clients come again.
const RESTART: u16 = 1012;

/// Where in a direction we are.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    have: usize,
    /// Of the payload.
    left: u64,
    closed: bool,
}

impl Frames {
    /// True between two frames.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// True when a close frame went by: nothing may follow it (RFC 6455 §5.5.1).
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Follows all of `bytes`.
    pub fn follow(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += self.step(&bytes[at..]);
        }
    }

    /// Follows `bytes` to the end of the frame that it is in, and says how many those are.
    pub fn finish_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            at += self.step(&bytes[at..]);
            if self.at_boundary() {
                break;
            }
        }
        at
    }

    /// Follows one byte of a head, or of a payload all that there is.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= length as u64;
            return length;
        }
        self.head[self.have] = bytes[0];
        self.have += 1;
        if let Some(length) = self.whole() {
            self.closed |= self.head[0] & 0xf == CLOSE;
            self.have = 0;
            self.left = length;
        }
        1
    }

    /// The length of the payload, once the head is whole.
    fn whole(&self) -> Option<u64> {
        let head = &self.head[..self.have];
        let second = *head.get(1)?;
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        let (extended, short) = match second & !MASKED {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        if head.len() < 2 + extended + mask {
            return None;
        }
        let long =
            head[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(short + long)
    }
}

/// A close frame that says that the service restarts; towards a service it is masked, by `mask`
/// (RFC 6455 §5.3).
pub fn restart(mask: Option<[u8; 4]>) -> Vec<u8> {
    let code = RESTART.to_be_bytes();
    let mut frame = vec![FINAL | CLOSE];
    match mask {
        None => {
            frame.push(2);
            frame.extend(code);
        }
        Some(mask) => {
            frame.push(MASKED | 2);
            frame.extend(mask);
            frame.extend(code.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::CloseCode;
    use tungstenite::protocol::frame::coding::Data;
    use tungstenite::protocol::frame::coding::OpCode;

    use super::*;

    /// A frame as another implementation writes it.
    fn frame(length: usize, mask: bool) -> Vec<u8> {
        let mut frame = Frame::message(vec![7; length], OpCode::Data(Data::Binary), true);
        if mask {
            frame.header_mut().mask = Some([1, 2, 3, 4]);
        }
        let mut out = Vec::new();
        frame.format(&mut out).unwrap();
        out
    }

    #[test]
    fn a_close_frame_is_seen_and_ours_is_one() {
        for (bytes, closed) in [
            (frame(3, true), false),
            (restart(None), true),
            (restart(Some([9, 8, 7, 6])), true),
            (vec![0x89, 0], false),
        ] {
            let mut frames = Frames::default();
            frames.follow(&bytes);
            assert_eq!((frames.is_closed(), frames.at_boundary()), (closed, true), "{bytes:?}");
        }
    }

    #[test]
    fn another_implementation_reads_ours() {
        for mask in [None, Some([0xaa, 0x55, 0, 0xff])] {
            let role = match mask {
                None => tungstenite::protocol::Role::Client,
                Some(_) => tungstenite::protocol::Role::Server,
            };
            let stream = std::io::Cursor::new(restart(mask));
            let mut socket = tungstenite::WebSocket::from_raw_socket(stream, role, None);
            let tungstenite::Message::Close(Some(close)) = socket.read().unwrap() else {
                panic!("no close frame");
            };
            assert_eq!(close.code, CloseCode::Restart);
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_followed_all_the_same() {
        let mut frames = Frames::default();
        frames.follow(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert!(!frames.at_boundary());
    }

    proptest! {
        #[test]
        fn boundaries_are_where_frames_end(
            lengths in prop::collection::vec(
                (prop_oneof![0_usize..130, 65_530_usize..65_540], any::<bool>()), 1..6),
            cuts in prop::collection::vec(1_usize..5000, 1..20),
        ) {
            let mut input = Vec::new();
            let mut ends = vec![0];
            for (length, mask) in &lengths {
                input.extend(frame(*length, *mask));
                ends.push(input.len());
            }
            let (mut all, mut each) = (Frames::default(), Frames::default());
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < input.len() {
                let end = input.len().min(at + cuts.next().unwrap());
                all.follow(&input[at..end]);
                prop_assert_eq!(all.at_boundary(), ends.contains(&end));
                // From one boundary to the next.
                while at < end {
                    at += each.finish_frame(&input[at..end]);
                    prop_assert!(each.at_boundary() == ends.contains(&at));
                    prop_assert!(at == end || each.at_boundary());
                }
            }
            prop_assert!(all.at_boundary() && !all.is_closed());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut frames = Frames::default();
            frames.follow(&bytes);
            let mut frames = Frames::default();
            let mut at = 0;
            while at < bytes.len() {
                at += frames.finish_frame(&bytes[at..]);
            }
        }
    }
}
