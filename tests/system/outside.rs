//! The stack as another machine sees it.

use std::process::Command;

use harness::Stack;
use harness::run;

use crate::machine::Namespace;
use crate::machine::SERVICES;
use crate::machine::address;
use crate::machine::container;
use crate::machine::inspect;

/// Longest wait for a connection, in seconds. Refused is told at once; only dropped packets wait.
const PATIENCE_S: &str = "2";

/// Whether something accepts a TCP connection from the other machine.
fn connects(outside: &Namespace, host: &str, port: u16) -> bool {
    let mut command = outside.program("timeout");
    command.args([PATIENCE_S, "bash", "-c", &format!(": </dev/tcp/{host}/{port}")]);
    run(&mut command).code == Some(0)
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn only_the_gateways_two_ports_are_published() {
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
    ];
    assert_eq!(published, expected);
}

#[test]
fn another_machine_reaches_the_gateway_and_nothing_else() {
    let stack = Stack::from_env();
    let outside = Namespace::new("hubbub-test-outside", 41);
    let host = outside.here();
    for address in [stack.http(), stack.https()] {
        assert!(connects(&outside, &host, port(address)), "{address} is not reachable");
    }
    // Not even if that machine takes ours for a router: the engine forwards to what is published.
    for service in SERVICES {
        let inside = address(&container(stack.project(), service));
        for port in [8080, 8443, 9000, 2092] {
            assert!(
                !connects(&outside, &inside, port),
                "{service} at {inside}:{port} is reachable"
            );
        }
    }
}

/// The one private network has no way out: a service that is broken into cannot call home.
#[test]
fn services_cannot_reach_the_internet() {
    let stack = Stack::from_env();
    for service in ["hub", "dice", "say"] {
        let container = inspect("container", &container(stack.project(), service));
        let process = container["State"]["Pid"].as_u64().unwrap().to_string();
        let mut routes = Command::new("nsenter");
        routes.args(["--net", "--target", &process, "ip", "route", "show", "default"]);
        assert_eq!(run(&mut routes).success().text(), "", "{service} has a way out");
    }
}
