//! Whether the server would reach us, before it is asked.

use crate::support::Behaviour;
use crate::support::Gateway;
use crate::support::Place;
use crate::support::Stub;
use crate::support::is_private;
use crate::support::until;

#[test]
fn an_address_that_is_not_here_is_not_ordered() {
    let stub = Stub::start(Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    // For documentation (RFC 3849): nobody has it.
    let address = "2001:db8::1";
    let gateway = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root())
        .set("DOMAIN", address)
        .set("ACME_PREFLIGHT", "true")
        .start();
    until("the failure", || (gateway.attempts("preflight") >= 1).then_some(()));
    assert!(stub.ordered().is_empty());
    assert!(is_private(&gateway.certificate(address)));
    let error = gateway.state_of(address).unwrap()["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains(address) && error.contains("acme_preflight"), "{error}");
}
