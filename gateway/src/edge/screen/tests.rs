use proptest::prelude::*;

use super::*;

/// The verdicts on `bytes`, which come `step` at a time.
fn verdicts(bytes: &[u8], step: usize) -> Vec<Result<(), Refusal>> {
    let mut screen = Screen::default();
    for piece in bytes.chunks(step.max(1)) {
        screen.feed(piece);
    }
    screen.verdicts.into()
}

const OK: Result<(), Refusal> = Ok(());

#[test]
fn a_line_that_ends_with_lf_alone_is_refused() {
    for head in ["GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n"] {
        assert_eq!(verdicts(head.as_bytes(), 9), [Err(Refusal::BareLineFeed)], "{head:?}");
    }
}

#[test]
fn a_buffer_full_of_short_requests_is_followed() {
    let many = b"GET / HTTP/1.1\r\n\r\n".repeat(3000);
    assert_eq!(verdicts(&many, 4096), vec![OK; 3000]);
}

#[test]
fn each_request_has_one_verdict_however_it_is_cut() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
        POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
        5;x=y\r\nGET /\r\n0\r\nSum: 1\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
        GET / HTTP/1.1\r\n\r\n";
    let expected = [OK, OK, OK, Err(Refusal::TwoFramings)];
    for step in [1, 2, 3, 7, 64, 4096] {
        assert_eq!(verdicts(bytes, step), expected, "{step} bytes at a time");
    }
}

#[test]
fn a_framing_that_two_parsers_could_read_differently_is_refused() {
    for (fields, refusal) in [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", Refusal::TwoFramings),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", Refusal::TwoFramings),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked", Refusal::TwoFramings),
        ("Content-Length: 4\r\nContent-Length: 4", Refusal::ContentLength),
        ("Content-Length: 4\r\nContent-Length: 5", Refusal::ContentLength),
        ("Content-Length: 4, 4", Refusal::ContentLength),
        ("Content-Length: +4", Refusal::ContentLength),
        ("Content-Length: -4", Refusal::ContentLength),
        ("Content-Length: 0x4", Refusal::ContentLength),
        ("Content-Length:", Refusal::ContentLength),
        ("Content-Length: 99999999999999999999", Refusal::ContentLength),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Refusal::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", Refusal::TransferEncoding),
        ("Transfer-Encoding: chunked, identity", Refusal::TransferEncoding),
        ("Transfer-Encoding: identity", Refusal::TransferEncoding),
        ("Transfer-Encoding: xchunked", Refusal::TransferEncoding),
        ("Transfer-Encoding: \x0bchunked", Refusal::TransferEncoding),
        ("Transfer-Encoding:", Refusal::TransferEncoding),
        ("Upgrade: websocket\r\nContent-Length: 4", Refusal::UpgradeBody),
        ("Upgrade: websocket\r\nTransfer-Encoding: chunked", Refusal::UpgradeBody),
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let found = verdicts(bytes.as_bytes(), 4096);
        // What the parser refuses by itself, hyper refuses too.
        let unparsed = found.is_empty();
        assert!(found == [Err(refusal)] || unparsed, "{fields}: {found:?}");
        assert!(!unparsed || fields.contains('\x0b'), "{fields}");
    }
}

#[test]
fn what_cannot_be_followed_has_no_verdict() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"\x16\x03\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(verdicts(bytes, 4096), [], "{bytes:?}");
        let mut screen = Screen::default();
        screen.feed(bytes);
        assert_eq!(screen.verdict(), Err(Refusal::Unframed));
    }
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        zz\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    assert_eq!(verdicts(bytes, 4096), [OK]);
}

#[test]
fn a_head_without_end_is_not_kept() {
    let mut screen = Screen::default();
    screen.feed(b"GET / HTTP/1.1\r\n");
    for _ in 0..100_000 {
        screen.feed(b"x: yyyyyyyyyyyy\r\n");
    }
    assert!(screen.partial.capacity() <= 4 * HEAD_BYTES_MAX);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        step in 1usize..50,
    ) {
        verdicts(&bytes, step);
    }

    #[test]
    fn bodies_are_skipped_whatever_they_hold(
        sizes in prop::collection::vec((any::<bool>(), 0usize..200), 1..6),
        step in 1usize..100,
    ) {
        let mut bytes = Vec::new();
        for (chunked, size) in &sizes {
            let body = "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n".repeat(6);
            let body = &body[..*size];
            bytes.extend_from_slice(b"PUT / HTTP/1.1\r\nHost: a\r\n");
            let rest = match (chunked, size) {
                (false, _) => format!("Content-Length: {size}\r\n\r\n{body}"),
                (true, 0) => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                (true, _) => format!(
                    "Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
                ),
            };
            bytes.extend_from_slice(rest.as_bytes());
        }
        prop_assert_eq!(verdicts(&bytes, step), vec![OK; sizes.len()]);
    }
}
