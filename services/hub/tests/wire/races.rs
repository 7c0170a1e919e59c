//! Things that happen at the same time.

use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::protocol::frame::coding::CloseCode;

use super::peer::{Peer, gauge, hub, places, waiting};

#[test]
fn a_cancellation_in_the_same_segment_as_the_hand_over_leaks_nothing() {
    let hub = hub();
    let mut exporter = Peer::new(&hub);
    let place = exporter.export("board");
    let (mut agent, mut next) = (Peer::at(&hub, "10.0.0.1"), Peer::at(&hub, "10.0.0.2"));
    agent.holds(&mut exporter, place);
    agent.send(&json!({"id": 1000, "method": "reserve", "params": [[place]]}));
    agent.hears_nothing();
    let id = next.start("reserve", &json!([[place]]));
    next.hears_nothing();
    agent.send_together(&[
        json!({"id": 1001, "method": "return_reservation", "params": [place]}),
        json!({"id": 1002, "method": "rpc.cancel", "params": [1000]}),
    ]);
    assert_eq!(agent.reply(1001), Ok(json!(null)));
    assert_eq!(agent.reply(1002), Ok(json!(null)));
    exporter.admits(&["10.0.0.1"]);
    exporter.admits(&["10.0.0.2"]);
    assert_eq!(next.reply(id), Ok(json!(place)), "upstream bug 4: the place must not be lost");
    agent.hears_nothing();
    let reservations = agent.call("get_reservations", &json!([])).unwrap();
    assert_eq!(reservations, json!({"reservations": [{"place_id": place, "user": "<3>"}]}));
}

#[test]
fn a_request_cancelled_while_the_exporter_is_asked_frees_the_place() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::at(&hub, "10.0.0.1"));
    let place = exporter.export("board");
    let id = agent.start("reserve", &json!([[place]]));
    let (_, call) = exporter.asked();
    assert_eq!(agent.call("rpc.cancel", &json!([id])), Ok(json!(null)));
    assert_eq!(gauge(&hub, "not_my_board_places_reserved"), 0);
    exporter.hears_nothing();
    exporter.confirm(&call);
    exporter.admits(&[]);
    agent.hears_nothing();
    agent.holds(&mut exporter, place);
}

#[test]
fn when_the_exporter_dies_while_it_is_asked_another_candidate_is_given() {
    let hub = hub();
    let (mut first, mut second) = (Peer::new(&hub), Peer::new(&hub));
    let ids = [first.export("first"), second.export("second")];
    let (mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    holder.holds(&mut second, ids[1]);
    let id = agent.start("reserve", &json!([ids]));
    first.asked();
    first.leave();
    agent.hears_nothing();
    assert_eq!(waiting(&hub), 1, "upstream bug 5: it waits for the other");
    let back = holder.start("return_reservation", &json!([ids[1]]));
    second.admits(&["127.0.0.1"]);
    holder.reply(back).unwrap();
    assert_eq!(agent.reply(id), Ok(json!(ids[1])));
}

#[test]
fn an_exporter_that_does_not_answer_is_dropped_and_blocks_nobody() {
    let hub = hub();
    let (mut silent, mut other) = (Peer::new(&hub), Peer::new(&hub));
    let ids = [silent.export("silent"), other.export("other")];
    let mut agent = Peer::new(&hub);
    let start = Instant::now();
    let id = agent.start("reserve", &json!([[ids[0]]]));
    silent.asked();
    // Meanwhile all others go on, and so does the agent.
    let mut bystander = Peer::new(&hub);
    bystander.holds(&mut other, ids[1]);
    let queued = bystander.start("reserve", &json!([[ids[0]]]));
    assert_eq!(bystander.call("rpc.cancel", &json!([queued])), Ok(json!(null)));
    assert_eq!(agent.reply(id), Err("All candidate places are gone".to_owned()), "upstream bug 3");
    assert!((9..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(silent.closed(), CloseCode::Error);
    assert_eq!(places(&hub)[0]["name"], "other");
}

#[test]
fn an_agent_that_goes_while_the_exporter_is_silent_is_forgotten_at_once() {
    let hub = hub();
    let (mut silent, mut agent, mut other) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = silent.export("silent");
    agent.start("reserve", &json!([[place]]));
    silent.asked();
    let start = Instant::now();
    agent.leave();
    assert_eq!(other.call("get_reservations", &json!([])), Ok(json!({"reservations": []})));
    assert!(start.elapsed() < Duration::from_secs(5), "upstream bug 3: {:?}", start.elapsed());
}

#[test]
fn the_calls_to_an_exporter_keep_their_order() {
    let hub = hub();
    let (mut exporter, mut first, mut second) =
        (Peer::new(&hub), Peer::at(&hub, "10.0.0.1"), Peer::at(&hub, "10.0.0.2"));
    let place = exporter.export("board");
    first.holds(&mut exporter, place);
    let back = first.start("return_reservation", &json!([place]));
    let (params, call) = exporter.asked();
    assert_eq!(params, json!([[]]));
    let id = second.start("reserve", &json!([[place]]));
    second.hears_nothing();
    exporter.confirm(&call);
    assert_eq!(first.reply(back), Ok(json!(null)));
    exporter.admits(&["10.0.0.2"]);
    assert_eq!(second.reply(id), Ok(json!(place)));
}

#[test]
fn an_id_that_is_used_twice_is_answered_once() {
    let hub = hub();
    let (mut exporter, mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    holder.holds(&mut exporter, place);
    for _ in 0..2 {
        agent.send(&json!({"id": 1000, "method": "reserve", "params": [[place]]}));
    }
    agent.hears_nothing();
    assert_eq!(waiting(&hub), 1);
    assert_eq!(agent.call("rpc.cancel", &json!([1000])), Ok(json!(null)));
    assert_eq!(waiting(&hub), 0, "upstream bug 14: the cancellation must not miss");
    agent.hears_nothing();
}

#[test]
fn an_id_under_way_is_answered_once_whatever_else_comes_with_it() {
    let hub = hub();
    let (mut exporter, mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    holder.holds(&mut exporter, place);
    agent.send(&json!({"id": 1000, "method": "reserve", "params": [[place]]}));
    agent.send(&json!({"id": 1000, "method": 5}));
    agent.hears_nothing();
    assert_eq!(waiting(&hub), 1);
    agent.send(&json!({"id": 1000, "method": "rpc.cancel", "params": [1000]}));
    assert_eq!(agent.reply(1000), Ok(json!(null)), "the cancellation's");
    agent.hears_nothing();
    assert_eq!(waiting(&hub), 0);
}
