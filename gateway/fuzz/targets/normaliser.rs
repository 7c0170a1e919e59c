//! What a client of HTTP/1 sends: nothing makes the gateway panic, and what passes is the same
//! request to whoever reads what the gateway writes.
#![no_main]

use bytes::Bytes;
use gateway_fuzz::edge::head;
use gateway_fuzz::edge::head::Framing;
use gateway_fuzz::edge::head::Head;
use gateway_fuzz::edge::head::Scan;
use gateway_fuzz::rules::forwarded;
use gateway_fuzz::rules::forwarded::Peer;
use gateway_fuzz::rules::forwarded::Trusted;
use gateway_fuzz::rules::hop;
use gateway_fuzz::rules::policy;
use gateway_fuzz::upstream::request;
use gateway_fuzz::upstream::request::Coding;
use gateway_fuzz::wire::chunked::ChunkError;
use gateway_fuzz::wire::chunked::Decoder;
use gateway_fuzz::wire::chunked::Part;
use http::HeaderMap;
use http::Uri;
use http::header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = Scan::default().end(bytes);
    // Byte by byte, the same is found.
    let mut scan = Scan::default();
    let cut = (0..=bytes.len()).map(|end| scan.end(&bytes[..end]));
    let cut = cut.filter(|found| !matches!(found, Ok(None))).next().unwrap_or(Ok(None));
    assert_eq!(whole, cut);

    let Ok(Some(length)) = whole else { return };
    let Ok(read) = head::parse(&Bytes::copy_from_slice(&bytes[..length])) else { return };
    let Some((written, sent)) = pass_on(read) else { return };
    assert_same(&written, &sent);
    if sent.framing == Framing::Chunked {
        let rest = &bytes[length..];
        let cut: Vec<&[u8]> = rest.chunks(1).collect();
        assert_eq!(decoded(&[rest]), decoded(&cut));
    }
});

/// A request on its way to a service.
struct Sent {
    method: http::Method,
    target: Uri,
    headers: HeaderMap,
    host: String,
    framing: Framing,
}

/// What `relay::proxy` does with a request, as far as it is pure.
fn pass_on(read: Head) -> Option<(Vec<u8>, Sent)> {
    let framing = read.framing;
    let (parts, ()) = read.request.into_parts();
    let mut headers = parts.headers;
    policy::method(&parts.method).ok()?;
    let host = policy::host(&parts.uri, &headers).ok()?;
    policy::target(&parts.uri).ok()?;
    forwarded::unambiguous(&headers).ok()?;
    let _internal: bool = policy::is_internal(parts.uri.path());
    hop::remove(&mut headers);
    let trusted = Trusted::default();
    let peer = Peer::new("192.0.2.1:1".parse().unwrap(), &trusted);
    let line = match headers.get(header::HOST) {
        Some(line) => line.clone(),
        None => parts.uri.authority().unwrap().as_str().parse().unwrap(),
    };
    forwarded::rewrite(&mut headers, &peer, &line, &trusted);
    headers.insert(header::HOST, line);
    headers.remove(header::EXPECT);
    let target = parts.uri.into_parts().path_and_query.map_or_else(Uri::default, Uri::from);
    let coding = match framing {
        Framing::None => Coding::Empty,
        Framing::Length(length) => Coding::Length(length),
        Framing::Chunked => Coding::Chunked,
    };
    let mut written = Vec::new();
    request::put_head(&mut written, &parts.method, &target, &headers, coding);
    Some((written, Sent { method: parts.method, target, headers, host, framing }))
}

/// Read again, strictly and naively, `written` says what was `sent` and nothing else.
fn assert_same(written: &[u8], sent: &Sent) {
    // Ours may be longer than what a client may send.
    if written.len() < head::HEAD_BYTES_MAX && sent.headers.len() < policy::FIELDS_MAX {
        let length = Scan::default().end(written).unwrap().unwrap();
        assert_eq!(length, written.len(), "a head within the head");
        let again = head::parse(&Bytes::copy_from_slice(written)).unwrap();
        assert_eq!(again.framing, sent.framing);
        assert_eq!(again.request.method(), sent.method);
        assert_eq!(again.request.uri().path_and_query(), sent.target.path_and_query());
        assert_eq!(policy::host(again.request.uri(), again.request.headers()), Ok(sent.host.clone()));
        assert_eq!(policy::target(again.request.uri()), Ok(()));
        assert_eq!(forwarded::unambiguous(again.request.headers()), Ok(()));
        for name in sent.headers.keys().filter(|name| *name != header::CONTENT_LENGTH) {
            let values = |headers: &HeaderMap| -> Vec<Vec<u8>> {
                headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
            };
            assert_eq!(values(again.request.headers()), values(&sent.headers), "{name}");
        }
    }
    // A reader that only cuts at line ends finds the same lines.
    let lines: Vec<&[u8]> = written.split(|c| *c == b'\n').collect();
    assert!(lines[..lines.len() - 1].iter().all(|line| line.ends_with(b"\r")));
    assert!(!written.contains(&0));
    let is = |line: &&[u8], name: &str| {
        line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    };
    let count = |name: &str| lines.iter().filter(|line| is(line, name)).count();
    assert_eq!(count("host:"), 1);
    let (lengths, codings) = (count("content-length:"), count("transfer-encoding:"));
    match sent.framing {
        Framing::None => assert!(lengths <= 1 && codings == 0),
        Framing::Length(_) => assert_eq!((lengths, codings), (1, 0)),
        Framing::Chunked => assert_eq!((lengths, codings), (0, 1)),
    }
    for name in ["connection:", "upgrade:", "te:", "keep-alive:", "x-real-ip:", "expect:"] {
        assert_eq!(count(name), 0, "{name}");
    }
    for (name, value) in [
        ("x-forwarded-for:", "x-forwarded-for: 192.0.2.1\r"),
        ("x-forwarded-proto:", "x-forwarded-proto: https\r"),
    ] {
        let found: Vec<&&[u8]> = lines.iter().filter(|line| is(line, name)).collect();
        assert_eq!(found, [&value.as_bytes()], "{name}");
    }
    // Nor can a service that decodes the path climb out of it.
    let path = sent.target.path();
    let decoded = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    assert!(path.starts_with('/'));
    assert!(decoded.split(|c| matches!(c, b'/' | b'\\')).all(|segment| segment != b".."));
}

/// A body out of pieces, and what is behind it.
fn decoded(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<HeaderMap>, Vec<u8>), Option<ChunkError>> {
    let mut decoder = Decoder::default();
    let (mut body, mut behind, mut ended) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        let mut rest = *piece;
        while !ended {
            let (skip, part) = decoder.step(rest)?;
            rest = &rest[skip..];
            match part {
                Part::More => break,
                Part::Data(length) => {
                    body.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                }
                Part::End => ended = true,
            }
        }
        if ended {
            behind.extend_from_slice(rest);
        }
    }
    if !ended {
        return Err(None);
    }
    Ok((body, decoder.take_trailers()?, behind))
}
