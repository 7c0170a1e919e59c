//! The metrics of all services, on one page for who may read them.

use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;

fn service(value: u32) -> Upstream {
    Upstream::start(move |call| match call.request.line.as_str() {
        "GET /metrics HTTP/1.1" => call.ok(&format!(
            "# HELP thrown_total Dice.\n# TYPE thrown_total counter\nthrown_total {value}\n"
        )),
        _ => call.ok("something else"),
    })
}

#[test]
fn the_token_opens_the_metrics_of_every_replica() {
    let (one, two) = (service(1), service(2));
    let services = format!("http://{},{}", one.address, two.address);
    let routes = format!("/={services} dice.localhost/={services} /gone=http://127.0.0.1:1");
    let gateway = Gateway::start(&routes, &[("GATEWAY__METRICS_TOKEN", "s3cret")]);
    let ask = |host: &str, token: &str| {
        let token =
            if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
        exchange(&gateway, format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n{token}\r\n"))
    };
    let page = ask("localhost", "Bearer s3cret");
    assert_eq!(page.status, 200);
    assert!(page.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        format!("thrown_total{{service=\"127.0.0.1\",instance=\"{}\"}} 1", one.address),
        format!("thrown_total{{service=\"127.0.0.1\",instance=\"{}\"}} 2", two.address),
        "gateway_scrape_success{service=\"127.0.0.1\",instance=\"127.0.0.1:1\"} 0".to_owned(),
        "gateway_requests_in_flight{service=\"gateway\",instance=\"gateway\",route=\"metrics\"} 1"
            .to_owned(),
    ] {
        assert!(page.text().lines().any(|found| found == line), "{line}\n{}", page.text());
    }
    let types = page.text().lines().filter(|line| *line == "# TYPE thrown_total counter").count();
    assert_eq!(types, 1);

    assert_eq!(ask("localhost", "").status, 401);
    assert_eq!(ask("localhost", "Bearer wrong").status, 401);
    assert_eq!(ask("dice.localhost", "Bearer s3cret").status, 404);
}

#[test]
fn without_a_token_there_is_no_such_page() {
    let one = service(1);
    let gateway = Gateway::start(&one.route(), &[("GATEWAY__METRICS_TOKEN", "")]);
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \r\n\r\n";
    assert_eq!(exchange(&gateway, request).status, 404);
}

#[test]
fn the_admin_port_has_health_and_metrics() {
    let gateway = Gateway::start("/=http://127.0.0.1:1", &[]);
    let get = |path: &str| harness::get(&format!("http://{}{path}", gateway.admin), &[]);
    assert_eq!(get("/healthz").status, 200);
    assert_eq!(get("/other").status, 404);
    let page = get("/metrics");
    for name in ["process_resident_memory_bytes", "hubbub_build_info", "gateway_requests_in_flight"]
    {
        assert!(page.text().contains(name), "{name}");
    }
}

#[test]
fn the_healthcheck_asks_the_running_gateway() {
    let gateway = Gateway::start("/=http://127.0.0.1:1", &[]);
    let ask = |admin: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("healthcheck")
            .envs([("GATEWAY__ADMIN", admin), ("GATEWAY__ROUTES", "/=http://127.0.0.1:1")])
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(ask(&gateway.admin.to_string()), Some(0));
    assert_eq!(ask("127.0.0.1:1"), Some(1));
}

#[test]
fn wrong_settings_are_told_by_name() {
    for (name, value, word) in [
        ("GATEWAY__ROUTES", "", "routes"),
        ("GATEWAY__ROUTES", "/x=ftp://a", "ftp://a"),
        ("GATEWAY__DOMAIN", "a b", "a b"),
        ("GATEWAY__TRUSTED_PROXIES", "nonsense", "nonsense"),
        ("GATEWAY__FROBNICATE", "1", "frobnicate"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("check")
            .env("GATEWAY__ROUTES", "/=http://a:1")
            .env(name, value)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {stderr}");
        assert!(stderr.contains(word), "{name}={value}: {stderr}");
    }
}
