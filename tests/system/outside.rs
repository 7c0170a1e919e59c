//! The stack as another machine sees it.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use harness::Stack;
use harness::run;

use crate::machine::Namespace;
use crate::machine::SERVICES;
use crate::machine::address;
use crate::machine::container;
use crate::machine::inspect;

/// Longest wait for a connection, in seconds: room for a packet to get lost and be sent again.
/// Refused is told at once; only dropped packets wait.
const PATIENCE_S: &str = "5";

/// Whether `HOST/PORT` accepts a TCP connection from the network of `program`'s process.
fn connects(program: impl FnOnce(&str) -> Command, target: &str) -> bool {
    let mut command = program("timeout");
    command.args([PATIENCE_S, "bash", "-c", &format!(": </dev/tcp/{target}")]);
    run(&mut command).code == Some(0)
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn only_the_gateways_ports_are_published() {
    let stack = Stack::from_env();
    let mut published = Vec::new();
    for service in SERVICES {
        let container = inspect("container", &container(stack.project(), service));
        let ports = container["NetworkSettings"]["Ports"].as_object().unwrap();
        for (inside, outside) in ports {
            for binding in outside.as_array().into_iter().flatten() {
                let port: u16 = binding["HostPort"].as_str().unwrap().parse().unwrap();
                published.push((service, inside.clone(), port));
            }
        }
    }
    published.sort_unstable();
    published.dedup(); // once for IPv4 and once for IPv6
    let expected = [
        ("gateway", "8080/tcp".to_owned(), port(stack.http())),
        ("gateway", "8443/tcp".to_owned(), port(stack.https())),
        ("gateway", "8443/udp".to_owned(), port(stack.https())),
    ];
    assert_eq!(published, expected);
}

#[test]
fn another_machine_reaches_the_gateway_and_nothing_else() {
    let stack = Stack::from_env();
    let outside = Namespace::new(&stack, "outside");
    let reaches = |target: &str| connects(|program| outside.program(program), target);
    for address in [stack.http(), stack.https()] {
        let target = format!("{}/{}", outside.here(), port(address));
        assert!(reaches(&target), "{target} is not reachable");
    }
    // Not even if that machine takes ours for a router: the engine forwards to what is published.
    let inside = |service: &str| address(&container(stack.project(), service));
    let targets: Vec<String> = SERVICES
        .into_iter()
        .flat_map(|service| [8080, 9000].map(|port| format!("{}/{port}", inside(service))))
        .chain([format!("{}/8443", inside("gateway"))])
        .collect();
    let reached = side_by_side(&targets, |target| reaches(target));
    assert_eq!(reached, [""; 0]);
}

/// Those of `targets` that are reached. All are tried at once, for each refusal may take its time.
fn side_by_side<T: AsRef<str> + Sync>(
    targets: &[T],
    reaches: impl Fn(&str) -> bool + Sync,
) -> Vec<&str> {
    let reaches = &reaches;
    thread::scope(|scope| {
        let tries: Vec<_> = targets
            .iter()
            .map(AsRef::as_ref)
            .map(|target| (target, scope.spawn(move || reaches(target))))
            .collect();
        let reached = tries
            .into_iter()
            .filter_map(|(target, reached)| reached.join().unwrap().then_some(target));
        reached.collect()
    })
}

/// The private network has no way out: a service that is broken into cannot call home.
#[test]
fn services_cannot_reach_other_machines() {
    let stack = Stack::from_env();
    let outside = Namespace::new(&stack, "beyond");
    let mut server = outside.program(stack.python("python3").to_str().unwrap());
    server.args(["-u", "-m", "http.server", "--bind", &outside.there(), "8080"]);
    let mut server = Killed(server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("Serving HTTP"), "{line}");

    let reaches = |service: &str| {
        let container = inspect("container", &container(stack.project(), service));
        let process = container["State"]["Pid"].as_u64().unwrap().to_string();
        let within = |program: &str| {
            let mut command = Command::new("nsenter");
            command.args(["--net", "--target", &process, "--", program]);
            command
        };
        connects(within, &format!("{}/8080", outside.there()))
    };
    assert!(reaches("gateway"), "the gateway has a network that leads out");
    assert_eq!(side_by_side(&["hub", "dice", "say"], reaches), [""; 0]);
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _: std::io::Result<()> = self.0.kill();
        let _: std::io::Result<std::process::ExitStatus> = self.0.wait();
    }
}
