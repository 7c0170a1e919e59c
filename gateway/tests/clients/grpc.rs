//! gRPC by grpcio, through the gateway, to services that speak HTTP/2.

use serde_json::json;

use crate::python::Script;
use crate::support::Gateway;

#[test]
fn calls_of_every_kind_pass() {
    let mut server = Script::start("rpc.py", &["serve"]);
    let port = server.line()["port"].as_u64().unwrap();
    let gateway = Gateway::start(&format!("/=h2c://127.0.0.1:{port}"), &[]);
    // Its TLS, BoringSSL, knows no name constraints for addresses, which our root has. It takes the leaf
    // for trusted as well.
    let leaf = gateway.certs.join("sites/localhost/chain.pem");
    let port = gateway.https.port().to_string();
    let seen = Script::start("rpc.py", &["call", &port, leaf.to_str().unwrap()]).line();
    let expected = json!({
        "unary": "HELLO",
        "trailers": {"x-told": "it"},
        "large": true,
        "failure": ["FAILED_PRECONDITION", "as asked: 100 %"],
        "streamed": 500,
        "talked": ["eno", "owt", "eerht"],
        "unknown": "UNIMPLEMENTED",
        "many": 200,
    });
    assert_eq!(seen, expected);
}

#[test]
fn a_service_that_is_not_there_is_told_as_such() {
    let settings = [("GATEWAY__HOLD_S", "0")];
    let gateway = Gateway::start("/=h2c://127.0.0.1:1", &settings);
    let answer = crate::support::exchange(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(answer.status, 503);
    assert!(answer.field("retry-after").is_some());
}
