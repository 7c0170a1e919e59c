//! The head of an answer, and how its body is delimited.

use http::HeaderMap;
use http::Method;
use http::StatusCode;
use http::Version;
use http::header;
use http::response::Parts;

use crate::edge::http1::date;
use crate::wire::fields;

/// What of the request decides how it is answered.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub version: Version,
    pub keep_alive: bool,
    pub trailers: bool,
}

/// How the body of an answer is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// There is none, whatever the fields say.
    Empty,
    Length(u64),
    Chunked,
    /// By the end of the connection: the client does not know chunks.
    Close,
}

/// How an answer to `asked` with this head is delimited, when its body has `exact` bytes.
pub fn delimit(asked: &Asked, status: StatusCode, exact: Option<u64>) -> Delimited {
    let none = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match exact {
        _ if none || asked.method == Method::HEAD => Delimited::Empty,
        Some(length) => Delimited::Length(length),
        None if asked.version == Version::HTTP_11 => Delimited::Chunked,
        None => Delimited::Close,
    }
}

/// True when the handler would have the connection closed.
pub fn closes(headers: &HeaderMap) -> bool {
    headers.get(header::CONNECTION).is_some_and(|value| value == "close")
}

/// Writes the head. `own_length` is the length of a body that is not sent, of an answer to `HEAD`.
pub fn put_head(
    out: &mut Vec<u8>,
    head: &Parts,
    asked: &Asked,
    delimited: Delimited,
    own_length: Option<u64>,
    keep: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    // What the length of no body would be is for the service to say, unless there cannot be one.
    let keeps_length = delimited == Delimited::Empty
        && !head.status.is_informational()
        && head.status != StatusCode::NO_CONTENT;
    let mut dated = false;
    for (name, value) in &head.headers {
        let skip = match *name {
            header::CONNECTION => !switching,
            header::TRANSFER_ENCODING => true,
            header::CONTENT_LENGTH => !keeps_length,
            _ => false,
        };
        if !skip {
            dated |= *name == header::DATE;
            fields::put_field(out, name, value);
        }
    }
    let length = match delimited {
        Delimited::Length(length) => Some(length),
        Delimited::Empty if keeps_length && !head.headers.contains_key(header::CONTENT_LENGTH) => {
            own_length
        }
        _ => None,
    };
    if let Some(length) = length {
        out.extend_from_slice(b"content-length: ");
        fields::put_decimal(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if delimited == Delimited::Chunked {
        fields::put_line(out, b"transfer-encoding", b"chunked");
    }
    if !keep && !switching {
        fields::put_line(out, b"connection", b"close");
    } else if keep && asked.version == Version::HTTP_10 {
        fields::put_line(out, b"connection", b"keep-alive");
    }
    if !dated {
        out.extend_from_slice(b"date: ");
        date::put(out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn asked(method: Method, version: Version) -> Asked {
        Asked { method, version, keep_alive: true, trailers: false }
    }

    #[test]
    fn a_body_is_delimited_as_the_client_can_read_it() {
        let (get, old) =
            (asked(Method::GET, Version::HTTP_11), asked(Method::GET, Version::HTTP_10));
        let head = asked(Method::HEAD, Version::HTTP_11);
        for (asked, status, exact, expected) in [
            (&get, 200, Some(3), Delimited::Length(3)),
            (&get, 200, Some(0), Delimited::Length(0)),
            (&get, 200, None, Delimited::Chunked),
            (&old, 200, Some(3), Delimited::Length(3)),
            (&old, 200, None, Delimited::Close),
            (&head, 200, Some(3), Delimited::Empty),
            (&head, 200, None, Delimited::Empty),
            (&get, 204, None, Delimited::Empty),
            (&get, 304, Some(3), Delimited::Empty),
            (&get, 101, Some(0), Delimited::Empty),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(delimit(asked, status, exact), expected, "{asked:?} {status} {exact:?}");
        }
    }

    #[test]
    fn the_framing_is_ours_and_the_rest_the_handlers() {
        let get = asked(Method::GET, Version::HTTP_11);
        let old = asked(Method::GET, Version::HTTP_10);
        let head = asked(Method::HEAD, Version::HTTP_11);
        for (asked, status, fields, delimited, own, keep, expected) in [
            (
                &get,
                200,
                &[("content-length", "9")][..],
                Delimited::Length(3),
                None,
                true,
                "content-length: 3\r\n",
            ),
            (
                &get,
                200,
                &[("transfer-encoding", "gzip")],
                Delimited::Chunked,
                None,
                true,
                "transfer-encoding: chunked\r\n",
            ),
            (
                &get,
                200,
                &[("connection", "close")],
                Delimited::Length(0),
                None,
                false,
                "content-length: 0\r\nconnection: close\r\n",
            ),
            (
                &old,
                200,
                &[],
                Delimited::Length(0),
                None,
                true,
                "content-length: 0\r\nconnection: keep-alive\r\n",
            ),
            (
                &head,
                200,
                &[("content-length", "9")],
                Delimited::Empty,
                Some(0),
                true,
                "content-length: 9\r\n",
            ),
            (&head, 404, &[], Delimited::Empty, Some(7), true, "content-length: 7\r\n"),
            (&get, 204, &[("content-length", "9")], Delimited::Empty, None, true, ""),
            (
                &get,
                304,
                &[("content-length", "9")],
                Delimited::Empty,
                None,
                true,
                "content-length: 9\r\n",
            ),
            (
                &get,
                101,
                &[("connection", "upgrade")],
                Delimited::Empty,
                None,
                false,
                "connection: upgrade\r\n",
            ),
        ] {
            let mut response = Response::builder().status(status).header("date", "D");
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            let (parts, ()) = response.body(()).unwrap().into_parts();
            let mut out = Vec::new();
            put_head(&mut out, &parts, asked, delimited, own, keep);
            let reason = parts.status.canonical_reason().unwrap();
            let text = String::from_utf8(out).unwrap();
            let rest = text.strip_prefix(&format!("HTTP/1.1 {status} {reason}\r\ndate: D\r\n"));
            assert_eq!(rest, Some(&*format!("{expected}\r\n")), "{asked:?} {fields:?}");
        }
    }
}
