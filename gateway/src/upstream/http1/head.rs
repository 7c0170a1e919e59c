//! Reads the head of an answer, and how its body is delimited (RFC 9112 §4, §6.3).
//!
//! What the RFC lets a client repair is refused here: an answer that the next parser could read
//! differently must not reach a client, nor its rest the next request.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use http::header;

use crate::rules::hop;

/// Largest head, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most field lines in it.
const FIELDS_MAX: usize = 256;

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    /// True when the connection may serve another request afterwards.
    pub keep: bool,
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    Length(u64),
    Chunked,
    /// It ends with the connection.
    Close,
}

/// Why a head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the answer is not HTTP/1.1: {0}")]
    Form(httparse::Error),
    #[error("a line of the answer's head ends with LF alone")]
    BareLineFeed,
    #[error("the answer's head is longer than {HEAD_BYTES_MAX} bytes")]
    Long,
    #[error("the answer has two framings, or one that is not understood")]
    Framing,
    #[error("the answer has two lengths, or one that is no number")]
    Length,
}

/// The head at the beginning of `bytes` and its length; `None` while it is not whole. `to_head` is
/// true for the answer to a HEAD, which has no body.
///
/// # Errors
///
/// When the bytes are no answer.
pub fn parse(bytes: &Bytes, to_head: bool) -> Result<Option<(usize, Head)>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    );
    let length = match parsed.map_err(HeadError::Form)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() >= HEAD_BYTES_MAX => return Err(HeadError::Long),
        httparse::Status::Partial => return Ok(None),
    };
    if length > HEAD_BYTES_MAX {
        return Err(HeadError::Long);
    }
    // The parser lets CR stand only before LF, so where there are as many, none stands alone.
    let head = &bytes[..length];
    if count(head, b'\n') != count(head, b'\r') {
        return Err(HeadError::BareLineFeed);
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError::Form(httparse::Error::Status))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len() + 2);
    for field in &*response.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        match (name, value) {
            (Ok(name), Ok(value)) => _ = headers.append(name, value),
            (Err(_), _) => return Err(HeadError::Form(httparse::Error::HeaderName)),
            (_, Err(_)) => return Err(HeadError::Form(httparse::Error::HeaderValue)),
        }
    }
    let http11 = response.version == Some(1);
    let mut framing = framing(&headers, http11)?;
    if to_head || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        framing = Framing::Empty;
        if !to_head && status != StatusCode::NOT_MODIFIED {
            // Means nothing there (RFC 9110 §8.6).
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    let keep = http11
        && framing != Framing::Close
        && !(headers.contains_key(header::CONNECTION)
            && hop::has_token(&headers, &header::CONNECTION, "close"));
    Ok(Some((length, Head { status, headers, framing, keep })))
}

/// How often `wanted` is there; in sums of one byte, which the compiler turns into vectors.
fn count(bytes: &[u8], wanted: u8) -> usize {
    let some = |piece: &[u8]| piece.iter().fold(0, |sum, byte| sum + u8::from(*byte == wanted));
    bytes.chunks(usize::from(u8::MAX)).map(|piece| usize::from(some(piece))).sum()
}

/// What the fields say, without regard to status and method.
fn framing(headers: &HeaderMap, http11: bool) -> Result<Framing, HeadError> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(text), None) => Some(decimal(text.as_bytes()).ok_or(HeadError::Length)?),
        (Some(_), Some(_)) => return Err(HeadError::Length),
    };
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(length.map_or(Framing::Close, Framing::Length));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|one| one.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let one = chunked && codings.next().is_none() && length.is_none() && http11;
    if one { Ok(Framing::Chunked) } else { Err(HeadError::Framing) }
}

/// Digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Head, HeadError> {
        let whole = parse(&Bytes::copy_from_slice(text.as_bytes()), false)?;
        let (length, head) = whole.expect("a whole head");
        assert_eq!(length, text.find("\r\n\r\n").map_or(text.len(), |at| at + 4), "{text:?}");
        Ok(head)
    }

    #[test]
    fn a_body_is_delimited_as_the_rfc_says() {
        for (text, framing, keep) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Framing::Length(3), true),
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Framing::Length(0), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\nabc", Framing::Close, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", Framing::Length(3), false),
            ("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", Framing::Empty, true),
            ("HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", Framing::Empty, true),
            ("HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", Framing::Empty, true),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 3\r\n\r\n",
                Framing::Length(3),
                false,
            ),
        ] {
            let head = head(text).unwrap();
            assert_eq!((head.framing, head.keep), (framing, keep), "{text:?}");
        }
        let text = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
        let (_, head) = parse(&text, true).unwrap().unwrap();
        assert_eq!(
            (head.framing, &head.headers["content-length"]),
            (Framing::Empty, &"3".parse().unwrap())
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        for (fields, error) in [
            ("Content-Length: 3\r\nTransfer-Encoding: chunked", HeadError::Framing),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3", HeadError::Framing),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", HeadError::Framing),
            ("Transfer-Encoding: gzip, chunked", HeadError::Framing),
            ("Transfer-Encoding: identity", HeadError::Framing),
            ("Content-Length: 3\r\nContent-Length: 3", HeadError::Length),
            ("Content-Length: 3, 3", HeadError::Length),
            ("Content-Length: +3", HeadError::Length),
            ("Content-Length: ", HeadError::Length),
            ("Content-Length: 99999999999999999999", HeadError::Length),
            ("A: 1\nContent-Length: 3", HeadError::BareLineFeed),
            ("A: 1\r\n b\r\nContent-Length: 3", HeadError::Form(httparse::Error::HeaderName)),
            ("A : 1", HeadError::Form(httparse::Error::HeaderName)),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(head(&text).map(|_| ()), Err(error), "{fields:?}");
        }
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(head(old).map(|_| ()), Err(HeadError::Framing));
        for text in
            ["SSH-2.0-OpenSSH\r\n", "HTTP/2.0 200 OK\r\n\r\n", "\0", "HTTP/1.1 20 OK\r\n\r\n"]
        {
            let error = parse(&Bytes::copy_from_slice(text.as_bytes()), false).unwrap_err();
            assert!(matches!(error, HeadError::Form(_)), "{text:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_an_error() {
        let mut text = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
        text.resize(HEAD_BYTES_MAX - 1, b'x');
        assert!(parse(&Bytes::from(text.clone()), false).unwrap().is_none());
        text.push(b'x');
        assert_eq!(parse(&Bytes::from(text), false).map(|_| ()), Err(HeadError::Long));
    }

    proptest! {
        #[test]
        fn a_part_of_a_head_is_no_head(
            fields in "([a-z-]{1,8}: [ -~]{0,12}\r\n){0,5}",
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let part = Bytes::copy_from_slice(&whole.as_bytes()[..cut.index(whole.len())]);
            prop_assert!(matches!(parse(&part, false), Ok(None)), "{:?}", part);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _: Result<_, HeadError> = parse(&Bytes::from(bytes), false);
        }
    }
}
