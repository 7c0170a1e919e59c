//! What the tests share: the service, its answers as audio, its processes.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use harness::Reply;
use harness::Service;
use libdeflater::Decompressor;

/// Who refuses compression.
pub const PLAIN: (&str, &str) = ("accept-encoding", "identity");

/// The service with these settings.
pub fn say_with(settings: &[(&str, &str)]) -> Service {
    let mut all = vec![("SAY__LISTEN", "127.0.0.1:0")];
    all.extend(settings);
    Service::start(env!("CARGO_BIN_EXE_say"), &all)
}

/// The service as it comes.
pub fn say() -> Service {
    say_with(&[])
}

/// `GET path` without compression.
pub fn get(service: &Service, path: &str) -> Reply {
    harness::get(&service.url(path), &[PLAIN])
}

/// The samples of a WAV, whose head is checked.
pub fn samples(wav: &[u8]) -> Vec<i16> {
    let number = |at: usize| u32::from_le_bytes(wav[at..at + 4].try_into().unwrap());
    assert_eq!((&wav[..4], &wav[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    assert_eq!(number(4) as usize, wav.len() - 8, "the length of the file");
    assert_eq!((number(16), number(20), number(24)), (16, 0x0001_0001, 22_050), "PCM, mono");
    assert_eq!((number(28), number(32)), (44_100, 0x0010_0002), "16 bits");
    assert_eq!(&wav[36..40], b"data");
    assert_eq!(number(40) as usize, wav.len() - 44, "the length of the data");
    wav[44..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The samples of the answer to `path`, which must be a WAV.
pub fn heard(service: &Service, path: &str) -> Vec<i16> {
    let reply = get(service, path);
    assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.field("content-type"), Some("audio/wav"), "{path}");
    samples(&reply.body)
}

/// What gzip made of something, undone.
pub fn expanded(gzip: &[u8]) -> Vec<u8> {
    let length = u32::from_le_bytes(*gzip.last_chunk().unwrap());
    let mut bytes = vec![0; length as usize];
    let count = Decompressor::new().gzip_decompress(gzip, &mut bytes).unwrap();
    assert_eq!(count, bytes.len());
    bytes
}

/// Sends `head` as it is, and answers the status line and the rest as text.
pub fn raw(service: &Service, head: &str) -> String {
    let mut stream = TcpStream::connect(service.address(0).trim_start_matches("http://")).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The value of a metric's only or first series with that beginning.
pub fn metric(service: &Service, series: &str) -> f64 {
    let reply = harness::get(&service.url("/metrics"), &[]);
    let line = reply.text().lines().find(|line| line.starts_with(series) && !line.starts_with('#'));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{}", reply.text()));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The processes that `parent` started and that live.
pub fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended in between.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        if fields[1].parse() == Ok(parent) && fields[0] != "Z" {
            found.push(id);
        }
    }
    found.sort_unstable();
    found
}

/// A line of `/proc/<id>/status`, without its name.
pub fn status(id: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// Waits until `done`, for as long as a slow machine may take; the kernel tells no one of what is
/// waited for here.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::yield_now();
    }
}
