//! Accounts: kept, made again when the server has lost them, and bound to a key of its owner's.

use std::fs;

use serde_json::json;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::is_private;
use crate::support::until;

/// Where pebble makes accounts.
const NEW_ACCOUNT: &str = "/sign-me-up";

fn forget_certificate(certs: &std::path::Path) {
    for name in ["chain.pem", "key.pem"] {
        // A running gateway may have set it aside, as the other one was gone.
        let _: std::io::Result<()> = fs::remove_file(certs.join("sites/farm.net").join(name));
    }
}

#[test]
fn an_account_is_used_again_after_a_restart() {
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "0")]);
    let folder = tempfile::tempdir().unwrap();
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"));
    let gateway = plan.start();
    let first = gateway.issued("farm.net", None);
    drop(gateway);
    forget_certificate(&plan.certs);
    let gateway = plan.start();
    gateway.issued("farm.net", Some(&first));
    assert_eq!(pebble.calls(NEW_ACCOUNT), 1);
}

#[test]
fn an_account_that_the_server_lost_is_made_again() {
    let mut pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs")).start();
    let first = gateway.issued("farm.net", None);
    pebble.restart();
    forget_certificate(&gateway.certs);
    gateway.issued("farm.net", Some(&first));
    assert_eq!(gateway.attempts("rejected"), 0);
}

#[test]
fn a_damaged_account_is_set_aside_and_made_again() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs")).start();
    let first = gateway.issued("farm.net", None);
    let acme = fs::read_dir(gateway.certs.join("acme")).unwrap().next().unwrap().unwrap().path();
    fs::write(acme.join("account.json"), "{\"directory\":").unwrap();
    fs::write(acme.join("farm.net.json"), "[").unwrap();
    forget_certificate(&gateway.certs);
    gateway.issued("farm.net", Some(&first));
    let names = fs::read_dir(&acme).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_str().unwrap().contains(".damaged-")).count();
    assert_eq!(aside, 2);
}

#[test]
fn an_account_can_be_bound_to_a_key_of_the_server_s_owner() {
    let settings = json!({
        "externalAccountBindingRequired": true,
        "externalAccountMACKeys": {
            "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
        },
    });
    let pebble = Pebble::start_with(&[], &settings);
    let folder = tempfile::tempdir().unwrap();
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"));
    let gateway = plan.start();
    let error = until("the refusal", || {
        let state = gateway.state()?;
        let error = state["last_error"].as_str()?.to_owned();
        error.contains("externalAccountRequired").then_some(error)
    });
    assert!(error.contains("acme_eab_kid"), "{error}");
    assert!(is_private(&gateway.certificate("farm.net")));
    drop(gateway);
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let gateway = plan.set("ACME_EAB_KID", "kid-1").set("ACME_EAB_KEY", key).start();
    gateway.issued("farm.net", None);
}
