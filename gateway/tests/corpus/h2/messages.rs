//! Messages that are malformed (RFC 9113 §8), or would be once they are HTTP/1.1.

use super::post;
use super::pseudo;
use super::request;
use super::with;
use crate::frames::GET;

/// Pseudo fields (RFC 9113 §8.3.1).
pub fn heads() -> Vec<(&'static str, Vec<u8>)> {
    let path = |path| pseudo(":path", Some(path));
    let authority = |authority| pseudo(":authority", Some(authority));
    let [method, scheme, host, slash] = GET;
    vec![
        ("no :method", pseudo(":method", None)),
        ("no :scheme", pseudo(":scheme", None)),
        ("no :path", pseudo(":path", None)),
        ("no :authority and no host", pseudo(":authority", None)),
        ("two :method", request(&[method, method, scheme, host, slash])),
        ("two :scheme", request(&[method, scheme, scheme, host, slash])),
        ("two :authority", request(&[method, scheme, host, host, slash])),
        ("two :path", request(&[method, scheme, host, slash, (":path", "/hidden")])),
        ("pseudo after regular", request(&[method, scheme, ("x", "y"), host, slash])),
        ("pseudo of an answer", with(&[(":status", "200")])),
        ("unknown pseudo", request(&[method, scheme, host, slash, (":hidden", "x")])),
        (":protocol without CONNECT", request(&[method, scheme, host, slash, (":protocol", "ws")])),
        ("empty :path", path("")),
        (":path without a slash", path("hidden")),
        (":path in absolute form", path("https://localhost/hidden")),
        (":path with another host", path("//localhost:99@hidden\\")),
        (":path with a blank", path("/ HTTP/1.1")),
        (":path with a line", path("/ HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hidden")),
        (":path with LF", path("/\nx")),
        (":path with CR", path("/\rx")),
        (":path with NUL", path("/\0")),
        (":path with a tab", path("/\tx")),
        ("dot segment", path("/a/../hidden")),
        ("encoded dot segment", path("/a/%2e%2E/hidden")),
        ("dot segment with a slash", path("/a/..%2fhidden")),
        ("dot segment with a backslash", path("/a/..%5chidden")),
        ("dot segment with a parameter", path("/a/..;x/hidden")),
        ("encoded NUL", path("/a%00")),
        ("backslash", path("/a\\hidden")),
        ("asterisk for GET", path("*")),
        ("empty :method", pseudo(":method", Some(""))),
        (":method with a blank", pseudo(":method", Some("GET /hidden"))),
        (":method with a line", pseudo(":method", Some("GET / HTTP/1.1\r\nx: "))),
        ("empty :scheme", pseudo(":scheme", Some(""))),
        (":scheme of plain HTTP", pseudo(":scheme", Some("http"))),
        (":scheme of another protocol", pseudo(":scheme", Some("gopher"))),
        (":scheme with a line", pseudo(":scheme", Some("https\r\nx"))),
        ("empty :authority", authority("")),
        ("user in :authority", authority("user@localhost")),
        ("password in :authority", authority("user:pass@localhost")),
        ("path in :authority", authority("localhost/hidden")),
        ("blank in :authority", authority("local host")),
        ("line in :authority", authority("localhost\r\nx: y")),
        ("port of :authority is no number", authority("localhost:x")),
        ("port of :authority is too large", authority("localhost:65536")),
        (":authority is another's", authority("elsewhere.example")),
        (":authority and host disagree", with(&[("host", "elsewhere.example")])),
        (":authority and host disagree on the port", with(&[("host", "localhost:99")])),
        ("two hosts", with(&[("host", "localhost"), ("host", "localhost")])),
        ("CONNECT", request(&[(":method", "CONNECT"), (":authority", "localhost:22")])),
        ("CONNECT with a path", request(&[(":method", "CONNECT"), scheme, host, slash])),
        ("TRACE", pseudo(":method", Some("TRACE"))),
    ]
}

/// Fields (RFC 9113 §8.2).
pub fn fields() -> Vec<(&'static str, Vec<u8>)> {
    let one = |name, value| with(&[(name, value)]);
    vec![
        ("upper case", one("X-Upper", "x")),
        ("empty name", one("", "x")),
        ("name with a blank", one("a b", "x")),
        ("name with a colon", one("a:b", "x")),
        ("name with `: `", one("transfer-encoding: chunked\r\nx", "y")),
        ("name with LF", one("a\nb", "x")),
        ("name with NUL", one("a\0b", "x")),
        ("name with DEL", one("a\x7f", "x")),
        ("value with CR LF", one("x", "a\r\ntransfer-encoding: chunked")),
        ("value with LF", one("x", "a\nb: c")),
        ("value with CR", one("x", "a\rb")),
        ("value with NUL", one("x", "a\0b")),
        ("connection", one("connection", "close")),
        ("connection that names a field", one("connection", "x-forwarded-for")),
        ("keep-alive", one("keep-alive", "timeout=5")),
        ("proxy-connection", one("proxy-connection", "keep-alive")),
        ("transfer-encoding", one("transfer-encoding", "chunked")),
        ("transfer-encoding of a body", post(&[("transfer-encoding", "chunked")], b"0\r\n\r\n")),
        ("upgrade", one("upgrade", "h2c")),
        ("TE other than trailers", one("te", "gzip")),
        ("TE with more than trailers", one("te", "trailers, gzip")),
        ("content-length is no number", post(&[("content-length", "x")], b"x")),
        ("content-length with a sign", post(&[("content-length", "+1")], b"x")),
        ("content-length is negative", post(&[("content-length", "-1")], b"x")),
        ("content-length is a list", post(&[("content-length", "1, 1")], b"x")),
        ("content-length overflows", post(&[("content-length", "18446744073709551617")], b"x")),
        ("empty content-length", post(&[("content-length", "")], b"x")),
        ("two content-lengths", post(&[("content-length", "1"), ("content-length", "1")], b"x")),
        ("two different", post(&[("content-length", "0"), ("content-length", "1")], b"x")),
        ("content-length without a body", one("content-length", "44")),
        ("more fields than may be", with(&[("x", "y"); 120])),
        ("a longer field than may be", one("x", &"y".repeat(40_000))),
    ]
}
