//! What holds for every service behind the gateway, whatever it does.

use std::fs;

use harness::Stack;
use serde_json::Value;

/// The folders of `services/`.
fn services(stack: &Stack) -> Vec<String> {
    let folders = fs::read_dir(stack.folder().join("services")).unwrap();
    let mut names: Vec<String> = folders
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    names
}

#[test]
fn every_folder_of_services_has_an_entry_and_a_route() {
    let stack = Stack::from_env();
    let config = stack.compose(&["config", "--format", "json"]).text();
    let config: Value = serde_json::from_str(&config).unwrap();
    let routes = config["services"]["gateway"]["environment"]["GATEWAY__ROUTES"].as_str().unwrap();
    for service in services(&stack) {
        assert!(config["services"][&service].is_object(), "{service} has no entry");
        let upstream = format!("=http://{service}:8080");
        assert!(routes.contains(&upstream), "{service} has no route in {routes}");
    }
}

#[test]
fn health_and_metrics_of_a_service_are_not_reachable_from_outside() {
    let stack = Stack::from_env();
    let mut hosts = vec!["localhost".to_owned()];
    hosts.extend(services(&stack).iter().map(|service| format!("{service}.localhost")));
    for host in &hosts {
        // On DOMAIN itself it is the page of all services, for the bearer of the token.
        let plain = (host != "localhost").then_some("/metrics");
        for path in plain.into_iter().chain([
            "/healthz",
            "/healthz?x",
            "/%68ealthz",
            "//healthz",
            "/%6Detrics",
            "//metrics",
            "/./metrics",
        ]) {
            let field = format!("Host: {host}");
            let output = stack
                .curl(path, &["--path-as-is", "--header", &field, "--write-out", "\n%{http_code}"]);
            let text = output.success().text();
            let status = text.lines().last().unwrap();
            assert!(["400", "404", "421"].contains(&status), "{host}{path}: {text}");
        }
    }
}

#[test]
fn the_metrics_of_all_services_are_for_the_bearer_of_the_token() {
    let stack = Stack::from_env();
    for wrong in ["", "Bearer", "Bearer wrong", &format!("Basic {}", stack.metrics_token())] {
        let field = format!("Authorization: {wrong}");
        let output = stack.curl(
            "/metrics",
            &["--header", &field, "--output", "/dev/null", "--write-out", "%{http_code}"],
        );
        assert_eq!(output.success().text(), "401", "{wrong}");
    }
    // Something to see in each.
    for path in ["/dice", "/api/v1/places", "/say/metrics"] {
        let _ = stack.curl(path, &["--fail", "--output", "/dev/null"]).success();
    }
    let field = format!("Authorization: Bearer {}", stack.metrics_token());
    let metrics = stack.curl("/metrics", &["--fail", "--header", &field]).success().text();
    for service in services(&stack) {
        let label = format!("service=\"{service}\"");
        let line = metrics.lines().find(|line| {
            line.starts_with("process_resident_memory_bytes{") && line.contains(&label)
        });
        assert!(line.is_some(), "{service} is missing in\n{metrics}");
    }
}

#[test]
fn plain_http_is_sent_to_https_and_keeps_its_method() {
    let stack = Stack::from_env();
    let reply = harness::send("POST", &format!("{}/dice?a=%2F", stack.http()), &[]);
    assert_eq!(reply.status, 308);
    let expected = format!("{}/dice?a=%2F", stack.https());
    assert_eq!(reply.field("location"), Some(expected.as_str()));
}

#[test]
fn an_error_is_a_problem_to_a_program_and_a_line_to_a_person() {
    let stack = Stack::from_env();
    let problem = stack.curl("/dice/7", &["--header", "Accept: application/json"]).success().text();
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(problem["status"], 422);
    let line = stack.curl("/dice/7", &[]).success().text();
    assert!(line.starts_with("422 Unprocessable Content: "), "{line}");
}
