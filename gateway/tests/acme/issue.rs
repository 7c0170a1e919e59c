//! A first certificate, by each kind of challenge.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::Plan;
use crate::support::until;

fn issues(pebble: &Pebble, plan: &Plan) {
    let gateway = plan.start();
    gateway.issued("farm.net", None);
    // The client asks by name, and trusts pebble's root alone.
    let status = until("an answer", || gateway.trusted("farm.net", &pebble.issuing_root()).ok());
    assert!(status < 600);
    assert_eq!(gateway.attempts("issued"), 1);
    for other in ["unreachable", "rejected", "rate_limited", "volume"] {
        assert_eq!(gateway.attempts(other), 0, "{other}");
    }
    let mode =
        |path: &str| fs::metadata(gateway.certs.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("sites/farm.net/key.pem"), 0o600);
    assert_eq!(mode("sites/farm.net/chain.pem"), 0o644);
    let folder = fs::read_dir(gateway.certs.join("acme")).unwrap().next().unwrap().unwrap();
    let folder = format!("acme/{}", folder.file_name().into_string().unwrap());
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&format!("{folder}/account.json")), 0o600);
    assert_eq!(mode(&format!("{folder}/farm.net.json")), 0o600);
    let name = "gateway_certificate_not_after_timestamp_seconds{site=\"farm.net\"} ";
    let page = harness::get(&format!("http://{}/metrics", gateway.admin), &[]);
    assert!(page.text().contains(name), "{}", page.text());
}

#[test]
fn http_01_proves_a_name() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    // Where pebble looks for TLS there is nothing.
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ACME_CHALLENGE", "http-01")
        .set("HTTPS", "127.0.0.1:0");
    issues(&pebble, &plan);
}

#[test]
fn tls_alpn_01_proves_a_name() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    // Where pebble looks for plain HTTP there is nothing.
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ACME_CHALLENGE", "tls-alpn-01")
        .set("HTTP", "127.0.0.1:0");
    issues(&pebble, &plan);
}

#[test]
fn the_other_kind_is_tried_after_a_failure() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ACME_CHALLENGE", "tls-alpn-01")
        .set("HTTPS", "127.0.0.1:0")
        .start();
    gateway.issued("farm.net", None);
    assert_eq!((gateway.attempts("rejected"), gateway.attempts("issued")), (1, 1));
}

#[test]
fn a_bad_name_does_not_delay_another() {
    let pebble =
        Pebble::start_with(&[], &serde_json::json!({ "domainBlocklist": ["bad.farm.net"] }));
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("DOMAIN", "bad.farm.net")
        .set("ROUTES", "/=http://127.0.0.1:1 good.farm.net/=http://127.0.0.1:1")
        .set("ACME_BACKOFF_S", "60")
        .set("ACME_BACKOFF_MAX_S", "60")
        .start();
    gateway.issued("good.farm.net", None);
    until("the refusal", || (gateway.attempts("rejected") == 1).then_some(()));
    assert!(crate::support::is_private(&gateway.certificate("bad.farm.net")));
}

#[test]
fn a_storm_of_bad_nonces_is_weathered() {
    for percent in ["5", "50"] {
        let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", percent)]);
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::plan_with(&pebble, folder.path().join("certs")).start();
        gateway.issued("farm.net", None);
        assert_eq!(gateway.attempts("issued"), 1, "{percent} %");
        assert_eq!(gateway.attempts("rejected"), 0, "{percent} %");
    }
}

#[test]
fn a_damaged_certificate_is_set_aside_and_made_again() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs")).start();
    let first = gateway.issued("farm.net", None);
    let chain = gateway.certs.join("sites/farm.net/chain.pem");
    let whole = fs::read(&chain).unwrap();
    fs::write(&chain, &whole[..whole.len() / 2]).unwrap();
    let gateway = gateway.crash();
    gateway.issued("farm.net", Some(&first));
    let aside = fs::read_dir(chain.parent().unwrap()).unwrap();
    let aside = aside.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().unwrap().contains(".damaged-")
    });
    assert_eq!(aside.count(), 2);
}
