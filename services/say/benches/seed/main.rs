//! `say` beside a program that does what the seed did: for each request a shell, an echo, an
//! espeak and a gzip at level 6. Both are asked the same, in the same run, in turn.
//!
//! ```text
//! apt-get install espeak-ng
//! cargo bench -p say [-- --rounds 5] [-- --espeak espeak]
//! ```
//!
//! It prints a Markdown table: processor time per request of the whole process tree (user and
//! system) for words nobody asked for before, and requests per second for the same two words again
//! and again. The peer compresses inside itself with libdeflate, which is cheaper than the seed's
//! zlib, and keeps no log; `say` is measured with its access log and without.
#![expect(clippy::print_stdout, reason = "a program for people")]

mod client;
mod cpu;
mod peer;

use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use harness::Service;

/// One of these voices is asked for by name, the other is the default.
const VOICES: [(&str, &str); 2] = [("en", ""), ("en+whisper", "?voice=whisper")];

/// Connections that ask for the same words.
const CONNECTIONS: usize = 8;

/// Two of these make a text that was not asked for before.
const WORDS: [&str; 40] = [
    "apple", "board", "candle", "door", "engine", "farm", "garden", "house", "island", "jacket",
    "kitchen", "lamp", "market", "number", "orange", "paper", "queen", "river", "summer", "table",
    "under", "village", "window", "yellow", "zebra", "morning", "evening", "silver", "golden",
    "little", "happy", "quiet", "sudden", "simple", "winter", "mountain", "ocean", "pencil",
    "rocket", "station",
];

struct Options {
    rounds: usize,
    espeak: String,
    cold: usize,
    seconds: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, espeak] = arguments.as_slice()
        && flag == peer::ARGUMENT
    {
        return peer::serve(espeak);
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: usize| {
        value(name).map_or(default, |text| text.parse().expect("a number"))
    };
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run this with `cargo bench -p say`");
        return;
    }
    let options = Options {
        rounds: number("--rounds", 5),
        espeak: value("--espeak").unwrap_or_else(|| "espeak-ng".to_owned()),
        cold: number("--requests", 300).min(WORDS.len() * (WORDS.len() - 1)),
        seconds: number("--seconds", 2) as u64,
    };
    let rounds: Vec<[Figures; 2]> = (0..options.rounds)
        .map(|round| {
            eprintln!("round {} of {}", round + 1, options.rounds);
            [measure(&peer(&options), &options), measure_say(&options)]
        })
        .collect();
    report(&options, &rounds);
}

/// What one round found of one program.
#[derive(Default)]
struct Figures {
    /// Milliseconds on a processor for a request, by voice.
    cold_ms: [f64; 2],
    /// Requests per second for the same words, by voice.
    again_per_s: [f64; 2],
    /// The same with the access log on.
    logged_per_s: [f64; 2],
}

fn peer(options: &Options) -> Service {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([peer::ARGUMENT, &options.espeak]);
    Service::spawn(command)
}

fn say(log: &str) -> Service {
    let mut command = Command::new(env!("CARGO_BIN_EXE_say"));
    command.env("SAY__LISTEN", "127.0.0.1:0").env("RUST_LOG", log).stderr(Stdio::null());
    Service::spawn(command)
}

fn measure_say(options: &Options) -> Figures {
    let mut figures = measure(&say("warn"), options);
    let logged = say("info");
    for (at, (_, query)) in VOICES.iter().enumerate() {
        figures.logged_per_s[at] = again(&logged, query, options.seconds);
    }
    figures
}

fn measure(service: &Service, options: &Options) -> Figures {
    let mut figures = Figures::default();
    for (at, (_, query)) in VOICES.iter().enumerate() {
        figures.cold_ms[at] = cold(service, query, options.cold);
        figures.again_per_s[at] = again(service, query, options.seconds);
    }
    figures
}

/// Milliseconds of the whole process tree on a processor, per request for new words.
fn cold(service: &Service, query: &str, count: usize) -> f64 {
    let mut connection = client::Connection::open(service.address(0));
    connection.get(&format!("/say/warm%20up{query}"));
    let texts = WORDS.iter().flat_map(|one| {
        WORDS
            .iter()
            .filter(move |other| one != *other)
            .map(move |other| format!("/say/{one}%20{other}{query}"))
    });
    // Spread over all first words, the same for both programs.
    let texts: Vec<String> = texts.collect();
    let step = texts.len() / count;
    let before = cpu::of_tree(service.id());
    for text in texts.iter().step_by(step).take(count) {
        connection.get(text);
    }
    let spent = cpu::of_tree(service.id()) - before;
    spent.as_secs_f64() * 1e3 / count as f64
}

/// Requests per second for the same two words over several connections.
fn again(service: &Service, query: &str, seconds: u64) -> f64 {
    let path = format!("/say/hello%20world{query}");
    client::Connection::open(service.address(0)).get(&path);
    let end = Instant::now() + Duration::from_secs(seconds);
    let start = Instant::now();
    let count: usize = std::thread::scope(|scope| {
        let ask = || {
            let mut connection = client::Connection::open(service.address(0));
            let mut count = 0;
            while Instant::now() < end {
                connection.get(&path);
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("all answers are good")).sum()
    });
    count as f64 / start.elapsed().as_secs_f64()
}

fn report(options: &Options, rounds: &[[Figures; 2]]) {
    let median = |of: &dyn Fn(&[Figures; 2]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "Medians of {} rounds; {} new texts and {} s of the same words in each; peer: {}.\n",
        rounds.len(),
        options.cold,
        options.seconds,
        version(&options.espeak)
    );
    println!("| two words | peer | say | ratio |\n|---|---|---|---|");
    for (at, (voice, _)) in VOICES.iter().enumerate() {
        let peer = median(&|round| round[0].cold_ms[at]);
        let say = median(&|round| round[1].cold_ms[at]);
        println!(
            "| new, `{voice}`: CPU ms a request | {peer:.2} | {say:.2} | 1/{:.1} |",
            peer / say
        );
    }
    for (at, (voice, _)) in VOICES.iter().enumerate() {
        let peer = median(&|round| round[0].again_per_s[at]);
        for (name, say) in [
            ("requests/s", median(&|round| round[1].again_per_s[at])),
            ("requests/s with the access log", median(&|round| round[1].logged_per_s[at])),
        ] {
            println!("| again, `{voice}`: {name} | {peer:.0} | {say:.0} | {:.0} |", say / peer);
        }
    }
}

fn version(espeak: &str) -> String {
    let output = Command::new(espeak).arg("--version").output().expect("espeak is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split("  Data").next().unwrap_or_default().trim().to_owned()
}
