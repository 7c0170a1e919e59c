//! Failures in a row.

use std::time::Duration;
use std::time::Instant;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::is_private;
use crate::support::until;

#[test]
fn five_failures_back_off_and_then_it_succeeds() {
    // A request with a nonce that pebble refuses would be counted twice.
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "0")]);
    let folder = tempfile::tempdir().unwrap();
    // There nobody listens.
    pebble.resolve_all_to("127.0.0.2");
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs")).start();
    let mut times = Vec::new();
    for failures in 1..=5 {
        until(&format!("failure {failures}"), || {
            (gateway.attempts("rejected") == failures).then_some(())
        });
        times.push(Instant::now());
        let state = gateway.state().unwrap();
        assert_eq!(state["failures"], failures, "{state}");
        assert!(state["last_error"].as_str().unwrap().contains("farm.net"), "{state}");
        assert!(is_private(&gateway.certificate("farm.net")));
    }
    pebble.resolve_all_to(&pebble.place.ip.to_string());
    gateway.issued("farm.net", None);
    times.push(Instant::now());
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 1 s, then 2 s at most, each up to a quarter less; the test sees it some time later.
    let least = [0.7, 1.4, 1.4, 1.4, 1.4];
    for (pause, least) in pauses.iter().zip(least) {
        assert!(pause.as_secs_f64() > least, "{pauses:?}");
    }
    assert_eq!(pebble.calls("/order-plz"), 6);
    let state = until("the state", || gateway.state().filter(|state| state["failures"] == 0));
    assert_eq!(state["last_error"], "");
    assert_eq!(state["not_before_s"], serde_json::Value::Null);
}

#[test]
fn a_back_off_survives_a_crash() {
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "0")]);
    let folder = tempfile::tempdir().unwrap();
    pebble.resolve_all_to("127.0.0.2");
    let mut gateway = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ACME_BACKOFF_S", "60")
        .set("ACME_BACKOFF_MAX_S", "60")
        .start();
    until("the failure", || (gateway.attempts("rejected") == 1).then_some(()));
    let state = gateway.state().unwrap();
    for _ in 0..10 {
        gateway = gateway.crash();
        assert!(is_private(&gateway.certificate("farm.net")));
    }
    assert_eq!(pebble.calls("/order-plz"), 1);
    assert_eq!(gateway.state().unwrap(), state);
}

#[test]
fn a_server_out_of_reach_costs_the_site_nothing_but_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let pebble = Pebble::start(&[]);
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ACME_DIRECTORY", "https://127.0.0.1:1/dir")
        .start();
    until("the failure", || (gateway.attempts("unreachable") >= 1).then_some(()));
    assert!(is_private(&gateway.certificate("farm.net")));
    let error = gateway.state().unwrap()["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("127.0.0.1:1") && error.contains("acme_directory"), "{error}");
}
