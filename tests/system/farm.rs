//! The real clients of not-my-board 0.13.0, unmodified, through the gateway.
//!
//! An agent's socket has one name on a machine, `/run/not-my-board-agent.sock`. So that several can run, each
//! agent and its command line are in a mount namespace of their own, with an empty `/run`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Output, Stack, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// For one step of the clients, each of which starts a Python.
const STEP: Duration = Duration::from_secs(60);

/// What the board answers.
const GREETING: &str = "hello from the board\n";

#[test]
fn the_tutorial_of_the_real_clients_works_through_the_gateway() {
    let stack = Stack::from_env();
    let board = Board::start();
    let farm = Folder::new(&board);
    let _exporter = farm.exporter(&stack, "tutorial-place");
    let agent = farm.agent(&stack);

    assert!(agent.says(&["search"]).lines().any(|line| line == "@tutorial-place"));
    assert_eq!(agent.says(&["search", "tutorial"]), "@tutorial-place\n");
    assert_eq!(agent.says(&["list"]), "");

    agent.says(&["attach", "tutorial"]);
    assert_eq!(words(&agent.says(&["list", "-n"])), [["tutorial@tutorial-place", "Attached"]]);
    let port = farm.local_port.to_string();
    assert_eq!(
        words(&agent.says(&["status", "-n"])),
        [["tutorial", "board", "TCP", "web", "Up", &port]]
    );
    let who = words(&agent.says(&["who", "-n"]));
    assert!(who.iter().any(|row| row[0] == "@tutorial-place" && is_anonymous(&row[1])), "{who:?}");

    let through = run(Command::new("curl").args([
        "--silent",
        "--show-error",
        &format!("http://localhost:{port}/"),
    ]));
    assert_eq!(through.success().text(), GREETING, "through the agent's tunnel to the board");

    for shown in [["show", "-j", "tutorial"], ["show", "-j", "@tutorial-place"]] {
        let place: serde_json::Value = serde_json::from_str(&agent.says(&shown)).unwrap();
        assert_eq!(place["name"], "tutorial-place");
        assert_eq!(place["parts"][0]["compatible"][0], farm.tag.as_str());
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
    assert!(TcpStream::connect(("localhost", farm.local_port)).is_err(), "the tunnel is closed");
}

#[test]
fn the_board_admits_the_agents_address_only_while_it_holds_the_place() {
    let stack = Stack::from_env();
    let board = Board::start();
    let farm = Folder::new(&board);
    let _exporter = farm.exporter(&stack, "guarded-place");
    let agent = farm.agent(&stack);
    let listing = stack.curl("/api/v1/places", &[]).success().text();
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    let places = listing["places"].as_array().unwrap();
    let host = places.iter().find(|place| place["name"] == "guarded-place").unwrap()["host"]
        .as_str()
        .unwrap();
    let target = format!("127.0.0.1:{}", board.port);
    let connect = || ask_exporter((host, farm.export_port), &target);
    assert!(connect().starts_with("HTTP/1.1 403"), "{}", connect());
    agent.says(&["reserve", "tutorial"]);
    assert!(connect().starts_with("HTTP/1.1 200"), "{}", connect());
    agent.says(&["return", "tutorial"]);
    assert!(connect().starts_with("HTTP/1.1 403"), "{}", connect());
}

#[test]
fn two_agents_queue_for_one_place_and_who_is_interrupted_leaves_the_queue() {
    let stack = Stack::from_env();
    let board = Board::start();
    let farm = Folder::new(&board);
    let _exporter = farm.exporter(&stack, "wanted-place");
    let (first, mut second, mut third) =
        (farm.agent(&stack), farm.agent(&stack), farm.agent(&stack));

    first.says(&["reserve", "tutorial"]);
    let holder = holder(&first);
    let mut waits = second.starts(&["reserve", "tutorial"]);
    second.has_reached_the_hub("Calling: reserve");
    let interrupted = third.starts(&["reserve", "tutorial"]);
    third.has_reached_the_hub("Calling: reserve");
    assert!(waits.is_running() && interrupted.is_running(), "the place is taken");

    interrupted.interrupt();
    third.has_reached_the_hub("Canceling: reserve");

    first.says(&["return", "tutorial"]);
    assert!(waits.ends().success(), "{}", waits.log.rest());
    assert_eq!(words(&second.says(&["list", "-n"])), [["tutorial@wanted-place", "Reserved"]]);
    let next = self::holder(&first);
    assert_ne!(next, holder, "it is the second's now");

    second.says(&["return", "tutorial"]);
    assert!(!second.says(&["who", "-n"]).contains("@wanted-place"), "the third has left the queue");
    third.says(&["reserve", "tutorial"]);
    assert_eq!(words(&third.says(&["list", "-n"])), [["tutorial@wanted-place", "Reserved"]]);
    // An agent that ends gives back what it holds.
    let mut waits = second.starts(&["reserve", "tutorial"]);
    second.has_reached_the_hub("Calling: reserve");
    drop(third);
    assert!(waits.ends().success(), "{}", waits.log.rest());
}

#[test]
fn clients_that_do_not_know_the_private_root_do_not_connect() {
    let stack = Stack::from_env();
    let board = Board::start();
    let farm = Folder::new(&board);
    let mut export = farm.client(&stack, "export");
    export.arg(stack.https()).arg("./place.toml");
    fs::rename(farm.folder.path().join("export.toml"), farm.folder.path().join("place.toml"))
        .unwrap();
    let mut exporter = Process::start(export);
    assert!(!exporter.ends().success());
    let log = exporter.log.rest();
    assert!(log.contains("CERTIFICATE_VERIFY_FAILED"), "{log}");
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

/// The first line that an exporter answers to a CONNECT (RFC 9110 §9.3.6).
fn ask_exporter(exporter: (&str, u16), target: &str) -> String {
    let mut stream = TcpStream::connect(exporter).unwrap();
    stream.set_read_timeout(Some(STEP)).unwrap();
    // Who is not admitted is told so unasked; the exporter may have closed before this is written.
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let _: std::io::Result<()> = stream.write_all(request.as_bytes());
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Stands in for a board: a web server of one page, until the test's process ends.
struct Board {
    port: u16,
}

impl Board {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || greet(stream));
            }
        });
        Self { port }
    }
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

/// A directory with an export and an import description, as a user of the tutorial writes them.
struct Folder {
    folder: TempDir,
    tag: String,
    export_port: u16,
    local_port: u16,
}

impl Folder {
    fn new(board: &Board) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (export_port, local_port) = (free_port(), free_port());
        // Other tests' boards must not match.
        let tag = format!("board-{}", board.port);
        let export = format!(
            "port = {export_port}\n\n[[parts]]\ncompatible = [\"{tag}\"]\n\
             tcp.web = {{ host = \"127.0.0.1\", port = {} }}\n",
            board.port
        );
        let import = format!(
            "[parts.board]\ncompatible = [\"{tag}\"]\ntcp.web = {{ local_port = {local_port} }}\n"
        );
        fs::write(folder.path().join("export.toml"), export).unwrap();
        fs::create_dir(folder.path().join(".not-my-board")).unwrap();
        fs::write(folder.path().join(".not-my-board/tutorial.toml"), import).unwrap();
        Self { folder, tag, export_port, local_port }
    }

    /// A real client's command, run in this folder.
    fn client(&self, stack: &Stack, command: &str) -> Command {
        let mut client = Command::new(stack.python("not-my-board"));
        client.arg(command).current_dir(self.folder.path());
        for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            client.env_remove(variable);
        }
        client
    }

    /// Exports the board; the description's file names the place.
    fn exporter(&self, stack: &Stack, name: &str) -> Process {
        let file = format!("{name}.toml");
        fs::copy(self.folder.path().join("export.toml"), self.folder.path().join(&file)).unwrap();
        let mut export = self.client(stack, "export");
        export.arg("--cacert").arg(stack.ca()).arg(stack.https()).arg(file);
        let mut exporter = Process::start(export);
        exporter.is_ready();
        exporter
    }

    fn agent(&self, stack: &Stack) -> Agent {
        let script = "mount -t tmpfs tmpfs /run && exec \"$@\"";
        let mut unshare = Command::new("unshare");
        if !geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--mount", "sh", "-c", script, "agent"]);
        unshare
            .arg(stack.python("not-my-board"))
            .arg("agent")
            .arg("--cacert")
            .arg(stack.ca())
            .arg(stack.https());
        unshare.current_dir(self.folder.path());
        let mut process = Process::start(unshare);
        process.is_ready();
        Agent {
            process,
            program: stack.python("not-my-board"),
            folder: self.folder.path().to_owned(),
        }
    }
}

/// A running agent, and the way to its command line.
struct Agent {
    process: Process,
    program: std::path::PathBuf,
    folder: std::path::PathBuf,
}

impl Agent {
    /// A command of the user, in the agent's namespace.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut enter = Command::new("nsenter");
        if !geteuid().is_root() {
            enter.args(["--user", "--preserve-credentials"]);
        }
        enter.arg("--target").arg(self.process.id().to_string()).arg("--mount");
        enter.arg(format!("--wd={}", self.folder.display()));
        enter.arg(&self.program).args(arguments).current_dir(&self.folder);
        enter
    }

    /// What a command that succeeds prints.
    fn says(&self, arguments: &[&str]) -> String {
        let output: Output = run(&mut self.command(arguments));
        output.success().text()
    }

    /// A command that takes its time.
    fn starts(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(arguments))
    }

    /// Returns when the hub has taken in a call that the agent logs: calls of one connection take effect in
    /// order, and a later one has been answered.
    fn has_reached_the_hub(&mut self, call: &str) {
        self.process.logs(call);
        self.says(&["who"]);
    }
}

/// A client that runs; ended, and its end awaited, when dropped.
struct Process {
    child: Child,
    log: Log,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Log::of(child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, log }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn is_ready(&mut self) {
        self.logs("ready");
    }

    /// Waits for a line that contains `text`.
    fn logs(&mut self, text: &str) {
        self.log.wait_for(text);
    }

    fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}/exe", self.id())).read_link().is_ok()
    }

    /// As Ctrl-C does; waits for the end.
    fn interrupt(mut self) {
        self.signal(Signal::SIGINT);
        self.ends();
    }

    /// Waits for the end.
    fn ends(&mut self) -> ExitStatus {
        self.log.wait_for_end();
        self.child.wait().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // As a service manager ends it; what does not end in time is killed.
            self.signal(Signal::SIGTERM);
            if !self.log.ends_within(Duration::from_secs(10)) {
                let _: std::io::Result<()> = self.child.kill();
            }
        }
        let _: std::io::Result<ExitStatus> = self.child.wait();
    }
}

/// What a process prints, on both streams, line by line.
struct Log {
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Log {
    fn of(stdout: impl Read + Send + 'static, stderr: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        let other = sender.clone();
        thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| other.send(line))
        });
        Self { lines, seen: Vec::new() }
    }

    /// Waits for a line that contains `text`, among those not waited for yet.
    fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + STEP;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(error) => {
                    panic!("no line with {text:?} ({error}); it said:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Waits until both streams end, which is when the process does.
    fn wait_for_end(&mut self) {
        assert!(self.ends_within(STEP), "it does not end; it said:\n{}", self.seen.join("\n"));
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Everything.
    fn rest(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }
}
