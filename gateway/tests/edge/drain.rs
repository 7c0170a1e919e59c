//! SIGTERM: what runs may end, nothing new begins, and the process is gone in time.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;
use crate::tunnels;

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_running_request_is_finished_and_the_port_closed() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let upstream = Upstream::start(move |call| {
        gone.lock().unwrap().recv().unwrap();
        call.ok("finished")
    });
    let mut gateway = Gateway::start(&upstream.route(), &[]);
    let mut idle = tls(&gateway, "localhost", |_| {}).unwrap();
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    client.get_mut().write_all(GET.as_bytes()).unwrap();
    until("the request to arrive", || (upstream.seen().len() == 1).then_some(()));
    gateway.service.signal_terminate();
    until("the port to close", || TcpStream::connect(gateway.https).err());
    // A connection without a request is closed at once.
    assert!(read_answer(&mut idle, false).is_err());
    go.send(()).unwrap();
    let answer = read_answer(&mut client, false).unwrap();
    assert_eq!(answer.text(), "finished");
    assert_eq!(answer.field("connection"), Some("close"));
    let start = Instant::now();
    assert!(gateway.service.wait().success());
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_tunnel_may_go_on_until_the_drain_is_over() {
    let upstream = tunnels::echo();
    let mut gateway = Gateway::start(&upstream.route(), &[("GATEWAY__DRAIN_S", "2")]);
    let mut socket = tunnels::open(&gateway);
    let start = Instant::now();
    gateway.service.signal_terminate();
    until("the port to close", || TcpStream::connect(gateway.https).err());
    socket.send(tungstenite::Message::text("still")).unwrap();
    assert_eq!(socket.read().unwrap(), tungstenite::Message::text("still"));
    // Then it is told why, and that it may come again.
    let tungstenite::Message::Close(Some(close)) = socket.read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(close.code, CloseCode::Restart);
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
    assert!(gateway.service.wait().success());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn nothing_to_do_is_no_reason_to_wait() {
    let mut gateway = Gateway::start("/=http://127.0.0.1:1", &[]);
    let _open = tls(&gateway, "localhost", |_| {}).unwrap();
    let start = Instant::now();
    assert!(gateway.service.terminate().success());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
