//! The addresses beside `/ws`.

use std::io::{Read, Write};
use std::net::TcpStream;

use harness::{get, send};

use super::peer::{Peer, gauge, hub, hub_with, port};

#[test]
fn must_authentication_is_off_and_says_so() {
    let hub = hub();
    let info = get(&hub.url("/api/v1/auth-info"), &[]);
    assert_eq!(
        (info.status, info.text(), info.field("content-type")),
        (200, "{}", Some("application/json"))
    );
}

#[test]
fn what_is_not_there_is_answered_as_upstream_does() {
    let hub = hub();
    for path in ["/ws", "/x", "/api/v1/places/", "/api/v1", "/static/../x"] {
        let reply = get(&hub.url(path), &[]);
        assert_eq!((reply.status, reply.text()), (404, "Page not found"), "{path}");
        assert_eq!(reply.field("content-type"), Some("text/plain"), "{path}");
    }
}

#[test]
fn a_hub_url_that_ends_in_a_slash_works() {
    let hub = hub();
    assert_eq!(get(&hub.url("//api/v1/places"), &[]).status, 200);
    assert_eq!(get(&hub.url("//api/v1/auth-info?x=1"), &[]).status, 200);
    let stream = TcpStream::connect(("127.0.0.1", port(&hub))).unwrap();
    assert!(tungstenite::client("ws://hub//ws", stream).is_ok());
}

#[test]
fn the_path_is_decoded_and_the_query_ignored() {
    let hub = hub();
    assert_eq!(get(&hub.url("/api/v1/pl%61ces?a=b"), &[]).status, 200);
}

#[test]
fn any_method_reads_and_head_has_no_body() {
    let hub = hub();
    for method in ["POST", "DELETE", "OPTIONS"] {
        assert_eq!(
            send(method, &hub.url("/api/v1/places"), &[]).text(),
            r#"{"places": []}"#,
            "{method}"
        );
    }
    let head = send("HEAD", &hub.url("/api/v1/places"), &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_websocket_elsewhere_is_refused_and_the_connection_closed() {
    let hub = hub();
    for path in ["/", "/x", "/api/v1/places", "/wss"] {
        let mut stream = TcpStream::connect(("127.0.0.1", port(&hub))).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let reply = reply.to_ascii_lowercase();
        assert!(reply.starts_with("http/1.1 403 "), "{path}: {reply}");
        assert!(
            reply.contains("\r\nconnection: close\r\n") && reply.ends_with("\r\n\r\n"),
            "{path}: {reply}"
        );
    }
}

#[test]
fn must_a_handshake_needs_no_more_fields_than_the_clients_send() {
    let hub = hub();
    let mut stream = TcpStream::connect(("127.0.0.1", port(&hub))).unwrap();
    stream
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0].to_ascii_lowercase());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    // The example of RFC 6455 §1.3.
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
}

#[test]
fn the_gauges_have_upstreams_names() {
    let hub = hub();
    let mut exporter = Peer::new(&hub);
    exporter.export("board");
    assert_eq!(gauge(&hub, "not_my_board_places_registered"), 1);
    assert_eq!(gauge(&hub, "not_my_board_places_reserved"), 0);
    assert_eq!(gauge(&hub, "not_my_board_reservation_queue_length"), 0);
    assert!(gauge(&hub, "process_resident_memory_bytes") > 0);
    exporter.leave();
    assert_eq!(gauge(&hub, "not_my_board_places_registered"), 0);
}

#[test]
fn the_front_page_shows_what_runs_and_the_farm_as_it_is() {
    let hub = hub_with(&[("HUB__LINKS", "/dice=Roll_a_die /say/hello%20there=Hear_a_greeting")]);
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("<board>");
    agent.holds(&mut exporter, place);
    let page = get(&hub.url("/"), &[("Accept", "text/html,*/*;q=0.8")]);
    assert_eq!(page.status, 200);
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    for part in [
        "<a href=\"/dice\"><b>Roll a die</b>",
        "<a href=\"/say/hello%20there\">",
        "/say/hello there",
        "@&#60;board&#62;",
        "demo",
        "reserved",
        "1 board, 0 free",
        "name=\"viewport\"",
        "color-scheme: light dark",
    ] {
        assert!(page.text().contains(part), "{part} in {}", page.text());
    }
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let nonce = policy
        .split('\'')
        .find(|part| part.starts_with("nonce-"))
        .unwrap()
        .trim_start_matches("nonce-");
    assert_eq!(page.text().matches(&format!("nonce=\"{nonce}\"")).count(), 2, "style and script");
    assert!(
        !page.text().contains("src=") && !page.text().contains("@import"),
        "nothing from elsewhere"
    );
    let text = get(&hub.url("/"), &[]);
    assert_eq!((text.status, text.field("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert!(text.text().contains("/dice") && text.text().contains("Roll a die"), "{}", text.text());
}
