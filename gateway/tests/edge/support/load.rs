//! Clients that ask for one thing again and again, each over a connection that it keeps.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use bytes::Bytes;
use http_body_util::Full;

use super::Gateway;
use super::client::h2_client;
use super::client::read_answer;
use super::client::tls;
use super::h3::h3_client;
use super::until;

/// Requests that a client of HTTP/2 asks at once.
const H2_AT_ONCE: u64 = 10;

/// What is asked, and the status of a good answer.
#[derive(Clone, Copy)]
pub struct Ask {
    pub method: &'static str,
    pub path: &'static str,
    pub status: u16,
}

/// How many clients of each version there are.
#[derive(Clone, Copy)]
pub struct Clients {
    pub h1: usize,
    pub h2: usize,
    pub h3: usize,
}

/// Good answers so far, by version.
#[derive(Default)]
pub struct Load {
    pub h1: AtomicU64,
    pub h2: AtomicU64,
    pub h3: AtomicU64,
    bad: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Load {
    /// False once the clients are to end.
    pub fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Ends the clients.
    pub fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// All good answers.
    pub fn good(&self) -> u64 {
        [&self.h1, &self.h2, &self.h3].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Waits for `count` more of them.
    pub fn more(&self, count: u64) {
        let before = self.good();
        until("answers", || (self.good() >= before + count).then_some(()));
    }

    /// What was not good.
    pub fn bad(&self) -> Vec<String> {
        self.bad.lock().unwrap().clone()
    }

    fn judge(&self, good: &AtomicU64, ask: Ask, version: &str, status: u16, body: &[u8]) {
        if status == ask.status {
            good.fetch_add(1, Ordering::Relaxed);
        } else {
            let text = format!("{version}: {status} {}", String::from_utf8_lossy(body));
            self.bad.lock().unwrap().push(text);
        }
    }

    fn h1(&self, gateway: &Gateway, ask: Ask) {
        let head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", ask.method, ask.path);
        let request = head + if ask.method == "GET" { "\r\n" } else { "Content-Length: 0\r\n\r\n" };
        let mut client = tls(gateway, "localhost", |_| {}).unwrap();
        while self.goes_on() {
            std::io::Write::write_all(client.get_mut(), request.as_bytes()).unwrap();
            let answer = read_answer(&mut client, false).unwrap();
            self.judge(&self.h1, ask, "h1", answer.status, &answer.body);
        }
    }

    fn h2(&self, gateway: &Gateway, ask: Ask) {
        let mut client = h2_client(gateway);
        let request = |_| self.request(ask, Full::<Bytes>::default());
        while self.goes_on() {
            for answer in client((0..H2_AT_ONCE).map(request).collect()) {
                self.judge(&self.h2, ask, "h2", answer.status().as_u16(), answer.body());
            }
        }
    }

    fn h3(&self, gateway: &Gateway, ask: Ask) {
        let mut client = h3_client(gateway);
        while self.goes_on() {
            let answer = client(self.request(ask, ()));
            self.judge(&self.h3, ask, "h3", answer.status().as_u16(), answer.body());
        }
    }

    fn request<B>(&self, ask: Ask, body: B) -> http::Request<B> {
        let request = http::Request::builder().method(ask.method);
        request.uri(format!("https://localhost{}", ask.path)).body(body).unwrap()
    }
}

/// Ends the clients when dropped: also when the test fails.
struct Over<'a>(&'a Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What `clients` get from `gateway` while `during` runs. A connection of theirs that breaks, or an
/// answer that does not come, ends the test.
pub fn under_load(
    gateway: &Gateway,
    clients: Clients,
    ask: Ask,
    during: impl FnOnce(&Load),
) -> Load {
    let load = Load::default();
    thread::scope(|scope| {
        let _over = Over(&load);
        let load = &load;
        for _ in 0..clients.h1 {
            scope.spawn(move || load.h1(gateway, ask));
        }
        for _ in 0..clients.h2 {
            scope.spawn(move || load.h2(gateway, ask));
        }
        for _ in 0..clients.h3 {
            scope.spawn(move || load.h3(gateway, ask));
        }
        during(load);
    });
    load
}
