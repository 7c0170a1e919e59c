//! HTTP/3 as clients of the other protocols see it; clients of its own are in `tests/clients`.

use std::net::UdpSocket;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::h2;

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn the_other_protocols_say_that_it_is_there() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__PUBLIC_HTTPS_PORT", "8444")]);
    let expected = r#"h3=":8444"; ma=86400"#;
    assert_eq!(exchange(&gateway, GET).field("alt-svc"), Some(expected));
    let request = http::Request::get("https://localhost/").body(http_body_util::Full::default());
    let answers = h2(&gateway, vec![request.unwrap()]);
    assert_eq!(answers[0].headers()["alt-svc"], expected);
    assert!(UdpSocket::bind(gateway.https).is_err(), "the port is taken");
}

#[test]
fn it_can_be_switched_off() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[("GATEWAY__HTTP3", "false")]);
    assert_eq!(exchange(&gateway, GET).field("alt-svc"), None);
    UdpSocket::bind(gateway.https).unwrap();
}
