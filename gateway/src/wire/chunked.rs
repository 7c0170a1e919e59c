//! Takes the chunked coding off a body (RFC 9112 §7.1), as it comes and without copying.
//!
//! Stricter than the RFC: a line ends with CR LF, blanks stand only before an extension, and sizes,
//! extensions and trailers are bounded. What two parsers could read differently is an error.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

/// Most hexadecimal digits of a size: 2^60 - 1 is the largest.
const DIGITS_MAX: u8 = 15;

/// Most bytes of extensions in one body; they mean nothing to anybody.
const EXTENSION_BYTES_MAX: u16 = 16 * 1024;

/// Most bytes of the trailer section.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Most fields in it.
const TRAILERS_MAX: usize = 64;

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a chunk's size is not a hexadecimal number of at most {DIGITS_MAX} digits")]
    Size,
    #[error("a chunk's extensions are malformed or too long")]
    Extension,
    #[error("a chunk is longer than its size")]
    End,
    #[error("the trailers are malformed or too long")]
    Trailers,
}

/// What the bytes after the framing are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Unknown: there are no more.
    More,
    /// This many bytes of the body, at least one; to be taken before the next step.
    Data(usize),
    /// Not of this body any more: it has ended.
    End,
}

/// Where in a chunked body.
#[derive(Debug, Default)]
pub struct Decoder {
    place: Place,
    /// Bytes of extensions so far.
    extension_bytes: u16,
    /// The trailer section as it came.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Size {
        size: u64,
        digits: u8,
    },
    /// Blanks after a size, which have to lead to an extension.
    Blank {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailers,
    End,
}

impl Default for Place {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Decoder {
    /// Reads framing at the beginning of `bytes`: how many bytes of it there are, and what comes
    /// after them. Data that it announces counts as taken: the next step begins behind it.
    ///
    /// # Errors
    ///
    /// When this is no chunked body; it cannot be followed any further.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(usize, Part), ChunkError> {
        let mut at = 0;
        loop {
            match self.place {
                Place::End => return Ok((at, Part::End)),
                _ if at == bytes.len() => return Ok((at, Part::More)),
                Place::Data { left } => {
                    let here = (bytes.len() - at) as u64;
                    let taken = left.min(here);
                    let left = left - taken;
                    self.place = if left == 0 { Place::DataCr } else { Place::Data { left } };
                    // No more than the bytes there are, so it fits.
                    return Ok((at, Part::Data(usize::try_from(taken).unwrap_or(usize::MAX))));
                }
                Place::Trailers => at += self.trailers(&bytes[at..])?,
                _ => {
                    self.place = self.framing(bytes[at])?;
                    at += 1;
                }
            }
        }
    }

    /// One byte that is neither data nor trailer.
    fn framing(&mut self, byte: u8) -> Result<Place, ChunkError> {
        Ok(match self.place {
            Place::Size { size, digits } => match (byte, digits) {
                (b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..DIGITS_MAX) => {
                    let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
                    Place::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
                }
                (_, 0) => return Err(ChunkError::Size),
                (b'\r', _) => Place::SizeEnd { size },
                (b';', _) => Place::Extension { size },
                (b' ' | b'\t', _) => Place::Blank { size },
                _ => return Err(ChunkError::Size),
            },
            Place::Blank { size } => match byte {
                b' ' | b'\t' => {
                    self.extended()?;
                    self.place
                }
                b';' => Place::Extension { size },
                _ => return Err(ChunkError::Extension),
            },
            Place::Extension { size } => match byte {
                b'\r' => Place::SizeEnd { size },
                b'\t' | b' '..=b'~' | 0x80.. => {
                    self.extended()?;
                    self.place
                }
                _ => return Err(ChunkError::Extension),
            },
            Place::SizeEnd { size } => match (byte, size) {
                (b'\n', 0) => Place::Trailers,
                (b'\n', left) => Place::Data { left },
                _ => return Err(ChunkError::Extension),
            },
            Place::DataCr if byte == b'\r' => Place::DataLf,
            Place::DataLf if byte == b'\n' => Place::default(),
            Place::DataCr | Place::DataLf => return Err(ChunkError::End),
            place @ (Place::Data { .. } | Place::Trailers | Place::End) => place,
        })
    }

    fn extended(&mut self) -> Result<(), ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes < EXTENSION_BYTES_MAX { Ok(()) } else { Err(ChunkError::Extension) }
    }

    /// Collects the trailer section up to its empty line; says how many of `bytes` are of it.
    fn trailers(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        for (at, byte) in bytes.iter().enumerate() {
            self.trailers.push(*byte);
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                self.place = Place::End;
                return Ok(at + 1);
            }
            let bare = *byte == b'\n' && !self.trailers.ends_with(b"\r\n");
            if bare || self.trailers.len() >= TRAILER_BYTES_MAX {
                return Err(ChunkError::Trailers);
            }
        }
        Ok(bytes.len())
    }

    /// True when the end was reached and fields came before it.
    pub fn has_trailers(&self) -> bool {
        matches!(self.place, Place::End) && self.trailers.len() > b"\r\n".len()
    }

    /// The trailers, once the end was reached; `None` when there are none.
    ///
    /// # Errors
    ///
    /// When they are no fields.
    pub fn take_trailers(&mut self) -> Result<Option<HeaderMap>, ChunkError> {
        let section = Bytes::from(std::mem::take(&mut self.trailers));
        let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
        let fields = match httparse::parse_headers(&section, &mut fields) {
            Ok(httparse::Status::Complete((length, fields))) if length == section.len() => fields,
            _ if section.is_empty() => return Ok(None),
            _ => return Err(ChunkError::Trailers),
        };
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value));
            match (name, value) {
                (Ok(name), Ok(value)) => _ = trailers.append(name, value),
                _ => return Err(ChunkError::Trailers),
            }
        }
        Ok(Some(trailers).filter(|trailers| !trailers.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body, its trailers, and what is left over behind it.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    fn decoded(pieces: &[&[u8]]) -> Result<Decoded, ChunkError> {
        let mut decoder = Decoder::default();
        let (mut body, mut rest) = (Vec::new(), Vec::new());
        let mut ended = false;
        for piece in pieces {
            let mut piece = *piece;
            while !ended {
                let (skip, part) = decoder.step(piece)?;
                piece = &piece[skip..];
                match part {
                    Part::More => break,
                    Part::Data(length) => {
                        body.extend_from_slice(&piece[..length]);
                        piece = &piece[length..];
                    }
                    Part::End => ended = true,
                }
            }
            if ended {
                rest.extend_from_slice(piece);
            }
        }
        assert!(ended, "{pieces:?} does not end");
        Ok((body, decoder.take_trailers()?, rest))
    }

    #[test]
    fn chunks_become_a_body() {
        for (text, body, rest) in [
            ("0\r\n\r\n", "", ""),
            ("5\r\nhello\r\n0\r\n\r\nnext", "hello", "next"),
            ("1\r\na\r\n00a\r\n0123456789\r\n0000\r\n\r\n", "a0123456789", ""),
            ("2;x=y\r\nab\r\n1 ;q=\"\\\"\"\r\nc\r\n0;last\r\n\r\n", "abc", ""),
        ] {
            let (found, trailers, left) = decoded(&[text.as_bytes()]).unwrap();
            assert_eq!((&*found, &*left), (body.as_bytes(), rest.as_bytes()), "{text:?}");
            assert_eq!(trailers, None);
        }
    }

    #[test]
    fn trailers_are_fields() {
        let (_, trailers, rest) =
            decoded(&[b"0\r\nX-Sum: 7\r\ngrpc-status:0\r\nX-Sum: 8\r\n\r\nnext"]).unwrap();
        let trailers = trailers.unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers.get_all("x-sum").iter().count(), 2);
        assert_eq!(rest, b"next");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        for (text, error) in [
            ("\r\n", ChunkError::Size),
            ("x\r\n", ChunkError::Size),
            ("-1\r\n", ChunkError::Size),
            ("+1\r\n", ChunkError::Size),
            ("0x1\r\n", ChunkError::Size),
            (" 1\r\n", ChunkError::Size),
            ("1_0\r\n", ChunkError::Size),
            ("1\n", ChunkError::Size),
            ("0000000000000001\r\n", ChunkError::Size),
            ("ffffffffffffffff1\r\n", ChunkError::Size),
            ("1 \r\na\r\n", ChunkError::Extension),
            ("1 x\r\na\r\n", ChunkError::Extension),
            ("1\rx", ChunkError::Extension),
            ("1;a\nb\r\n", ChunkError::Extension),
            ("1;a\0\r\n", ChunkError::Extension),
            ("1;a\rb\r\n", ChunkError::Extension),
            ("1\r\nab", ChunkError::End),
            ("1\r\na\n", ChunkError::End),
            ("1\r\na\rx", ChunkError::End),
            ("0\r\n\n", ChunkError::Trailers),
            ("0\r\nA: 1\n\r\n", ChunkError::Trailers),
            ("0\r\nA: 1\r\n b\r\n\r\n", ChunkError::Trailers),
            ("0\r\nA : 1\r\n\r\n", ChunkError::Trailers),
            ("0\r\nA\r\n\r\n", ChunkError::Trailers),
            ("0\r\nA: \x01\r\n\r\n", ChunkError::Trailers),
        ] {
            assert_eq!(decoded(&[text.as_bytes()]).map(|_| ()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn framing_that_never_ends_is_an_error() {
        for (begin, more) in [("1;", "x"), ("1", " "), ("0\r\n", "a: b\r\n")] {
            let mut decoder = Decoder::default();
            let mut text = begin.to_owned();
            let error = (0..1_000_000).find_map(|_| {
                text.push_str(more);
                let failed = decoder.step(text.as_bytes()).err();
                text.clear();
                failed
            });
            assert!(error.is_some(), "{begin}{more}");
        }
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(TRAILERS_MAX + 1));
        assert_eq!(decoded(&[many.as_bytes()]).map(|_| ()), Err(ChunkError::Trailers));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            extension in "(;[a-z]{1,4}(=[a-z]{1,3})?)?",
            trailers in "(x-[a-z]{1,5}: [a-z]{0,5}\r\n){0,3}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(format!("0\r\n{trailers}\r\nrest").as_bytes());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let one = decoded(&[&bytes]).unwrap();
            prop_assert_eq!(&one.0, &chunks.concat());
            prop_assert_eq!(&one.2, b"rest");
            prop_assert_eq!(decoded(&pieces).unwrap(), one);
        }

        #[test]
        fn no_bytes_make_it_panic_or_go_past_their_end(bytes in "[0-9a-f\r\n; :x]{0,60}") {
            let mut decoder = Decoder::default();
            let mut rest = bytes.as_bytes();
            while let Ok((skip, part)) = decoder.step(rest) {
                match part {
                    Part::More => break,
                    Part::Data(length) => rest = &rest[skip + length..],
                    Part::End => {
                        let _: Result<_, ChunkError> = decoder.take_trailers();
                        break;
                    }
                }
            }
        }
    }
}
