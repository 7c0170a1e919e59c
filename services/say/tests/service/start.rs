//! How the process starts and ends.

use std::process::Command;
use std::process::Output;

use crate::support::children;
use crate::support::get;
use crate::support::heard;
use crate::support::say;
use crate::support::say_with;
use crate::support::until;

fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_say"));
    command.args(arguments).envs(settings.iter().copied()).output().unwrap()
}

#[test]
fn a_bad_setting_stops_the_start_and_is_named() {
    for (name, value, named) in [
        ("SAY__CHARS", "7", "chars"),
        ("SAY__CHARS_MAX", "0", "chars_max"),
        ("SAY__AUDIO_S_MAX", "many", "audio_s_max"),
        ("SAY__MEMORY_MIB", "1", "memory_mib"),
        ("SAY__VOICE", "robot", "voice"),
        ("SAY__GREETING", " ...", "greeting"),
    ] {
        let output = run(&[], &[("SAY__LISTEN", "127.0.0.1:0"), (name, value)]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {message}");
        assert!(message.lines().last().unwrap().contains(named), "{name}: {message}");
    }
}

#[test]
fn the_worker_subcommand_is_not_for_people() {
    let output = run(&["worker"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!output.stderr.is_empty());
}

#[test]
fn healthcheck_tells_whether_it_serves() {
    let say = say();
    let address = say.address(0).trim_start_matches("http://").to_owned();
    assert_eq!(run(&["healthcheck"], &[("SAY__LISTEN", &address)]).status.code(), Some(0));
    drop(say);
    assert_eq!(run(&["healthcheck"], &[("SAY__LISTEN", &address)]).status.code(), Some(1));
}

#[test]
fn settings_choose_voice_and_greeting() {
    let say = say_with(&[("SAY__VOICE", "whisper"), ("SAY__GREETING", "good day/you")]);
    assert!(heard(&say, "/say/hello") == heard(&say, "/say/hello?voice=en%2Bwhisper"));
    assert_eq!(get(&say, "/").field("location"), Some("/say/good%20day%2Fyou"));
}

#[test]
fn sigterm_ends_it_with_success_and_its_workers_with_it() {
    let mut say = say();
    let workers = children(say.id());
    assert!(!workers.is_empty());
    assert_eq!(say.terminate().code(), Some(0));
    gone(&workers);
}

#[test]
fn workers_die_with_a_service_that_is_killed() {
    let say = say();
    let workers = children(say.id());
    drop(say);
    gone(&workers);
}

fn gone(processes: &[u32]) {
    // A process that ended may wait to be reaped by whoever adopted it.
    let lives = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    };
    until("the workers end", || !processes.iter().any(lives));
}
