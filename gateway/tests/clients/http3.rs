//! HTTP/3 by aioquic and by ngtcp2's `gtlsclient`.

use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc;

use serde_json::Value;

use crate::python::Script;
use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::until;

/// What the whole process may have for any of this, in bytes.
const MEMORY_MAX: u64 = 48 << 20;

/// A gateway with a name that every client takes.
fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&upstream.route(), &[("GATEWAY__DOMAIN", "hub.test")])
}

fn start(gateway: &Gateway, case: &str, argument: &str) -> Script {
    let port = gateway.https.port().to_string();
    let root = gateway.root();
    Script::start("h3.py", &[&port, root.to_str().unwrap(), case, argument])
}

fn aioquic(gateway: &Gateway, case: &str, argument: &str) -> Value {
    start(gateway, case, argument).line()
}

#[test]
fn a_request_is_told_from_none_of_another_protocol_and_who_asks_is_known() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let answer = aioquic(&gateway, "get", "/a%2Fb?c");
    assert_eq!(answer["status"], 200);
    assert!(answer["fields"]["date"].is_string() && answer["fields"]["x-request-id"].is_string());
    assert!(answer["fields"]["alt-svc"].is_null(), "it is there already");
    let seen = &upstream.seen()[0];
    assert_eq!(seen.line, "GET /a%2Fb?c HTTP/1.1");
    assert_eq!(seen.field("host"), Some("hub.test"));
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("forwarded"), Some("for=127.0.0.1;host=hub.test;proto=https"));
    assert_eq!((seen.field("transfer-encoding"), seen.field("content-length")), (None, None));
    let handshakes =
        r#"gateway_tls_handshakes_total{alpn="h3",key_exchange="unknown",version="1.3"}"#;
    assert_eq!(gateway.metric(handshakes), Some(1.0));
    until("the connection's end", || {
        let open = gateway.metric(r#"gateway_connections_open{protocol="h3"}"#);
        (open == Some(0.0)).then_some(())
    });
}

#[test]
fn bodies_and_trailers_come_whole() {
    let (send, trailers) = mpsc::channel();
    let upstream = Upstream::start(move |call| {
        let (body, trailers) = call.body()?;
        assert!(body.iter().zip((0..251_u8).cycle()).all(|(got, sent)| *got == sent));
        send.send((body.len(), trailers)).unwrap();
        call.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
             3\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n",
        )
    });
    let gateway = gateway(&upstream);
    let answer = aioquic(&gateway, "post", "5000000");
    assert_eq!((&answer["status"], &answer["body"]), (&200.into(), &"onetwo".into()));
    assert_eq!(answer["trailers"]["x-sum"], "6");
    // With a Content-Length, HTTP/1 has no place for trailers.
    assert_eq!(trailers.recv().unwrap(), (5_000_000, Vec::new()));
}

#[test]
fn empty_data_and_unknown_frames_are_no_end() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let answer = aioquic(&gateway, "empty-data", "");
    assert!(answer["body"].as_str().unwrap().ends_with("\n13 bytes"), "{answer}");
}

#[test]
fn many_requests_share_a_connection() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    assert_eq!(aioquic(&gateway, "many", "250")["good"], 250);
    assert_eq!(upstream.seen().len(), 250);
}

#[test]
fn an_event_comes_before_the_next_is_made() {
    let (send, receive) = mpsc::channel::<&str>();
    let receive = Mutex::new(receive);
    let upstream = Upstream::start(move |call| {
        call.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        for event in receive.lock().unwrap().iter() {
            call.write(event)?;
        }
        Err(std::io::ErrorKind::Other.into())
    });
    let gateway = gateway(&upstream);
    let mut client = start(&gateway, "events", "/");
    for nth in 1..=2 {
        send.send("data: x\n\n").unwrap();
        assert_eq!(client.line()["events"], nth);
        client.go_on();
    }
}

#[test]
fn what_is_wrong_is_refused_and_hurts_no_one_else() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let seen = aioquic(&gateway, "broken", "");
    assert_eq!(seen["surprises"], Value::Array(Vec::new()));
    assert!(seen["cases"].as_u64().unwrap() >= 28);
    assert!(seen["requests"].as_u64().unwrap() > 20);
    assert_eq!(seen["failed"], 0);
    // Nothing of it went through; the two whose bodies lie are begun, as their heads are fine.
    let strange = upstream.seen().into_iter().filter(|request| {
        request.line != "GET /ok HTTP/1.1" && !request.line.ends_with(" /x HTTP/1.1")
    });
    assert_eq!(strange.count(), 0);
}

#[test]
fn frames_that_are_large_or_many_fill_no_memory() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let answer = aioquic(&gateway, "large-frame", "64");
    assert!(answer["failure"].as_str().unwrap().starts_with("reset"), "{answer}");
    let answer = aioquic(&gateway, "many-frames", "1");
    assert!(answer["body"].as_str().unwrap().ends_with("\n344064 bytes"), "{answer}");
    let peak = gateway.peak_bytes();
    assert!(peak < MEMORY_MAX, "{} MB", peak >> 20);
}

#[test]
fn a_client_that_gives_up_all_it_asks_for_is_sent_away() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    // H3_EXCESSIVE_LOAD (RFC 9114 §8.1).
    assert_eq!(aioquic(&gateway, "cancel", "400")["ended"], 0x107);
    assert!(upstream.seen().len() < 300);
}

#[test]
fn what_runs_is_finished_when_the_gateway_stops() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let upstream = Upstream::start(move |call| {
        gone.lock().unwrap().recv().unwrap();
        call.ok("finished")
    });
    let mut gateway = gateway(&upstream);
    let mut client = start(&gateway, "goodbye", "/");
    assert_eq!(client.line()["sent"], true);
    until("the request to arrive", || (upstream.seen().len() == 1).then_some(()));
    gateway.service.signal_terminate();
    until("the port to close", || std::net::TcpStream::connect(gateway.https).err());
    go.send(()).unwrap();
    let answer = client.line();
    assert_eq!((&answer["body"], &answer["failure"]), (&"finished".into(), &Value::Null));
    // H3_NO_ERROR, right after it.
    assert_eq!(answer["ended"], 0x100);
    assert!(answer["after_s"].as_f64().unwrap() < 3.0, "{answer}");
    assert!(gateway.service.wait().success());
}

/// What `gtlsclient` prints.
fn ngtcp2(gateway: &Gateway, arguments: &[&str], path: &str) -> String {
    let output = Command::new("gtlsclient")
        .args(["--exit-on-all-streams-close", "--timeout", "20s"])
        .args(arguments)
        .args(["127.0.0.1", &gateway.https.port().to_string()])
        .arg(format!("https://hub.test{path}"))
        .output()
        .expect("gtlsclient is needed: apt-get install ngtcp2-client");
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn another_client_gets_sends_and_loads_much() {
    const BYTES: usize = 20 << 20;
    let upstream = Upstream::start(|call| {
        if call.request.line.starts_with("POST ") {
            let (body, _) = call.body()?;
            return call.ok(&format!("{} bytes came", body.len()));
        }
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"))?;
        if call.request.line.starts_with("HEAD ") {
            return Ok(());
        }
        call.write(vec![b'x'; BYTES])
    });
    let gateway = gateway(&upstream);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upload");
    std::fs::write(&file, vec![7; 3_000_000]).unwrap();
    let seen = ngtcp2(&gateway, &["-m", "POST", "-d", file.to_str().unwrap()], "/");
    assert!(seen.contains("[:status: 200]"), "{seen}");
    assert_eq!(upstream.seen()[0].line, "POST / HTTP/1.1");
    let seen = ngtcp2(&gateway, &["-m", "HEAD"], "/");
    assert!(seen.contains(&format!("[content-length: {BYTES}]")), "{seen}");
    let down = folder.path().to_str().unwrap();
    let seen = ngtcp2(&gateway, &["-q", "--no-http-dump", "--download", down], "/large");
    assert_eq!(
        std::fs::metadata(folder.path().join("large")).unwrap().len(),
        BYTES as u64,
        "{seen}"
    );
}

#[test]
fn an_answer_that_is_left_unread_ends_its_connection_whatever_else_is_asked() {
    let (send, given_up) = mpsc::channel();
    let upstream = Upstream::start(move |call| {
        if !call.request.line.starts_with("GET /large ") {
            return call.ok("small");
        }
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        loop {
            if let Err(error) = call.write(vec![7; 64 << 10]) {
                send.send(()).unwrap();
                return Err(error);
            }
        }
    });
    let settings =
        [("GATEWAY__DOMAIN", "hub.test"), ("GATEWAY__HEADER_S", "1"), ("GATEWAY__IDLE_S", "1")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let seen = aioquic(&gateway, "unread", "");
    assert!(seen["others"].as_u64().unwrap() > 3, "{seen}");
    given_up.recv_timeout(crate::support::LONG).unwrap();
    assert!(gateway.peak_bytes() < MEMORY_MAX);
}
