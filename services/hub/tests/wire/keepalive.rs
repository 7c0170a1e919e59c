//! Pings. These tests take the time that they are about.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::{Bytes, Message};

use super::peer::{Peer, hub, places};

#[test]
fn must_the_hub_pings_every_20_s_and_drops_who_does_not_answer_within_20_s() {
    let hub = hub();
    let start = Instant::now();
    let mut alive = Peer::new(&hub);
    let mut dead = Peer::new(&hub);
    dead.export("dead");
    let watch = std::thread::spawn(move || watch(&mut dead, start));
    let mut payloads: Vec<Bytes> = Vec::new();
    for ping in 1..=2 {
        let Message::Ping(payload) = alive.socket.read().unwrap() else { panic!("not a ping") };
        alive.socket.flush().unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let due = f64::from(ping * 20);
        assert!((due - 0.5..due + 2.0).contains(&seconds), "ping {ping} after {seconds} s");
        assert_eq!(payload.len(), 4);
        payloads.push(payload);
    }
    assert_ne!(payloads[0], payloads[1], "each has its own bytes");
    let (bytes, ended) = watch.join().unwrap();
    assert!((39.5..43.0).contains(&ended.as_secs_f64()), "dropped after {ended:?}");
    let close = [&[0x88, 24, 0x03, 0xf3][..], b"keepalive ping timeout"].concat();
    assert!(bytes.ends_with(&close), "1011 and why: {bytes:x?}");
    assert_eq!(places(&hub), json!([]));
    alive.hears_nothing();
}

/// Reads everything and answers nothing, to the close frame.
fn watch(dead: &mut Peer, start: Instant) -> (Vec<u8>, Duration) {
    let stream = dead.socket.get_mut();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let count = stream.read(&mut chunk).unwrap();
        bytes.extend(&chunk[..count]);
        if count == 0 || bytes.windows(7).any(|window| window == b"timeout") {
            return (bytes, start.elapsed());
        }
    }
}
