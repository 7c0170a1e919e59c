//! Waiting, handing over, cancelling.

use serde_json::json;

use super::peer::{Peer, hub, waiting};

#[test]
fn must_the_queue_is_served_in_order_with_no_empty_list_between() {
    let hub = hub();
    let mut exporter = Peer::new(&hub);
    let place = exporter.export("board");
    let mut agents: Vec<Peer> = (1..=4).map(|n| Peer::at(&hub, &format!("10.0.0.{n}"))).collect();
    agents[0].holds(&mut exporter, place);
    let mut ids = vec![0];
    for (index, agent) in agents.iter_mut().enumerate().skip(1) {
        ids.push(agent.start("reserve", &json!([[place]])));
        agent.hears_nothing();
        assert_eq!(waiting(&hub), index as u64);
    }
    for next in 1..4 {
        let back = agents[next - 1].start("return_reservation", &json!([place]));
        assert_eq!(agents[next - 1].reply(back), Ok(json!(null)), "at once, without the exporter");
        let (params, call) = exporter.asked();
        assert_eq!(params, json!([[format!("10.0.0.{}", next + 1)]]), "the next user directly");
        agents[next].hears_nothing();
        exporter.confirm(&call);
        assert_eq!(agents[next].reply(ids[next]), Ok(json!(place)));
    }
    exporter.hears_nothing();
    assert_eq!(waiting(&hub), 0);
}

#[test]
fn must_the_place_of_an_agent_that_goes_is_handed_over_too() {
    let hub = hub();
    let (mut exporter, mut first, mut second) =
        (Peer::new(&hub), Peer::new(&hub), Peer::at(&hub, "10.0.0.2"));
    let place = exporter.export("board");
    first.holds(&mut exporter, place);
    let id = second.start("reserve", &json!([[place]]));
    second.hears_nothing();
    first.leave();
    exporter.admits(&["10.0.0.2"]);
    assert_eq!(second.reply(id), Ok(json!(place)));
}

#[test]
fn a_later_waiter_with_another_candidate_is_served_first() {
    let hub = hub();
    let (mut left, mut right) = (Peer::new(&hub), Peer::new(&hub));
    let ids = [left.export("left"), right.export("right")];
    let mut holder = Peer::new(&hub);
    holder.holds(&mut left, ids[0]);
    holder.holds(&mut right, ids[1]);
    let mut agent = Peer::new(&hub);
    // Pipelined calls of one connection queue in the order sent.
    let only_left = agent.start("reserve", &json!([[ids[0]]]));
    let either = agent.start("reserve", &json!([ids]));
    agent.hears_nothing();
    let back = holder.start("return_reservation", &json!([ids[1]]));
    right.admits(&["127.0.0.1"]);
    holder.reply(back).unwrap();
    assert_eq!(agent.reply(either), Ok(json!(ids[1])));
    let back = holder.start("return_reservation", &json!([ids[0]]));
    left.admits(&["127.0.0.1"]);
    holder.reply(back).unwrap();
    assert_eq!(agent.reply(only_left), Ok(json!(ids[0])));
}

#[test]
fn must_a_cancelled_request_gets_no_reply_and_leaves_the_queue() {
    let hub = hub();
    let (mut exporter, mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    holder.holds(&mut exporter, place);
    for cancel in [json!([1000]), json!({"id_": 1000})] {
        agent.send(&json!({"id": 1000, "method": "reserve", "params": [[place]]}));
        agent.hears_nothing();
        assert_eq!(waiting(&hub), 1);
        assert_eq!(agent.call("rpc.cancel", &cancel), Ok(json!(null)));
        assert_eq!(waiting(&hub), 0, "it has left before the cancellation is answered");
        agent.hears_nothing();
    }
    agent.send(&json!({"id": 1000, "method": "reserve", "params": [[place]]}));
    agent.send(&json!({"method": "rpc.cancel", "params": [1000]}));
    agent.hears_nothing();
    assert_eq!(waiting(&hub), 0, "a notification cancels too");
    let back = holder.start("return_reservation", &json!([place]));
    exporter.admits(&[]);
    holder.reply(back).unwrap();
}

#[test]
fn only_the_same_id_of_the_same_type_and_connection_is_cancelled() {
    let hub = hub();
    let (mut exporter, mut holder, mut agent, mut other) =
        (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    holder.holds(&mut exporter, place);
    agent.send(&json!({"id": 1000, "method": "reserve", "params": [[place]]}));
    agent.hears_nothing();
    for wrong in [json!(["1000"]), json!([1001]), json!([1000.0]), json!([null]), json!([[1000]])] {
        assert_eq!(agent.call("rpc.cancel", &wrong), Ok(json!(null)), "{wrong}");
    }
    assert_eq!(other.call("rpc.cancel", &json!([1000])), Ok(json!(null)));
    assert_eq!(waiting(&hub), 1);
    let back = holder.start("return_reservation", &json!([place]));
    exporter.admits(&["127.0.0.1"]);
    holder.reply(back).unwrap();
    assert_eq!(agent.reply(1000), Ok(json!(place)));
}

#[test]
fn must_a_waiting_request_holds_up_nothing() {
    let hub = hub();
    let (mut exporter, mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    holder.holds(&mut exporter, place);
    let waits = agent.start("reserve", &json!([[place]]));
    let own = agent.export("mine");
    assert_eq!(agent.call("get_place_stats", &json!([own])), Ok(json!({"uniqueness": 0.0})));
    let mine = holder.start("reserve", &json!([[own]]));
    agent.admits(&["127.0.0.1"]);
    assert_eq!(holder.reply(mine), Ok(json!(own)));
    assert_eq!(agent.call("rpc.cancel", &json!([waits])), Ok(json!(null)));
}

#[test]
fn a_waiter_fails_when_its_last_candidate_goes() {
    let hub = hub();
    let (mut left, mut right) = (Peer::new(&hub), Peer::new(&hub));
    let ids = [left.export("left"), right.export("right")];
    let (mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub));
    holder.holds(&mut left, ids[0]);
    holder.holds(&mut right, ids[1]);
    let id = agent.start("reserve", &json!([ids]));
    agent.hears_nothing();
    left.leave();
    agent.hears_nothing();
    right.leave();
    assert_eq!(agent.reply(id), Err("All candidate places are gone".to_owned()));
}

#[test]
fn a_new_place_is_not_offered_to_those_who_wait() {
    let hub = hub();
    let (mut exporter, mut holder, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    holder.holds(&mut exporter, place);
    let mut second = Peer::new(&hub);
    // It could be guessed, but is no candidate until it exists.
    agent.start("reserve", &json!([[place, 4, 5]]));
    agent.hears_nothing();
    second.export("second");
    second.hears_nothing();
    assert_eq!(waiting(&hub), 1);
}
