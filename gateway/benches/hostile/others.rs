//! Other clients: some that keep their connections, and one that makes a new one each time.

use std::io::Write;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::support::Client;
use crate::support::Gateway;
use crate::support::read_answer;
use crate::support::tls;

/// Clients that keep their connections, and how often each asks.
const CLIENTS: usize = 4;
const EVERY: Duration = Duration::from_millis(10);

/// How often a new connection is made.
const NEW_EVERY: Duration = Duration::from_millis(100);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What they saw, and what the gateway needed meanwhile.
pub struct Figures {
    pub p50: Duration,
    pub p99: Duration,
    pub failed: usize,
    /// From the first packet to the end of the answer.
    pub new_p99: Duration,
    /// The most that was resident, in bytes.
    pub memory: u64,
    /// Of one core.
    pub cpu: f64,
}

/// Asks for as long as `span`.
pub fn measure(gateway: &Gateway, span: Duration) -> Figures {
    let failed = AtomicUsize::new(0);
    let started = Instant::now();
    let cpu = cpu_s(gateway);
    let ask = |client: &mut Client| {
        client.get_mut().write_all(GET).is_ok()
            && read_answer(client, false).is_ok_and(|answer| answer.status == 200)
    };
    // At fixed times, so that an answer that is late does not thin out the rest.
    let rounds = |every: Duration, mut ask: Box<dyn FnMut() -> bool + '_>| {
        let mut times = Vec::new();
        let mut due = started;
        while due < started + span {
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
            let begun = Instant::now();
            if ask() {
                times.push(begun.elapsed());
            } else {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            due += every;
        }
        times
    };
    let (mut kept, mut new, memory) = thread::scope(|scope| {
        let kept: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = tls(gateway, "localhost", |_| {}).unwrap();
                    rounds(EVERY, Box::new(move || ask(&mut client)))
                })
            })
            .collect();
        let new = scope.spawn(|| {
            let fresh =
                || tls(gateway, "localhost", |_| {}).is_ok_and(|mut client| ask(&mut client));
            rounds(NEW_EVERY, Box::new(fresh))
        });
        let mut memory = 0;
        while !new.is_finished() {
            memory = memory.max(resident_bytes(gateway));
            thread::park_timeout(NEW_EVERY);
        }
        let kept: Vec<Duration> = kept.into_iter().flat_map(|one| one.join().unwrap()).collect();
        (kept, new.join().unwrap(), memory)
    });
    let cpu = (cpu_s(gateway) - cpu) / started.elapsed().as_secs_f64();
    Figures {
        p50: percentile(&mut kept, 50),
        p99: percentile(&mut kept, 99),
        failed: failed.into_inner(),
        new_p99: percentile(&mut new, 99),
        memory,
        cpu,
    }
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default()
}

fn resident_bytes(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/statm", gateway.service.id());
    let pages = std::fs::read_to_string(path).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// User and system time so far (proc(5), `stat`), in seconds; the kernel counts hundredths.
fn cpu_s(gateway: &Gateway) -> f64 {
    let path = format!("/proc/{}/stat", gateway.service.id());
    let stat = std::fs::read_to_string(path).unwrap();
    let (_, after) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
