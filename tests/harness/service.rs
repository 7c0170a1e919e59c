//! One real binary, from its ready line to its exit status.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Longest wait for the ready line, far above what a busy machine needs.
const READY_MAX: Duration = Duration::from_secs(60);

/// A running binary; killed when dropped.
pub struct Service {
    child: Child,
    addresses: Vec<String>,
}

impl Service {
    /// Starts `binary` with these variables over a clean environment, and returns once it says
    /// that it is ready. Its logs go to the test's stderr.
    ///
    /// # Panics
    ///
    /// When it ends before it is ready.
    #[must_use]
    pub fn start(binary: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary);
        command.env_clear().envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// The same for a command that needs more: arguments, a working directory, a wrapper.
    ///
    /// # Panics
    ///
    /// When it ends before it is ready, or is not ready in time.
    #[must_use]
    pub fn spawn(command: Command) -> Self {
        let (service, mut stdout) = Self::spawn_heard(command);
        // Kept open: a closed stdout would make the process's next print an error.
        thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
        service
    }

    /// The same, with what it writes on stdout after its ready line: somebody has to read it.
    ///
    /// # Panics
    ///
    /// When it ends before it is ready, or is not ready in time.
    #[must_use]
    pub fn spawn_heard(mut command: Command) -> (Self, BufReader<ChildStdout>) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (line, first_line) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.read_line(&mut text).map(|_| (text, stdout));
            // Nobody listens any more when it took too long.
            let _: Result<(), mpsc::SendError<_>> = line.send(read);
        });
        // Made first, so that a failure below ends the process.
        let mut service = Self { child, addresses: Vec::new() };
        let Ok(Ok((line, stdout))) = first_line.recv_timeout(READY_MAX) else {
            panic!("{command:?} says nothing within {} s", READY_MAX.as_secs());
        };
        let Some(addresses) = line.strip_prefix("ready ") else {
            panic!("{command:?} does not say that it is ready, but {line:?}");
        };
        service.addresses = addresses.split_whitespace().map(str::to_owned).collect();
        (service, stdout)
    }

    /// The `index`th address of the ready line, such as `http://127.0.0.1:40123`.
    ///
    /// # Panics
    ///
    /// When the ready line has fewer.
    #[must_use]
    pub fn address(&self, index: usize) -> &str {
        &self.addresses[index]
    }

    /// `path` at the first address.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address(0))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, as `docker stop` does.
    ///
    /// # Panics
    ///
    /// When the process is gone already.
    pub fn signal_terminate(&self) {
        let id = Pid::from_raw(self.child.id().try_into().expect("a process id is positive"));
        kill(id, Signal::SIGTERM).expect("the process is there");
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    ///
    /// When the process is gone already.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_terminate();
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// When the kernel does not know the process.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the process is ours")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _: io::Result<()> = self.child.kill();
        let _: io::Result<ExitStatus> = self.child.wait();
    }
}
