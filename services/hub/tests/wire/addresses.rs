//! Whose address exporters are told, and agents see.

use std::net::TcpStream;

use serde_json::json;

use super::peer::{Peer, hub, hub_with, place, places, port};

#[test]
fn must_a_mapped_ipv4_address_is_written_as_ipv4() {
    let hub = hub();
    let stream = TcpStream::connect(("127.0.0.1", port(&hub))).unwrap();
    Peer::over(stream, &[]).export("four");
    let mut four = Peer::new(&hub);
    four.export("board");
    assert_eq!(places(&hub).as_array().unwrap().last().unwrap()["host"], "127.0.0.1");
}

#[test]
fn an_ipv6_peer_keeps_its_address() {
    let hub = hub();
    let Ok(stream) = TcpStream::connect(("::1", port(&hub))) else {
        panic!("this machine has no IPv6 loopback, and the hub's default listener needs one");
    };
    let mut six = Peer::over(stream, &[]);
    six.export("six");
    assert_eq!(places(&hub)[0]["host"], "::1");
}

#[test]
fn the_proxys_word_counts_also_when_it_comes_by_ipv4_to_the_dual_stack_socket() {
    let hub = hub();
    let mut exporter = Peer::with_fields(
        &hub,
        &[("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "10.0.0.9:4711")],
    );
    let place = exporter.export("board");
    assert_eq!(places(&hub)[0]["host"], "10.0.0.9", "upstream bug 7; the last that is no proxy");
    let mut agent = Peer::at(&hub, "203.0.113.77, 2001:db8::7, 127.0.0.1");
    agent.start("reserve", &json!([[place]]));
    exporter.admits(&["2001:db8::7"]);
}

#[test]
fn a_strangers_word_does_not_count() {
    let hub = hub_with(&[("HUB__TRUSTED_PROXIES", "192.0.2.1")]);
    let mut exporter = Peer::at(&hub, "10.0.0.9");
    exporter.export("board");
    assert_eq!(places(&hub)[0]["host"], "127.0.0.1");
}

#[test]
fn networks_names_and_everybody_can_be_trusted() {
    for trusted in ["127.0.0.0/8", "localhost", "192.0.2.1,127.0.0.1", "*"] {
        let hub = hub_with(&[("HUB__TRUSTED_PROXIES", trusted)]);
        let mut exporter = Peer::at(&hub, "10.0.0.9");
        exporter.export("board");
        assert_eq!(places(&hub)[0]["host"], "10.0.0.9", "{trusted}");
    }
}

#[test]
fn who_has_no_address_can_neither_register_nor_reserve() {
    let hub = hub();
    let mut exporter = Peer::new(&hub);
    let id = exporter.export("board");
    let mut unknown = Peer::at(&hub, "unknown");
    let error = Err("'unknown' does not appear to be an IPv4 or IPv6 address".to_owned());
    assert_eq!(unknown.call("register_place", &json!([place("other")])), error);
    assert_eq!(unknown.call("reserve", &json!([[id]])), error);
    exporter.hears_nothing();
}
