//! The browser's way back to a waiting `not-my-board login`.

use serde_json::json;

use super::peer::{Peer, hub};

#[test]
fn must_the_browsers_query_reaches_the_login_that_waits_for_it() {
    let hub = hub();
    let mut login = Peer::new(&hub);
    let id = login.start("get_authentication_response", &json!(["abc"]));
    // The command line prints the address only after this.
    assert_eq!(
        login.receive(),
        json!({"jsonrpc": "2.0", "method": "oidc_callback_registered", "params": {}})
    );
    let page = harness::get(&hub.url("/oidc-callback?state=x&state=abc&code=1%2F2+3&error="), &[]);
    assert_eq!((page.status, page.text()), (200, "Continue in not-my-board CLI"));
    assert_eq!(page.field("content-type"), Some("text/plain"));
    assert_eq!(login.reply(id), Ok(json!({"state": "abc", "code": "1/2 3"})));
    let again = harness::get(&hub.url("/oidc-callback?state=abc"), &[]);
    assert_eq!(again.status, 404, "it is used up");
}

#[test]
fn a_callback_that_nobody_waits_for_is_the_clients_mistake() {
    let hub = hub();
    assert_eq!(
        harness::get(&hub.url("/oidc-callback?state=x"), &[]).status,
        404,
        "upstream bug 12"
    );
    assert_eq!(harness::get(&hub.url("/oidc-callback"), &[]).status, 400, "upstream bug 12");
}

#[test]
fn a_state_cannot_be_stolen_and_is_free_after_cancelling_or_leaving() {
    let hub = hub();
    let (mut login, mut thief) = (Peer::new(&hub), Peer::new(&hub));
    let id = login.start("get_authentication_response", &json!(["abc"]));
    login.receive();
    let stolen = thief.call("get_authentication_response", &json!(["abc"]));
    assert_eq!(stolen, Err("This state is in use by another login".to_owned()), "upstream bug 12");
    assert_eq!(login.call("rpc.cancel", &json!([id])), Ok(json!(null)));
    thief.start("get_authentication_response", &json!(["abc"]));
    assert_eq!(thief.receive()["method"], "oidc_callback_registered");
    thief.leave();
    login.start("get_authentication_response", &json!({"state": "abc"}));
    assert_eq!(login.receive()["method"], "oidc_callback_registered");
}
