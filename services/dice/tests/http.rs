//! The real binary, as its clients see it.

use std::collections::BTreeSet;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use harness::Service;
use harness::get;
use harness::send;

fn dice() -> Service {
    Service::start(env!("CARGO_BIN_EXE_dice"), &[("DICE__LISTEN", "127.0.0.1:0")])
}

/// What a browser sends.
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[test]
fn curl_gets_five_lines_of_art() {
    let dice = dice();
    for path in ["/", "/dice", "/dice/"] {
        let reply = get(&dice.url(path), &[("accept", "*/*")]);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        let lines: Vec<&str> = reply.text().lines().collect();
        assert_eq!(lines.len(), 5, "{path}");
        assert_eq!((lines[0], lines[4]), (" -----", " -----"));
        assert!(lines[1..4].iter().all(|line| line.len() == 7 && line.starts_with('|')));
    }
}

#[test]
fn a_browser_gets_a_page_and_a_program_json() {
    let dice = dice();
    let page = get(&dice.url("/dice/4"), &[BROWSER]);
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains(r#"aria-label="A die that shows 4""#));
    assert_eq!(page.text().matches(r#"class="pip""#).count(), 4);
    let json = get(&dice.url("/dice/4"), &[("accept", "application/json")]);
    assert_eq!(json.text(), r#"{"face":4}"#);
    assert_eq!(json.field("vary"), Some("Accept"));
}

#[test]
fn all_faces_come_up() {
    let dice = dice();
    let thrown: BTreeSet<String> = (0..200)
        .map(|_| get(&dice.url("/dice"), &[("accept", "application/json")]).text().to_owned())
        .collect();
    assert_eq!(thrown.len(), 6, "{thrown:?}");
    let metrics = get(&dice.url("/metrics"), &[]);
    let sum: u64 = metrics
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("dice_thrown_total{"))
        .map(|line| line.split_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 200);
}

#[test]
fn a_number_shows_that_face_and_others_are_problems() {
    let dice = dice();
    assert_eq!(get(&dice.url("/1"), &[]).text(), " -----\n|     |\n|  o  |\n|     |\n -----\n");
    for (path, status) in
        [("/7", 422), ("/dice/0", 422), ("/-3", 422), ("/six", 404), ("/1/2", 404)]
    {
        let reply = get(&dice.url(path), &[("accept", "application/json")]);
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.field("content-type"), Some("application/problem+json"), "{path}");
        let text = get(&dice.url(path), &[("accept", "*/*")]);
        assert_eq!(text.field("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert!(text.text().starts_with(&status.to_string()), "{path}");
    }
}

#[test]
fn another_method_is_refused() {
    let reply = send("DELETE", &dice().url("/dice"), &[]);
    assert_eq!(reply.status, 405);
    assert!(reply.text().starts_with("405 Method Not Allowed"));
}

#[test]
fn head_answers_without_a_body() {
    let reply = send("HEAD", &dice().url("/3"), &[]);
    assert_eq!((reply.status, reply.body.len()), (200, 0));
}

#[test]
fn an_unknown_setting_stops_the_start() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_dice")).env("DICE__SIDES", "20").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("sides"), "{line}");
}

#[test]
fn check_judges_the_settings_without_starting() {
    let check = |value| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dice"));
        command.arg("check").env("DICE__LISTEN", value).output().unwrap().status.code()
    };
    assert_eq!(check("127.0.0.1:0"), Some(0));
    assert_eq!(check("here"), Some(2));
}

#[test]
fn healthcheck_follows_the_process() {
    let mut dice = dice();
    let address = dice.address(0).strip_prefix("http://").unwrap().to_owned();
    let healthy = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dice"));
        command.arg("healthcheck").env("DICE__LISTEN", &address).output().unwrap().status.code()
    };
    assert_eq!(healthy(), Some(0));
    assert_eq!(dice.terminate().code(), Some(0));
    assert_eq!(healthy(), Some(1));
}

#[test]
fn sigterm_does_not_wait_for_an_idle_connection() {
    let mut dice = dice();
    let address = dice.address(0).strip_prefix("http://").unwrap().to_owned();
    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(b"GET /1 HTTP/1.1\r\nHost: dice\r\n\r\n").unwrap();
    let mut answer = [0; 1024];
    assert!(idle.read(&mut answer).unwrap() > 0);
    let start = Instant::now();
    assert_eq!(dice.terminate().code(), Some(0));
    // drain_s is 8.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_taken_port_is_an_error_with_one_line() {
    let dice = dice();
    let address = dice.address(0).strip_prefix("http://").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dice"));
    let output = command.env("DICE__LISTEN", address).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("cannot listen on"), "{stderr}");
}

#[test]
fn a_request_keeps_a_sane_id_and_gets_a_new_one_for_another() {
    let dice = dice();
    let id = |given: &str| {
        let reply = get(&dice.url("/dice"), &[("x-request-id", given)]);
        reply.field("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("abc-123"), "abc-123");
    assert_ne!(id("two words"), "two words");
    assert_eq!(id(&"x".repeat(129)).len(), 32);
}
