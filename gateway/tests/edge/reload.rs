//! Routes that change while the gateway runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use http_body_util::Full;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;
use tungstenite::Message;

use crate::support::Ask;
use crate::support::Authority;
use crate::support::Clients;
use crate::support::Gateway;
use crate::support::Upstream;
use crate::support::exchange;
use crate::support::read_answer;
use crate::support::tls;
use crate::support::under_load;
use crate::support::until;
use crate::tunnels;

/// A routes file in a folder of its own.
struct RoutesFile {
    _folder: TempDir,
    path: PathBuf,
}

impl RoutesFile {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Self { path: folder.path().join("routes.toml"), _folder: folder };
        file.write(text);
        file
    }

    /// In place, as a shell does.
    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    /// By another file, as careful editors do.
    fn replace(&self, text: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    fn gateway(&self, routes: &str) -> Gateway {
        Gateway::start(routes, &[("GATEWAY__ROUTES_FILE", self.path.to_str().unwrap())])
    }
}

fn route(at: &str, to: &Upstream) -> String {
    format!("[[route]]\nat = \"{at}\"\nto = \"http://{}\"\n", to.address)
}

fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    let answer = exchange(gateway, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    (answer.status, answer.text().to_owned())
}

fn hang_up(gateway: &Gateway) {
    let id = Pid::from_raw(gateway.service.id().try_into().unwrap());
    kill(id, Signal::SIGHUP).unwrap();
}

fn reloads(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("gateway_reloads_total{{outcome=\"{outcome}\"}}")).unwrap()
}

fn named(text: &'static str) -> Upstream {
    Upstream::start(move |call| {
        call.body()?;
        call.ok(text)
    })
}

#[test]
fn a_route_comes_and_goes_with_the_file() {
    let (hub, coin) = (named("hub"), named("coin"));
    let file = RoutesFile::new("");
    let gateway = file.gateway(&hub.route());
    assert_eq!(get(&gateway, "/coin").1, "hub");
    file.write(&route("/coin", &coin));
    until("the new route", || (get(&gateway, "/coin").1 == "coin").then_some(()));
    let series = r#"gateway_requests_total{route="/coin",status="2xx"}"#;
    assert!(gateway.metric(series).unwrap() >= 1.0);

    file.replace("");
    until("the old route", || (get(&gateway, "/coin").1 == "hub").then_some(()));
    assert_eq!(gateway.metric(series), None);
    let upstream = format!("gateway_upstream_replicas{{upstream=\"{}\"}}", coin.address);
    assert_eq!(gateway.metric(&upstream), None);
    assert_eq!(reloads(&gateway, "accepted"), 2.0);
}

#[test]
fn a_bad_file_is_refused_once_and_the_old_routes_stay() {
    let (hub, coin) = (named("hub"), named("coin"));
    let good = route("/coin", &coin);
    let file = RoutesFile::new(&good);
    let gateway = file.gateway(&hub.route());
    for (count, bad) in [
        format!("{good}colour = 1\n"),
        format!("{good}{}", route("/", &coin)),
        good.replace("http", "gopher"),
        good[..good.len() - 5].to_owned(),
    ]
    .iter()
    .enumerate()
    {
        file.write(bad);
        hang_up(&gateway);
        let refused = (count + 1) as f64;
        until("the refusal", || (reloads(&gateway, "refused") == refused).then_some(()));
        assert_eq!(gateway.metric("gateway_reload_refused"), Some(1.0));
        assert_eq!(get(&gateway, "/coin").1, "coin");
        let status = harness::get(&format!("http://{}/status", gateway.admin), &[]);
        assert!(status.text().contains("routes.toml: line "), "{}", status.text());
        // Looked at again, and nothing is said again.
        hang_up(&gateway);
        assert_eq!(get(&gateway, "/").1, "hub");
        assert_eq!(reloads(&gateway, "refused"), refused);
    }
    file.write(&good);
    hang_up(&gateway);
    until("the good file", || {
        (gateway.metric("gateway_reload_refused") == Some(0.0)).then_some(())
    });
}

#[test]
fn what_came_in_the_way_of_a_good_file_is_tried_again() {
    let (hub, coin) = (named("hub"), named("coin"));
    let certificates = tempfile::tempdir().unwrap();
    let (chain, key) = (certificates.path().join("chain"), certificates.path().join("key"));
    let site = format!(
        "[[site]]\nnames = [\"coin.lan\"]\nchain = \"{}\"\nkey = \"{}\"\n",
        chain.display(),
        key.display()
    );
    let file = RoutesFile::new("");
    let gateway = file.gateway(&hub.route());
    file.write(&(route("/coin", &coin) + &site));
    until("the refusal", || (reloads(&gateway, "refused") == 1.0).then_some(()));
    let (pem, secret) = Authority::new().issue(&["coin.lan"], 20);
    fs::write(&chain, pem).unwrap();
    fs::write(&key, secret).unwrap();
    until("the reload", || (reloads(&gateway, "accepted") == 1.0).then_some(()));
    assert_eq!(get(&gateway, "/coin").1, "coin");
    // The same reason is told once, however often it was met.
    assert_eq!(reloads(&gateway, "refused"), 1.0);
}

#[test]
fn settings_that_came_with_a_bad_file_are_taken_with_the_next_good_one() {
    let (hub, coin) = (named("hub"), named("coin"));
    let file = RoutesFile::new("");
    let settings = file.path.with_file_name("gateway.toml");
    let set = |routes: &str| fs::write(&settings, format!("routes = \"{routes}\"\n")).unwrap();
    set(&hub.route());
    let gateway = Gateway::start(
        "",
        &[
            ("GATEWAY_CONFIG", settings.to_str().unwrap()),
            ("GATEWAY__ROUTES_FILE", file.path.to_str().unwrap()),
        ],
    );
    file.write("x");
    until("the first refusal", || (reloads(&gateway, "refused") == 1.0).then_some(()));
    set(&format!("{} /coin=http://{}", hub.route(), coin.address));
    until("the second refusal", || (reloads(&gateway, "refused") == 2.0).then_some(()));
    file.write("");
    until("the reload", || (reloads(&gateway, "accepted") == 1.0).then_some(()));
    assert_eq!(get(&gateway, "/coin").1, "coin");
}

#[test]
fn a_bad_file_stops_the_start_and_the_check() {
    let file = RoutesFile::new("[[route]]\nat = '/coin'\nto = 'coin:8080'\n");
    let run = |arguments: &[&str], path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(arguments).env_clear().env("GATEWAY__ROUTES_FILE", path);
        for address in ["HTTPS", "HTTP", "ADMIN"] {
            command.env(format!("GATEWAY__{address}"), "127.0.0.1:0");
        }
        let output = command.env("GATEWAY__ROUTES", "/=http://hub:8080").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for arguments in [&["check"][..], &[]] {
        let (code, text) = run(arguments, &file.path);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("routes.toml: line 3: to: `coin:8080`"), "{text}");
        let (code, text) = run(arguments, Path::new("/nowhere/routes.toml"));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("there is no file /nowhere/routes.toml"), "{text}");
    }
}

#[test]
fn a_request_and_a_tunnel_end_with_the_route_that_they_began_with() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let slow = Upstream::start(move |call| {
        gone.lock().unwrap().recv().map_err(io::Error::other)?;
        call.ok("old")
    });
    let (echo, new) = (tunnels::echo(), named("new"));
    let file = RoutesFile::new(&(route("/slow", &slow) + &route("/ws", &echo)));
    let gateway = file.gateway(&new.route());
    let mut socket = tunnels::open(&gateway);
    let mut client = tls(&gateway, "localhost", |_| {}).unwrap();
    let request = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.get_mut().write_all(request.as_bytes()).unwrap();
    until("the request to arrive", || (slow.seen().len() == 1).then_some(()));

    file.write("");
    hang_up(&gateway);
    until("the reload", || (get(&gateway, "/slow").1 == "new").then_some(()));
    // Its series go with its last request.
    let in_flight = r#"gateway_requests_in_flight{route="/slow"}"#;
    assert_eq!(gateway.metric(in_flight), Some(1.0));
    go.send(()).unwrap();
    assert_eq!(read_answer(&mut client, false).unwrap().text(), "old");
    until("the series to go", || gateway.metric(in_flight).is_none().then_some(()));
    socket.send(Message::text("still")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still"));
}

#[test]
fn a_body_has_the_limit_of_its_route() {
    let upstream = Upstream::echo();
    let at = |at: &str, more: &str| format!("{}{more}\n", route(at, &upstream));
    let file =
        RoutesFile::new(&(at("/small", "body_bytes_max = 10") + &at("/any", "body_bytes_max = 0")));
    let settings =
        [("GATEWAY__ROUTES_FILE", file.path.to_str().unwrap()), ("GATEWAY__BODY_BYTES_MAX", "20")];
    let gateway = Gateway::start(&upstream.route(), &settings);
    for (path, length, expected) in [
        ("/small", 10, 200),
        ("/small", 11, 413),
        ("/", 20, 200),
        ("/", 21, 413),
        ("/any", 100_000, 200),
    ] {
        let body = "x".repeat(length);
        for framing in [
            format!("Content-Length: {length}\r\n\r\n{body}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
        ] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
            let answer = exchange(&gateway, format!("{head}{framing}"));
            assert_eq!(answer.status, expected, "{path} {length}");
            let closes = answer.field("connection") == Some("close");
            assert_eq!(closes, expected == 413, "{path} {length}");
        }
        let request = http::Request::post(format!("https://localhost{path}"));
        let request = request.body(Full::from(body)).unwrap();
        assert_eq!(crate::support::h2(&gateway, vec![request])[0].status(), expected);
    }
    // At once: nothing of the body is waited for.
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n";
    let seen = upstream.seen().len();
    assert_eq!(exchange(&gateway, head).status, 413);
    assert_eq!(upstream.seen().len(), seen);
}

/// A load on every version of HTTP, and open tunnels, while the table changes again and again.
fn loses_nothing(time: Duration, sockets: usize) {
    let (one, two) = (tunnels::echo(), tunnels::echo());
    // The route in use goes to another upstream each time, and one beside it comes and goes.
    let tables = [route("/", &one), route("/", &two) + &route("/beside", &one)];
    let file = RoutesFile::new(&tables[0]);
    let gateway = file.gateway("unused.example/=http://127.0.0.1:1");
    let echoes = AtomicU64::new(0);
    let mut open: Vec<_> = (0..sockets).map(|_| tunnels::open(&gateway)).collect();
    let clients = Clients { h1: 3, h2: 1, h3: 1 };
    let ask = Ask { method: "GET", path: "/x", status: 200 };
    let load = under_load(&gateway, clients, ask, |load| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while load.goes_on() {
                    for socket in &mut open {
                        socket.send(Message::text("ping")).unwrap();
                        assert_eq!(socket.read().unwrap(), Message::text("ping"));
                        echoes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let (_never, pause) = mpsc::channel::<()>();
            let start = Instant::now();
            let mut swaps = 0;
            while start.elapsed() < time {
                swaps += 1;
                file.replace(&tables[swaps % 2]);
                hang_up(&gateway);
                let _: Result<(), mpsc::RecvTimeoutError> =
                    pause.recv_timeout(Duration::from_millis(200));
            }
            load.stop();
            let accepted = reloads(&gateway, "accepted");
            eprintln!("{accepted} of {swaps} reloads");
            // A look that came late may have seen two changes as one.
            assert!(accepted >= 0.7 * swaps as f64, "{accepted} of {swaps}");
        });
    });
    assert_eq!(load.bad(), [""; 0]);
    let answers = [load.h1, load.h2, load.h3].map(AtomicU64::into_inner);
    eprintln!("{answers:?} answers over h1, h2, h3, and {} echoes", echoes.load(Ordering::Relaxed));
    assert!(answers.iter().all(|count| *count > 100), "{answers:?}");
    assert!(echoes.into_inner() >= sockets as u64);
    let statuses: BTreeMap<&str, Option<f64>> = ["4xx", "5xx"]
        .map(|class| {
            let name = format!("gateway_requests_total{{route=\"/\",status=\"{class}\"}}");
            (class, gateway.metric(&name))
        })
        .into();
    assert!(statuses.values().all(|count| count.is_none_or(|count| count == 0.0)), "{statuses:?}");
    assert_eq!(gateway.metric("gateway_tunnels_open"), Some(sockets as f64));
    drop(open);
}

#[test]
fn reloads_under_load_lose_no_request_and_no_websocket() {
    loses_nothing(Duration::from_secs(6), 200);
}

#[test]
#[ignore = "half a minute, which tells no more than its short form"]
fn reloads_under_load_for_half_a_minute_lose_nothing() {
    loses_nothing(Duration::from_secs(30), 200);
}
