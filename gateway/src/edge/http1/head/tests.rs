use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> Result<Head, HeadError> {
    let length = Scan::default().end(text)?.ok_or(HeadError::Late)?;
    assert_eq!(length, text.len());
    parse(&Bytes::copy_from_slice(text))
}

fn with(fields: &str) -> Result<Head, HeadError> {
    read(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
}

#[test]
fn a_head_is_found_however_it_is_cut() {
    let text = b"GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nGET /b";
    for step in 1..text.len() {
        let mut scan = Scan::default();
        let ends = (1..=text.len().div_ceil(step)).map(|n| (n * step).min(text.len()));
        let found = ends.filter_map(|end| scan.end(&text[..end]).unwrap()).next();
        assert_eq!(found, Some(text.len() - 6), "{step} bytes at a time");
    }
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    for (line, error) in [
        ("x: y\r\n", HeadError::Fields),
        ("x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", HeadError::Fields),
        ("x", HeadError::Target),
    ] {
        let mut text =
            if error == HeadError::Target { "" } else { "GET / HTTP/1.1\r\n" }.to_owned();
        let mut scan = Scan::default();
        let found = (0..HEAD_BYTES_MAX).find_map(|_| {
            text.push_str(line);
            scan.end(text.as_bytes()).err()
        });
        assert_eq!(found, Some(error), "{line}");
    }
}

#[test]
fn the_framing_is_known_or_the_head_refused() {
    for (fields, expected) in [
        ("", Ok(Framing::None)),
        ("Content-Length: 0\r\n", Ok(Framing::None)),
        ("content-length:\t3 \r\n", Ok(Framing::Length(3))),
        ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Length(u64::MAX))),
        ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
        ("Content-Length: 18446744073709551616\r\n", Err(Refusal::ContentLength)),
        ("Content-Length: 03\r\n", Err(Refusal::ContentLength)),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", Err(Refusal::ContentLength)),
        ("Content-Length: 3, 3\r\n", Err(Refusal::ContentLength)),
        ("Content-Length:\r\n", Err(Refusal::ContentLength)),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", Err(Refusal::TwoFramings)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(Refusal::TransferEncoding)),
        ("Transfer-Encoding:\r\n", Err(Refusal::TransferEncoding)),
        ("Upgrade: websocket\r\nContent-Length: 3\r\n", Err(Refusal::UpgradeBody)),
    ] {
        let found = with(fields).map(|head| head.framing);
        assert_eq!(found, expected.map_err(HeadError::from), "{fields:?}");
    }
    let old = read(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").map(|_| ());
    assert_eq!(old, Err(Refusal::TransferEncoding.into()));
}

#[test]
fn what_the_client_asks_of_the_connection_is_understood() {
    for (version, fields, keep_alive, expects, trailers, upgrade) in [
        (1, "", true, false, false, false),
        (1, "Connection: x, Close\r\n", false, false, false, false),
        (0, "", false, false, false, false),
        (0, "Connection: keep-alive\r\nExpect: 100-continue\r\n", true, false, false, false),
        (1, "Expect: 100-Continue\r\n", true, true, false, false),
        (1, "TE: gzip;q=1, trailers\r\n", true, false, true, false),
        (1, "Connection: upgrade\r\nUpgrade: websocket\r\n", true, false, false, true),
        (1, "Upgrade: websocket\r\n", true, false, false, false),
        (0, "Connection: upgrade\r\nUpgrade: websocket\r\n", false, false, false, false),
    ] {
        let head = read(format!("GET / HTTP/1.{version}\r\n{fields}\r\n").as_bytes()).unwrap();
        let found = (head.keep_alive, head.expects, head.trailers, head.upgrade);
        assert_eq!(found, (keep_alive, expects, trailers, upgrade), "1.{version} {fields:?}");
    }
    assert_eq!(with("Expect: tea\r\n").err(), Some(HeadError::Expectation));
}

#[test]
fn another_version_is_told_from_none() {
    for (line, status) in [
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/1.11", 400),
        ("GET / http/1.1", 400),
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
    ] {
        let found = read(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(found.err().map(HeadError::status), Some(status), "{line}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in "[ -~\r\n\t\u{0}\u{e9}]{0,200}") {
        let _: Result<_, HeadError> = Scan::default().end(bytes.as_bytes());
        let _: Result<_, HeadError> = parse(&Bytes::from(bytes.into_bytes()));
    }

    /// The same fields in the same order, whatever is in them.
    #[test]
    fn what_is_read_is_what_was_sent(
        fields in prop::collection::vec(("[a-z]{1,3}-[!#$%&'*+.^`|~0-9a-z]{1,8}", "([!-~]([ -~]{0,20}[!-~])?)?"), 0..20),
        target in "/[!$-;=@-Z_a-z~]{0,30}",
    ) {
        let mut text = format!("PUT {target} HTTP/1.1\r\n");
        for (name, value) in &fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let head = read(text.as_bytes()).unwrap();
        prop_assert_eq!(head.request.uri().to_string(), target);
        for (name, _) in &fields {
            let sent: Vec<&str> =
                fields.iter().filter(|(other, _)| other == name).map(|(_, v)| v.as_str()).collect();
            let found: Vec<&str> =
                head.request.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            prop_assert_eq!(found, sent);
        }
    }
}
