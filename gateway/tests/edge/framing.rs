//! Requests that two parsers could read differently: answered 400, and nothing of them passed on.

use std::io::Read;
use std::io::Write;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::h2;
use crate::support::read_answer;
use crate::support::tls;

/// What a smuggler hides behind a request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_request_with_two_readings_is_refused_and_the_connection_closed() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let host = "Host: localhost\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for request in [
        // CL.TE and TE.CL
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\n{chunked}\r\n0\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}{chunked}Content-Length: 5\r\n\r\n0\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 0\r\n{chunked}\r\n0\r\n\r\n{HIDDEN}"),
        // TE.TE
        format!("POST / HTTP/1.1\r\n{host}{chunked}{chunked}\r\n0\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, identity\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.0\r\n{host}{chunked}\r\n0\r\n\r\n{HIDDEN}"),
        // CL.CL
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 0\r\nContent-Length: 44\r\n\r\n{HIDDEN}"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 3, 3\r\n\r\nabc"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: +3\r\n\r\nabc"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 0x3\r\n\r\nabc"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 99999999999999999999\r\n\r\n"),
        // Host
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}Host: other\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n".to_owned(),
        format!("GET https://other/ HTTP/1.1\r\n{host}\r\n"),
        format!("GET http://localhost:99/ HTTP/1.1\r\n{host}\r\n"),
        // Targets
        format!("GET /../x HTTP/1.1\r\n{host}\r\n"),
        format!("GET /a/%2e%2e/x HTTP/1.1\r\n{host}\r\n"),
        format!("GET /a/..%2fx HTTP/1.1\r\n{host}\r\n"),
        format!("GET /a/..;/x HTTP/1.1\r\n{host}\r\n"),
        format!("GET /a\\x HTTP/1.1\r\n{host}\r\n"),
        format!("GET /%00 HTTP/1.1\r\n{host}\r\n"),
        format!("OPTIONS * HTTP/1.1\r\n{host}\r\n"),
        // Fields
        format!("GET / HTTP/1.1\r\n{host}Bad Name: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host} folded\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X: a\rb\r\n\r\n"),
        format!("GET  / HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1 \r\n{host}\r\n"),
        format!("GET / HTTP/2.0\r\n{host}\r\n"),
        // Upgrades
        format!(
            "GET / HTTP/1.1\r\n{host}Connection: upgrade\r\nUpgrade: websocket\r\n\
             Content-Length: 44\r\n\r\n{HIDDEN}"
        ),
    ] {
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!(answer.status, 400, "{request:?}");
        let mut rest = Vec::new();
        // A reset is an end, too: bytes that nobody read were thrown away.
        let _: std::io::Result<usize> = client.read_to_end(&mut rest);
        assert_eq!(rest, b"", "{request:?}");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

#[test]
fn a_chunked_body_that_is_none_ends_with_its_request() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "zz\r\n\r\n",
        "-1\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "3;a\nb\r\nabc",
    ] {
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        client.get_mut().write_all(format!("{head}{body}{HIDDEN}").as_bytes()).unwrap();
        if let Ok(answer) = read_answer(&mut client, false) {
            assert_eq!(answer.status, 400, "{body:?}");
        }
        assert!(read_answer(&mut client, false).is_err(), "{body:?}");
    }
    let hidden = upstream.seen().iter().filter(|request| request.line.contains("hidden")).count();
    assert_eq!(hidden, 0);
}

#[test]
fn what_is_inside_is_not_reached_by_any_spelling() {
    let upstream = Upstream::echo();
    let routes = format!("/=http://{0} dice.localhost/=http://{0}", upstream.address);
    let gateway = Gateway::start(&routes, &[]);
    for host in ["localhost", "dice.localhost", "127.0.0.1"] {
        for path in [
            "/metrics",
            "/healthz",
            "/%6Detrics",
            "//metrics",
            "/metrics/",
            "/%6d%65%74%72ics?x",
            "/%256Detrics",
            "/metrics%2F",
            "/%2Fmetrics",
            "/metrics;a",
            "/healthz?x=/dice",
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(exchange(&gateway, &request).status, 404, "{host} {path}");
        }
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

#[test]
fn methods_for_other_kinds_of_proxies_are_not_served() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    for request in [
        "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n",
    ] {
        assert_eq!(exchange(&gateway, request).status, 501, "{request}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let many = "x: y\r\n".repeat(150);
    let long = format!("x: {}\r\n", "y".repeat(40_000));
    for fields in [many, long] {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        client.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut client, false).unwrap().status, 431);
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn http2_requests_are_judged_too_and_their_connection_goes_on() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let get = |uri: &str| http::Request::get(uri);
    let empty = http_body_util::Full::<bytes::Bytes>::default;
    let requests = vec![
        get("https://localhost/").header("host", "other").body(empty()).unwrap(),
        get("https://localhost/a/%2e%2e/b").body(empty()).unwrap(),
        get("https://user@localhost/").body(empty()).unwrap(),
        get("https://localhost/%6Detrics").body(empty()).unwrap(),
        http::Request::connect("localhost:22").body(empty()).unwrap(),
        get("https://localhost/good").header("host", "LOCALHOST:443").body(empty()).unwrap(),
    ];
    let statuses: Vec<u16> =
        h2(&gateway, requests).iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses, [400, 400, 400, 404, 501, 200]);
    assert_eq!(upstream.seen().len(), 1);
}
