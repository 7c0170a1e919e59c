//! The real clients of not-my-board 0.13.0, unmodified, through the gateway: an exporter and agents on machines
//! of their own.

mod client;
mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use harness::Stack;
use tempfile::TempDir;

use client::{Agent, Process};
use lab::{Lab, Machine};

/// What the board answers.
const GREETING: &str = "hello from the board\n";

/// Where the exporter listens on its machine.
const EXPORT_PORT: u16 = 29201;

/// Where the agent's end of the tunnel is on its machine.
const LOCAL_PORT: u16 = 8080;

#[test]
fn the_tutorial_of_the_real_clients_works_through_the_gateway() {
    let mut farm = Farm::new();
    let (there, here) = (farm.lab.machine(), farm.lab.machine());
    let _exporter = farm.exporter(there, "tutorial-place");
    let agent = farm.agent(here);

    assert!(agent.says(&["search"]).lines().any(|line| line == "@tutorial-place"));
    assert_eq!(agent.says(&["search", "tutorial"]), "@tutorial-place\n");
    assert_eq!(agent.says(&["list"]), "");

    agent.says(&["attach", "tutorial"]);
    assert_eq!(words(&agent.says(&["list", "-n"])), [["tutorial@tutorial-place", "Attached"]]);
    let port = LOCAL_PORT.to_string();
    assert_eq!(
        words(&agent.says(&["status", "-n"])),
        [["tutorial", "board", "TCP", "web", "Up", &port]]
    );
    let who = words(&agent.says(&["who", "-n"]));
    assert!(who.iter().any(|row| row[0] == "@tutorial-place" && is_anonymous(&row[1])), "{who:?}");

    let tunnel = format!("http://localhost:{port}/");
    assert_eq!(agent.curl(&[&tunnel]), GREETING, "through the agent's tunnel to the board");

    for shown in [["show", "-j", "tutorial"], ["show", "-j", "@tutorial-place"]] {
        let place: serde_json::Value = serde_json::from_str(&agent.says(&shown)).unwrap();
        assert_eq!(place["name"], "tutorial-place");
        assert_eq!(place["parts"][0]["compatible"][0], "hubbub-tutorial");
        assert_eq!(
            place["host"],
            there.address().to_string(),
            "the exporter's own address, not the gateway's"
        );
        assert!(
            place["id"].as_u64() >= Some(1) && place["stats"]["uniqueness"].is_f64(),
            "{place}"
        );
    }
    assert!(agent.says(&["show", "tutorial"]).contains("name=\"tutorial-place\""));

    agent.says(&["detach", "-k", "tutorial"]);
    assert_eq!(words(&agent.says(&["list", "-n"])), [["tutorial@tutorial-place", "Reserved"]]);
    agent.says(&["attach", "tutorial"]);
    agent.says(&["detach", "tutorial"]);
    assert_eq!((agent.says(&["list"]), agent.says(&["status"])), (String::new(), String::new()));
    assert!(!agent.says(&["who", "-n"]).contains("@tutorial-place"));
    assert_eq!(agent.curl(&[&tunnel]), "", "the tunnel is closed");
}

#[test]
fn a_board_admits_only_the_machine_whose_agent_holds_it() {
    let mut farm = Farm::new();
    let (there, here, elsewhere) = (farm.lab.machine(), farm.lab.machine(), farm.lab.machine());
    let _exporter = farm.exporter(there, "guarded-place");
    let (user, other) = (farm.agent(here), farm.agent(elsewhere));
    let proxy = format!("http://{}:{EXPORT_PORT}", there.address());
    let board = format!("http://{}:{}/", Lab::HERE, farm.board_port);
    let reaches =
        |agent: &Agent| agent.curl(&["--proxytunnel", "--proxy", &proxy, &board]) == GREETING;
    assert!(!reaches(&user) && !reaches(&other), "it is free");
    user.says(&["reserve", "tutorial"]);
    assert!(reaches(&user) && !reaches(&other), "the one that holds it");
    user.says(&["return", "tutorial"]);
    assert!(!reaches(&user) && !reaches(&other), "it is free again");
    other.says(&["reserve", "tutorial"]);
    assert!(!reaches(&user) && reaches(&other), "the other");
}

#[test]
fn two_agents_queue_for_one_place_and_who_is_interrupted_leaves_the_queue() {
    let mut farm = Farm::new();
    let machines = [(); 4].map(|()| farm.lab.machine());
    let _exporter = farm.exporter(machines[0], "wanted-place");
    let first = farm.agent(machines[1]);
    let (mut second, mut third) = (farm.agent(machines[2]), farm.agent(machines[3]));

    first.says(&["reserve", "tutorial"]);
    let holder_before = holder(&first);
    let mut waits = second.starts(&["reserve", "tutorial"]);
    second.has_reached_the_hub("Calling: reserve");
    let mut interrupted = third.starts(&["reserve", "tutorial"]);
    third.has_reached_the_hub("Calling: reserve");
    assert!(waits.is_running() && interrupted.is_running(), "the place is taken");

    interrupted.interrupt();
    third.has_reached_the_hub("Canceling: reserve");

    first.says(&["return", "tutorial"]);
    waits.succeeds();
    assert_eq!(words(&second.says(&["list", "-n"])), [["tutorial@wanted-place", "Reserved"]]);
    assert_ne!(holder(&first), holder_before, "it is the second's now");

    second.says(&["return", "tutorial"]);
    assert!(!second.says(&["who", "-n"]).contains("@wanted-place"), "the third has left the queue");

    third.says(&["reserve", "tutorial"]);
    let mut waits = second.starts(&["reserve", "tutorial"]);
    second.has_reached_the_hub("Calling: reserve");
    drop(third);
    // An agent that ends gives back what it holds.
    waits.succeeds();
}

#[test]
fn a_client_that_does_not_know_the_private_root_does_not_connect() {
    let mut farm = Farm::new();
    let machine = farm.lab.machine();
    let mut export = farm.client(machine, "export");
    export.arg(&farm.hub).arg("./place.toml");
    fs::copy(farm.folder.path().join("export.toml"), farm.folder.path().join("place.toml"))
        .unwrap();
    let mut exporter = Process::start(export);
    assert!(!exporter.ends().success());
    let said = exporter.said();
    assert!(said.contains("CERTIFICATE_VERIFY_FAILED"), "{said}");
}

/// The user in the `who` row of the place.
fn holder(agent: &Agent) -> String {
    let who = words(&agent.says(&["who", "-n"]));
    let row = who.iter().find(|row| row[0] == "@wanted-place");
    row.unwrap_or_else(|| panic!("nobody holds it: {who:?}"))[1].clone()
}

/// Without authentication, users are called `<7>`.
fn is_anonymous(user: &str) -> bool {
    let number = user.strip_prefix('<').and_then(|user| user.strip_suffix('>'));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

/// The rows of a table.
fn words(table: &str) -> Vec<Vec<String>> {
    table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// A lab with a board in it, and a directory with an export and an import description, as a user of the tutorial
/// writes them.
struct Farm {
    folder: TempDir,
    /// As the clients call it: one of the names in the gateway's certificate.
    hub: String,
    ca: PathBuf,
    program: PathBuf,
    board_port: u16,
    // Last: the machines go after what runs on them.
    lab: Lab,
}

impl Farm {
    fn new() -> Self {
        let stack = Stack::from_env();
        let lab = Lab::new();
        let board_port = board();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("hosts", format!("127.0.0.1 localhost\n{} hub.localhost\n", Lab::HERE));
        write(
            "export.toml",
            format!(
                "port = {EXPORT_PORT}\n\n[[parts]]\ncompatible = [\"hubbub-tutorial\"]\n\
                 tcp.web = {{ host = \"{}\", port = {board_port} }}\n",
                Lab::HERE
            ),
        );
        fs::create_dir(folder.path().join(".not-my-board")).unwrap();
        write(
            ".not-my-board/tutorial.toml",
            format!(
                "[parts.board]\ncompatible = [\"hubbub-tutorial\"]\ntcp.web = {{ local_port = {LOCAL_PORT} }}\n"
            ),
        );
        let (_, port) = stack.https().rsplit_once(':').unwrap();
        Self {
            hub: format!("https://hub.localhost:{port}"),
            ca: stack.ca().to_owned(),
            program: stack.python("not-my-board"),
            folder,
            board_port,
            lab,
        }
    }

    /// A real client's command on that machine.
    fn client(&self, machine: Machine, command: &str) -> Command {
        let mut client = machine.program(&self.program, &self.folder.path().join("hosts"));
        client.arg(command).current_dir(self.folder.path());
        client
    }

    /// Exports the board; the description's file names the place.
    fn exporter(&self, machine: Machine, name: &str) -> Process {
        let file = format!("{name}.toml");
        fs::copy(self.folder.path().join("export.toml"), self.folder.path().join(&file)).unwrap();
        let mut export = self.client(machine, "export");
        export.arg("--cacert").arg(&self.ca).arg(&self.hub).arg(file);
        let mut exporter = Process::start(export);
        exporter.logs("ready");
        exporter
    }

    fn agent(&self, machine: Machine) -> Agent {
        let mut agent = self.client(machine, "agent");
        agent.arg("--cacert").arg(&self.ca).arg(&self.hub);
        let mut process = Process::start(agent);
        process.logs("ready");
        Agent { process, program: self.program.clone(), folder: self.folder.path().to_owned() }
    }
}

/// Stands in for a board: a web server of one page on this machine, until the test's process ends. Gives its port.
fn board() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || greet(stream));
        }
    });
    port
}

fn greet(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let length = GREETING.len();
    // A client that is gone needs no greeting.
    let _: std::io::Result<()> = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{GREETING}"
    );
}
