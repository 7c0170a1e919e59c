//! The workers: enclosed, one request each, replaced when they die.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use harness::Service;
use nix::fcntl::FcntlArg;
use nix::fcntl::FdFlag;
use nix::fcntl::fcntl;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::support::children;
use crate::support::get;
use crate::support::heard;
use crate::support::metric;
use crate::support::say;
use crate::support::say_with;
use crate::support::status;
use crate::support::until;

/// Takes the engine longer than it takes to find a process in `/proc`.
fn long_text(start: &str) -> String {
    format!("/say/{start}{}", "%20a%20long%20story%20about%20words".repeat(120))
}

fn signal(id: u32, signal: Signal) {
    kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
}

/// A soft limit of the process; empty when the process has gone.
fn limit(id: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// What the process has open.
fn files(id: u32) -> Vec<PathBuf> {
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    files.map(|file| fs::read_link(file.unwrap().path()).unwrap()).collect()
}

/// The only worker of a service that was started with one.
fn worker(say: &Service) -> u32 {
    let workers = children(say.id());
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers[0]
}

#[test]
fn a_worker_may_only_compute() {
    let say = say_with(&[("SAY__WORKERS", "3")]);
    until("all workers are ready", || metric(&say, "say_workers_alive") == 3.0);
    let workers = children(say.id());
    assert_eq!(workers.len(), 3);
    for id in workers {
        assert_eq!(status(id, "Name"), "say-worker");
        assert_eq!(status(id, "Seccomp"), "2", "a filter");
        assert_eq!(status(id, "NoNewPrivs"), "1");
        assert_eq!(status(id, "Threads"), "1", "a fork copies one thread");
        for (name, most) in [
            ("Max address space", "134217728"),
            ("Max file size", "0"),
            ("Max core file size", "0"),
            ("Max open files", "8"),
        ] {
            assert_eq!(limit(id, name), most, "{name}");
        }
        let files = files(id);
        assert_eq!(files.len(), 5, "input and output, each twice, and stderr: {files:?}");
        for file in files {
            let file = file.to_str().unwrap();
            assert!(file.starts_with("pipe:") || file == "/dev/null", "{file}");
        }
        assert_eq!(fs::read(format!("/proc/{id}/environ")).unwrap(), b"", "no secrets");
    }
}

#[test]
fn a_worker_inherits_no_file() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    // Whoever starts the service may leave files open to it, and so may a library in it.
    fcntl(secret.as_file(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let say = say_with(&[("SAY__WORKERS", "1")]);
    assert!(files(say.id()).iter().any(|file| file == secret.path()), "the service has it");
    let files = files(worker(&say));
    assert!(!files.iter().any(|file| file == secret.path()), "{files:?}");
}

#[test]
fn an_engine_that_dies_costs_one_request() {
    let say = say_with(&[("SAY__WORKERS", "1")]);
    let before = worker(&say);
    let reply = thread::scope(|scope| {
        let reply = scope.spawn(|| get(&say, &long_text("crash")));
        let mut forks = Vec::new();
        until("the worker forks", || {
            forks = children(before);
            !forks.is_empty()
        });
        signal(forks[0], Signal::SIGABRT);
        reply.join().unwrap()
    });
    assert_eq!(reply.status, 500);
    assert!(reply.text().contains("failed on these words"), "{}", reply.text());
    assert!(!heard(&say, "/say/the%20next%20one").is_empty());
    assert_eq!(metric(&say, "say_engine_crashes_total"), 1.0);
    assert!(!heard(&say, &long_text("crash")).is_empty(), "a failure is not kept");
}

#[test]
fn a_fork_that_answers_has_its_output_and_may_start_nothing() {
    // In the voice that the worker has, and in one that a keeper sets: then the keeper forks.
    for (voice, depth) in [("en", 1), ("en-us", 2)] {
        let say = say_with(&[("SAY__WORKERS", "1")]);
        let worker = worker(&say);
        let path = format!("{}?voice={voice}", long_text("limits"));
        thread::scope(|scope| {
            let reply = scope.spawn(|| get(&say, &path));
            let mut line = vec![worker];
            until("the fork has set its limits", || {
                line.truncate(1);
                while let Some(fork) = children(line[line.len() - 1]).first() {
                    line.push(*fork);
                }
                // The last that it sets.
                line.len() == depth + 1 && limit(line[depth], "Max cpu time") == "5"
            });
            let fork = line[depth];
            signal(fork, Signal::SIGSTOP);
            let limits = line.iter().map(|id| limit(*id, "Max processes")).collect::<Vec<_>>();
            let files = files(fork);
            signal(fork, Signal::SIGCONT);
            assert_eq!(limits.iter().filter(|most| *most == "0").count(), 1, "{limits:?}");
            assert_eq!(limits[depth], "0", "{limits:?}");
            assert_eq!(files.len(), 1, "{files:?}");
            assert_eq!(reply.join().unwrap().status, 200);
        });
    }
}

#[test]
fn a_killed_worker_is_replaced_without_a_request() {
    let say = say_with(&[("SAY__WORKERS", "1")]);
    let before = worker(&say);
    signal(before, Signal::SIGKILL);
    until("another worker is ready", || {
        let now = children(say.id());
        now.len() == 1 && now[0] != before && metric(&say, "say_workers_alive") == 1.0
    });
    assert_eq!(get(&say, "/healthz").status, 200);
    assert!(!heard(&say, "/say/still%20here").is_empty());
    assert_eq!(metric(&say, "say_engine_crashes_total"), 0.0, "nobody asked for anything");
}

#[test]
fn workers_that_did_their_work_are_replaced_at_once_however_many_are_killed() {
    let say = say_with(&[("SAY__WORKERS", "1"), ("SAY__CACHE_MIB", "0")]);
    let mut longest = Duration::ZERO;
    for _ in 0..9 {
        assert!(!heard(&say, "/say/again").is_empty());
        let before = worker(&say);
        let start = Instant::now();
        signal(before, Signal::SIGKILL);
        until("another worker is ready", || {
            let now = children(say.id());
            now.len() == 1 && now[0] != before && metric(&say, "say_workers_alive") == 1.0
        });
        longest = longest.max(start.elapsed());
    }
    // Were they held for ones that never work, the last would be 10 s late.
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

#[test]
fn a_worker_killed_at_work_takes_its_fork_with_it() {
    let say = say_with(&[("SAY__WORKERS", "1")]);
    let before = worker(&say);
    let (reply, fork) = thread::scope(|scope| {
        let reply = scope.spawn(|| get(&say, &long_text("orphan")));
        let mut forks = Vec::new();
        until("the worker forks, and the fork has set its limits", || {
            forks = children(before);
            forks.first().is_some_and(|fork| limit(*fork, "Max cpu time") == "5")
        });
        // Stopped, it cannot finish before the worker is killed.
        signal(forks[0], Signal::SIGSTOP);
        signal(before, Signal::SIGKILL);
        (reply.join().unwrap(), forks[0])
    });
    assert_eq!(reply.status, 500);
    until("the fork ends", || !fs::exists(format!("/proc/{fork}")).unwrap());
    assert!(!heard(&say, "/say/still%20here").is_empty());
}

#[test]
fn an_engine_that_hangs_is_ended() {
    let say = say_with(&[("SAY__WORKERS", "1"), ("SAY__WALL_S_MAX", "1")]);
    let before = worker(&say);
    signal(before, Signal::SIGSTOP);
    let reply = get(&say, "/say/hang");
    assert_eq!(reply.status, 500);
    assert!(reply.text().contains("too long"), "{}", reply.text());
    assert!(!heard(&say, "/say/still%20here").is_empty());
    assert_ne!(worker(&say), before);
    assert_eq!(metric(&say, "say_engine_crashes_total"), 1.0);
}

#[test]
fn a_fork_that_hangs_is_ended() {
    let say = say_with(&[("SAY__WORKERS", "1"), ("SAY__WALL_S_MAX", "1")]);
    let before = worker(&say);
    let reply = thread::scope(|scope| {
        let reply = scope.spawn(|| get(&say, &long_text("hang")));
        let mut forks = Vec::new();
        until("the worker forks", || {
            forks = children(before);
            !forks.is_empty()
        });
        signal(forks[0], Signal::SIGSTOP);
        reply.join().unwrap()
    });
    assert_eq!(reply.status, 500);
    assert!(!heard(&say, "/say/still%20here").is_empty());
}

#[test]
fn too_many_at_once_are_told_to_come_again() {
    let say = say_with(&[("SAY__WORKERS", "1"), ("SAY__QUEUE_MAX", "1")]);
    signal(worker(&say), Signal::SIGSTOP);
    let replies = thread::scope(|scope| {
        let ask = |number: usize| {
            let say = &say;
            scope.spawn(move || get(say, &format!("/say/number%20{number}")))
        };
        let asked: Vec<_> = (0..8).map(ask).collect();
        // One is with the worker and one waits; or two wait their turn to be refused.
        until("the others are refused", || metric(&say, "say_engine_busy_total") >= 6.0);
        signal(worker(&say), Signal::SIGCONT);
        asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    let (heard, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert!((1..=2).contains(&heard.len()), "{}", heard.len());
    for reply in refused {
        assert_eq!(reply.status, 503);
        assert_eq!(reply.field("retry-after"), Some("1"));
    }
}

#[test]
fn who_waits_too_long_is_told_to_come_again_while_the_worker_is_busy() {
    // The worker may take far longer for its request than the other one may wait.
    let say = say_with(&[
        ("SAY__WORKERS", "1"),
        ("SAY__QUEUE_S_MAX", "1"),
        ("SAY__WALL_S_MAX", "10"),
        ("SAY__CACHE_MIB", "0"),
    ]);
    let id = worker(&say);
    signal(id, Signal::SIGSTOP);
    let mut statuses = thread::scope(|scope| {
        let say = &say;
        let ask = |words| scope.spawn(move || get(say, words).status);
        let asked = ["/say/one", "/say/another"].map(ask);
        until("one is refused", || metric(say, "say_engine_busy_total") >= 1.0);
        signal(id, Signal::SIGCONT);
        asked.map(|asked| asked.join().unwrap())
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503], "and the other one is answered");
}

#[test]
fn equal_requests_at_once_are_one_synthesis() {
    // Were they not joined, most would find the queue full.
    let say = say_with(&[("SAY__WORKERS", "1"), ("SAY__QUEUE_MAX", "1")]);
    let id = worker(&say);
    signal(id, Signal::SIGSTOP);
    let bodies = thread::scope(|scope| {
        let asked: Vec<_> =
            (0..8).map(|_| scope.spawn(|| get(&say, "/say/all%20together"))).collect();
        // Each has a connection; the one to the metrics is the ninth and last.
        until("all have asked", || sockets(say.id()) >= 8);
        let busy = metric(&say, "say_engine_busy_total");
        signal(id, Signal::SIGCONT);
        assert_eq!(busy, 0.0);
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .map(|reply| (reply.status, reply.body))
            .collect::<Vec<_>>()
    });
    assert!(bodies.iter().all(|(status, body)| *status == 200 && *body == bodies[0].1));
    assert_eq!(metric(&say, "say_syntheses_total"), 1.0);
    assert_eq!(metric(&say, "say_cache_requests_total{result=\"miss\"}"), 1.0);
    assert_eq!(metric(&say, "say_cache_requests_total{result=\"hit\"}"), 7.0);
}

/// Connections that the process has accepted.
fn sockets(id: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
    let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    let listening = 1;
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
        .saturating_sub(listening)
}

#[test]
fn the_default_has_a_worker_for_each_processor() {
    let processors = thread::available_parallelism().unwrap().get().min(8);
    let say = say();
    until("all workers are ready", || metric(&say, "say_workers_alive") == processors as f64);
    assert_eq!(children(say.id()).len(), processors);
}
