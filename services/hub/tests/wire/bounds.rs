//! What a peer cannot do, however it tries.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use harness::Service;
use serde_json::json;
use tungstenite::protocol::frame::coding::CloseCode;

use super::peer::{Peer, frame, hub, hub_with, port, waiting};

const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A good call of exactly `length` bytes.
fn padded(length: usize) -> Vec<u8> {
    let mut message = br#"{"id":1,"method":"get_reservations","padding":""#.to_vec();
    message.resize(length - 2, b'x');
    message.extend(b"\"}");
    message
}

#[test]
fn must_a_message_of_16_mib_is_taken_and_one_byte_more_ends_with_1009() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    peer.send_bytes(&padded(MESSAGE_BYTES_MAX));
    assert_eq!(peer.receive()["id"], 1);
    peer.send_bytes(&padded(MESSAGE_BYTES_MAX + 1));
    assert_eq!(peer.closed(), CloseCode::Size);
}

#[test]
fn fragments_count_together() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    let half = vec![b' '; MESSAGE_BYTES_MAX / 2 + 1];
    peer.socket.get_mut().write_all(&frame(0x02, &half)).unwrap();
    peer.socket.get_mut().write_all(&frame(0x80, &half)).unwrap();
    assert_eq!(peer.closed(), CloseCode::Size);
}

#[test]
fn a_frame_that_claims_to_be_endless_is_refused_by_its_header() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    let header = [&[0x82, 0xff][..], &(1_u64 << 62).to_be_bytes()].concat();
    peer.socket.get_mut().write_all(&header).unwrap();
    assert_eq!(peer.closed(), CloseCode::Size);
}

#[test]
fn all_unfinished_messages_together_are_bounded() {
    let hub = hub_with(&[("HUB__INCOMING_MIB_MAX", "16")]);
    let (mut first, mut second) = (Peer::new(&hub), Peer::new(&hub));
    let unfinished = vec![b' '; 12 << 20];
    first.socket.get_mut().write_all(&frame(0x02, &unfinished)).unwrap();
    // Answered, so the hub has read what came before.
    first.socket.get_mut().write_all(&frame(0x89, b"read")).unwrap();
    assert!(first.socket.read().unwrap().is_pong());
    second.socket.get_mut().write_all(&frame(0x02, &unfinished)).unwrap();
    assert_eq!(second.closed(), CloseCode::Again);
    first.socket.get_mut().write_all(&frame(0x80, b"{}")).unwrap();
    first.hears_nothing();
    let mut third = Peer::new(&hub);
    third.send_bytes(&padded(12 << 20));
    assert_eq!(third.receive()["id"], 1);
}

#[test]
fn a_peer_that_does_not_read_is_dropped() {
    let hub = hub();
    let (mut deaf, mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = deaf.export("deaf");
    holder.holds(&mut deaf, place);
    let id = agent.start("reserve", &json!([[place]]));
    agent.hears_nothing();
    let mut stream = deaf.socket.get_mut().try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // 4 KiB each, the error repeats the name: the sockets' buffers take some, the hub 4 MiB. Once it has dropped the peer it takes no more.
    let flood = std::thread::spawn(move || {
        let params = json!({"x".repeat(4000): 1});
        let message = json!({"id": 1, "method": "get_reservations", "params": params}).to_string();
        let message = frame(0x82, message.as_bytes());
        (0..50_000).all(|_| stream.write_all(&message).is_ok())
    });
    assert_eq!(agent.reply(id), Err("All candidate places are gone".to_owned()));
    assert!(!flood.join().unwrap(), "200 MB were read from a peer that is dropped");
    drop(deaf);
    agent.hears_nothing();
}

#[test]
fn requests_of_one_connection_that_wait_are_bounded() {
    let hub = hub();
    let (mut exporter, mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    holder.holds(&mut exporter, place);
    for id in 0..4096 {
        agent.send(&json!({"id": format!("r{id}"), "method": "reserve", "params": [[place]]}));
    }
    let refused = agent.call("reserve", &json!([[place]]));
    assert_eq!(refused, Err("At most 4096 requests of a connection may wait".to_owned()));
    assert_eq!(waiting(&hub), 4096);
    agent.leave();
    assert_eq!(waiting(&hub), 0);
}

#[test]
fn connections_are_bounded_and_who_comes_too_late_is_told() {
    let hub = hub_with(&[("HUB__CONNECTIONS_MAX", "2")]);
    let (first, _second) = (Peer::new(&hub), Peer::new(&hub));
    assert_eq!(upgrade(&hub), 503);
    first.leave();
    Peer::new(&hub).export("board");
}

/// The status of a handshake.
fn upgrade(hub: &Service) -> u16 {
    let stream = TcpStream::connect(("127.0.0.1", port(hub))).unwrap();
    match tungstenite::client("ws://hub/ws", stream) {
        Ok(_) => 101,
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            response.status().as_u16()
        }
        Err(error) => panic!("{error}"),
    }
}
