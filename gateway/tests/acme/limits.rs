//! A server that says when to come back.

use std::time::Duration;

use crate::support::Behaviour;
use crate::support::Gateway;
use crate::support::Place;
use crate::support::Stub;
use crate::support::until;

#[test]
fn retry_after_is_honoured() {
    let stub = Stub::start(Behaviour::default());
    stub.refuse("rateLimited", Some("4"));
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root()).start();
    gateway.issued("farm.net", None);
    let ordered = stub.ordered();
    assert_eq!(ordered.len(), 2);
    assert!(ordered[1].at - ordered[0].at >= Duration::from_secs(4));
    assert_eq!((gateway.attempts("rate_limited"), gateway.attempts("issued")), (1, 1));
}

#[test]
fn a_date_far_away_survives_a_crash() {
    let stub = Stub::start(Behaviour::default());
    stub.refuse("rateLimited", Some("Tue, 31 Dec 2999 23:59:59 GMT"));
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root()).start();
    until("the refusal", || (gateway.attempts("rate_limited") == 1).then_some(()));
    let gateway = gateway.crash();
    let state = gateway.state().unwrap();
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    // Believed up to a bound.
    let pause_s = state["not_before_s"].as_u64().unwrap() - now_s;
    assert!((7 * 86_400..9 * 86_400).contains(&pause_s), "{state}");
    assert_eq!(stub.ordered().len(), 1);
}
