//! `gateway status` and the page that it asks for.

use std::process::Command;
use std::process::Output;

use serde_json::Value;

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;

fn ask(admin: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.env_clear().arg("status").args(arguments);
    command.envs([("GATEWAY__ADMIN", admin), ("GATEWAY__ROUTES", "/=http://127.0.0.1:1")]);
    command.output().unwrap()
}

fn text(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn the_status_tells_of_sites_routes_and_replicas() {
    let upstream = Upstream::echo();
    let routes = format!("/a=http://{} a.localhost/=http://127.0.0.1:1", upstream.address);
    let gateway = Gateway::start(&routes, &[]);
    assert_eq!(exchange(&gateway, "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    let admin = gateway.admin.to_string();

    let page = harness::get(&format!("http://{admin}/status"), &[]);
    let status: Value = serde_json::from_str(page.text()).unwrap();
    assert_eq!(status["warnings"], Value::Array(Vec::new()));
    let site = &status["sites"][0];
    assert_eq!((&site["mode"], &site["source"]), (&"internal".into(), &"internal".into()));
    assert!(site["not_after"].as_str().unwrap().ends_with('Z'), "{site}");
    assert_eq!(status["routes"][0]["route"], "a.localhost/");
    let upstreams = status["upstreams"].as_array().unwrap();
    let ours = upstreams.iter().find(|u| u["name"] == upstream.address.to_string()).unwrap();
    let replica = &ours["replicas"][0];
    assert_eq!((&replica["state"], &replica["load"]), (&"well".into(), &0.into()));

    let same = ask(&admin, &["--json"]);
    assert!(same.status.success());
    assert_eq!(serde_json::from_str::<Value>(text(&same)).unwrap()["sites"], status["sites"]);
    let tables = ask(&admin, &[]);
    assert!(tables.status.success());
    for line in ["localhost  internal ", "/a ", &format!("{0}  {0} ", upstream.address)] {
        let begins = |found: &str| found.starts_with(line);
        assert!(text(&tables).lines().any(begins), "{line}\n{}", text(&tables));
    }
}

#[test]
fn clients_that_all_seem_to_be_one_are_warned_of_with_the_remedy() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(&upstream.route(), &[]);
    for _ in 0..20 {
        exchange(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let tables = ask(&gateway.admin.to_string(), &[]);
    assert!(text(&tables).contains("WARNING: Each of the last 20 connections came from 127.0.0.1"));
    assert!(text(&tables).contains("proxy_protocol_from"), "{}", text(&tables));
    assert!(text(&tables).lines().all(|line| line.len() <= 80), "{}", text(&tables));

    // A proxy that the settings name hides nobody.
    let settings = [("GATEWAY__TRUSTED_PROXIES", "127.0.0.1")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    for _ in 0..20 {
        exchange(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let tables = ask(&gateway.admin.to_string(), &[]);
    assert!(tables.status.success() && !text(&tables).contains("WARNING"), "{}", text(&tables));
}

#[test]
fn nobody_to_ask_and_bad_arguments_are_errors() {
    let nobody = ask("127.0.0.1:1", &[]);
    assert_eq!(nobody.status.code(), Some(1));
    let why = String::from_utf8(nobody.stderr).unwrap();
    assert!(why.contains("no status from the gateway at 127.0.0.1:1"), "{why}");
    assert_eq!(ask("127.0.0.1:1", &["--yaml"]).status.code(), Some(2));
}
