//! Writes the head of a request (RFC 9112 §3).

use http::HeaderMap;
use http::Method;
use http::Uri;
use http::header;

use crate::wire::fields;

/// How the body of a request is delimited (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// There is none.
    Empty,
    /// This many bytes are still to come.
    Length(u64),
    Chunked,
}

impl Coding {
    /// For a body of `exact` bytes where that is known, else of as many as the client declared.
    pub fn of(exact: Option<u64>, headers: &HeaderMap) -> Self {
        let declared = || headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        exact.or_else(declared).map_or(Self::Chunked, Self::Length)
    }
}

/// Writes the head of a request for `target`, a path and query, framed as `coding` says, whatever
/// `headers` say of that.
pub fn put_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &Uri,
    headers: &HeaderMap,
    coding: Coding,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let path = target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            fields::put_field(out, name, value);
        }
    }
    let length = match coding {
        Coding::Chunked => None,
        Coding::Length(length) => Some(length),
        // RFC 9110 §8.6: where a body means something, say that there is none.
        Coding::Empty if *method == Method::POST || *method == Method::PUT => Some(0),
        Coding::Empty if headers.contains_key(header::CONTENT_LENGTH) => Some(0),
        Coding::Empty => return out.extend_from_slice(b"\r\n"),
    };
    match length {
        Some(length) => {
            out.extend_from_slice(b"content-length: ");
            fields::put_decimal(out, length);
            out.extend_from_slice(b"\r\n\r\n");
        }
        None => out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(method: &Method, target: &'static str, coding: Coding) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a"));
        headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
        headers.insert("x", HeaderValue::from_static("1"));
        let mut out = Vec::new();
        put_head(&mut out, method, &Uri::from_static(target), &headers, coding);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_framing_is_the_body_s() {
        for (method, coding, framing) in [
            (Method::GET, Coding::Empty, ""),
            (Method::POST, Coding::Empty, "content-length: 0\r\n"),
            (Method::GET, Coding::Length(12), "content-length: 12\r\n"),
            (Method::POST, Coding::Chunked, "transfer-encoding: chunked\r\n"),
        ] {
            let expected = format!("{method} /a?b HTTP/1.1\r\nhost: a\r\nx: 1\r\n{framing}\r\n");
            assert_eq!(head(&method, "/a?b", coding), expected);
        }
    }

    #[test]
    fn a_length_is_the_body_s_own_or_the_client_s() {
        let mut headers = HeaderMap::new();
        assert_eq!(Coding::of(None, &headers), Coding::Chunked);
        assert_eq!(Coding::of(Some(3), &headers), Coding::Length(3));
        headers.insert("content-length", HeaderValue::from_static("5"));
        assert_eq!(Coding::of(None, &headers), Coding::Length(5));
        assert_eq!(Coding::of(Some(3), &headers), Coding::Length(3));
    }
}
