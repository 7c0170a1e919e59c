//! Bodies: large ones in little memory, slow ones in bounded time.

use std::io::Read;
use std::io::Write;
use std::thread;

use crate::support::Gateway;
use crate::support::H2;
use crate::support::LONG;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::on_h2;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;

/// What is moved each way.
const BYTES: usize = 300 << 20;

/// What the whole process may have for it, in bytes.
const MEMORY_MAX: u64 = 48 << 20;

#[test]
fn large_bodies_both_ways_need_little_memory() {
    let upstream = Upstream::start(|call| {
        let length: usize = call.request.field("content-length").unwrap().parse().unwrap();
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
        let mut buffer = vec![0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let read = call.stream.read(&mut buffer)?;
            assert_ne!(read, 0);
            call.write(&buffer[..read])?;
            left -= read;
        }
        Ok(())
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__BODY_BYTES_MAX", "0")]);
    let before = gateway.peak_bytes();
    let client = tls(&gateway, "localhost", |_| {}).unwrap().into_inner();
    // One TLS session, written and read in turns: the echo comes while the rest still goes.
    let mut client = client;
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BYTES}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    let piece: Vec<u8> = (0..64_u32 << 10).map(|n| (n % 251) as u8).collect();
    client.write_all(&piece).unwrap();
    let mut client = std::io::BufReader::with_capacity(64 << 10, client);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        std::io::BufRead::read_line(&mut client, &mut line).unwrap();
    }
    let mut echo = vec![0; piece.len()];
    for _ in 0..BYTES / piece.len() - 1 {
        client.get_mut().write_all(&piece).unwrap();
        client.read_exact(&mut echo).unwrap();
        assert!(echo == piece);
    }
    client.read_exact(&mut echo).unwrap();
    assert!(echo == piece);
    let peak = gateway.peak_bytes();
    assert!(peak < MEMORY_MAX, "{} MB before, {} MB after", before >> 20, peak >> 20);
}

#[test]
fn a_client_that_does_not_read_does_not_fill_the_memory() {
    let upstream = Upstream::start(|call| {
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"))?;
        let piece = vec![7; 64 << 10];
        for _ in 0..BYTES / piece.len() {
            call.write(&piece)?;
        }
        Ok(())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
            client.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            client.fill_buf_once();
            client
        })
        .collect();
    // The fifth reads all, so the others have had the time to pile up what they could.
    let mut reader = tls(&gateway, "localhost", |_| {}).unwrap();
    reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut reader, false).unwrap().body.len(), BYTES);
    let peak = gateway.peak_bytes();
    assert!(peak < MEMORY_MAX, "{} MB", peak >> 20);
    clients.clear();
}

/// Waits for the first bytes.
trait FillOnce {
    fn fill_buf_once(&mut self);
}

impl<B: std::io::BufRead> FillOnce for B {
    fn fill_buf_once(&mut self) {
        assert!(!self.fill_buf().unwrap().is_empty());
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let (send, given_up) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |call| {
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"))?;
        let piece = vec![7; 64 << 10];
        for _ in 0..BYTES / piece.len() {
            if let Err(error) = call.write(&piece) {
                send.send(()).unwrap();
                return Err(error);
            }
        }
        Ok(())
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__IDLE_S", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    client.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    given_up.recv_timeout(LONG).unwrap();
}

#[test]
fn an_event_stream_comes_as_it_is_written() {
    let (send, receive) = std::sync::mpsc::channel::<&str>();
    let receive = std::sync::Mutex::new(receive);
    let upstream = Upstream::start(move |call| {
        call.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        for event in receive.lock().unwrap().iter() {
            call.write(event)?;
        }
        Err(std::io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    client.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = Vec::new();
    for event in ["data: one\n\n", "data: two\n\n"] {
        // The next is written only after this one has arrived.
        send.send(event).unwrap();
        loop {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut client, &mut line).unwrap();
            if line.starts_with("data: ") {
                lines.push(line);
                break;
            }
        }
    }
    assert_eq!(lines, ["data: one\n", "data: two\n"]);
}

#[test]
fn over_http2_too_an_event_comes_before_the_next_is_made() {
    let (send, receive) = std::sync::mpsc::channel::<&str>();
    let receive = std::sync::Mutex::new(receive);
    let upstream = Upstream::start(move |call| {
        call.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        for event in receive.lock().unwrap().iter() {
            call.write(event)?;
        }
        Err(std::io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    on_h2(&gateway, async |mut client: H2| {
        let request = http::Request::get("https://localhost/").body(Default::default());
        let mut body = client.send_request(request.unwrap()).await.unwrap().into_body();
        for event in ["data: one\n\n", "data: two\n\n"] {
            send.send(event).unwrap();
            let frame = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
    });
}

#[test]
fn a_client_that_stops_sending_is_given_up() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__IDLE_S", "1")]);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nsome";
    client.get_mut().write_all(head.as_bytes()).unwrap();
    let answer = read_answer(&mut client, false).unwrap();
    assert_eq!(answer.status, 408);
    assert!(read_answer(&mut client, false).is_err());
}

/// Waits until nothing of any request or client is left, and says what `what` was.
fn nothing_left(gateway: &Gateway, what: &str) {
    for gauge in ["gateway_requests_in_flight", "gateway_tunnels_open", "gateway_connections_open"]
    {
        until(&format!("{what}: {gauge}"), || (gateway.metric(gauge) == Some(0.0)).then_some(()));
    }
}

#[test]
fn an_upload_that_the_service_does_not_read_ends_with_its_request() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    // Reads the head, and then nothing; it keeps its connection until the test has ended.
    let upstream = Upstream::start(move |_| {
        let _: Result<(), _> = gone.lock().unwrap().recv();
        Err(std::io::ErrorKind::Other.into())
    });
    // Long patience with a socket: that it ends is not the kernel's doing.
    let settings =
        [("GATEWAY__ANSWER_S", "1"), ("GATEWAY__IDLE_S", "600"), ("GATEWAY__BODY_BYTES_MAX", "0")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    let socket = client.get_ref().get_ref().try_clone().unwrap();
    socket.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let length = 50 << 20;
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    client.get_mut().write_all(head.as_bytes()).unwrap();
    let full = client.get_mut().write_all(&vec![7; length]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(read_answer(&mut client, false).unwrap().status, 504);
    drop((client, socket));
    nothing_left(&gateway, "after the 504");
    drop(go);
}

#[test]
fn a_client_that_goes_away_is_counted_as_its_own_fault_and_leaves_nothing() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::start(move |_| {
        let _: Result<(), _> = gone.lock().unwrap().recv();
        Err(std::io::ErrorKind::Other.into())
    });
    let gateway = Gateway::start(&upstream.route(), &[]);
    let beginnings = [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nsome",
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ];
    for (n, beginning) in beginnings.iter().enumerate() {
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        client.get_mut().write_all(beginning.as_bytes()).unwrap();
        until("the request to arrive", || (upstream.seen().len() == n + 1).then_some(()));
        drop(client);
        nothing_left(&gateway, beginning);
    }
    let count = |class: &str| {
        gateway.metric(&format!(r#"gateway_requests_total{{route="/",status="{class}"}}"#))
    };
    assert_eq!((count("4xx"), count("2xx"), count("5xx")), (Some(3.0), Some(0.0), Some(0.0)));
    drop(go);
}

#[test]
fn a_slow_body_is_no_idle_one() {
    let upstream = Upstream::echo();
    let settings = [
        ("GATEWAY__IDLE_S", "2"),
        ("GATEWAY__ANSWER_S", "2"),
        ("GATEWAY__BODY_BYTES_PER_S_MIN", "1"),
    ];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n";
    client.get_mut().write_all(head.as_bytes()).unwrap();
    for _ in 0..6 {
        thread::park_timeout(std::time::Duration::from_millis(500));
        client.get_mut().write_all(b"x").unwrap();
    }
    assert!(read_answer(&mut client, false).unwrap().text().ends_with("\n6 bytes"));
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let gateway = Gateway::start("/=http://127.0.0.1:1", &[("GATEWAY__HEADER_S", "1")]);
    for beginning in ["", "GET / HTTP/1.1\r\nHost: loc"] {
        let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
        client.get_mut().write_all(beginning.as_bytes()).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
    }
}

#[test]
fn a_silent_http2_connection_is_closed() {
    let gateway = Gateway::start("/=http://127.0.0.1:1", &[("GATEWAY__HEADER_S", "1")]);
    let mut client =
        tls(&gateway, "localhost", |builder| builder.set_alpn_protos(b"\x02h2").unwrap()).unwrap();
    // The preface and empty SETTINGS (RFC 9113 §3.4), and then nothing, not even a pong.
    client.get_mut().write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(!rest.is_empty(), "its own SETTINGS and a GOAWAY");
}

#[test]
fn an_http2_answer_that_is_left_unread_ends() {
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__HEADER_S", "1"), ("GATEWAY__IDLE_S", "1")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let mut client =
        tls(&gateway, "localhost", |builder| builder.set_alpn_protos(b"\x02h2").unwrap()).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS with INITIAL_WINDOW_SIZE 0 (RFC 9113 §6.5.2): send me nothing.
    bytes.extend_from_slice(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0");
    // HEADERS with END_STREAM and END_HEADERS: GET https / localhost (RFC 7541, appendix A).
    bytes.extend_from_slice(b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x87\x84\x41\x09localhost");
    client.get_mut().write_all(&bytes).unwrap();
    until("the request to arrive", || (upstream.seen().len() == 1).then_some(()));
    // Before the pings that this client never answers.
    until("the request's end", || {
        (gateway.metric("gateway_requests_in_flight") == Some(0.0)).then_some(())
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let upstream = Upstream::echo();
    let settings = [("GATEWAY__CONNECTIONS_MAX", "2")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let one = tls(&gateway, "localhost", |_| {}).unwrap();
    let _two = tls(&gateway, "localhost", |_| {}).unwrap();
    let mut third = std::net::TcpStream::connect(gateway.https).unwrap();
    third.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    // Anything that is no handshake ends a connection at once, when it is served.
    third.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let waits = third.read(&mut [0; 1]).unwrap_err();
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
    drop(one);
    third.set_read_timeout(Some(LONG)).unwrap();
    let mut rest = Vec::new();
    third.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.first(), Some(&0x15), "a TLS alert");
}

#[test]
fn requests_beyond_the_limit_are_told_to_come_back() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::start(move |call| {
        gone.lock().unwrap().recv().unwrap();
        call.ok("first")
    });
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__REQUESTS_MAX", "1")]);
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut first = tls(&gateway, "localhost", |_| {}).unwrap();
    first.get_mut().write_all(get).unwrap();
    until("the first to arrive", || (upstream.seen().len() == 1).then_some(()));
    let second = exchange(&gateway, get);
    assert_eq!(second.status, 503);
    assert!(second.field("retry-after").is_some());
    go.send(()).unwrap();
    assert_eq!(read_answer(&mut first, false).unwrap().text(), "first");
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    let gateway = Gateway::start("/=http://127.0.0.1:1", &[("GATEWAY__HANDSHAKE_S", "1")]);
    let mut stream = std::net::TcpStream::connect(gateway.https).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    let name = r#"gateway_tls_handshake_failures_total{reason="timeout"}"#;
    until("the count", || (gateway.metric(name) == Some(1.0)).then_some(()));
}
