//! Starting and stopping.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::Service;
use tungstenite::protocol::frame::coding::CloseCode;

use super::peer::{Peer, hub};

fn started(environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command.env("HUB__LISTEN", "127.0.0.1:0").envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn must_sigterm_closes_all_with_1012_and_ends_with_success() {
    let mut hub = hub();
    let mut peers: Vec<Peer> = (0..20).map(|_| Peer::new(&hub)).collect();
    peers[0].export("board");
    let start = Instant::now();
    hub.signal_terminate();
    for peer in &mut peers {
        assert_eq!(peer.closed(), CloseCode::Restart);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "at once: {:?}", start.elapsed());
    for peer in peers {
        peer.leave();
    }
    assert_eq!(hub.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn a_peer_that_does_not_close_cannot_hold_the_end_up() {
    let mut hub = hub();
    let _silent = Peer::new(&hub);
    let start = Instant::now();
    assert_eq!(hub.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn what_is_wrong_with_the_settings_is_said_by_name_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let auth =
        write("auth.toml", "[auth]\nissuer = 'https://x'\nclient_id = 'y'\npermissions = []\n");
    let empty_auth = write("empty.toml", "[auth]\n");
    let level = write("level.toml", "log_level = 'loud'\n");
    let broken = write("broken.toml", "log_level = \n");
    let missing = folder.path().join("missing.toml");
    let upstream = "NOT_MY_BOARD_HUB_CONFIG";
    for (variable, value, part) in [
        (upstream, auth.as_str(), "auth"),
        (upstream, &empty_auth, "auth is empty"),
        (upstream, &level, "log_level"),
        (upstream, &broken, "broken.toml"),
        (upstream, missing.to_str().unwrap(), "missing.toml"),
        ("HUB__TRUSTED_PROXIES", "300.1.1.1", "300.1.1.1"),
        ("HUB__LINKS", "dice", "links"),
        ("HUB__UNIQUENESS_TOLERANCE", "-1", "uniqueness_tolerance"),
        ("HUB__INCOMING_MIB_MAX", "1", "incoming_mib_max"),
        ("HUB__LISTENS", "x", "listens"),
    ] {
        let output = started(&[(variable, value)]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {said}");
        assert!(said.contains(part), "{variable}={value}: {said}");
        assert!(output.stdout.is_empty(), "{variable}={value}");
    }
}

#[test]
fn upstreams_file_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, "log_level = 'warning'\nuniqueness_tolerance = 0.5\nlog_levle = 'x'\n")
        .unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command.env("HUB__LISTEN", "127.0.0.1:0").env("NOT_MY_BOARD_HUB_CONFIG", &path).stderr(log);
    let mut hub = Service::spawn(command);
    let mut exporter = Peer::new(&hub);
    exporter.export("board");
    assert_eq!(hub.terminate().code(), Some(0));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("unknown key log_levle"), "{log}");
    assert!(!log.contains("New place registered"), "below the level: {log}");
}

#[test]
fn the_hub_takes_as_many_open_files_as_it_may() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 64 && exec \"$0\"", env!("CARGO_BIN_EXE_hub")]);
    command.env("HUB__LISTEN", "[::]:0");
    let hub = Service::spawn(command);
    let _peers: Vec<Peer> = (0..100).map(|_| Peer::new(&hub)).collect();
    Peer::new(&hub).export("board");
}

#[test]
fn the_log_has_the_lines_that_operators_know() {
    let folder = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command.env("HUB__LISTEN", "127.0.0.1:0").stderr(log);
    let mut hub = Service::spawn(command);
    let (mut exporter, mut first, mut second) = (Peer::new(&hub), Peer::new(&hub), Peer::new(&hub));
    let place = exporter.export("board");
    first.holds(&mut exporter, place);
    second.start("reserve", &serde_json::json!([[place]]));
    second.hears_nothing();
    first.leave();
    exporter.admits(&["127.0.0.1"]);
    second.leave();
    exporter.admits(&[]);
    exporter.leave();
    hub.terminate();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for line in [
        "Authentication is disabled",
        "New place registered: @board",
        "Place @board reserved by <2>",
        "Place @board returned by <2>. Now reserved by <3>",
        "Place @board returned by <3>",
        "Place @board disappeared",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
}
