//! Reserving, returning, and what others see of it.

use serde_json::json;

use super::peer::{Peer, gauge, hub, hub_with, places};

#[test]
fn must_a_reservation_is_answered_when_the_exporter_has_confirmed() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::at(&hub, "10.0.0.5"));
    let place = exporter.export("board");
    let id = agent.start("reserve", &json!([[place]]));
    let (params, call) = exporter.asked();
    assert_eq!(params, json!([["10.0.0.5"]]), "one argument: the list of addresses");
    agent.hears_nothing();
    exporter.confirm(&call);
    assert_eq!(agent.reply(id), Ok(json!(place)));
    assert_eq!(
        agent.call("get_reservations", &json!([])),
        Ok(json!({"reservations": [{"place_id": place, "user": "<2>"}]}))
    );
    assert_eq!(gauge(&hub, "not_my_board_places_reserved"), 1);
    assert_eq!(gauge(&hub, "not_my_board_places_registered"), 1);
}

#[test]
fn a_returned_place_admits_nobody() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    agent.holds(&mut exporter, place);
    let id = agent.start("return_reservation", &json!({"place_id": place}));
    exporter.admits(&[]);
    assert_eq!(agent.reply(id), Ok(json!(null)));
    assert_eq!(gauge(&hub, "not_my_board_places_reserved"), 0);
    assert_eq!(agent.call("return_reservation", &json!([place])), Err(place.to_string()));
}

#[test]
fn what_another_holds_cannot_be_returned() {
    let hub = hub();
    let (mut exporter, mut agent, mut other) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    agent.holds(&mut exporter, place);
    assert_eq!(other.call("return_reservation", &json!([place])), Err(place.to_string()));
    exporter.hears_nothing();
}

#[test]
fn must_an_agent_that_goes_gives_its_places_back() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    agent.holds(&mut exporter, place);
    agent.leave();
    exporter.admits(&[]);
    let mut next = Peer::new(&hub);
    next.holds(&mut exporter, place);
}

#[test]
fn a_return_succeeds_though_the_exporter_errs() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    agent.holds(&mut exporter, place);
    let id = agent.start("return_reservation", &json!([place]));
    let (_, call) = exporter.asked();
    exporter.send(&json!({"id": call, "error": {"code": -32603, "message": "boom"}}));
    assert_eq!(agent.reply(id), Ok(json!(null)), "upstream bug 6");
    agent.holds(&mut exporter, place);
}

#[test]
fn a_return_succeeds_though_the_exporter_dies() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    agent.holds(&mut exporter, place);
    let id = agent.start("return_reservation", &json!([place]));
    exporter.asked();
    drop(exporter);
    assert_eq!(agent.reply(id), Ok(json!(null)), "upstream bug 6");
}

#[test]
fn an_exporters_error_reaches_the_agent_and_the_place_is_free() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    let id = agent.start("reserve", &json!([[place]]));
    let (_, call) = exporter.asked();
    let error = json!({"code": 1, "message": "boom", "data": {"traceback": "line 1\nline 2"}});
    exporter.send(&json!({"id": call, "error": error}));
    assert_eq!(agent.reply(id), Err("boom\n    line 1\n    line 2".to_owned()));
    exporter.admits(&[]);
    agent.holds(&mut exporter, place);
}

#[test]
fn a_place_that_is_gone_is_listed_nowhere_and_can_be_returned() {
    let hub = hub();
    let (mut exporter, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    agent.holds(&mut exporter, place);
    exporter.leave();
    assert_eq!(
        agent.call("get_reservations", &json!({})),
        Ok(json!({"reservations": []})),
        "upstream bug 8"
    );
    assert_eq!(places(&hub), json!([]));
    assert_eq!(agent.call("return_reservation", &json!([place])), Ok(json!(null)));
}

#[test]
fn must_the_common_place_goes_first_and_the_unique_one_stays_free() {
    let hub = hub();
    let mut exporters: Vec<Peer> = (0..4).map(|_| Peer::new(&hub)).collect();
    let ids: Vec<u64> = exporters
        .iter_mut()
        .enumerate()
        .map(|(index, exporter)| exporter.export(&format!("board{index}")))
        .collect();
    let mut agent = Peer::new(&hub);
    let uniqueness = |agent: &mut Peer, id: u64| {
        agent.call("get_place_stats", &json!([id])).unwrap()["uniqueness"].clone()
    };
    assert_eq!(uniqueness(&mut agent, ids[0]), json!(0.0));
    // The first place is asked for alone: 1 - 1/4.
    agent.holds(&mut exporters[0], ids[0]);
    assert_eq!(uniqueness(&mut agent, ids[0]), json!(0.75));
    let back = agent.start("return_reservation", &json!([ids[0]]));
    exporters[0].admits(&[]);
    agent.reply(back).unwrap();
    // Now together with another: the other is given, and 0.75 * 0.75 + 0.25 * 0.5 is the new score.
    let id = agent.start("reserve", &json!([[ids[0], ids[1], ids[1]]]));
    exporters[1].admits(&["127.0.0.1"]);
    assert_eq!(agent.reply(id), Ok(json!(ids[1])));
    assert_eq!(uniqueness(&mut agent, ids[0]), json!(0.6875));
    assert_eq!(uniqueness(&mut agent, ids[1]), json!(0.5));
}

#[test]
fn equally_good_places_are_given_by_chance() {
    let hub = hub();
    let (mut left, mut right) = (Peer::new(&hub), Peer::new(&hub));
    let ids = [left.export("left"), right.export("right")];
    let mut agent = Peer::new(&hub);
    let mut counts = [0; 2];
    // The chance that one of two is drawn 40 times in a row is below 2e-12.
    while counts.iter().sum::<i32>() < 40 && counts.contains(&0) {
        let id = agent.start("reserve", &json!([ids]));
        let all = agent_place(&mut agent, id, [&mut left, &mut right], ids);
        counts[all] += 1;
    }
    assert!(!counts.contains(&0), "{counts:?}");
}

/// Lets whichever exporter is asked confirm, and gives the place back; which one was it?
fn agent_place(agent: &mut Peer, id: u64, exporters: [&mut Peer; 2], ids: [u64; 2]) -> usize {
    // Who holds it is known before the exporter confirms.
    let held =
        agent.call("get_reservations", &json!([])).unwrap()["reservations"][0]["place_id"].as_u64();
    let index = ids.iter().position(|id| Some(*id) == held).unwrap();
    let [left, right] = exporters;
    let exporter = if index == 0 { left } else { right };
    exporter.admits(&["127.0.0.1"]);
    agent.reply(id).unwrap();
    let back = agent.start("return_reservation", &json!([ids[index]]));
    exporter.admits(&[]);
    agent.reply(back).unwrap();
    index
}

#[test]
fn the_tolerance_decides_what_is_equally_good() {
    let hub = hub_with(&[("HUB__UNIQUENESS_TOLERANCE", "0")]);
    let (mut left, mut right) = (Peer::new(&hub), Peer::new(&hub));
    let ids = [left.export("left"), right.export("right")];
    let mut agent = Peer::new(&hub);
    agent.holds(&mut left, ids[0]);
    let back = agent.start("return_reservation", &json!([ids[0]]));
    left.admits(&[]);
    agent.reply(back).unwrap();
    for _ in 0..10 {
        let id = agent.start("reserve", &json!([ids]));
        right.admits(&["127.0.0.1"]);
        assert_eq!(agent.reply(id), Ok(json!(ids[1])));
        let back = agent.start("return_reservation", &json!([ids[1]]));
        right.admits(&[]);
        agent.reply(back).unwrap();
    }
}

#[test]
fn one_connection_may_export_reserve_and_queue_behind_itself() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    let place = peer.export("board");
    let first = peer.start("reserve", &json!([[place]]));
    peer.admits(&["127.0.0.1"]);
    assert_eq!(peer.reply(first), Ok(json!(place)));
    let second = peer.start("reserve", &json!([[place]]));
    let back = peer.start("return_reservation", &json!([place]));
    assert_eq!(peer.reply(back), Ok(json!(null)));
    peer.admits(&["127.0.0.1"]);
    assert_eq!(peer.reply(second), Ok(json!(place)));
}
