//! Tunnels through the gateway, between a client and a server that are not ours.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use openssl::ssl::SslStream;
use socket2::SockRef;
use tungstenite::Message;
use tungstenite::WebSocket;

use crate::support::Call;
use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;

/// `/ws` is a WebSocket that sends back what it gets; the rest is a plain answer.
pub fn echo() -> Upstream {
    Upstream::start(|call| {
        if !call.request.line.starts_with("GET /ws ") {
            return call.ok("plain");
        }
        assert_eq!(call.request.field("connection"), Some("upgrade"));
        assert_eq!(call.request.field("upgrade"), Some("websocket"));
        switch(call)?;
        let stream = call.stream.get_ref().try_clone()?;
        let role = tungstenite::protocol::Role::Server;
        let mut socket = WebSocket::from_raw_socket(stream, role, None);
        loop {
            match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    socket.send(message).map_err(io::Error::other)?;
                }
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    })
}

/// Says 101.
pub fn switch(call: &mut Call<'_>) -> io::Result<()> {
    let key = call.request.field("sec-websocket-key").unwrap().to_owned();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    call.write(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nServer: x\r\n\r\n"
    ))
}

/// A WebSocket to `/ws`, with nothing in the handshake but what the RFC wants.
pub fn open(gateway: &Gateway) -> WebSocket<SslStream<TcpStream>> {
    let stream = tls(gateway, "localhost", |_| {}).unwrap().into_inner();
    let (socket, response) = tungstenite::client("wss://localhost/ws", stream).unwrap();
    assert_eq!(response.status(), 101);
    assert!(response.headers().get("server").is_none());
    assert!(response.headers().contains_key("x-request-id"));
    socket
}

fn says(socket: &mut WebSocket<SslStream<TcpStream>>, text: &str) {
    socket.send(Message::text(text)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text(text));
}

#[test]
fn messages_of_any_size_go_both_ways() {
    let upstream = echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut socket = open(&gateway);
    says(&mut socket, "hello");
    let large = Message::binary(vec![42; 16 << 20]);
    let again = large.clone();
    let (mut writer, reader) = (socket, std::thread::current());
    writer.write(again).unwrap();
    // The socket's buffer is written while the echo is read.
    drop(reader);
    loop {
        match writer.flush() {
            Ok(()) => break,
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(writer.read().unwrap() == large);
    writer.close(None).unwrap();
    until("the close", || writer.read().err());
    until("the tunnel's end", || {
        (gateway.metric("gateway_tunnels_open") == Some(0.0)).then_some(())
    });
}

#[test]
fn a_tunnel_lives_while_others_come_and_go_and_certificates_change() {
    let upstream = echo();
    let settings = [
        ("GATEWAY__CERTIFICATE_LIFE_S", "3"),
        ("GATEWAY__HEADER_S", "1"),
        ("GATEWAY__IDLE_S", "1"),
        ("GATEWAY__POOL_IDLE_S", "1"),
    ];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let mut old = open(&gateway);
    says(&mut old, "before");
    let name = r#"gateway_certificate_not_after_timestamp_seconds{site="localhost"}"#;
    let first = gateway.metric(name).unwrap();
    until("two renewals", || {
        let mut other = open(&gateway);
        says(&mut other, "x");
        (gateway.metric(name).unwrap() > first + 3.0).then_some(())
    });
    // Silent for longer than every time limit of requests.
    says(&mut old, "after");
}

#[test]
fn a_refused_upgrade_is_a_plain_answer() {
    let upstream = echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    for _ in 0..2 {
        let request = "GET /other HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut client, false).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "plain"));
    }
}

#[test]
fn a_client_that_breaks_off_ends_the_services_side_at_once() {
    let (send, ended) = mpsc::channel();
    let upstream = Upstream::start(move |call| {
        switch(call)?;
        let mut rest = Vec::new();
        let read = call.stream.read_to_end(&mut rest);
        send.send(read.is_ok()).unwrap();
        Err(io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let socket = open(&gateway);
    // Closes it with a reset instead of an end.
    let stream = SockRef::from(socket.get_ref().get_ref());
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    // Less than a side that only ended would be given.
    ended.recv_timeout(Duration::from_secs(5)).unwrap();
    until("the tunnel's end", || {
        (gateway.metric("gateway_tunnels_open") == Some(0.0)).then_some(())
    });
}

#[test]
fn a_service_that_stops_reading_loses_its_tunnel() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::start(move |call| {
        switch(call)?;
        let _: Result<(), _> = gone.lock().unwrap().recv();
        Err(io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__IDLE_S", "1")]);
    let mut socket = open(&gateway);
    // More than the service's side takes unread; what is between may hold the rest, or break off.
    drop(socket.send(Message::binary(vec![0; 15 << 20])));
    until("the tunnel's end", || {
        (gateway.metric("gateway_tunnels_open") == Some(0.0)).then_some(())
    });
    drop((socket, go));
}

#[test]
fn a_service_that_goes_ends_its_tunnels_only() {
    let (one, two) = (echo(), echo());
    let routes = format!("/=http://{} two.localhost/=http://{}", one.address, two.address);
    let gateway = Gateway::start(&routes, &[]);
    let mut socket = open(&gateway);
    drop(two);
    says(&mut socket, "still here");
    let answer = exchange(&gateway, "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(answer.text(), "plain");
}
