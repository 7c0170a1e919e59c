//! Requests that are judged by what they ask for; how they may be spelled is in `tests/corpus`.

use std::io::Write;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::h2;
use crate::support::read_answer;
use crate::support::tls;

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
