//! JSON-RPC as the clients speak it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use super::peer::{Peer, frame, hub, place, places};

/// Well before any timeout of the hub's.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn text_and_binary_are_understood_and_binary_is_answered() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    peer.socket.send(Message::text(r#"{"id":"a","method":"get_reservations"}"#)).unwrap();
    let Message::Binary(reply) = peer.socket.read().unwrap() else { panic!("not binary") };
    assert_eq!(&reply[..], br#"{"jsonrpc":"2.0","id":"a","result":{"reservations":[]}}"#);
}

#[test]
fn an_id_comes_back_with_its_type() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    for id in ["0", "\"\"", "\"1\"", "-5", "123456789012345678901234567890", "\"ä\""] {
        peer.send_bytes(format!(r#"{{"id":{id},"method":"get_reservations"}}"#).as_bytes());
        let Message::Binary(reply) = peer.socket.read().unwrap() else { panic!("not binary") };
        let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"result""#);
        assert!(reply.starts_with(start.as_bytes()), "{id}: {reply:?}");
    }
}

#[test]
fn what_cannot_be_understood_is_ignored_and_the_connection_stays() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    for garbage in [
        &b""[..],
        b"x",
        b"\xff\xfe",
        b"[]",
        br#"[{"id":1,"method":"get_reservations"}]"#,
        b"{}",
        br#"{"id":1.0,"method":"get_reservations"}"#,
        br#"{"id":1e2,"method":"get_reservations"}"#,
        br#"{"id":[],"method":"get_reservations"}"#,
        br#"{"id":77,"result":null}"#,
        br#"{"id":77,"error":{"code":1,"message":"x"}}"#,
        br#"{"method":"no_such_method"}"#,
        br#"{"method":"reserve"}"#,
        br#"{"id":null,"method":"reserve","params":5}"#,
    ] {
        peer.send_bytes(garbage);
    }
    peer.hears_nothing();
}

#[test]
fn errors_have_the_codes_and_texts_that_the_clients_show() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    for (message, code, text) in [
        (r#""method":5"#, -32600, "Invalid Request"),
        (r#""method":"reserve","params":null"#, -32600, "Invalid Request"),
        (r#""method":"reserve","params":"x""#, -32600, "Invalid Request"),
        (r#""method":"""#, -32601, "Method not found"),
        (r#""method":"_private""#, -32601, "Method not found"),
        (r#""method":"get_places""#, -32601, "Method not found"),
        (r#""method":"communicate","params":[1,2]"#, -32601, "Method not found"),
        (r#""method":"auth_info""#, -32601, "Method not found"),
        (
            r#""method":"reserve""#,
            -32603,
            "Hub.reserve() missing 1 required positional argument: 'candidate_ids'",
        ),
        (r#""method":"reserve","params":[[1,2]]"#, -32603, "None of the candidates exist anymore"),
        (r#""method":"reserve","params":[7]"#, -32603, "'int' object is not iterable"),
        (r#""method":"return_reservation","params":[77]"#, -32603, "77"),
        (r#""method":"get_place_stats","params":{"place_id":77}"#, -32603, "77"),
        (
            r#""method":"register_place","params":[{"name":"a","port":"x","parts":[]}]"#,
            -32603,
            "port: Expected int, got str",
        ),
        (
            r#""method":"rpc.cancel""#,
            -32603,
            "Hub.rpc.cancel() missing 1 required positional argument: 'id_'",
        ),
    ] {
        peer.send_bytes(format!(r#"{{"id":1,{message}}}"#).as_bytes());
        let reply = peer.receive();
        assert_eq!(reply["error"]["code"], code, "{message}: {reply}");
        assert_eq!(reply["error"]["message"], text, "{message}");
        assert!(reply["error"]["data"]["traceback"].is_string(), "{message}: the clients show it");
    }
}

#[test]
fn a_notification_has_effect_and_no_reply() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    peer.send(&json!({"method": "register_place", "params": {"export_desc": place("board")}}));
    peer.hears_nothing();
    assert_eq!(places(&hub)[0]["name"], "board");
}

#[test]
fn a_message_may_be_in_fragments_with_pings_between() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    let message = br#"{"id":1,"method":"get_reservations"}"#;
    let bytes = [
        frame(0x01, &message[..5]),
        frame(0x89, b"ping"),
        frame(0x00, &message[5..9]),
        frame(0x80, &message[9..]),
    ];
    peer.socket.get_mut().write_all(&bytes.concat()).unwrap();
    assert_eq!(peer.socket.read().unwrap(), Message::Pong(b"ping"[..].into()));
    assert_eq!(peer.receive()["id"], 1);
}

#[test]
fn text_that_is_not_utf_8_ends_with_1007() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    peer.socket.get_mut().write_all(&frame(0x81, b"\xff")).unwrap();
    assert_eq!(peer.closed(), CloseCode::Invalid);
}

#[test]
fn a_frame_without_a_mask_ends_with_1002() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    peer.socket.get_mut().write_all(&[0x82, 0x02, b'{', b'}']).unwrap();
    assert_eq!(peer.closed(), CloseCode::Protocol);
}

#[test]
fn a_close_is_echoed_and_the_connection_ends() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    peer.socket.get_mut().write_all(&frame(0x88, &1000_u16.to_be_bytes())).unwrap();
    let mut rest = Vec::new();
    peer.socket.get_mut().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
}

#[test]
fn a_half_closed_or_reset_connection_is_gone_at_once() {
    let hub = hub();
    let (mut half, mut reset) = (Peer::new(&hub), Peer::new(&hub));
    let ids = [half.export("half"), reset.export("reset")];
    let mut agent = Peer::new(&hub);
    // What is held is told to wait, and hears at once when it is gone.
    agent.holds(&mut half, ids[0]);
    agent.holds(&mut reset, ids[1]);
    let waits = ids.map(|id| agent.start("reserve", &json!([[id]])));
    let start = Instant::now();
    half.socket.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(agent.reply(waits[0]), Err("All candidate places are gone".to_owned()));
    assert!(start.elapsed() < AT_ONCE, "half closed: {:?}", start.elapsed());
    let start = Instant::now();
    // The kernel resets a connection that is closed while something is unread (RFC 2525 §2.17).
    reset.socket.get_mut().write_all(&frame(0x89, b"unread")).unwrap();
    assert_eq!(reset.socket.get_mut().peek(&mut [0]).unwrap(), 1);
    drop(reset);
    assert_eq!(agent.reply(waits[1]), Err("All candidate places are gone".to_owned()));
    assert!(start.elapsed() < AT_ONCE, "reset: {:?}", start.elapsed());
    assert_eq!(places(&hub), Value::Array(vec![]));
}
