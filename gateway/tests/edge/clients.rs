//! Who clients are, by PROXY protocol, and how much of the gateway each may take.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use openssl::ssl::SslConnector;
use openssl::ssl::SslMethod;

use crate::support::Client;
use crate::support::Gateway;
use crate::support::LONG;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::h2;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Signature, version 2 and PROXY, TCP over IPv4, 12 bytes: from 192.0.2.7:4660.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x34\x01\xbb";

/// Whose header is awaited.
const BALANCER: (&str, &str) = ("GATEWAY__PROXY_PROTOCOL_FROM", "127.0.0.0/8");

/// A TCP connection from the local address `from`.
fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = from.parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// TLS over `stream`.
fn tls_over(gateway: &Gateway, stream: TcpStream) -> Result<Client, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_ca_file(gateway.root()).unwrap();
    let connected = builder.build().connect("localhost", stream);
    connected.map(std::io::BufReader::new).map_err(|error| error.to_string())
}

/// True once the other side has ended the connection, in whatever way.
fn ended(stream: &mut TcpStream) -> bool {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn refused(gateway: &Gateway, reason: &str) -> Option<f64> {
    gateway.metric(&format!(r#"gateway_connections_refused_total{{reason="{reason}"}}"#))
}

#[test]
fn a_balancer_says_whose_connection_it_is() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[BALANCER]);
    let text = b"PROXY TCP6 2001:db8::7 ::1 4660 443\r\n";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, client) in [
        (&text[..], "2001:db8::7"),
        (BINARY, "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (local, "127.0.0.1"),
    ] {
        // In one piece with what follows it, or cut anywhere.
        for cut in [None, Some(5), Some(header.len() - 1)] {
            let mut stream = connect_from("127.0.0.1:0", gateway.https);
            let (one, two) = header.split_at(cut.unwrap_or(header.len()));
            stream.write_all(one).unwrap();
            stream.write_all(two).unwrap();
            let mut stream = tls_over(&gateway, stream).unwrap();
            stream.get_mut().write_all(GET).unwrap();
            assert_eq!(read_answer(&mut stream, false).unwrap().status, 200);
            let seen = upstream.seen().pop().unwrap();
            assert_eq!(seen.field("x-forwarded-for"), Some(client));
        }
    }
    // Plain HTTP, too.
    let mut stream = connect_from("127.0.0.1:0", gateway.http);
    stream.write_all(&[BINARY, GET].concat()).unwrap();
    let answer = read_answer(&mut std::io::BufReader::new(stream), false).unwrap();
    assert_eq!(answer.status, 308);
}

#[test]
fn what_is_no_header_from_a_balancer_ends_and_counts() {
    let upstream = Upstream::echo();
    let settings = [BALANCER, ("GATEWAY__HANDSHAKE_S", "1")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let hello = b"\x16\x03\x01\x02\0\x01\0";
    let oversized = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[0; 5000]].concat();
    let cases = [
        &hello[..],
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.",
        GET,
        &oversized,
        b"",
    ];
    for (n, bytes) in (1_u32..).zip(cases.iter().flat_map(|case| [case, case])) {
        let to = if n % 2 == 0 { gateway.https } else { gateway.http };
        let mut stream = connect_from("127.0.0.1:0", to);
        // It may be closed before all of this is written.
        let _: std::io::Result<()> = stream.write_all(bytes);
        assert!(ended(&mut stream), "{bytes:?}");
        until("the count", || {
            (refused(&gateway, "proxy_header") == Some(f64::from(n))).then_some(())
        });
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn nobody_else_may_say_whose_connection_it_is() {
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__PROXY_PROTOCOL_FROM", "127.0.0.2")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let mut stream = connect_from("127.0.0.1:0", gateway.https);
    stream.write_all(BINARY).unwrap();
    assert!(tls_over(&gateway, stream).is_err());
    assert_eq!(exchange(&gateway, GET).status, 200);
    assert_eq!(upstream.seen()[0].field("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn one_address_has_so_many_connections_and_others_have_theirs() {
    let upstream = Upstream::echo();
    let settings =
        [("GATEWAY__CONNECTIONS_PER_ADDRESS_MAX", "2"), ("GATEWAY__TRUSTED_PROXIES", "127.0.0.9")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let open = |from| tls_over(&gateway, connect_from(from, gateway.https));
    let one = open("127.0.0.2:0").unwrap();
    let _two = open("127.0.0.2:0").unwrap();
    // Without a byte of TLS.
    let mut third = connect_from("127.0.0.2:0", gateway.https);
    let mut rest = Vec::new();
    assert_eq!(third.read_to_end(&mut rest).unwrap(), 0);
    assert!(ended(&mut connect_from("127.0.0.2:0", gateway.http)));
    assert_eq!(refused(&gateway, "address"), Some(2.0));
    assert_eq!(exchange(&gateway, GET).status, 200);
    let trusted: Vec<Client> = (0..4).map(|_| open("127.0.0.9:0").unwrap()).collect();
    assert_eq!(trusted.len(), 4);
    drop(one);
    // What ended makes room.
    until("a place", || open("127.0.0.2:0").ok());
}

#[test]
fn a_client_behind_a_balancer_has_so_many_connections() {
    let upstream = Upstream::echo();
    let settings = [BALANCER, ("GATEWAY__CONNECTIONS_PER_ADDRESS_MAX", "1")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let open = |client: &str| {
        let mut stream = connect_from("127.0.0.1:0", gateway.https);
        let header = format!("PROXY TCP4 {client} 10.0.0.1 1 443\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        tls_over(&gateway, stream)
    };
    let _one = open("192.0.2.1").unwrap();
    assert!(open("192.0.2.1").is_err());
    let _other = open("192.0.2.2").unwrap();
    assert_eq!(refused(&gateway, "address"), Some(1.0));
}

#[test]
fn one_address_has_so_many_requests_over_all_its_connections() {
    let (held, holds) = mpsc::channel();
    let gate = Arc::new(RwLock::new(()));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |call| {
        if call.request.line.contains("/held") {
            held.send(()).unwrap();
            drop(opened.read());
        }
        call.ok("")
    });
    let settings = [("GATEWAY__REQUESTS_MAX", "8"), ("GATEWAY__REQUESTS_PER_ADDRESS_MAX", "6")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let three = || {
        let one = || http::Request::get("https://localhost/held").body(Default::default()).unwrap();
        h2(&gateway, vec![one(), one(), one()])
    };
    thread::scope(|scope| {
        let closed = gate.write().unwrap();
        let clients = [scope.spawn(three), scope.spawn(three)];
        for _ in 0..6 {
            holds.recv_timeout(LONG).unwrap();
        }
        for refused in three() {
            assert_eq!(refused.status(), 503);
            assert_eq!(refused.headers()["retry-after"], "1");
            let text = String::from_utf8_lossy(refused.body());
            assert!(text.contains("your address"), "{text}");
        }
        assert_eq!(exchange(&gateway, GET).status, 503);
        let mut other = tls_over(&gateway, connect_from("127.0.0.2:0", gateway.https)).unwrap();
        other.get_mut().write_all(GET).unwrap();
        assert_eq!(read_answer(&mut other, false).unwrap().status, 200);
        drop(closed);
        for client in clients {
            assert!(client.join().unwrap().iter().all(|answer| answer.status() == 200));
        }
    });
    // What ended makes room.
    until("a place", || (exchange(&gateway, GET).status == 200).then_some(()));
}

#[test]
fn a_body_that_drips_is_given_up_and_a_steady_one_is_not() {
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__IDLE_S", "2"), ("GATEWAY__BODY_BYTES_PER_S_MIN", "100")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let (_never, pause) = mpsc::channel::<()>();
    let upload = |piece: &[u8], pieces: usize| {
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        let length = piece.len() * pieces;
        let head =
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        client.get_mut().write_all(head.as_bytes()).unwrap();
        let started = Instant::now();
        for _ in 0..pieces {
            // The pace is what is tested.
            let _: Result<(), _> = pause.recv_timeout(Duration::from_millis(200));
            if client.get_mut().write_all(piece).is_err() {
                break;
            }
        }
        (read_answer(&mut client, false).unwrap().status, started.elapsed())
    };
    // 200 bytes/s, for twice the time that silence has.
    assert_eq!(upload(&[b'x'; 40], 20).0, 200);
    // 5 bytes/s are never silent, and have as long as silence.
    let (status, took) = upload(b"x", 20);
    assert_eq!(status, 408);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
