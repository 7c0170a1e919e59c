//! Sites that say themselves which names share a certificate, and where it comes from.

use std::fs;
use std::io::Read;
use std::io::Write;

use openssl::x509::X509;

use crate::support::Gateway;
use crate::support::Pebble;
use crate::support::is_private;
use crate::support::serial;
use crate::support::until;
use crate::support::upstream;

fn names(certificate: &X509) -> Vec<String> {
    let names = certificate.subject_alt_names().unwrap();
    let mut names: Vec<String> =
        names.iter().map(|name| name.dnsname().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

/// The status of the answer to a request for `host` by who asked for `name` in the handshake.
fn status(gateway: &Gateway, name: &str, host: &str) -> String {
    let mut stream = gateway.stream(name);
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn two_names_share_one_certificate() {
    // A request with a nonce that pebble refuses would be counted twice.
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "0")]);
    let folder = tempfile::tempdir().unwrap();
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ROUTES", &format!("/=http://{}", upstream::start()))
        .set("SITES", "farm.net,WWW.farm.net=acme other.net=internal");
    let listed = plan.run(&["check"]).success().text();
    for line in [
        "site farm.net: acme (it is configured so), for farm.net www.farm.net",
        "site other.net: internal (other.net is configured so), for other.net",
    ] {
        assert!(listed.contains(line), "{listed}");
    }
    let gateway = plan.start();
    let first = gateway.issued("farm.net", None);
    assert_eq!(names(&first), ["farm.net", "www.farm.net"]);
    assert_eq!(serial(&gateway.certificate("www.farm.net")), serial(&first));
    assert!(is_private(&gateway.certificate("other.net")));
    assert_eq!((pebble.calls("/order-plz"), gateway.attempts("issued")), (1, 1));
    let root = pebble.issuing_root();
    for name in ["farm.net", "www.farm.net"] {
        assert_eq!(gateway.trusted(name, &root), Ok(200));
    }
    // One connection is good for both, and for nothing else.
    for (name, host, expected) in [
        ("farm.net", "www.farm.net", "200"),
        ("www.farm.net", "farm.net", "200"),
        ("farm.net", "other.net", "421"),
        ("other.net", "www.farm.net", "200"),
    ] {
        // The private CA's stands in for all ACME sites, so it covers them.
        assert_eq!(status(&gateway, name, host), expected, "{name} {host}");
    }
    // It is revoked by any of its names.
    let said = plan.run(&["revoke", "www.farm.net", "--reason", "superseded"]).success().text();
    assert!(said.contains("revoked"), "{said}");
    let second = gateway.issued("www.farm.net", Some(&first));
    assert_eq!(names(&second), ["farm.net", "www.farm.net"]);
}

#[test]
fn a_reload_takes_a_site_from_the_private_ca_to_acme() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.toml");
    let write = |names: &str, mode: &str| {
        fs::write(&file, format!("[[site]]\nnames = [{names}]\nmode = '{mode}'\n")).unwrap();
    };
    write("'farm.net'", "internal");
    let gateway = Gateway::plan_with(&pebble, folder.path().join("certs"))
        .set("ROUTES_FILE", file.to_str().unwrap())
        .start();
    assert!(is_private(&gateway.certificate("farm.net")));
    assert_eq!(gateway.attempts("issued"), 0);
    let before = gateway.certificate("farm.net");
    write("'farm.net', 'a.farm.net'", "acme");
    let issued = gateway.issued("a.farm.net", Some(&before));
    assert_eq!(names(&issued), ["a.farm.net", "farm.net"]);
    write("'farm.net'", "internal");
    until("the private certificate", || is_private(&gateway.certificate("farm.net")).then_some(()));
}

#[test]
fn nothing_else_has_to_be_set() {
    let pebble = Pebble::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let plan = Gateway::plan_with(&pebble, folder.path().join("certs")).set("ACME_DIRECTORY", "");
    let listed = |plan: &crate::support::Plan| plan.run(&["check"]).success().text();
    assert!(listed(&plan).contains("site farm.net: internal"));
    assert!(listed(&plan.set("SITES", "farm.net=acme")).contains("site farm.net: acme"));
}
