//! `gateway revoke`.

use std::fs;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::serial;

#[test]
fn a_certificate_is_revoked_and_replaced() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"));
    let gateway = plan.start();
    let first = gateway.issued("farm.net", None);
    let site = plan.certs.join("sites/farm.net");
    let kept = ["chain.pem", "key.pem"].map(|name| (name, fs::read(site.join(name)).unwrap()));

    let said = plan.run(&["revoke", "farm.net", "--reason", "superseded"]).success().text();
    assert!(said.contains("farm.net: revoked"), "{said}");
    let status = pebble.status(&serial(&first));
    assert_eq!(status["Status"], "Revoked", "{status}");
    assert_eq!(status["Reason"], 4, "{status}");

    // The running gateway gets another one, that it goes on serving.
    let second = gateway.issued("farm.net", Some(&first));
    assert_eq!(pebble.status(&serial(&second))["Status"], "Valid");
    let names = fs::read_dir(&site).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_str().unwrap().contains(".revoked-")).count();
    assert_eq!(aside, 2);
    drop(gateway);

    // A second time the server says so, and so do we.
    for (name, bytes) in kept {
        fs::write(site.join(name), bytes).unwrap();
    }
    let said = plan.run(&["revoke", "farm.net", "--reason", "superseded"]).success().text();
    assert!(said.contains("revoked before"), "{said}");
}

#[test]
fn what_cannot_be_revoked_is_told() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"));
    for (arguments, code, part) in [
        (&["revoke", "other.net", "--reason", "superseded"][..], 2, "farm.net"),
        (&["revoke", "farm.net", "--reason", "spite"], 2, "keyCompromise"),
        (&["revoke", "farm.net"], 2, "--reason"),
        (&["revoke", "farm.net", "--reason", "superseded"], 1, "chain.pem"),
    ] {
        let output = plan.run(arguments);
        assert_eq!(output.code, Some(code), "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(part), "{arguments:?}: {}", output.stderr);
    }
}

#[test]
fn a_name_of_the_routes_file_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("routes.toml");
    fs::write(&routes, "[[route]]\nat = 'coin.farm.net/'\nto = 'http://a:1'\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(["revoke", "coin.farm.net", "--reason", "superseded"]).env_clear().envs([
        ("GATEWAY__CERTS", folder.path().join("certs").to_str().unwrap()),
        ("GATEWAY__ROUTES_FILE", routes.to_str().unwrap()),
        ("GATEWAY__ROUTES", "/=http://a:1"),
        ("GATEWAY__ACME_EMAIL", "me@farm.net"),
    ]);
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("there is no ") && told.contains("coin.farm.net/chain.pem"), "{told}");
}
