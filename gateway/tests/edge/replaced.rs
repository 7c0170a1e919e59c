//! Services of this house that stop and die under load, in front of a gateway that has others.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use harness::Service;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::support::Ask;
use crate::support::Clients;
use crate::support::Gateway;
use crate::support::Load;
use crate::support::under_load;

/// Answers that each stage waits for.
const STAGE: u64 = 300;

/// The binary of `dice`, which cargo puts beside ours. It is built here only where nothing has built it
/// yet: a link that is put anew would be missing for a moment to tests that run beside these.
static DICE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_BIN_EXE_gateway")).parent().unwrap();
    let binary = folder.join("dice");
    if !binary.exists() {
        let profile = folder.file_name().unwrap().to_str().unwrap();
        let profile = if profile == "debug" { "dev" } else { profile };
        let mut build = Command::new(env!("CARGO"));
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        build.args(["build", "--locked", "--quiet", "--bin", "dice", "--profile", profile]);
        build.arg("--target-dir").arg(folder.parent().unwrap());
        assert!(build.status().unwrap().success(), "dice is needed: cargo build");
    }
    binary
});

fn dice(address: &str) -> Service {
    Service::start(DICE.to_str().unwrap(), &[("DICE__LISTEN", address), ("RUST_LOG", "warn")])
}

/// Two replicas, and a gateway in front of them.
struct Pair {
    gateway: Gateway,
    replicas: [Service; 2],
}

impl Pair {
    fn start() -> Self {
        let replicas = ["127.0.0.2:0", "127.0.0.3:0"].map(dice);
        let routes =
            format!("/={},{}", replicas[0].address(0), replicas[1].url("").replace("http://", ""));
        Self { gateway: Gateway::start(&routes, &[]), replicas }
    }

    /// Ends one and the other by `end`, and starts each again, while `clients` ask.
    fn under_load(&mut self, clients: Clients, ask: Ask, end: impl Fn(&mut Service)) -> Load {
        let Self { gateway, replicas } = self;
        under_load(gateway, clients, ask, |load| {
            load.more(STAGE);
            for replica in replicas {
                let address = replica.address(0).replace("http://", "");
                end(replica);
                load.more(STAGE);
                *replica = dice(&address);
                load.more(STAGE);
            }
        })
    }
}

const GET: Ask = Ask { method: "GET", path: "/dice", status: 200 };

const CLIENTS: Clients = Clients { h1: 6, h2: 2, h3: 1 };

fn terminate(service: &mut Service) {
    assert!(service.terminate().success());
}

/// As by `kill -9`.
fn strike(service: &mut Service) {
    let id = Pid::from_raw(service.id().try_into().unwrap());
    kill(id, Signal::SIGKILL).unwrap();
    service.wait();
}

#[test]
fn a_replica_that_stops_loses_no_request() {
    let load = Pair::start().under_load(CLIENTS, GET, terminate);
    assert_eq!(load.bad(), [""; 0]);
}

#[test]
fn a_replica_that_is_killed_loses_no_idempotent_request() {
    let load = Pair::start().under_load(CLIENTS, GET, strike);
    assert_eq!(load.bad(), [""; 0]);
}

/// `dice` takes no POST and says so: an answer of its own, over a connection that it keeps.
#[test]
#[ignore = "one run in some 16 still loses one POST: docs/decisions/0014"]
fn a_replica_that_stops_loses_no_post() {
    let post = Ask { method: "POST", path: "/dice", status: 405 };
    let load = Pair::start().under_load(CLIENTS, post, terminate);
    assert_eq!(load.bad(), [""; 0]);
}
