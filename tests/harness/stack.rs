//! The whole stack under Compose.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// The stack that `./test` started, as its environment describes it.
pub struct Stack {
    project: String,
    https: String,
    http: String,
    ca: PathBuf,
    venv: PathBuf,
    folder: PathBuf,
    metrics_token: String,
}

impl Stack {
    /// The stack of this test run.
    ///
    /// # Panics
    ///
    /// When there is none: the system tests are started by `./test`.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            project: variable("HUBBUB_STACK_PROJECT"),
            https: variable("HUBBUB_HTTPS"),
            http: variable("HUBBUB_HTTP"),
            ca: variable("HUBBUB_CA").into(),
            venv: variable("HUBBUB_VENV").into(),
            folder: variable("HUBBUB_COMPOSE_DIR").into(),
            metrics_token: variable("METRICS_TOKEN"),
        }
    }

    /// The Compose project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// `https://localhost:PORT`.
    #[must_use]
    pub fn https(&self) -> &str {
        &self.https
    }

    /// `http://localhost:PORT`.
    #[must_use]
    pub fn http(&self) -> &str {
        &self.http
    }

    /// The private root certificate, as `./up` wrote it.
    #[must_use]
    pub fn ca(&self) -> &std::path::Path {
        &self.ca
    }

    /// The bearer token of `/metrics`.
    #[must_use]
    pub fn metrics_token(&self) -> &str {
        &self.metrics_token
    }

    /// The checkout: where `compose.yaml`, `up` and `deploy` are.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// A program of the Python environment with the real clients.
    #[must_use]
    pub fn python(&self, program: &str) -> PathBuf {
        self.venv.join("bin").join(program)
    }

    /// `docker compose <arguments>` for this project.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn compose<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = Command::new("docker");
        command.arg("compose").arg("--project-name").arg(&self.project).args(arguments);
        command.current_dir(&self.folder);
        run(&mut command).success()
    }

    /// `curl --cacert ca.pem <arguments> https://localhost:PORT<path>`.
    ///
    /// # Panics
    ///
    /// When curl cannot be started.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--cacert"]);
        command.arg(&self.ca).args(arguments).arg(format!("{}{path}", self.https));
        run(&mut command)
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own environment is no setting")]
fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: ./test starts the stack and these tests"))
}

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output as bytes.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Itself, when the command succeeded.
    ///
    /// # Panics
    ///
    /// When it did not, with what it printed.
    #[must_use]
    pub fn success(self) -> Self {
        let text = self.text();
        assert!(self.code == Some(0), "{}: {:?}\n{text}\n{}", self.command, self.code, self.stderr);
        self
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a command to its end.
///
/// # Panics
///
/// When it cannot be started.
pub fn run(command: &mut Command) -> Output {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    Output {
        command: format!("{command:?}"),
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
