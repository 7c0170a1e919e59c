//! The dialect, by examples and by what no message may do.

use proptest::prelude::*;

use super::*;

fn id(json: &str) -> Id {
    Id(json.to_owned())
}

#[test]
fn ids_are_strings_and_integers_of_any_size_and_keep_their_type() {
    for (raw, expected) in [
        ("0", Some("0")),
        ("-0", Some("0")),
        ("\"\"", Some("\"\"")),
        ("1", Some("1")),
        ("\"1\"", Some("\"1\"")),
        ("\"\\u0061\"", Some("\"a\"")),
        ("123456789012345678901234567890", Some("123456789012345678901234567890")),
        ("-7", Some("-7")),
        ("true", Some("true")),
        ("1.0", None),
        ("1e2", None),
        ("[1]", None),
        ("{}", None),
    ] {
        let read = Id::read(serde_json::from_str(raw).unwrap());
        assert_eq!(read, expected.map(id), "{raw}");
    }
}

#[test]
fn a_call_has_an_id_and_a_notification_has_none() {
    for (message, expected) in [
        (r#"{"id":1,"method":"m"}"#, Some(id("1"))),
        (r#"{"jsonrpc":"1.0","id":"x","method":"m","params":[],"more":[{}]}"#, Some(id("\"x\""))),
        (r#"{"id":1,"id":2,"method":"n","method":"m"}"#, Some(id("2"))),
        (r#" {"method":"m","params":{}} "#, None),
        (r#"{"id":null,"method":"m"}"#, None),
    ] {
        let Ok(Message::Call { id, method, .. }) = read(message.as_bytes()) else {
            panic!("{message}")
        };
        assert_eq!((id, method.as_ref()), (expected, "m"), "{message}");
    }
}

#[test]
fn a_call_that_cannot_be_understood_is_invalid_if_it_has_an_id() {
    for message in [
        r#"{"id":1,"method":5}"#,
        r#"{"id":1,"method":"m","params":null}"#,
        r#"{"id":1,"method":"m","params":"x"}"#,
        r#"{"id":1,"method":[]}"#,
    ] {
        assert!(matches!(read(message.as_bytes()), Ok(Message::Invalid(_))), "{message}");
    }
}

#[test]
fn garbage_is_ignored() {
    for message in [
        "",
        "x",
        "[]",
        r#"[{"id":1,"method":"m"}]"#,
        "{}",
        "null",
        r#"{"method":5}"#,
        r#"{"id":1.5,"method":"m"}"#,
        r#"{"id":[1],"method":"m"}"#,
        r#"{"id":1,"method":"m"} x"#,
        r#"{"result":1}"#,
    ] {
        assert!(read(message.as_bytes()).is_err(), "{message}");
    }
    assert!(read(b"\xff{}").is_err());
    let long = format!(r#"{{"id":"{}","method":"m"}}"#, "x".repeat(ID_LENGTH_MAX));
    assert!(read(long.as_bytes()).is_err());
    let deep = "[".repeat(1 << 20);
    assert!(read(deep.as_bytes()).is_err());
}

#[test]
fn a_response_succeeds_or_fails_as_python_sees_it() {
    for (message, expected) in [
        (r#"{"id":1,"result":null}"#, Ok(())),
        (r#"{"id":1,"method":null,"result":null}"#, Ok(())),
        (r#"{"id":1,"result":5,"error":null}"#, Ok(())),
        (r#"{"id":1,"result":5,"error":{ }}"#, Ok(())),
        (r#"{"id":1,"result":5,"error":0}"#, Ok(())),
        (r#"{"id":1}"#, Err("'result'")),
        (r#"{"id":1,"error":{"code":1,"message":"no"}}"#, Err("no")),
        (
            r#"{"id":1,"error":{"code":1,"message":"no","data":{"traceback":"a\nb\n"}}}"#,
            Err("no\n    a\n    b"),
        ),
        (r#"{"id":1,"error":5}"#, Err("The peer answered a malformed error")),
    ] {
        let Ok(Message::Response { outcome, .. }) = read(message.as_bytes()) else {
            panic!("{message}")
        };
        assert_eq!(
            outcome.as_ref().map_err(String::as_str),
            expected.as_ref().map(|()| &()).map_err(|e| *e),
            "{message}"
        );
    }
}

#[test]
fn arguments_are_bound_as_python_binds_them() {
    for (params, expected) in [
        ("[5]", Ok("5")),
        (r#"{"place_id":5}"#, Ok("5")),
        ("[]", Err("Hub.f() missing 1 required positional argument: 'place_id'")),
        ("{}", Err("Hub.f() missing 1 required positional argument: 'place_id'")),
        ("[1,2]", Err("Hub.f() takes 2 positional arguments but 3 were given")),
        (r#"{"x":5}"#, Err("Hub.f() got an unexpected keyword argument 'x'")),
        (r#"{"place_id":5,"x":5}"#, Err("Hub.f() got an unexpected keyword argument 'x'")),
    ] {
        let raw: &RawValue = serde_json::from_str(params).unwrap();
        let bound = Params::read(Some(raw)).unwrap().one("f", "place_id");
        assert_eq!(
            bound.as_ref().map(|raw| raw.get()).map_err(String::as_str),
            expected,
            "{params}"
        );
    }
    assert_eq!(Params::read(None).unwrap().none("f"), Ok(()));
    let many: &RawValue = serde_json::from_str("[1,2,3,4,5,6,7,8,9,10]").unwrap();
    let refused = Params::read(Some(many)).unwrap().none("f");
    assert_eq!(refused, Err("Hub.f() takes 1 positional argument but 11 were given".to_owned()));
}

#[test]
fn candidates_are_the_known_ids_each_once() {
    for (raw, expected) in [
        ("[3,1,3,99]", Ok(vec![1, 3])),
        (r#"[1,"3",null,2.5,-1,123456789012345678901234567890]"#, Ok(vec![1])),
        (r#""13""#, Ok(vec![])),
        ("{}", Ok(vec![])),
        ("5", Err("'int' object is not iterable")),
        ("null", Err("'NoneType' object is not iterable")),
        ("[1,[3]]", Err("unhashable type: 'list'")),
        ("[1,{}]", Err("unhashable type: 'dict'")),
    ] {
        let read = candidates(serde_json::from_str(raw).unwrap(), |id| id < 10);
        let read = read.map(|ids| ids.into_iter().collect::<Vec<_>>());
        assert_eq!(read, expected.map_err(str::to_owned), "{raw}");
    }
}

#[test]
fn replies_are_what_the_clients_expect() {
    assert_eq!(result(&id("\"x\""), &()), r#"{"jsonrpc":"2.0","id":"x","result":null}"#);
    let reply = error(&id("1"), &Failure::MethodNotFound);
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply["error"]["code"], -32601);
    assert_eq!(reply["error"]["message"], "Method not found");
    assert!(reply["error"]["data"]["traceback"].is_string());
    let list: [[&str; 1]; 1] = [["10.0.0.5"]];
    assert_eq!(
        call(1, "set_allowed_ips", &list),
        r#"{"jsonrpc":"2.0","id":1,"method":"set_allowed_ips","params":[["10.0.0.5"]]}"#
    );
    assert_eq!(
        notification("oidc_callback_registered"),
        r#"{"jsonrpc":"2.0","method":"oidc_callback_registered","params":{}}"#
    );
}

#[test]
fn no_reply_is_longer_than_the_clients_read() {
    let long = "x".repeat(reply::MESSAGE_BYTES_MAX);
    assert!(result(&id("1"), &long).contains("-32603"));
    assert!(error(&id("1"), &Failure::Refused("é".repeat(1 << 20))).len() < 10_000);
}

proptest! {
    #[test]
    fn whatever_comes_in_is_read_or_ignored(message in any::<Vec<u8>>()) {
        let _: Result<Message<'_>, &str> = read(&message);
    }

    #[test]
    fn any_text_is_an_id_that_comes_back_as_it_was(text in prop::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter)) {
        let json = serde_json::to_string(&text).unwrap();
        let message = format!(r#"{{"id":{json},"method":"m"}}"#);
        let Ok(Message::Call { id: Some(id), .. }) = read(message.as_bytes()) else { panic!("{message}") };
        let back: serde_json::Value = serde_json::from_str(&result(&id, &())).unwrap();
        prop_assert_eq!(back["id"].as_str(), Some(text.as_str()));
    }

    #[test]
    fn any_json_value_can_be_anything_in_a_message(value in json_value()) {
        for message in [
            format!(r#"{{"id":{value},"method":"m"}}"#),
            format!(r#"{{"id":1,"method":{value}}}"#),
            format!(r#"{{"id":1,"method":"m","params":{value}}}"#),
            format!(r#"{{"id":1,"result":1,"error":{value}}}"#),
        ] {
            if let Ok(Message::Call { params, .. }) = read(message.as_bytes())
                && let Ok(argument) = params.one("f", "x")
            {
                let _: Result<_, String> = candidates(argument, |_| true);
            }
        }
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
