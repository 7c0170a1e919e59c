//! What other clients notice of hostile ones: the real gateway under slow, idle, many and flooding
//! clients, with figures for `docs/hostile-clients.md`.
//!
//! `cargo bench -p gateway --bench hostile [-- SECONDS [ATTACK…]]`, and Debian's `slowhttptest`. Fails
//! when a request of another client fails, when their p99 is ten times what it was, or when the
//! gateway takes more memory than what is held open explains.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails where it stands")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod attack;
#[expect(dead_code, reason = "shared with the corpus")]
#[path = "../../tests/corpus/frames.rs"]
mod frames;
mod others;
#[expect(dead_code, unused_imports, reason = "shared with the tests of the edge")]
#[path = "../../tests/edge/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use attack::Attack;
use others::Figures;
use support::Gateway;
use support::Upstream;

/// How long each attack lasts, and the quiet before it.
const SECONDS: u64 = 10;

/// Other clients' p99 may be so much of its quiet value.
const TIMES_MAX: f64 = 10.0;

/// What the gateway may have beside what idle connections hold, in bytes, and for each of those.
const MEMORY_MAX: u64 = 96 << 20;
const CONNECTION_BYTES_MAX: u64 = 32 << 10;

/// Answers.
const SMALL: &str = "what there is to say, in about as many bytes as a small answer has";
const LARGE_BYTES: usize = 8 << 20;
const PIECE: &[u8] = &[b'x'; 16 << 10];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "attack") {
        attack::run(&arguments[1], arguments[2].parse().unwrap());
        return ExitCode::SUCCESS;
    }
    // Thousands of connections, in the gateway and in the attacks, which inherit it.
    let (_, most) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
    let seconds = arguments.first().and_then(|first| first.parse().ok());
    if seconds.is_some() {
        arguments.remove(0);
    }
    let span = Duration::from_secs(seconds.unwrap_or(SECONDS));
    println!(
        "| attack | p50, quiet | p99, quiet | p50 | p99 | times | failed | a new connection, p99 | open | memory | CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut failed = false;
    for attack in attack::ALL
        .iter()
        .filter(|a| arguments.is_empty() || arguments.contains(&a.name.to_owned()))
    {
        failed |= !measure(attack, span);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One attack on a gateway of its own; false when others noticed too much of it.
fn measure(attack: &Attack, span: Duration) -> bool {
    let upstream = Upstream::start(|call| {
        call.body()?;
        if !call.request.line.contains("/large") {
            return call.ok(SMALL);
        }
        // For slow readers: more than the buffers on the way hold.
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"))?;
        (0..LARGE_BYTES / PIECE.len()).try_for_each(|_| call.write(PIECE))
    });
    let gateway = Gateway::start(&upstream.route(), attack.settings);
    let quiet = others::measure(&gateway, span / 2);
    let mut running = attack.start(&gateway, span + Duration::from_secs(2));
    let under = others::measure(&gateway, span);
    let open = connections_open(&gateway);
    running.iter_mut().for_each(|child| {
        let _: std::io::Result<()> = child.kill();
        let _: std::io::Result<std::process::ExitStatus> = child.wait();
    });
    let Figures { p50, p99, failed, new_p99, memory, cpu } = under;
    let times = p99.as_secs_f64() / quiet.p99.as_secs_f64();
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    println!(
        "| {} | {} | {} | {} | {} | {times:.1} | {failed} | {} | {open} | {} MB | {:.0} % |",
        attack.what,
        ms(quiet.p50),
        ms(quiet.p99),
        ms(p50),
        ms(p99),
        ms(new_p99),
        memory >> 20,
        cpu * 100.0
    );
    let memory_max = MEMORY_MAX + attack.connections * CONNECTION_BYTES_MAX;
    let good = times < TIMES_MAX && failed == 0 && memory < memory_max;
    if !good {
        eprintln!("{}: too much", attack.name);
    }
    good
}

/// Connections of clients that are open now, whatever their protocol.
fn connections_open(gateway: &Gateway) -> f64 {
    let page = harness::get(&format!("http://{}/metrics", gateway.admin), &[]);
    let lines = page.text().lines().filter(|line| line.starts_with("gateway_connections_open{"));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
