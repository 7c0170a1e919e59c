//! HTTP/1.1: every case of `refused.txt` and `passing.txt`, each on a connection of its own.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;

use crate::canary::Canary;
use crate::support::Client;
use crate::support::Gateway;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::until;
use crate::table;
use crate::table::Case;

/// One thread, so that all connections to the canary are in one pool: whatever a case leaves there,
/// the marker behind it would run into.
const SETTINGS: [(&str, &str); 3] =
    [("GATEWAY__THREADS", "1"), ("GATEWAY__HEADER_S", "1"), ("GATEWAY__IDLE_S", "1")];

struct Corpus {
    canary: Canary,
    gateway: Gateway,
    markers: u32,
    /// The connection of the last marker, which the gateway may have closed since.
    marking: Option<Client>,
}

impl Corpus {
    fn start() -> Self {
        let canary = Canary::start();
        let gateway = Gateway::start(&format!("/=http://{}", canary.address), &SETTINGS);
        Self { canary, gateway, markers: 0, marking: None }
    }

    /// Sends a marker behind a case, and says what reached the canary before it.
    fn seen(&mut self, name: &str) -> Vec<(String, Vec<u8>)> {
        self.markers += 1;
        let path = format!("/marker/{}", self.markers);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let ask = |mut client: Client| {
            client.get_mut().write_all(request.as_bytes()).ok()?;
            Some((read_answer(&mut client, false).ok()?, client))
        };
        let asked = self.marking.take().and_then(ask);
        let anew = || ask(tls(&self.gateway, "localhost", |_| {}).unwrap()).unwrap();
        let (answer, client) = asked.unwrap_or_else(anew);
        self.marking = Some(client);
        assert_eq!((answer.status, answer.text()), (200, "ok\n"), "{name}: the marker");
        until("the gateway to give up", || (self.canary.unfinished() == 0).then_some(()));
        let mut seen = self.canary.take();
        assert_eq!(seen.pop(), Some((format!("GET {path}"), Vec::new())), "{name}: the marker");
        seen
    }
}

/// The statuses that answered `bytes`; the last answer's own words; and how the connection ended.
fn talk(case: &Case, gateway: &Gateway, more: &[u8]) -> (Vec<u16>, String, io::ErrorKind) {
    let mut client = tls(gateway, "localhost", |_| {}).unwrap();
    // A gateway that refuses may not read it all.
    let _: io::Result<()> = client.get_mut().write_all(&[&case.bytes, more].concat());
    if case.ends {
        client.get_mut().shutdown().unwrap();
        client.get_ref().get_ref().shutdown(Shutdown::Write).unwrap();
    }
    answers(&mut client)
}

fn answers(client: &mut Client) -> (Vec<u16>, String, io::ErrorKind) {
    let (mut statuses, mut words) = (Vec::new(), String::new());
    loop {
        match read_answer(client, false) {
            Ok(answer) => {
                statuses.push(answer.status);
                let close = answer.field("connection").unwrap_or("-").to_owned();
                words = format!("{close} {}", answer.text());
            }
            Err(error) => {
                let mut rest = [0];
                let more = client.read(&mut rest).unwrap_or(0);
                assert_eq!(more, 0, "more than answers came: {rest:?}");
                return (statuses, words, error.kind());
            }
        }
    }
}

/// How a connection ends that the gateway closes; a reset is an end, too: bytes that nobody read
/// were thrown away.
const CLOSED: [io::ErrorKind; 2] = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];

#[test]
fn what_two_parsers_could_read_differently_is_refused_and_nothing_slips_through() {
    let cases = table::read(include_str!("refused.txt"));
    assert!(cases.len() >= 250, "only {}", cases.len());
    let mut corpus = Corpus::start();
    let mut wrong = Vec::new();
    for case in &cases {
        let (statuses, words, end) = talk(case, &corpus.gateway, b"");
        let seen = corpus.seen(&case.name);
        let passed = case.statuses.iter().filter(|status| **status == 200).count();
        let first_only = seen.iter().all(|(start, _)| start.ends_with(" /first"));
        let refused = case.statuses.last() != Some(&200);
        let told = !refused || words.starts_with("close ") && words.len() > "close ".len();
        if statuses != case.statuses
            || !CLOSED.contains(&end)
            || seen.len() != passed
            || !first_only
            || !told
        {
            wrong.push(format!("{}: {statuses:?} {end:?} {words:?} {seen:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // No part of a request that was given up holds what a case hid.
    let leftovers = corpus.canary.leftovers();
    let partly = cases.iter().filter(|case| case.partly).count();
    assert!(leftovers.len() <= partly, "{} parts of {partly} cases", leftovers.len());
    for bytes in &leftovers {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("hidden") && !text.ends_with("\r\n0\r\n\r\n"), "{text}");
    }
}

#[test]
fn what_is_odd_but_right_passes_unchanged() {
    let cases = table::read(include_str!("passing.txt"));
    let mut corpus = Corpus::start();
    let mut wrong = Vec::new();
    for case in &cases {
        let last = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (statuses, words, end) =
            talk(case, &corpus.gateway, if case.closes { b"" } else { last });
        let mut seen = corpus.seen(&case.name);
        let mut expected = case.statuses.clone();
        if !case.closes {
            expected.push(200);
            let last = seen.pop();
            if last.as_ref().is_none_or(|(start, _)| start != "GET /last") {
                wrong.push(format!("{}: the connection did not go on: {last:?}", case.name));
            }
        }
        if statuses != expected || seen != case.seen || !CLOSED.contains(&end) {
            wrong.push(format!("{}: {statuses:?} {end:?} {words:?} {seen:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(corpus.canary.leftovers(), Vec::<Vec<u8>>::new());
}
