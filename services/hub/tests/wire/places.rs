//! Registering, and the listing.

use serde_json::json;

use super::peer::{Peer, hub, place, places};

#[test]
fn must_the_place_id_is_the_number_of_the_connection() {
    let hub = hub();
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::new(&hub)).collect();
    assert_eq!(peers[2].export("c"), 3);
    assert_eq!(peers[0].export("a"), 1);
    let mut fourth = Peer::new(&hub);
    assert_eq!(fourth.export("d"), 4);
    fourth.leave();
    assert_eq!(Peer::new(&hub).export("e"), 5, "no number is used twice");
}

#[test]
fn must_the_listing_is_what_agents_read() {
    let hub = hub();
    let mut exporter = Peer::at(&hub, "::ffff:192.0.2.9");
    exporter.export("b\u{f6}ard");
    let listing = harness::get(&hub.url("/api/v1/places"), &[]);
    assert_eq!(listing.field("content-type"), Some("application/json"));
    assert_eq!(
        listing.text(),
        r#"{"places": [{"name": "b\u00f6ard", "port": 29201, "parts": [{"compatible": ["demo"], "usb": {}, "tcp": {"web": {"host": "h", "port": 80}}}], "id": 1, "host": "192.0.2.9"}]}"#
    );
}

#[test]
fn places_come_in_order_of_registration_reserved_ones_too() {
    let hub = hub();
    let (mut first, mut second, mut agent) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = second.export("b");
    first.export("a");
    agent.holds(&mut second, place);
    let names: Vec<_> =
        places(&hub).as_array().unwrap().iter().map(|place| place["name"].clone()).collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn must_what_would_break_the_listing_is_refused() {
    let hub = hub();
    let mut peer = Peer::new(&hub);
    for (description, error) in [
        (json!({"name": "a", "port": 0, "parts": []}), "port: Invalid value"),
        (json!({"name": 1, "port": 1, "parts": []}), "name: Expected str, got int"),
        (
            json!({"name": "a", "port": 1, "parts": [{"compatible": [1]}]}),
            "compatible[0]: Expected str, got int",
        ),
        (
            json!({"name": "a", "port": 1, "parts": [{"compatible": [], "usb": {"u": {"usbid": "x"}}}]}),
            "usbid: Invalid value",
        ),
        (
            json!({"name": "a", "port": 1}),
            "Place.__init__() missing 1 required positional argument: 'parts'",
        ),
        (
            json!({"name": "a", "port": 1, "parts": [], "host": "evil"}),
            "init_recursive() got multiple values for keyword argument 'host'",
        ),
    ] {
        assert_eq!(peer.call("register_place", &json!([description])), Err(error.to_owned()));
    }
    let long = json!({"name": "x".repeat(300_000), "port": 1, "parts": []});
    assert!(peer.call("register_place", &json!([long])).unwrap_err().contains("longer than"));
    assert_eq!(places(&hub), json!([]));
}

#[test]
fn a_connection_has_one_place_and_a_name_is_used_once() {
    let hub = hub();
    let (mut first, mut second) = (Peer::new(&hub), Peer::new(&hub));
    first.export("board");
    let again = first.call("register_place", &json!([place("other")]));
    assert_eq!(again, Err("Place already registered".to_owned()));
    let taken = second.call("register_place", &json!({"export_desc": place("board")}));
    assert_eq!(taken, Err("Place with name \"board\" already registered".to_owned()));
    first.leave();
    second.export("board");
}
