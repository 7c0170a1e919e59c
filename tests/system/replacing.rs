//! Services replaced, scaled and killed under load: no client notices.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use harness::Stack;

use crate::machine::containers;
use crate::machine::docker;

/// Clients at once, half of them over each version of HTTP, and the requests that one asks in a row.
const CLIENTS: usize = 4;
const ROW: usize = 20;

/// Longest that a stage waits for its requests.
const LONG: Duration = Duration::from_secs(60);

/// What the clients have seen so far.
#[derive(Default)]
struct Seen {
    good: AtomicUsize,
    bad: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Seen {
    /// Waits until `count` more requests were answered.
    fn more(&self, count: usize) {
        let (start, before) = (Instant::now(), self.good.load(Ordering::Relaxed));
        let (_never, pause) = std::sync::mpsc::channel::<()>();
        while self.good.load(Ordering::Relaxed) < before + count {
            assert!(start.elapsed() < LONG, "{:?}", self.bad.lock().unwrap());
            let _: Result<(), _> = pause.recv_timeout(Duration::from_millis(20));
        }
    }
}

/// Ends the clients when dropped: also when the test fails.
struct Over<'a>(&'a Seen);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Clients that ask for `path(client, row)` (with a place for curl's numbers) while `during` runs.
/// Every request must be answered 200, whole.
fn under_load(
    stack: &Stack,
    path: impl Fn(usize, usize) -> String + Sync,
    during: impl FnOnce(&Seen),
) -> usize {
    let seen = Seen::default();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (seen, path) = (&seen, &path);
            scope.spawn(move || {
                let version = if client % 2 == 0 { "--http2" } else { "--http1.1" };
                let told = "%{http_code} %{exitcode} %{errormsg} after %{time_total} s\n";
                let options = [version, "--output", "/dev/null", "--write-out", told];
                for row in 0.. {
                    if seen.over.load(Ordering::Relaxed) {
                        return;
                    }
                    let output = stack.curl(&path(client, row), &options);
                    let text = output.text();
                    let (good, bad): (Vec<&str>, Vec<&str>) =
                        text.lines().partition(|line| line.starts_with("200 0 "));
                    seen.good.fetch_add(good.len(), Ordering::Relaxed);
                    let mut all = seen.bad.lock().unwrap();
                    all.extend(bad.iter().map(|line| format!("{version}: {line}")));
                    if text.lines().count() != ROW {
                        all.push(format!("{version}: {text} {}", output.stderr));
                    }
                }
            });
        }
        let over = Over(&seen);
        during(&seen);
        drop(over);
    });
    assert_eq!(seen.bad.into_inner().unwrap(), [""; 0]);
    seen.good.into_inner()
}

fn dice(client: usize, row: usize) -> String {
    format!("/dice?{client}-{row}-[1-{ROW}]")
}

/// Words that nobody has said before: no cache answers.
fn say(client: usize, row: usize) -> String {
    format!("/say/{client}%20and%20{row}%20and%20[1-{ROW}]")
}

fn scale_dice(stack: &Stack, count: usize) {
    let scale = format!("dice={count}");
    stack.compose(&["up", "--detach", "--no-build", "--no-recreate", "--scale", &scale, "dice"]);
}

/// Puts the number of dice containers back when dropped.
struct Scaled<'a>(&'a Stack);

impl Drop for Scaled<'_> {
    fn drop(&mut self) {
        scale_dice(self.0, 1);
    }
}

#[test]
fn a_service_that_is_made_anew_loses_no_request() {
    let stack = Stack::from_env();
    let before = containers(stack.project(), "say");
    let requests = under_load(&stack, say, |seen| {
        seen.more(CLIENTS * ROW);
        stack.compose(&["up", "--detach", "--no-build", "--no-deps", "--force-recreate", "say"]);
        seen.more(CLIENTS * ROW);
    });
    assert_ne!(containers(stack.project(), "say"), before);
    eprintln!("{requests} requests");
}

#[test]
fn replicas_that_come_and_go_lose_no_request() {
    let stack = Stack::from_env();
    let requests = under_load(&stack, dice, |seen| {
        seen.more(CLIENTS * ROW);
        let scaled = Scaled(&stack);
        scale_dice(&stack, 3);
        // All three serve, and then two go.
        seen.more(20 * CLIENTS * ROW);
        drop(scaled);
        assert_eq!(containers(stack.project(), "dice").len(), 1);
        seen.more(CLIENTS * ROW);
    });
    eprintln!("{requests} requests");
}

#[test]
fn one_of_two_replicas_killed_loses_no_idempotent_request() {
    let stack = Stack::from_env();
    let _scaled = Scaled(&stack);
    let requests = under_load(&stack, dice, |seen| {
        scale_dice(&stack, 2);
        seen.more(20 * CLIENTS * ROW);
        let two = containers(stack.project(), "dice");
        assert_eq!(two.len(), 2);
        docker(&["kill", "--signal", "KILL", &two[0]]);
        seen.more(5 * CLIENTS * ROW);
    });
    eprintln!("{requests} requests");
}
