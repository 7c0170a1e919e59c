//! Renewal windows (RFC 9773), which pebble 2.4 does not have.

use std::time::Duration;

use openssl::x509::X509;

use crate::support::Behaviour;
use crate::support::Gateway;
use crate::support::Place;
use crate::support::Stub;
use crate::support::until;

/// What a certificate is known by (RFC 9773 §4.1), computed by OpenSSL.
fn known_by(certificate: &X509) -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let authority = certificate.authority_key_id().unwrap();
    let mut serial = certificate.serial_number().to_bn().unwrap().to_vec();
    // DER has a zero before what would look negative.
    if serial[0] & 0x80 != 0 {
        serial.insert(0, 0);
    }
    format!("{}.{}", encode(authority.as_slice()), encode(&serial))
}

#[test]
fn a_certificate_is_renewed_in_its_window_and_replaced() {
    let from = Duration::from_secs(2);
    let window = Some((from, Duration::from_secs(3)));
    let stub = Stub::start(Behaviour { window, ..Behaviour::default() });
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root()).start();
    let first = gateway.issued("farm.net", None);
    let second = gateway.issued("farm.net", Some(&first));
    let ordered = stub.ordered();
    assert_eq!(ordered[0].replaces, None);
    assert_eq!(ordered[1].replaces, Some(known_by(&first)));
    // The certificate is valid for 90 days.
    assert!(ordered[1].at - ordered[0].at >= from);
    assert_eq!(stub.windows()[0], known_by(&first));
    assert!(!ordered[0].refused && gateway.attempts("issued") >= 2);
    drop(second);
}

#[test]
fn what_was_replaced_before_is_ordered_without() {
    let window = Some((Duration::ZERO, Duration::from_millis(10)));
    let stub = Stub::start(Behaviour { window, ..Behaviour::default() });
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root()).start();
    let first = gateway.issued("farm.net", None);
    stub.refuse("alreadyReplaced", None);
    gateway.issued("farm.net", Some(&first));
    // The next one may have been on its way before.
    let refused = until("a refusal", || stub.ordered().iter().position(|order| order.refused));
    assert!(stub.ordered()[refused].replaces.is_some());
    let next = until("the next order", || stub.ordered().get(refused + 1).cloned());
    assert_eq!(next.replaces, None);
    assert_eq!(gateway.attempts("rejected"), 0);
}
