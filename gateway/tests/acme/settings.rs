//! Settings that cannot be meant.

use crate::support::Behaviour;
use crate::support::Gateway;
use crate::support::Place;
use crate::support::Stub;

#[test]
fn what_is_wrong_is_named_before_anything_is_asked() {
    let stub = Stub::start(Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let plan = Gateway::plan(Place::new(), certs, &stub.directory(), &stub.root());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = folder.path().join("missing.pem");
    for (key, value) in [
        ("ACME_DIRECTORY", "http://127.0.0.1/dir"),
        ("ACME_DIRECTORY", "letsencrypt"),
        ("ACME_EMAIL", "somebody"),
        ("ACME_EAB_KID", "kid-1"),
        ("ACME_EAB_KEY", "a2V5"),
        ("ACME_ROOT", missing.to_str().unwrap()),
        ("ACME_ROOT", empty.to_str().unwrap()),
        ("ACME_CHALLENGE", "dns-01"),
        ("ACME_BACKOFF_S", "0"),
        ("ACME_STAGING_DIRECTORY", "staging"),
        ("SITES", "farm.net,*.farm.net=acme"),
        ("SITES", "farm.net,farm.lan=acme"),
    ] {
        let plan = plan.clone().set(key, value);
        for arguments in [&["check"][..], &[]] {
            let output = plan.run(arguments);
            assert_eq!(output.code, Some(2), "{key}={value}: {}", output.stderr);
            let key = key.to_lowercase();
            assert!(output.stderr.contains(&key), "{key}={value}: {}", output.stderr);
        }
    }
    assert!(stub.ordered().is_empty());
}
