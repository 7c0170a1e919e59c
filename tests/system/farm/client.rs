//! The real clients as processes: started, waited for by what they print, ended.

use std::io;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use harness::run;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lab::beside;

/// For one step of the clients, each of which starts a Python.
const STEP: Duration = Duration::from_secs(60);

/// A running agent, and the way to its command line.
pub struct Agent {
    pub process: Process,
    pub program: PathBuf,
    pub folder: PathBuf,
}

impl Agent {
    /// What a command that succeeds prints.
    pub fn says(&self, arguments: &[&str]) -> String {
        run(self.command().args(arguments)).success().text()
    }

    /// A command that takes its time.
    pub fn starts(&self, arguments: &[&str]) -> Process {
        let mut command = self.command();
        command.args(arguments);
        Process::start(command)
    }

    /// What `curl` gets on the agent's machine.
    pub fn curl(&self, arguments: &[&str]) -> String {
        let mut curl = beside(self.process.id(), "/usr/bin/curl".as_ref(), &self.folder);
        run(curl
            .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", ""])
            .args(arguments))
        .text()
    }

    /// Returns when the hub has taken in a call that the agent logs: calls of one connection take effect in
    /// order, and a later one has been answered.
    pub fn has_reached_the_hub(&mut self, call: &str) {
        self.process.logs(call);
        self.says(&["who"]);
    }

    fn command(&self) -> Command {
        beside(self.process.id(), &self.program, &self.folder)
    }
}

/// A client that runs; ended, and its end awaited, when dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command.env_remove(variable);
        }
        let mut child = command
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = lines(child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, lines, seen: Vec::new() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `text`, among those not waited for yet.
    pub fn logs(&mut self, text: &str) {
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
                Err(error) => panic!("no line with {text:?} ({error}); it said:\n{}", self.said()),
            }
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// As Ctrl-C does; waits for the end.
    pub fn interrupt(mut self) {
        self.signal(Signal::SIGINT);
        self.ends();
    }

    /// Waits for the end.
    pub fn ends(&mut self) -> ExitStatus {
        assert!(self.ends_within(STEP), "it does not end; it said:\n{}", self.said());
        self.child.wait().unwrap()
    }

    /// Waits for the end, which must be a success.
    pub fn succeeds(&mut self) {
        let status = self.ends();
        assert!(status.success(), "{status}; it said:\n{}", self.said());
    }

    /// Everything up to now.
    pub fn said(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    /// Both streams end when the process does.
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

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // As a service manager ends it; what does not end in time is killed.
            self.signal(Signal::SIGTERM);
            if !self.ends_within(Duration::from_secs(10)) {
                let _: io::Result<()> = self.child.kill();
            }
        }
        let _: io::Result<ExitStatus> = self.child.wait();
    }
}

/// What a process prints, on both streams, line by line.
fn lines(
    stdout: impl Read + Send + 'static,
    stderr: impl Read + Send + 'static,
) -> Receiver<String> {
    let (sender, lines) = channel();
    let other = sender.clone();
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    thread::spawn(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| other.send(line))
    });
    lines
}
