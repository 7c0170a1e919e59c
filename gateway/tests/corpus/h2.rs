//! HTTP/2: what RFC 9113 calls malformed or an error, and what would mean something else once it is
//! HTTP/1.1 (§10.3).

mod messages;
mod order;

use std::io::Write;

use crate::frames::CONTINUATION;
use crate::frames::DATA;
use crate::frames::END_HEADERS;
use crate::frames::END_STREAM;
use crate::frames::End;
use crate::frames::GET;
use crate::frames::HEADERS;
use crate::frames::PADDED;
use crate::frames::PING;
use crate::frames::RST_STREAM;
use crate::frames::SETTINGS;
use crate::frames::block;
use crate::frames::connect;
use crate::frames::end_of;
use crate::frames::frame;
use crate::frames::get;
use crate::support::Gateway;
use crate::support::Upstream;

/// A request that must not be seen by anybody.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// HEADERS of a request without a body, on stream 1.
fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// The same with a body, whole and in one frame.
fn post(fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut all = vec![
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/"),
    ];
    all.extend_from_slice(fields);
    let head = frame(HEADERS, END_HEADERS, 1, &block(&all));
    [head, frame(DATA, END_STREAM, 1, body)].concat()
}

/// GET with further fields.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    request(&[&GET, fields].concat())
}

/// GET with another value of one of its pseudo fields, or without it.
fn pseudo(name: &str, value: Option<&str>) -> Vec<u8> {
    let mut fields = GET.to_vec();
    match value {
        Some(value) => fields.iter_mut().filter(|field| field.0 == name).for_each(|f| f.1 = value),
        None => fields.retain(|field| field.0 != name),
    }
    request(&fields)
}

/// What is refused before a byte of it goes to a service.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    [messages::heads(), messages::fields(), order::frames()].concat()
}

#[test]
fn what_is_malformed_goes_to_no_service() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__IDLE_S", "5")]);
    let cases = refused();
    assert!(cases.len() > 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, bytes) in &cases {
        let before = upstream.seen().len();
        let mut client = connect(&gateway, &[]);
        // It may end the connection before all of it is written.
        let _: std::io::Result<()> = client.get_mut().write_all(bytes);
        let end = end_of(&mut client, 1);
        let seen = &upstream.seen()[before..];
        if end == End::Ok || !seen.is_empty() {
            wrong.push(format!("{name}: {end:?}, {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What is found wrong only after its head went on: the service sees that the body breaks off, and
/// nothing behind it.
fn cut() -> Vec<(&'static str, Vec<u8>)> {
    let hidden = HIDDEN.as_bytes();
    let head = |fields: &[(&str, &str)]| {
        let [_, scheme, host, path] = GET;
        let fields = [&[(":method", "POST"), scheme, host, path], fields].concat();
        frame(HEADERS, END_HEADERS, 1, &block(&fields))
    };
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers = |fields: &[(&str, &str)]| {
        let end = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
        [head(&[]), data(0, b"x"), end].concat()
    };
    vec![
        ("less than content-length", {
            [head(&[("content-length", "9")]), data(END_STREAM, b"x")].concat()
        }),
        ("more than content-length", {
            [head(&[("content-length", "1")]), data(END_STREAM, hidden)].concat()
        }),
        ("more than content-length, later", {
            [head(&[("content-length", "1")]), data(0, b"x"), data(END_STREAM, hidden)].concat()
        }),
        ("content-length of nothing", {
            [head(&[("content-length", "0")]), data(END_STREAM, hidden)].concat()
        }),
        ("upper case in trailers", trailers(&[("X-Upper", "x")])),
        ("line in trailers", trailers(&[("x", "a\r\n\r\nGET /hidden HTTP/1.1")])),
        ("transfer-encoding in trailers", trailers(&[("transfer-encoding", "chunked")])),
        ("trailers that do not end the stream", {
            let middle = frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")]));
            [head(&[]), data(0, b"x"), middle, data(END_STREAM, b"y")].concat()
        }),
        ("padding longer than DATA", {
            [head(&[]), frame(DATA, PADDED, 1, &[200, b'x', 0])].concat()
        }),
        ("more than the window", {
            let piece = data(0, &[b'x'; 16_384]);
            [head(&[("content-length", "9000000")]), piece.repeat(100)].concat()
        }),
        ("RST_STREAM in the middle", {
            [head(&[]), data(0, b"x"), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat()
        }),
    ]
}

#[test]
fn a_body_that_is_wrong_is_cut_off_and_hides_nothing() {
    // Reads what there is of the body, and answers nothing that is not whole.
    let upstream = Upstream::start(|call| {
        let (body, _) = call.body()?;
        call.ok(&format!("{} bytes", body.len()))
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut wrong = Vec::new();
    for (name, bytes) in cut() {
        let mut client = connect(&gateway, &[]);
        let _: std::io::Result<()> = client.get_mut().write_all(&bytes);
        // The client itself ended that stream, so the gateway does not.
        let end = match name {
            "RST_STREAM in the middle" => {
                client.get_mut().write_all(&get(3)).unwrap();
                assert_eq!(end_of(&mut client, 3), End::Ok, "{name}");
                continue;
            }
            _ => end_of(&mut client, 1),
        };
        if end == End::Ok {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    let hidden = upstream.seen().iter().any(|request| request.line.contains("hidden"));
    assert!(!hidden, "{:?}", upstream.seen());
}

/// What is right, however odd, and what the service gets of it.
fn right() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = block(&GET);
    let [method, scheme, host, path] = GET;
    let flags = END_HEADERS | END_STREAM;
    let bytes = |payload: &[u8]| frame(HEADERS, flags, 1, payload);
    let target = |target| pseudo(":path", Some(target));
    vec![
        ("plain", get(1), "/"),
        ("pseudo fields in another order", request(&[path, host, scheme, method]), "/"),
        (
            "host in place of :authority",
            request(&[method, scheme, path, ("host", "localhost")]),
            "/",
        ),
        ("host and :authority agree", with(&[("host", "LOCALHOST:443")]), "/"),
        ("te: trailers", with(&[("te", "trailers")]), "/"),
        ("cookies in pieces", with(&[("cookie", "a=1"), ("cookie", "b=2")]), "/"),
        ("a hundred fields", with(&[("x", "y"); 90]), "/"),
        ("content-length: 0 of nothing", with(&[("content-length", "0")]), "/"),
        ("a body as long as it says", post(&[("content-length", "3")], b"abc"), "/"),
        ("a body of no stated length", post(&[], HIDDEN.as_bytes()), "/"),
        ("an encoded slash", target("/say/and%2For"), "/say/and%2For"),
        ("a query of everything", target("/x?a=../../b&c=%00"), "/x?a=../../b&c=%00"),
        ("dots that are no segment", target("/a..b/..."), "/a..b/..."),
        (
            "padded",
            {
                let payload = [&[3][..], &whole, &[0; 3]].concat();
                frame(HEADERS, flags | PADDED, 1, &payload)
            },
            "/",
        ),
        (
            "with a priority",
            frame(HEADERS, flags | 0x20, 1, &[&[0, 0, 0, 0, 9], &whole[..]].concat()),
            "/",
        ),
        (
            "in pieces",
            {
                let (one, two) = whole.split_at(7);
                let first = frame(HEADERS, END_STREAM, 1, one);
                [first, frame(CONTINUATION, END_HEADERS, 1, two)].concat()
            },
            "/",
        ),
        ("after an unknown frame", [frame(0x42, 0xff, 0, b"what"), bytes(&whole)].concat(), "/"),
        (
            "after an unknown setting",
            [frame(SETTINGS, 0, 0, &[0x42, 0x42, 0, 0, 0, 1]), get(1)].concat(),
            "/",
        ),
        ("after a ping", [frame(PING, 0, 0, &[7; 8]), get(1)].concat(), "/"),
    ]
}

#[test]
fn what_is_right_goes_on_as_it_is() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        call.ok("whole")
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    for (name, bytes, target) in right() {
        let before = upstream.seen().len();
        let mut client = connect(&gateway, &[]);
        client.get_mut().write_all(&bytes).unwrap();
        assert_eq!(end_of(&mut client, 1), End::Ok, "{name}");
        let seen = &upstream.seen()[before..];
        assert_eq!(seen.len(), 1, "{name}: {seen:?}");
        let words: Vec<&str> = seen[0].line.split(' ').collect();
        assert_eq!((words[1], words[2]), (target, "HTTP/1.1"), "{name}");
        assert_eq!(
            seen[0].field("host").map(str::to_lowercase).unwrap().split(':').next(),
            Some("localhost")
        );
    }
}
