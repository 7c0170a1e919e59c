//! What a service gets and what a client gets back.

use std::io::Write;
use std::sync::mpsc;

use bytes::Bytes;
use http_body_util::Full;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::h2;
use crate::support::read_answer;
use crate::support::tls;

fn started(settings: &[(&str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), settings);
    (upstream, gateway)
}

#[test]
fn a_service_learns_who_asked_and_nothing_that_the_client_made_up() {
    let (upstream, gateway) = started(&[]);
    let answer = exchange(
        &gateway,
        "GET /a%2Fb/%7e?c=%20d HTTP/1.1\r\nHost: localhost:8443\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Client-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
         X-Forwarded-Proto: http\r\nConnection: x-hop, X-Forwarded-Host, Host\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         X-Request-Id: my-own.id\r\nCookie: a=b\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("x-request-id"), Some("my-own.id"));
    let seen = &upstream.seen()[0];
    assert_eq!(seen.line, "GET /a%2Fb/%7e?c=%20d HTTP/1.1");
    for (name, expected) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("localhost:8443")),
        ("forwarded", Some(r#"for=127.0.0.1;host="localhost:8443";proto=https"#)),
        ("host", Some("localhost:8443")),
        ("x-request-id", Some("my-own.id")),
        ("traceparent", Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ("cookie", Some("a=b")),
        ("x-real-ip", None),
        ("x-client-ip", None),
        ("x-hop", None),
        ("keep-alive", None),
        ("proxy-connection", None),
        ("upgrade", None),
        ("http2-settings", None),
        ("connection", None),
    ] {
        assert_eq!(seen.field(name), expected, "{name}");
    }
}

#[test]
fn a_trusted_proxy_in_front_is_believed() {
    let (upstream, gateway) = started(&[("GATEWAY__TRUSTED_PROXIES", "127.0.0.0/8 ::1")]);
    exchange(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
    let seen = &upstream.seen()[0];
    assert_eq!(seen.field("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
}

#[test]
fn a_request_id_is_made_where_there_is_no_sane_one() {
    let (upstream, gateway) = started(&[]);
    for given in ["", "X-Request-Id: a b\r\n", "X-Request-Id: <script>\r\n"] {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{given}\r\n");
        let answer = exchange(&gateway, request);
        let id = answer.field("x-request-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()), "{id}");
        assert_eq!(upstream.seen().last().unwrap().field("x-request-id"), Some(id));
    }
}

#[test]
fn http2_becomes_http1_with_one_host_and_one_cookie() {
    let (upstream, gateway) = started(&[]);
    let request = |n: u32| {
        http::Request::post(format!("https://localhost:8443/{n}?q"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x-forwarded-for", "6.6.6.6")
            .body(Full::new(Bytes::from("body")))
            .unwrap()
    };
    let answers = h2(&gateway, (0..50).map(request).collect());
    assert_eq!(answers.len(), 50);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status(), 200);
        let text = str::from_utf8(answer.body()).unwrap();
        assert!(text.starts_with(&format!("POST /{n}?q HTTP/1.1\n")), "{text}");
        assert!(text.ends_with("4 bytes"), "{text}");
    }
    let seen = &upstream.seen()[0];
    assert_eq!(seen.field("host"), Some("localhost:8443"));
    assert_eq!(seen.field("cookie"), Some("a=1; b=2"));
    assert_eq!(seen.field("content-length"), Some("4"));
    assert_eq!(seen.field("te"), Some("trailers"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    let name =
        r#"gateway_tls_handshakes_total{alpn="h2",key_exchange="X25519MLKEM768",version="1.3"}"#;
    assert_eq!(gateway.metric(name), Some(1.0));
}

#[test]
fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        let line = call.request.line.clone();
        call.write(match line.split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "/early" => {
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            }
            "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nKeep-Alive: timeout=5\r\n\r\nlast",
        })
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    let mut ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.get_mut().write_all(request.as_bytes()).unwrap();
        read_answer(&mut client, method == "HEAD").unwrap()
    };
    let answer = ask("GET", "/204");
    assert_eq!((answer.status, answer.field("server")), (204, None));
    let answer = ask("GET", "/304");
    assert_eq!((answer.status, answer.field("etag")), (304, Some("\"a\"")));
    let answer = ask("HEAD", "/head");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("1234")));
    assert_eq!(ask("GET", "/early").text(), "ok");
    assert_eq!(ask("GET", "/empty").text(), "");
    let answer = ask("GET", "/last");
    assert_eq!(answer.text(), "last");
    assert_eq!(answer.field("keep-alive"), None);
}

#[test]
fn trailers_go_through_both_ways() {
    let (send, receive) = mpsc::channel();
    let upstream = Upstream::start(move |call| {
        send.send(call.body()?.1).unwrap();
        call.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let answer = exchange(
        &gateway,
        "POST / HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE\r\n\
         Transfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n2\r\nxy\r\n0\r\nX-Up: 1\r\n\r\n",
    );
    assert_eq!(answer.text(), "abc");
    assert_eq!(answer.trailers.join("").to_ascii_lowercase(), "x-sum: 7");
    let up = receive.recv().unwrap();
    assert_eq!(up.join("").to_ascii_lowercase(), "x-up: 1");
}

#[test]
fn an_answer_with_two_framings_is_not_passed_on() {
    let upstream = Upstream::start(|call| {
        let fields = match call.request.line.split(' ').nth(1).unwrap() {
            "/length-first" => "Content-Length: 90\r\nTransfer-Encoding: chunked",
            "/length-last" => "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "/twice" => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "/list" => "Transfer-Encoding: gzip, chunked",
            _ => "Transfer-Encoding: Chunked",
        };
        call.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for (path, status) in [
        ("/length-first", 502),
        ("/length-last", 502),
        ("/twice", 502),
        ("/list", 502),
        ("/one", 200),
    ] {
        // All over one connection: nothing of an answer is taken for the next one.
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.text() == "abc", status == 200, "{path}: {}", answer.text());
    }
}

#[test]
fn a_body_of_a_method_that_needs_none_is_not_lost() {
    let (_upstream, gateway) = started(&[]);
    for method in ["GET", "DELETE", "OPTIONS", "PATCH"] {
        for framing in [
            "Content-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            let request = format!("{method} / HTTP/1.1\r\nHost: localhost\r\n{framing}");
            let answer = exchange(&gateway, &request);
            assert!(answer.text().ends_with("\n3 bytes"), "{method}: {}", answer.text());
        }
    }
}

#[test]
fn who_waits_for_100_is_told_to_go_on() {
    let (_upstream, gateway) = started(&[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\
                Expect: 100-continue\r\n\r\n";
    client.get_mut().write_all(head.as_bytes()).unwrap();
    let mut told = [0; 25];
    std::io::Read::read_exact(&mut client, &mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.get_mut().write_all(b"abc").unwrap();
    let answer = read_answer(&mut client, false).unwrap();
    assert!(answer.text().ends_with("\n3 bytes"));
}

#[test]
fn http_1_0_is_served_and_closed() {
    let (_upstream, gateway) = started(&[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    client.get_mut().write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let answer = read_answer(&mut client, false).unwrap();
    assert_eq!(answer.status, 200);
    assert!(read_answer(&mut client, false).is_err());
}

#[test]
fn plain_http_is_sent_to_https() {
    let gateway = Gateway::start("/=http://127.0.0.1:1", &[("GATEWAY__PUBLIC_HTTPS_PORT", "8443")]);
    for method in ["GET", "POST", "HEAD"] {
        let url = format!("http://{}/a%2Fb?c=d", gateway.http);
        let reply = harness::send(method, &url, &[("Host", "localhost:8080")]);
        assert_eq!(reply.status, 308);
        assert_eq!(reply.field("location"), Some("https://localhost:8443/a%2Fb?c=d"));
    }
    let reply = harness::get(&format!("http://{}/", gateway.http), &[("Host", "a@b")]);
    assert_eq!((reply.status, reply.field("location")), (400, None));
}

#[test]
fn a_host_or_path_without_a_route_is_a_problem_that_says_so() {
    let upstream = Upstream::echo();
    let routes = format!("dice.localhost/x=http://{}", upstream.address);
    let gateway = Gateway::start(&routes, &[]);
    let get = |host: &str, path: &str, accept: &str| {
        exchange(
            &gateway,
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n"),
        )
    };
    assert_eq!(get("dice.localhost", "/x/y", "*/*").status, 200);
    let answer = get("127.0.0.1", "/x", "*/*");
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("GATEWAY__ROUTES"), "{}", answer.text());
    let answer = get("dice.localhost", "/xy", "application/json");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["status"], 404);
}

#[test]
fn a_connection_serves_many_requests_and_reuses_the_upstreams() {
    let upstream = Upstream::start(|call| {
        let nth = call.nth;
        call.ok(&nth.to_string())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for n in 0..20 {
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut client, false).unwrap().text(), n.to_string());
    }
    // Pipelined: written at once, answered in order.
    let twice =
        b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.get_mut().write_all(twice).unwrap();
    for _ in 0..2 {
        assert_eq!(read_answer(&mut client, false).unwrap().status, 200);
    }
    assert_eq!(upstream.seen().last().unwrap().line, "GET /b HTTP/1.1");
}

#[test]
fn a_request_for_a_host_that_the_connection_is_not_for_is_misdirected() {
    let (upstream, gateway) = started(&[]);
    for (name, host, expected) in [
        ("localhost", "[::1]", 200),
        ("localhost", "127.0.0.1:8443", 200),
        ("127.0.0.1", "other.example", 200),
        ("localhost", "other.example", 421),
    ] {
        let mut client = tls(&gateway, name, |_| {}).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut client, false).unwrap().status, expected, "{name} {host}");
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[test]
fn what_directs_a_request_is_dropped_from_its_trailers() {
    let (send, receive) = mpsc::channel();
    let upstream = Upstream::start(move |call| {
        send.send(call.body()?.1).unwrap();
        call.ok("")
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let answer = exchange(
        &gateway,
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Forwarded-For, X-Kept, Forwarded\r\n\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Kept: 1\r\nForwarded: for=6.6.6.6\r\nAuthorization: Basic eDp5\r\nCookie: a=b\r\n\
         Content-Type: text/html\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(receive.recv().unwrap().join("\n").to_ascii_lowercase(), "x-kept: 1");
}

#[test]
fn the_gateways_own_answer_to_a_head_has_no_body_over_http2() {
    let gateway = Gateway::start("localhost/x=http://127.0.0.1:1", &[]);
    let request = http::Request::head("https://localhost/y").body(Full::default()).unwrap();
    let answer = h2(&gateway, vec![request]).remove(0);
    assert_eq!(answer.status(), 404);
    assert!(answer.body().is_empty(), "{:?}", answer.body());
    let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 0);
}
