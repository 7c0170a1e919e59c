//! Several gateways, or several starts of one, on one volume.

use std::thread;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::is_private;
use crate::support::serial;

#[test]
fn two_gateways_on_one_volume_order_once() {
    // Whichever of them orders: pebble's questions go to the first one only.
    let pebble = Pebble::start(&[("PEBBLE_VA_ALWAYS_VALID", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")]);
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let one = Gateway::plan_with(&pebble, certs);
    let two = one.clone().set("HTTP", "127.0.0.1:0").set("HTTPS", "127.0.0.1:0");
    let starting = thread::spawn(move || two.start());
    let one = one.start();
    let two = starting.join().unwrap();
    let certificate = one.issued("farm.net", None);
    assert_eq!(serial(&two.issued("farm.net", None)), serial(&certificate));
    assert_eq!(pebble.calls("/order-plz"), 1);
    assert_eq!(pebble.calls("/sign-me-up"), 1);
    assert_eq!(one.attempts("issued") + two.attempts("issued"), 1);
}

#[test]
fn a_gateway_that_crashed_holds_the_others_up_for_its_lease_only() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"));
    let acme =
        plan.certs.join("acme").join(format!("{}_{}", pebble.place.ip, pebble.place.at(2).port()));
    std::fs::create_dir_all(&acme).unwrap();
    let until_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 4;
    let lease = format!(r#"{{"holder":"another","until_s":{until_s}}}"#);
    std::fs::write(acme.join("farm.net.lease"), lease).unwrap();
    let gateway = plan.start();
    gateway.issued("farm.net", None);
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now_s >= until_s, "{now_s} {until_s}");
    assert_eq!(gateway.attempts("issued"), 1);
}

#[test]
fn fifty_restarts_order_nothing() {
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "0")]);
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::plan_with(&pebble, folder.path().join("certs")).start();
    let first = gateway.issued("farm.net", None);
    for restart in 0..50 {
        // Half of them as `docker compose down` does it.
        if restart % 2 == 0 {
            assert!(gateway.service.terminate().success());
        }
        gateway = gateway.crash();
        // From the first handshake on.
        let certificate = gateway.certificate("farm.net");
        assert!(!is_private(&certificate));
        assert_eq!(serial(&certificate), serial(&first));
    }
    assert_eq!(pebble.calls("/order-plz"), 1);
    assert_eq!(pebble.calls("/sign-me-up"), 1);
}
