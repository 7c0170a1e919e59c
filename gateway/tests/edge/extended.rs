//! Tunnels that are streams of HTTP/2 (RFC 8441), with a client by hyper and frames by tungstenite.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::Data;
use tungstenite::protocol::frame::coding::OpCode;

use crate::support::Gateway;
use crate::support::H2;
use crate::support::Upstream;
use crate::support::on_h2;
use crate::support::until;
use crate::tunnels;

/// "Service restart", from the gateway to a client.
const RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];

fn connect(path: &str, protocol: Option<&'static str>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = match protocol {
        Some(_) => format!("https://localhost{path}").parse().unwrap(),
        None => "localhost:443".parse().unwrap(),
    };
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
        request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    }
    request
}

/// A frame of a client.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::message(payload.to_vec(), OpCode::Data(Data::Binary), true);
    frame.header_mut().mask = Some([1, 2, 3, 4]);
    let mut out = Vec::new();
    frame.format(&mut out).unwrap();
    out
}

type Socket = TokioIo<hyper::upgrade::Upgraded>;

async fn open(client: &mut H2) -> Socket {
    let response = client.send_request(connect("/ws", Some("websocket"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let of_http1 = ["sec-websocket-accept", "connection", "upgrade"];
    assert!(of_http1.iter().all(|name| !response.headers().contains_key(*name)));
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

/// Sends a message and reads it back.
async fn says(socket: &mut Socket, payload: &[u8]) {
    let (mut read, mut write) = tokio::io::split(socket);
    let sent = frame(payload);
    let expected = {
        let mut out = Vec::new();
        let back = Frame::message(payload.to_vec(), OpCode::Data(Data::Binary), true);
        back.format(&mut out).unwrap();
        out
    };
    let mut heard = vec![0; expected.len()];
    let (sent, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut heard));
    sent.unwrap();
    read.unwrap();
    assert!(heard == expected);
}

#[test]
fn messages_go_both_ways_beside_requests_on_one_connection() {
    let upstream = tunnels::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    on_h2(&gateway, async |mut client: H2| {
        let (mut one, mut two) = (open(&mut client).await, open(&mut client).await);
        says(&mut one, b"hello").await;
        says(&mut two, &vec![42; 4 << 20]).await;
        let plain = Request::get("https://localhost/x").body(Empty::new()).unwrap();
        let plain = client.send_request(plain).await.unwrap();
        assert_eq!(plain.into_body().collect().await.unwrap().to_bytes(), "plain");
        says(&mut one, b"again").await;
        drop(one);
        says(&mut two, b"still").await;
    });
    let seen = upstream.seen();
    assert_eq!(seen[0].line, "GET /ws HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("localhost"));
    assert_eq!(seen[0].field("sec-websocket-version"), Some("13"));
    assert_ne!(seen[0].field("sec-websocket-key"), seen[1].field("sec-websocket-key"));
    until("the tunnels' end", || {
        (gateway.metric("gateway_tunnels_open") == Some(0.0)).then_some(())
    });
}

#[test]
fn what_both_sides_say_of_protocols_is_passed_on() {
    let upstream = Upstream::start(|call| {
        let key = call.request.field("sec-websocket-key").unwrap().to_owned();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        call.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: two\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        ))
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    on_h2(&gateway, async |mut client: H2| {
        let mut request = connect("/ws", Some("websocket"));
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "one, two".parse().unwrap());
        headers.insert("sec-websocket-extensions", "permessage-deflate".parse().unwrap());
        headers.insert("origin", "https://localhost".parse().unwrap());
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["sec-websocket-protocol"], "two");
        assert_eq!(response.headers()["sec-websocket-extensions"], "permessage-deflate");
    });
    let seen = &upstream.seen()[0];
    assert_eq!(seen.field("sec-websocket-protocol"), Some("one, two"));
    assert_eq!(seen.field("sec-websocket-extensions"), Some("permessage-deflate"));
    assert_eq!(seen.field("origin"), Some("https://localhost"));
    assert_eq!(
        (seen.field("connection"), seen.field("upgrade")),
        (Some("upgrade"), Some("websocket"))
    );
}

#[test]
fn what_is_no_websocket_is_not_opened() {
    let upstream = Upstream::start(|call| match call.request.line.split(' ').nth(1) {
        Some("/no") => call.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope"),
        Some("/liar") => call.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        ),
        _ => call.ok("a page"),
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    on_h2(&gateway, async |mut client: H2| {
        for (path, protocol, status, text) in [
            // The service's own answer.
            ("/no", Some("websocket"), 403, "nope"),
            // 2xx would say that it is open.
            ("/page", Some("websocket"), 502, "not a WebSocket"),
            ("/liar", Some("websocket"), 502, "did not read"),
            ("/x", Some("connect-udp"), 501, "not served"),
            ("", None, 501, "not served"),
        ] {
            let response = client.send_request(connect(path, protocol)).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(body.contains(text), "{path}: {body}");
        }
    });
}

#[test]
fn at_the_end_both_sides_are_told_to_come_again() {
    let (send, closed) = mpsc::channel();
    let upstream = Upstream::start(move |call| {
        tunnels::switch(call)?;
        let stream = call.stream.get_ref().try_clone()?;
        let role = tungstenite::protocol::Role::Server;
        let mut socket = tungstenite::WebSocket::from_raw_socket(stream, role, None);
        loop {
            match socket.read() {
                Ok(tungstenite::Message::Close(close)) => {
                    send.send(close.map(|close| u16::from(close.code))).unwrap();
                }
                Ok(message) => socket.send(message).map_err(io::Error::other)?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    });
    let mut gateway = Gateway::start(&upstream.route(), &[("GATEWAY__DRAIN_S", "1")]);
    let begun = std::time::Instant::now();
    on_h2(&gateway, async |mut client: H2| {
        let mut socket = open(&mut client).await;
        says(&mut socket, b"before").await;
        gateway.service.signal_terminate();
        says(&mut socket, b"while it drains").await;
        let mut last = Vec::new();
        socket.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, RESTART);
    });
    assert_eq!(closed.recv_timeout(Duration::from_secs(2)).unwrap(), Some(1012));
    assert!(gateway.service.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(3));
}
