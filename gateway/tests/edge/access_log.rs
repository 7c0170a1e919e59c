//! One line a request on stdout: what it holds, what it never holds, and what a reader who is slow
//! or gone costs.

use std::io::BufRead;
use std::io::BufReader;
use std::process::ChildStdout;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::h2;

fn next(stdout: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Every line until the gateway has ended.
fn rest(stdout: BufReader<ChildStdout>) -> Vec<Value> {
    let line = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
    stdout.lines().map(line).collect()
}

fn get(path: &str, agent: &str) -> http::Request<Full<Bytes>> {
    let builder = http::Request::get(format!("https://localhost{path}"));
    builder.header("user-agent", agent).body(Full::default()).unwrap()
}

#[test]
fn a_line_tells_what_became_of_a_request_and_no_secret() {
    let upstream = Upstream::echo();
    let routes = format!("/a=http://{}", upstream.address);
    let (gateway, mut stdout) = Gateway::start_heard(&routes, &[]);
    let answer = exchange(
        &gateway,
        "POST /a/b%22c?key=s3cret HTTP/1.1\r\nHost: localhost\r\nUser-Agent: s3cret\r\n\
         Authorization: Bearer s3cret\r\nCookie: id=s3cret\r\nX-Request-Id: my-id\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n\
         Content-Length: 6\r\n\r\ns3cret",
    );
    assert_eq!(answer.status, 200);
    let line = next(&mut stdout);
    assert!(!line.to_string().contains("s3cret"), "{line}");
    for (key, expected) in [
        ("target", "access"),
        ("method", "POST"),
        ("host", "localhost"),
        ("path", "/a/b%22c"),
        ("route", "/a"),
        ("client", "127.0.0.1"),
        ("protocol", "http/1.1"),
        ("tls", "1.3"),
        ("request_id", "my-id"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("upstream", upstream.address.to_string().as_str()),
        ("replica", upstream.address.to_string().as_str()),
    ] {
        assert_eq!(line[key], expected, "{key}: {line}");
    }
    assert_eq!((&line["status"], &line["bytes_in"]), (&200.into(), &6.into()));
    assert_eq!(line["bytes_out"], answer.body.len());
    let ms = |key: &str| line[key].as_f64().unwrap();
    assert!(ms("ms") >= ms("first_byte_ms") && ms("first_byte_ms") > 0.0, "{line}");
    assert!(ms("connect_ms") > 0.0 && ms("ms") < 20_000.0, "{line}");

    // Refused before it had a host, and without a route.
    exchange(&gateway, "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n");
    let line = next(&mut stdout);
    assert_eq!((&line["status"], &line["upstream"]), (&400.into(), &Value::Null));
    exchange(&gateway, "GET /b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let line = next(&mut stdout);
    assert_eq!((&line["status"], &line["route"]), (&404.into(), &Value::Null));
    assert_eq!(gateway.metric(r#"gateway_requests_refused_total{reason="host_form"}"#), Some(1.0));
}

#[test]
fn queries_and_user_agents_are_logged_only_where_they_are_asked_for() {
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__LOG_QUERIES", "true"), ("GATEWAY__LOG_USER_AGENTS", "true")];
    let (gateway, mut stdout) = Gateway::start_heard(&upstream.route(), &settings);
    h2(&gateway, vec![get("/?a=b", "a \"browser\"")]);
    let line = next(&mut stdout);
    assert_eq!((&line["query"], &line["user_agent"]), (&"a=b".into(), &"a \"browser\"".into()));
    assert_eq!(
        (&line["protocol"], &line["key_exchange"]),
        (&"h2".into(), &"X25519MLKEM768".into())
    );
}

#[test]
fn no_line_is_lost_at_the_end() {
    let upstream = Upstream::echo();
    let (mut gateway, stdout) = Gateway::start_heard(&upstream.route(), &[]);
    let answers = h2(&gateway, (0..200).map(|n| get(&format!("/{n}"), "")).collect());
    assert!(answers.iter().all(|answer| answer.status() == 200));
    gateway.service.signal_terminate();
    let lines = rest(stdout);
    assert!(gateway.service.wait().success());
    let mut paths: Vec<String> = (0..200).map(|n| format!("/{n}")).collect();
    paths.sort();
    let mut lines: Vec<_> =
        lines.iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    lines.sort();
    assert_eq!(lines, paths);
}

#[test]
fn without_the_log_stdout_has_only_the_ready_line() {
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__ACCESS_LOG", "false")];
    let (mut gateway, stdout) = Gateway::start_heard(&upstream.route(), &settings);
    h2(&gateway, vec![get("/", "")]);
    assert!(gateway.service.terminate().success());
    assert_eq!(rest(stdout), Vec::<Value>::new());
}

#[test]
fn a_reader_who_stalls_costs_lines_that_are_counted_and_holds_up_nobody() {
    const REQUESTS: usize = 1500;
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__LOG_QUERIES", "true"), ("GATEWAY__LOG_USER_AGENTS", "true")];
    let (mut gateway, stdout) = Gateway::start_heard(&upstream.route(), &settings);
    let long = "x".repeat(256);
    let request = || get(&format!("/{}?{long}", &long[1..]), &"\\".repeat(256));
    let answers = h2(&gateway, (0..REQUESTS).map(|_| request()).collect());
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let dropped = gateway.metric("gateway_access_log_dropped_total").unwrap();
    assert!(dropped > 0.0);
    // It has its lines back before it ends.
    gateway.service.signal_terminate();
    let lines = rest(stdout);
    assert!(gateway.service.wait().success());
    assert_eq!(lines.len() as f64 + dropped, REQUESTS as f64);
    assert!(lines.iter().all(|line| line["user_agent"] == "\\".repeat(256)));
}

#[test]
fn a_reader_who_is_gone_holds_up_nobody() {
    let upstream = Upstream::echo();
    let (mut gateway, stdout) = Gateway::start_heard(&upstream.route(), &[]);
    drop(stdout);
    for _ in 0..3 {
        assert_eq!(h2(&gateway, vec![get("/", "")])[0].status(), 200);
    }
    crate::support::until("the lost lines to be counted", || {
        (gateway.metric("gateway_access_log_dropped_total") == Some(3.0)).then_some(())
    });
    assert!(gateway.service.terminate().success());
}

#[test]
fn a_trace_goes_on_or_begins_here() {
    let upstream = Upstream::echo();
    let (gateway, mut stdout) = Gateway::start_heard(&upstream.route(), &[]);
    let ask = |fields: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        assert_eq!(exchange(&gateway, head).status, 200);
        upstream.seen().pop().unwrap()
    };
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let seen = ask(&format!("Traceparent: {good}\r\nTracestate: a=1,b=2\r\n"));
    assert_eq!(
        (seen.field("traceparent"), seen.field("tracestate")),
        (Some(good), Some("a=1,b=2"))
    );
    next(&mut stdout);
    for fields in ["", "Traceparent: 00-xyz\r\nTracestate: a=1\r\n"] {
        let seen = ask(fields);
        assert_eq!(seen.field("tracestate"), None);
        let made = seen.field("traceparent").unwrap();
        let line = next(&mut stdout);
        let begins = format!("00-{}-", line["trace_id"].as_str().unwrap());
        assert!(made.len() == good.len() && made.starts_with(&begins), "{made} {line}");
    }
}
