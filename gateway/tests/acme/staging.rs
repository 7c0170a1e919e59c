//! After a failure, first where failures cost nothing.

use crate::support::Behaviour;
use crate::support::Gateway;
use crate::support::Place;
use crate::support::Stub;
use crate::support::until;

#[test]
fn the_staging_server_has_to_agree_after_a_failure() {
    let production = Stub::start(Behaviour::default());
    let staging = Stub::start(Behaviour::default());
    production.refuse("serverInternal", None);
    staging.refuse("serverInternal", None);
    staging.refuse("serverInternal", None);
    let folder = tempfile::tempdir().unwrap();
    // Both servers' own roots are to be trusted.
    let roots = folder.path().join("roots.pem");
    let pem = [&production, &staging].map(|stub| std::fs::read_to_string(stub.root()).unwrap());
    std::fs::write(&roots, pem.concat()).unwrap();
    let certs = folder.path().join("certs");
    let gateway = Gateway::plan(Place::new(), certs, &production.directory(), &roots)
        .set("ACME_STAGING_DIRECTORY", &staging.directory())
        .start();
    let certificate = gateway.issued("farm.net", None);
    // Production once in vain; staging twice in vain, then with success; production.
    let (at_production, at_staging) = (production.ordered(), staging.ordered());
    let refused = |orders: &[crate::support::Ordered]| -> Vec<bool> {
        orders.iter().map(|order| order.refused).collect()
    };
    assert_eq!(refused(&at_production), [true, false]);
    assert_eq!(refused(&at_staging), [true, true, false]);
    assert!(at_production[0].at < at_staging[0].at);
    assert!(at_staging[2].at < at_production[1].at);
    assert_eq!((gateway.attempts("rehearsed"), gateway.attempts("issued")), (1, 1));
    // What staging made is served nowhere.
    assert_eq!(
        crate::support::serial(&certificate),
        crate::support::serial(&gateway.certificate("farm.net"))
    );
    let root = production.issuing_root();
    until("an answer", || gateway.trusted("farm.net", &root).ok());
}
