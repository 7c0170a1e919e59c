//! Profiles, and addresses instead of names; pebble 2.4 has no profiles.

use crate::support::Behaviour;
use crate::support::Gateway;
use crate::support::Place;
use crate::support::Stub;
use crate::support::until;

fn profiles() -> Behaviour {
    Behaviour { profiles: vec!["classic", "shortlived", "tlsserver"], ..Behaviour::default() }
}

#[test]
fn an_address_is_ordered_with_the_short_profile() {
    for address in ["203.0.113.7", "2001:db8::7"] {
        let stub = Stub::start(profiles());
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root())
            .set("DOMAIN", address)
            .start();
        let certificate = gateway.issued(address, None);
        let names = certificate.subject_alt_names().unwrap();
        let octets = names[0].ipaddress().unwrap();
        let shown: std::net::IpAddr = match <[u8; 4]>::try_from(octets) {
            Ok(octets) => octets.into(),
            Err(_) => <[u8; 16]>::try_from(octets).unwrap().into(),
        };
        assert_eq!(shown.to_string(), address);
        let ordered = &stub.ordered()[0];
        assert_eq!(ordered.profile.as_deref(), Some("shortlived"));
        assert_eq!(ordered.identifiers[0]["type"], "ip");
        assert_eq!(ordered.identifiers[0]["value"], address);
    }
}

#[test]
fn a_name_is_ordered_with_the_profile_that_is_set() {
    for profile in [None, Some("tlsserver")] {
        let stub = Stub::start(profiles());
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root())
            .set("ACME_PROFILE", profile.unwrap_or_default())
            .start();
        gateway.issued("farm.net", None);
        assert_eq!(stub.ordered()[0].profile.as_deref(), profile);
    }
}

#[test]
fn a_profile_that_the_server_has_not_is_told_without_an_order() {
    let stub = Stub::start(profiles());
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root())
        .set("ACME_PROFILE", "tls")
        .start();
    until("the refusal", || (gateway.attempts("rejected") >= 1).then_some(()));
    let error = gateway.state().unwrap()["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("classic, shortlived, tlsserver"), "{error}");
    assert!(stub.ordered().is_empty());
}
