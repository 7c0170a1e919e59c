//! Follows the frames of a stream of HTTP/3, and cuts its bytes at their borders.
//!
//! h3 collects a frame that is not DATA whole before it looks at it, whatever its length, takes in
//! more than one chunk for each small DATA frame, and takes an empty one for the end of a body. Given
//! what this hands out, it does neither: a frame that it keeps has a bound, its head and each part of
//! its payload are a chunk of their own, and empty DATA and frames without a meaning are left out.
//!
//! Sources: RFC 9114 §7.1 (frames), §7.2.8 and §9 (unknown ones), §6.2 (unidirectional streams), RFC
//! 9000 §16 (integers).

use bytes::Buf;
use bytes::Bytes;

/// Longest frame of the control stream; SETTINGS is the largest.
const CONTROL_BYTES_MAX: u64 = 4096;

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
/// Those that RFC 9114 gives a meaning, or forbids (§7.2.8), which h3 tells the peer.
const KNOWN: [u64; 9] = [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd];

/// The type of a control stream (RFC 9114 §6.2.1).
const CONTROL_STREAM: u64 = 0x0;

/// A frame that is longer than any that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of type {kind:#x} is {length} bytes long")]
pub struct TooLong {
    pub kind: u64,
    pub length: u64,
}

/// Where in a stream we are.
#[derive(Debug)]
pub struct Frames {
    at: At,
    /// What was read of the integers before the payload: at most a type and a length.
    head: Vec<u8>,
    /// Longest HEADERS frame.
    fields_bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the type of a unidirectional stream.
    StreamType,
    /// Before or in the head of a frame.
    Head,
    /// This much of a payload is left; `kept` is false when it is left out.
    Payload { left: u64, kept: bool },
    /// In a stream whose content is not ours to look at.
    Other,
}

impl Frames {
    /// Of a request.
    pub fn request(fields_bytes_max: u64) -> Self {
        Self { at: At::Head, head: Vec::new(), fields_bytes_max }
    }

    /// Of a unidirectional stream.
    pub fn unidirectional() -> Self {
        Self { at: At::StreamType, head: Vec::new(), fields_bytes_max: 0 }
    }

    /// Takes bytes from the front of `input` and gives the next piece to pass on; `None` when `input`
    /// is used up without one.
    ///
    /// # Errors
    ///
    /// When a frame is too long to be kept.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, TooLong> {
        while !input.is_empty() {
            match self.at {
                At::Other => return Ok(Some(std::mem::take(input))),
                At::Payload { left, kept } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let piece = input.split_to(length);
                    let left = left - length as u64;
                    self.at = if left == 0 { At::Head } else { At::Payload { left, kept } };
                    if kept {
                        return Ok(Some(piece));
                    }
                }
                At::StreamType => {
                    self.head.push(input.get_u8());
                    if let Some((kind, _)) = integer(&self.head) {
                        self.at = if kind == CONTROL_STREAM { At::Head } else { At::Other };
                        return Ok(Some(self.take_head()));
                    }
                }
                At::Head => {
                    self.head.push(input.get_u8());
                    if let Some(piece) = self.begin()? {
                        return Ok(Some(piece));
                    }
                }
            }
        }
        Ok(None)
    }

    /// What is left over when the stream ends here: the beginning of a frame's head, which h3 then
    /// finds cut off. An end in a payload it finds by itself.
    pub fn end(&mut self) -> Option<Bytes> {
        if self.head.is_empty() { None } else { Some(self.take_head()) }
    }

    /// Begins a payload once its frame's head is whole; gives the head when the frame is kept.
    fn begin(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some((kind, used)) = integer(&self.head) else { return Ok(None) };
        let Some((length, _)) = integer(&self.head[used..]) else { return Ok(None) };
        let (kept, length_max) = match kind {
            DATA => (length > 0, u64::MAX),
            HEADERS => (true, self.fields_bytes_max),
            kind if KNOWN.contains(&kind) => (true, CONTROL_BYTES_MAX),
            _ => (false, u64::MAX),
        };
        if length > length_max {
            return Err(TooLong { kind, length });
        }
        self.at = if length == 0 { At::Head } else { At::Payload { left: length, kept } };
        let head = self.take_head();
        Ok(kept.then_some(head))
    }

    fn take_head(&mut self) -> Bytes {
        let head = Bytes::copy_from_slice(&self.head);
        self.head.clear();
        head
    }
}

/// The integer at the front of `bytes` and its length, once it is whole (RFC 9000 §16).
fn integer(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value =
        rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS_MAX: u64 = 100;

    fn put_integer(out: &mut Vec<u8>, value: u64) {
        match value {
            0..=0x3f => out.push(u8::try_from(value).unwrap()),
            0x40..=0x3fff => out.extend((0x4000 | u16::try_from(value).unwrap()).to_be_bytes()),
            0x4000..=0x3fff_ffff => {
                out.extend((0x8000_0000 | u32::try_from(value).unwrap()).to_be_bytes());
            }
            _ => out.extend((0xc000_0000_0000_0000 | value).to_be_bytes()),
        }
    }

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_integer(&mut out, kind);
        put_integer(&mut out, payload.len() as u64);
        out.extend_from_slice(payload);
        out
    }

    /// Every piece that comes of `input`, given at once.
    fn pieces(frames: &mut Frames, input: &[u8]) -> Result<Vec<Bytes>, TooLong> {
        let mut input = Bytes::copy_from_slice(input);
        let mut pieces = Vec::new();
        while let Some(piece) = frames.next(&mut input)? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    #[test]
    fn heads_and_payloads_are_pieces_and_what_means_nothing_is_left_out() {
        let input = [
            frame(HEADERS, b"fields"),
            frame(DATA, b""),
            frame(0x21, &[7; 70]),
            frame(DATA, b"one"),
            frame(0x41, b"no tunnel of another protocol"),
            frame(DATA, b"two"),
        ];
        let mut frames = Frames::request(FIELDS_MAX);
        let pieces = pieces(&mut frames, &input.concat()).unwrap();
        let expected: [&[u8]; 6] = [b"\x01\x06", b"fields", b"\0\x03", b"one", b"\0\x03", b"two"];
        assert_eq!(pieces, expected);
        assert_eq!(frames.end(), None);
    }

    #[test]
    fn what_would_be_kept_has_a_bound_and_data_has_none() {
        for (kind, length, fits) in [
            (HEADERS, FIELDS_MAX, true),
            (HEADERS, FIELDS_MAX + 1, false),
            (0x4, CONTROL_BYTES_MAX, true),
            (0x4, CONTROL_BYTES_MAX + 1, false),
            (0x5, 1 << 61, false),
            (DATA, 1 << 61, true),
            (0x21, 1 << 61, true),
        ] {
            let mut head = Vec::new();
            put_integer(&mut head, kind);
            put_integer(&mut head, length);
            let seen = pieces(&mut Frames::request(FIELDS_MAX), &head).map(drop);
            assert_eq!(seen, if fits { Ok(()) } else { Err(TooLong { kind, length }) });
        }
    }

    #[test]
    fn only_a_control_stream_has_frames() {
        let settings = frame(0x4, b"\x06\x10");
        let mut control = vec![0];
        control.extend_from_slice(&settings);
        let seen = pieces(&mut Frames::unidirectional(), &control).unwrap();
        let expected: [&[u8]; 3] = [b"\0", b"\x04\x02", b"\x06\x10"];
        assert_eq!(seen, expected);
        let mut encoder = vec![2];
        encoder.extend_from_slice(&[0xff; 50]);
        let seen = pieces(&mut Frames::unidirectional(), &encoder).unwrap();
        assert_eq!(seen, [&[2][..], &[0xff; 50]]);
    }

    #[test]
    fn a_head_that_is_cut_off_is_shown() {
        let mut frames = Frames::request(FIELDS_MAX);
        assert_eq!(pieces(&mut frames, b"\x01"), Ok(Vec::new()));
        assert_eq!(frames.end().unwrap(), &b"\x01"[..]);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_bytes_come(
            sent in prop::collection::vec((0_u64..0x50, prop::collection::vec(any::<u8>(), 0..90)), 0..8),
            cuts in prop::collection::vec(1_usize..40, 1..60),
        ) {
            let input: Vec<u8> = sent.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let kept = |kind: u64, payload: &[u8]| match kind {
                DATA => !payload.is_empty(),
                HEADERS => true,
                kind => KNOWN.contains(&kind),
            };
            let expected: Vec<u8> = sent
                .iter()
                .filter(|(kind, payload)| kept(*kind, payload))
                .flat_map(|(kind, payload)| frame(*kind, payload))
                .collect();
            let mut frames = Frames::request(FIELDS_MAX);
            let mut seen = Vec::new();
            let mut rest = &input[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                for piece in pieces(&mut frames, now).unwrap() {
                    prop_assert!(!piece.is_empty());
                    seen.extend_from_slice(&piece);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(frames.end(), None);
        }

        #[test]
        fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _: Result<_, TooLong> = pieces(&mut Frames::request(FIELDS_MAX), &input);
            let _: Result<_, TooLong> = pieces(&mut Frames::unidirectional(), &input);
        }
    }
}
