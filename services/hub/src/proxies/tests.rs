//! Who is believed, and about whom.

use proptest::prelude::*;

use super::*;

fn client(trusted: &str, peer: &str, lines: &[&str]) -> Result<String, String> {
    let trusted: Trusted = trusted.parse().unwrap();
    let client = trusted.client(peer.parse().unwrap(), lines, &HashSet::new());
    client.map(|address| address.to_string()).map_err(|error| error.to_string())
}

#[test]
fn the_header_counts_only_from_a_trusted_peer() {
    for (trusted, peer, lines, expected) in [
        ("127.0.0.1 ::1", "127.0.0.1", &["10.0.0.5"][..], "10.0.0.5"),
        ("127.0.0.1,::1", "::1", &["10.0.0.5"], "10.0.0.5"),
        ("127.0.0.1 ::1", "192.0.2.7", &["10.0.0.5"], "192.0.2.7"),
        ("127.0.0.1 ::1", "127.0.0.1", &[], "127.0.0.1"),
        ("", "127.0.0.1", &["10.0.0.5"], "127.0.0.1"),
        ("172.16.0.0/12", "172.18.0.3", &["10.0.0.5"], "10.0.0.5"),
        ("2001:db8::/32", "2001:db8::7", &["2001:db9::1"], "2001:db9::1"),
    ] {
        assert_eq!(
            client(trusted, peer, lines),
            Ok(expected.to_owned()),
            "{trusted} {peer} {lines:?}"
        );
    }
}

#[test]
fn a_mapped_address_is_its_ipv4_address_on_either_side() {
    for (trusted, peer, lines, expected) in [
        ("127.0.0.1", "::ffff:127.0.0.1", &["10.0.0.5"][..], "10.0.0.5"),
        ("::ffff:127.0.0.1", "127.0.0.1", &["10.0.0.5"], "10.0.0.5"),
        ("127.0.0.1", "127.0.0.1", &["::ffff:10.0.0.5"], "10.0.0.5"),
        ("127.0.0.1", "::ffff:10.0.0.9", &[], "10.0.0.9"),
        ("10.0.0.0/8", "::ffff:10.0.0.9", &["192.0.2.1"], "192.0.2.1"),
    ] {
        assert_eq!(
            client(trusted, peer, lines),
            Ok(expected.to_owned()),
            "{trusted} {peer} {lines:?}"
        );
    }
}

#[test]
fn the_first_from_the_right_that_is_no_proxy_is_the_client() {
    for (lines, expected) in [
        (&["192.0.2.1, 10.0.0.5"][..], "10.0.0.5"),
        (&["192.0.2.1, 127.0.0.1"], "192.0.2.1"),
        (&["192.0.2.1", "198.51.100.2, 127.0.0.1"], "198.51.100.2"),
        (&["127.0.0.1, ::1"], "127.0.0.1"),
        (&["10.0.0.5,"], "10.0.0.5"),
    ] {
        assert_eq!(
            client("127.0.0.1 ::1", "127.0.0.1", lines),
            Ok(expected.to_owned()),
            "{lines:?}"
        );
    }
    assert_eq!(client("*", "192.0.2.9", &["192.0.2.1, 10.0.0.5"]), Ok("192.0.2.1".to_owned()));
    assert_eq!(client("*", "192.0.2.9", &[]), Ok("192.0.2.9".to_owned()));
}

#[test]
fn a_port_is_dropped() {
    for (line, expected) in [
        ("10.0.0.5:4711", "10.0.0.5"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(client("127.0.0.1", "127.0.0.1", &[line]), Ok(expected.to_owned()), "{line}");
    }
}

#[test]
fn what_is_no_address_is_an_error_in_pythons_words() {
    let error = "'unknown' does not appear to be an IPv4 or IPv6 address".to_owned();
    assert_eq!(client("127.0.0.1", "127.0.0.1", &["unknown"]), Err(error.clone()));
    assert_eq!(client("127.0.0.1", "127.0.0.1", &["10.0.0.5, unknown"]), Err(error));
    assert_eq!(client("127.0.0.1", "127.0.0.1", &["unknown, 10.0.0.5"]), Ok("10.0.0.5".to_owned()));
}

#[test]
fn a_proxy_that_does_not_say_for_whom_it_asks_is_no_participant() {
    let error = client("172.18.0.3", "172.18.0.3", &[]).unwrap_err();
    assert!(error.contains("172.18.0.3 sends no X-Forwarded-For"), "{error}");
    let named = HashSet::from(["172.18.0.3".parse().unwrap()]);
    let trusted: Trusted = "gateway".parse().unwrap();
    assert!(trusted.client("172.18.0.3".parse().unwrap(), &[], &named).is_err());
    assert_eq!(
        trusted.client("172.18.0.3".parse().unwrap(), &["10.0.0.5"], &named),
        Ok("10.0.0.5".parse().unwrap())
    );
}

#[test]
fn a_typing_error_in_the_setting_is_found() {
    for (text, good) in [
        ("127.0.0.1 ::1", true),
        ("gateway, 10.0.0.0/8", true),
        ("*", true),
        ("", true),
        ("300.0.0.1", false),
        ("10.0.0.0/40", false),
        ("http://gateway", false),
    ] {
        assert_eq!(text.parse::<Trusted>().is_ok(), good, "{text}");
    }
}

#[test]
fn host_names_are_resolved() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let proxies = Proxies::new("localhost".parse().unwrap());
    let client =
        |peer: &'static str| runtime.block_on(proxies.client(peer.parse().unwrap(), &["10.0.0.5"]));
    assert_eq!(client("127.0.0.1"), Ok("10.0.0.5".parse().unwrap()));
    assert_eq!(client("192.0.2.1"), Ok("192.0.2.1".parse().unwrap()));
}

#[test]
fn while_names_are_not_resolved_nobody_is_taken_for_the_client() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let proxies = Proxies::new("no-such-host.invalid 127.0.0.1".parse().unwrap());
    let client = |peer: &'static str, lines: &[&str]| {
        runtime.block_on(proxies.client(peer.parse().unwrap(), lines))
    };
    let stranger = client("192.0.2.1", &["10.0.0.5"]);
    assert!(matches!(stranger, Err(Unknown::Unresolved(_))), "{stranger:?}");
    assert_eq!(
        client("192.0.2.1", &[]),
        Ok("192.0.2.1".parse().unwrap()),
        "it asks for nobody else"
    );
    assert_eq!(client("127.0.0.1", &["10.0.0.5"]), Ok("10.0.0.5".parse().unwrap()));
}

#[test]
fn a_name_that_is_not_resolved_stands_for_its_last_addresses_for_a_while() {
    let address: IpAddr = "172.18.0.3".parse().unwrap();
    let start = Instant::now();
    let mut named = Named::default();
    named.take("gateway", Some(HashSet::from([address])), start);
    for (later, known) in [(NAMES_KEPT, true), (NAMES_KEPT + NAMES_FRESH, false)] {
        named = Named { last: named.last, ..Named::default() };
        named.take("gateway", None, start + later);
        assert_eq!(named.addresses.contains(&address), known, "{later:?}");
        assert!(named.incomplete, "an address that is new may be another proxy");
    }
    let moved: IpAddr = "172.18.0.4".parse().unwrap();
    named = Named { last: named.last, ..Named::default() };
    named.take("gateway", Some(HashSet::from([moved])), start);
    assert_eq!(named.addresses, HashSet::from([moved]), "an answer replaces what was");
}

proptest! {
    #[test]
    fn no_header_from_a_stranger_changes_anything(lines in prop::collection::vec(".{0,40}", 0..4)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert_eq!(client("127.0.0.1", "192.0.2.7", &lines), Ok("192.0.2.7".to_owned()));
    }

    #[test]
    fn what_the_client_writes_before_the_proxys_entry_changes_nothing(forged in "[0-9a-f.:, ]{0,60}") {
        let line = format!("{forged}, 10.0.0.5");
        prop_assert_eq!(client("127.0.0.1", "127.0.0.1", &[&line]), Ok("10.0.0.5".to_owned()));
    }
}
