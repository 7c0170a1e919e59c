//! The clients that are written in Python.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

/// A program of the environment that `./test` makes.
pub fn program(name: &str) -> PathBuf {
    let venv = std::env::var_os("HUBBUB_VENV").expect(
        "HUBBUB_VENV is the Python environment with what tests/python/requirements-*.txt name; ./test makes it",
    );
    Path::new(&venv).join("bin").join(name)
}

/// A script of `tests/python`, running.
pub struct Script {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Script {
    /// Starts it with these arguments.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python").join(name);
        let mut child = Command::new(program("python"))
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the script has ended");
        serde_json::from_str(&line).unwrap()
    }

    /// Lets it go on.
    pub fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _: std::io::Result<()> = self.child.kill();
        let _: std::io::Result<std::process::ExitStatus> = self.child.wait();
    }
}
