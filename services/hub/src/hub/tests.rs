//! What the hub keeps, and that it keeps no more.

use serde_json::json;

use super::*;

fn hub() -> Hub {
    let gauges = Gauges::register(&prometheus::Registry::new()).unwrap();
    Hub::new(0.01, 10_000, Budget::new(64 << 20), gauges)
}

/// A participant, whose mailbox is to be kept: a connection without one is gone.
fn connect(hub: &Hub) -> (ConnectionId, Arc<Mailbox>) {
    hub.connect(Ok([10, 0, 0, 1].into())).unwrap()
}

fn call(hub: &Hub, connection: ConnectionId, id: u64, method: &str, params: &Value) {
    let message = json!({"id": id, "method": method, "params": params});
    hub.receive(connection, message.to_string().as_bytes());
}

fn description(name: &str, tags: &[String]) -> Value {
    json!([{"name": name, "port": 1, "parts": [{"compatible": tags}]}])
}

#[test]
fn who_leaves_leaves_nothing_behind() {
    let hub = hub();
    let (exporter, _one) = connect(&hub);
    call(&hub, exporter, 1, "register_place", &description("board", &[]));
    let (holder, _two) = connect(&hub);
    let (agent, _three) = connect(&hub);
    call(&hub, holder, 1, "reserve", &json!([[exporter]]));
    call(&hub, agent, 1, "reserve", &json!([[exporter]]));
    call(&hub, agent, 2, "get_authentication_response", &json!(["abc"]));
    let requests = |state: &State| (state.tickets.len(), state.logins.len());
    assert_eq!(requests(&hub.lock()), (3, 1));
    for connection in [agent, holder, exporter] {
        hub.disconnect(connection);
    }
    let state = hub.lock();
    assert!(state.tickets.is_empty() && state.logins.is_empty(), "requests");
    assert!(state.peers.is_empty() && state.entries.is_empty(), "participants");
    assert_eq!((state.entries_bytes, state.farm.counts()), (0, (0, 0, 0)));
}

#[test]
fn the_listing_is_bounded_and_has_room_again_when_somebody_leaves() {
    let hub = hub();
    let tags = ["t".repeat(15_000)];
    let mut peers = Vec::new();
    let registered = |hub: &Hub| hub.lock().farm.counts().0;
    while registered(&hub) == peers.len() {
        peers.push(connect(&hub));
        let (id, _) = peers[peers.len() - 1];
        call(&hub, id, 1, "register_place", &description(&format!("board {id}"), &tags));
    }
    let length = |hub: &Hub| hub.listing().iter().map(Bytes::len).sum::<usize>();
    assert!((LISTING_BYTES_MAX - 20_000..=LISTING_BYTES_MAX + 16).contains(&length(&hub)));
    hub.disconnect(peers[0].0);
    let (late, _) = peers[peers.len() - 1];
    call(&hub, late, 2, "register_place", &description("late", &tags));
    assert_eq!(registered(&hub), peers.len() - 1);
}

#[test]
fn listings_of_different_times_share_the_places_that_are_in_both() {
    let hub = hub();
    let peers = [connect(&hub), connect(&hub)];
    for (id, _) in &peers {
        call(&hub, *id, 1, "register_place", &description(&format!("board {id}"), &[]));
    }
    let both = hub.listing();
    hub.disconnect(peers[0].0);
    let one = hub.listing();
    assert_eq!(both[2].as_ptr_range().end, one[1].as_ptr_range().end, "the same memory");
    let text: Vec<u8> = one.concat();
    let text: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(text["places"][0]["name"], "board 2");
}

#[test]
fn people_see_the_beginning_of_what_is_long() {
    let hub = hub();
    let (id, _mailbox) = connect(&hub);
    let tags: Vec<String> = (0..20).map(|tag| format!("{tag}{}", "ä".repeat(100))).collect();
    call(&hub, id, 1, "register_place", &description(&"ü".repeat(200), &tags));
    let shown = hub.overview(10).places.remove(0);
    assert_eq!(shown.name, "ü".repeat(NAME_CHARS_SHOWN) + "…");
    assert_eq!(shown.tags[0], format!("0{}…", "ä".repeat(TAG_CHARS_SHOWN - 1)));
    assert_eq!((shown.tags.len(), shown.tags[TAGS_SHOWN].as_str()), (TAGS_SHOWN + 1, "…"));
    assert_eq!((cut("äö", 2), cut("", 2)), ("äö".to_owned(), String::new()));
}

#[test]
fn waiting_logins_are_bounded() {
    let hub = hub();
    let (greedy, _mailbox) = connect(&hub);
    let login = |id, count| {
        call(&hub, id, count, "get_authentication_response", &json!([format!("{id}-{count}")]))
    };
    for count in 0..20 {
        login(greedy, count);
    }
    assert_eq!(hub.lock().logins.len(), 8);
    call(&hub, greedy, 100, "rpc.cancel", &json!([0]));
    login(greedy, 101);
    assert_eq!(hub.lock().logins.len(), 8, "there is room again after one is done");
    let peers: Vec<_> = (0..200).map(|_| connect(&hub)).collect();
    for (id, _) in &peers {
        for count in 0..8 {
            login(*id, count);
        }
    }
    assert_eq!(hub.lock().logins.len(), 1000);
}
