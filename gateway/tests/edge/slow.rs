//! Debian's `slowhttptest`: heads and bodies that never end, answers that are hardly read. A short
//! version of `benches/hostile`.

use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use crate::support::Gateway;
use crate::support::LONG;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::until;

/// What the whole process may have, in bytes.
const MEMORY_MAX: u64 = 64 << 20;

#[test]
fn slow_clients_end_and_others_are_served() {
    let upstream = Upstream::start(|call| {
        call.body()?;
        if call.request.line.contains("/large") {
            call.write("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n")?;
            return (0..512).try_for_each(|_| call.write([b'x'; 16 << 10]));
        }
        call.ok("here")
    });
    let settings = [("GATEWAY__HEADER_S", "3"), ("GATEWAY__IDLE_S", "3")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    let attacks = [
        ("", &["-H", "-i", "1"][..]),
        ("", &["-B", "-i", "1", "-s", "8192"]),
        ("large", &["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"]),
        ("", &["-R", "-a", "1", "-b", "1300"]),
    ];
    let mut running: Vec<_> = attacks
        .iter()
        .map(|(path, arguments)| {
            let url = format!("https://{}/{path}", gateway.https);
            let mut command = Command::new("slowhttptest");
            command.args(["-c", "100", "-r", "100", "-p", "3", "-l", "6", "-u", &url]);
            command.args(*arguments).stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().expect("`apt-get install slowhttptest`, which ./test does")
        })
        .collect();
    let begun = upstream.seen().len();
    until("the slow ones to have begun", || (upstream.seen().len() > begun + 50).then_some(()));
    let mut answered = 0;
    while running.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let asked = Instant::now();
        let answer = exchange(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(answer.text(), "here");
        assert!(asked.elapsed() < LONG / 4, "{:?}", asked.elapsed());
        answered += 1;
    }
    assert!(answered > 0);
    let peak = gateway.peak_bytes();
    assert!(peak < MEMORY_MAX, "{} MB", peak >> 20);
    until("their requests' end", || {
        (gateway.metric("gateway_requests_in_flight") == Some(0.0)).then_some(())
    });
}
