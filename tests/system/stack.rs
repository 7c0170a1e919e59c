//! The stack in use: four containers, replicas, one that dies, and a CA that stays.

use std::fs;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use harness::Stack;
use harness::get;
use harness::run;
use serde_json::Value;

use crate::machine::Project;
use crate::machine::SERVICES;
use crate::machine::address;
use crate::machine::container;
use crate::machine::containers;
use crate::machine::docker;
use crate::machine::inspect;

#[test]
fn four_containers_are_healthy() {
    let stack = Stack::from_env();
    let listed = stack.compose(&["ps", "--format", "{{.Service}} {{.Health}}"]).text();
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["dice healthy", "gateway healthy", "hub healthy", "say healthy"]);
}

#[test]
fn curl_gets_a_die_over_both_versions_of_http() {
    let stack = Stack::from_env();
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let write_out = "%{http_version} %{http_code}";
        let output = stack.curl("/dice", &[option, "--write-out", write_out]).success().text();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 6, "{output}");
        assert_eq!((lines[0], lines[4]), (" -----", " -----"), "{output}");
        let body = &lines[1..4];
        assert!(body.iter().all(|line| line.starts_with('|') && line.ends_with('|')), "{output}");
        assert_eq!(lines[5], format!("{version} 200"));
    }
}

/// How many dice a container has thrown, by its own count.
fn thrown(address: &str) -> f64 {
    let metrics = get(&format!("http://{address}:8080/metrics"), &[]);
    let lines = metrics.text().lines().filter(|line| line.starts_with("dice_thrown_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Puts the number of dice containers back when dropped.
struct Scaled<'a>(&'a Stack);

impl<'a> Scaled<'a> {
    fn to(stack: &'a Stack, count: u8) -> Self {
        scale_dice(stack, count);
        Self(stack)
    }
}

impl Drop for Scaled<'_> {
    fn drop(&mut self) {
        scale_dice(self.0, 1);
    }
}

fn scale_dice(stack: &Stack, count: u8) {
    let scale = format!("dice={count}");
    stack.compose(&["up", "--detach", "--no-build", "--no-recreate", "--scale", &scale]);
}

#[test]
fn three_dice_share_the_throws_within_three_seconds() {
    let stack = Stack::from_env();
    let _scaled = Scaled::to(&stack, 3);
    let started = Instant::now();
    let addresses: Vec<String> =
        containers(stack.project(), "dice").iter().map(|id| address(id)).collect();
    assert_eq!(addresses.len(), 3);
    let throw = |count: u32| {
        let path = format!("/dice?[1-{count}]");
        let _ = stack.curl(&path, &["--fail", "--output", "/dev/null"]).success();
    };
    let counts = || -> Vec<f64> { addresses.iter().map(|address| thrown(address)).collect() };

    let before = counts();
    let joined = |now: &[f64]| now.iter().zip(&before).all(|(now, before)| now > before);
    loop {
        throw(20);
        if joined(&counts()) {
            break;
        }
        let passed = started.elapsed();
        assert!(passed < Duration::from_secs(3), "{before:?} {:?} after {passed:?}", counts());
    }

    let before = counts();
    throw(300);
    for (now, before) in counts().iter().zip(before) {
        // A third would be 100.
        assert!(now - before >= 50.0, "one of three dice threw {} of 300", now - before);
    }
}

/// One answer of say: `200 audio/wav`, `503 application/problem+json`, or that it broke off.
fn ask(stack: &Stack, words: &str) -> (String, String) {
    let path = format!("/say/{words}");
    let json = ["--header", "Accept: application/json, audio/wav", "--compressed"];
    let output = stack
        .curl(&path, &[&json[..], &["--write-out", "\n%{http_code} %{content_type}"]].concat());
    let text = output.text();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    let status = if output.code == Some(0) { status } else { BROKEN };
    (body.to_owned(), status.to_owned())
}

/// Clients that ask say for new words, one request after the other, until told to stop: neither
/// cache nor luck answers for a dead container.
fn in_use<R>(stack: &Stack, during: impl FnOnce(&Receiver<(String, String)>) -> R) -> R {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (answered, answers) = mpsc::channel();
        for client in 0..CLIENTS {
            let (stop, answered) = (&stop, answered.clone());
            scope.spawn(move || {
                for count in 0.. {
                    let words = format!("client%20{client}%20asks%20{count}");
                    let gone = answered.send(ask(stack, &words)).is_err();
                    if gone || stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let stopped = Stopped(&stop);
        let result = during(&answers);
        drop(stopped);
        result
    })
}

/// Lets the clients end when dropped: also when the test fails.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const CLIENTS: usize = 4;

#[test]
fn say_killed_during_use_is_503_problems_and_then_speech_again() {
    let stack = Stack::from_env();
    let gateway = container(stack.project(), "gateway");
    let say = container(stack.project(), "say");
    let started_at = || inspect("container", &gateway)["State"]["StartedAt"].clone();
    let gateway_started_at = started_at();

    in_use(&stack, |answers| {
        // Collects answers up to one of this kind; nothing but `allowed` may come before.
        let until = |wanted: &str, allowed: &[&str]| {
            let deadline = Instant::now() + Duration::from_secs(40);
            let mut broken = 0;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let (body, status) =
                    answers.recv_timeout(left).unwrap_or_else(|_| panic!("no {wanted}"));
                if status == wanted {
                    return body;
                }
                assert!(allowed.contains(&status.as_str()), "{status} before {wanted}: {body}");
                broken += usize::from(status == BROKEN || status.starts_with("502"));
                assert!(broken <= CLIENTS, "more were cut off than were running");
            }
        };
        for _ in 0..CLIENTS {
            let body = until(SPEECH, &[]);
            assert!(body.starts_with("RIFF"));
        }
        docker(&["kill", &say]);
        let _revived = Revived(&say);
        // What was running at that moment may be cut off.
        let problem = until(UNAVAILABLE, &[SPEECH, BROKEN, BAD_GATEWAY]);
        let problem: Value = serde_json::from_str(&problem).unwrap();
        assert_eq!(problem["status"], 503);
        // The others do not notice.
        let _ = stack.curl("/dice", &["--fail"]).success();

        docker(&["start", &say]);
        let body = until(SPEECH, &[UNAVAILABLE]);
        assert!(body.starts_with("RIFF"));
    });
    assert_eq!(started_at(), gateway_started_at, "the gateway was restarted");
}

const SPEECH: &str = "200 audio/wav";
const UNAVAILABLE: &str = "503 application/problem+json";
const BAD_GATEWAY: &str = "502 application/problem+json";
const BROKEN: &str = "broke off";

/// Starts a container when dropped, so that a failed test leaves a whole stack to the next one.
struct Revived<'a>(&'a str);

impl Drop for Revived<'_> {
    fn drop(&mut self) {
        docker(&["start", self.0]);
    }
}

#[test]
fn a_second_up_changes_nothing() {
    let stack = Stack::from_env();
    let running = || SERVICES.map(|service| container(stack.project(), service));
    let (before, ca) = (running(), fs::read(stack.ca()).unwrap());
    let scratch = tempfile::tempdir().unwrap();
    // From another folder: a file is meant as it is seen from there, and so is what is printed.
    let here = |program: &mut Command| run(program.current_dir(&scratch)).success().text();
    let text =
        here(Command::new(stack.folder().join("up")).args(["--no-build", "--ca", "the ca.pem"]));
    assert!(text.contains(stack.https()), "{text}");
    assert_eq!(fs::read(scratch.path().join("the ca.pem")).unwrap(), ca);
    assert_eq!(running(), before, "containers were made anew");

    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  curl ")).collect();
    assert_eq!(commands.len(), 3, "{text}");
    for command in commands {
        here(Command::new("sh").args(["-c", &format!("curl --fail --silent {command}")]));
    }
    assert!(fs::read(scratch.path().join("hello.wav")).unwrap().starts_with(b"RIFF"));
    let down = text.lines().find_map(|line| line.strip_prefix("Stop it with: ")).unwrap();
    let compose = down.strip_suffix(" down").unwrap();
    let listed = here(Command::new("sh").args(["-c", &format!("{compose} ps --services")]));
    assert_eq!(listed.lines().count(), 4, "{compose} is about {listed:?}");
}

#[test]
fn the_ca_outlives_down() {
    let stack = Stack::from_env();
    let project = Project::new(&stack, "down");
    let _ = project.up(&[]).success();
    let ca = fs::read(project.ca()).unwrap();
    assert!(ca.starts_with(b"-----BEGIN CERTIFICATE-----"));
    assert_ne!(ca, fs::read(stack.ca()).unwrap(), "two stacks share a CA");
    assert_eq!(project.curl("/dice").success().text().lines().count(), 5);

    project.down(&[]);
    assert!(containers(project.value("COMPOSE_PROJECT_NAME"), "gateway").is_empty());
    let _ = project.up(&[]).success();
    assert_eq!(fs::read(project.ca()).unwrap(), ca);
    assert_eq!(project.curl("/dice").success().text().lines().count(), 5);
}
