//! A volume without room.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::serial;
use crate::support::until;

/// Writes to `file` until there is no room for one more byte.
fn fill(mut file: File) {
    let error = loop {
        if let Err(error) = file.write_all(&[0]) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_full_disk_keeps_the_certificate_and_nothing_is_ordered() {
    // A request with a nonce that pebble refuses would be counted twice.
    let settings = serde_json::json!({ "certificateValidityPeriod": 6 });
    let pebble = Pebble::start_with(&[("PEBBLE_WFE_NONCEREJECT", "0")], &settings);
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs")).start_on_small_disk();
    let first = gateway.issued("farm.net", None);
    // What goes now makes room again.
    until("the end of the lease", || {
        let folders = fs::read_dir(gateway.certs.join("acme")).unwrap();
        let mut folders = folders.map(|folder| folder.unwrap().path());
        (!folders.any(|folder| folder.join("farm.net.lease").exists())).then_some(())
    });
    let ordered = pebble.calls("/order-plz");
    let filling = gateway.certs.join("filling");
    fill(File::create(&filling).unwrap());
    // It is due after two thirds of its life.
    until("tries", || (gateway.attempts("volume") >= 2).then_some(()));
    assert_eq!(pebble.calls("/order-plz"), ordered);
    assert_eq!(serial(&gateway.certificate("farm.net")), serial(&first));
    let status = harness::get(&format!("http://{}/status", gateway.admin), &[]);
    assert!(status.text().contains("No space left"), "{}", status.text());

    fs::remove_file(filling).unwrap();
    let second = gateway.issued("farm.net", Some(&first));
    let chain = fs::read(gateway.certs.join("sites/farm.net/chain.pem")).unwrap();
    let kept = openssl::x509::X509::from_pem(&chain).unwrap();
    // There may be a third by now.
    assert_ne!(serial(&kept), serial(&first));
    assert_ne!(serial(&second), serial(&first));
    assert_eq!(gateway.attempts("rejected"), 0);
}
