//! One worker process, seen from the service: started, spoken to over pipes, and put to an end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::budget::Reservation;
use crate::engine::Language;
use crate::frame;
use crate::text::Script;
use crate::voice::Voice;
use crate::voice::Voices;
use crate::wav;
use crate::worker;
use crate::worker::Limits;
use crate::worker::Outcome;

/// A worker has this long to start; it takes milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest hello, in bytes; espeak-ng's with all its languages is a tenth of it.
const HELLO_BYTES_MAX: usize = 64 << 10;

/// Memory for audio grows by at most this much at once, in bytes.
const STEP_BYTES_MAX: usize = 1 << 20;

/// What a worker says of itself when it has started.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The engine's version.
    pub engine: String,
    /// What of the sandbox this kernel enforces.
    pub sandbox: String,
    /// The voices it has.
    pub voices: Voices,
}

/// Audio from a worker: room for a WAV's head, then the samples.
pub struct Heard {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their part of the memory for audio.
    pub reservation: Reservation,
    /// How it ended.
    pub outcome: Outcome,
}

/// Why a worker gave no answer; it can give no other after that.
#[derive(Debug)]
pub enum Lost {
    /// It died, or did not keep to the protocol.
    Died(io::Error),
    /// There is no memory left for more audio.
    NoMemory,
}

/// A running worker.
pub struct Worker {
    child: Child,
    input: pipe::Sender,
    output: BufReader<pipe::Receiver>,
}

impl Worker {
    /// Starts one and waits for its hello.
    ///
    /// The worker dies with the thread that calls this.
    ///
    /// # Errors
    ///
    /// When it does not start, or not in time; stderr of this process then says why.
    pub async fn start(limits: Limits) -> io::Result<(Self, Hello)> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(env!("CARGO_PKG_NAME"))
            .arg(worker::ARGUMENT)
            .args(limits.arguments())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its own group, so that it and its fork can be ended together.
            .process_group(0)
            .spawn()?;
        let pipes = (child.stdin.take().map(OwnedFd::from), child.stdout.take().map(OwnedFd::from));
        let (Some(input), Some(output)) = pipes else {
            return Err(io::Error::other("a new process has its pipes"));
        };
        let mut worker = Self {
            child,
            input: pipe::Sender::from_owned_fd(input)?,
            output: BufReader::with_capacity(
                frame::BYTES_MAX,
                pipe::Receiver::from_owned_fd(output)?,
            ),
        };
        let hello = match timeout(START_TIMEOUT, worker.hello()).await {
            Ok(hello) => hello,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no hello from the worker")),
        };
        match hello {
            Ok(hello) => Ok((worker, hello)),
            Err(error) => {
                let status = worker.end()?;
                Err(io::Error::new(error.kind(), format!("{error} ({status})")))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    async fn hello(&mut self) -> io::Result<Hello> {
        let mut hello = Hello::default();
        let mut bytes = 0;
        loop {
            let length = self.frame_length().await?;
            bytes += length;
            if bytes > HELLO_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the hello is too long"));
            }
            if length == 0 {
                return Ok(hello);
            }
            let mut line = vec![0; length];
            self.output.read_exact(&mut line).await?;
            let line = String::from_utf8_lossy(&line);
            let garbled = || io::Error::new(io::ErrorKind::InvalidData, "the hello is garbled");
            match line.split_once(' ') {
                Some(("engine", version)) => version.clone_into(&mut hello.engine),
                Some(("sandbox", state)) => state.clone_into(&mut hello.sandbox),
                Some(("language", names)) => {
                    let (code, name) = names.split_once(' ').ok_or_else(garbled)?;
                    let language = Language { code: code.to_owned(), name: name.to_owned() };
                    hello.voices.languages.push(language);
                }
                Some(("variant", name)) => hello.voices.variants.push(name.to_owned()),
                _ => return Err(garbled()),
            }
        }
    }

    /// Waits until the worker has gone, while it has nothing to do.
    pub async fn gone(&mut self) {
        // An end, an error, or words nobody asked for: it is of no more use either way.
        let _: io::Result<&[u8]> = self.output.fill_buf().await;
    }

    /// Has `script` spoken with `voice`.
    ///
    /// # Errors
    ///
    /// When the worker is lost by it; [`Worker::end`] it then.
    pub async fn speak(
        &mut self,
        voice: &Voice,
        script: &Script,
        reservation: Reservation,
    ) -> Result<Heard, Lost> {
        let request = request(voice, script).map_err(Lost::Died)?;
        let mut heard = Heard { bytes: Vec::new(), reservation, outcome: Outcome::AskAgain };
        grow(&mut heard, wav::HEAD_BYTES)?;
        heard.bytes.resize(wav::HEAD_BYTES, 0);
        // Twice at most: once another voice is gone, the worker answers any.
        for _ in 0..2 {
            self.ask(&request, &mut heard).await?;
            if heard.outcome != Outcome::AskAgain {
                break;
            }
        }
        heard.bytes.shrink_to_fit();
        // Shrinking always succeeds.
        let _: bool = heard.reservation.resize(heard.bytes.capacity());
        Ok(heard)
    }

    /// Sends the request, and takes the answer.
    async fn ask(&mut self, request: &[u8], heard: &mut Heard) -> Result<(), Lost> {
        self.input.write_all(request).await.map_err(Lost::Died)?;
        loop {
            let length = self.frame_length().await.map_err(Lost::Died)?;
            if length == 0 {
                break;
            }
            grow(heard, length)?;
            let at = heard.bytes.len();
            heard.bytes.resize(at + length, 0);
            self.output.read_exact(&mut heard.bytes[at..]).await.map_err(Lost::Died)?;
        }
        heard.outcome = self.outcome().await.map_err(Lost::Died)?;
        Ok(())
    }

    async fn outcome(&mut self) -> io::Result<Outcome> {
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "the outcome is garbled");
        if self.frame_length().await? != 1 {
            return Err(garbled());
        }
        Outcome::from_byte(self.output.read_u8().await?).ok_or_else(garbled)
    }

    async fn frame_length(&mut self) -> io::Result<usize> {
        let mut head = [0; 4];
        self.output.read_exact(&mut head).await?;
        frame::length(head)
    }

    /// Ends the worker and what it forked, whatever they do, and answers how the worker ended.
    ///
    /// # Errors
    ///
    /// When the kernel does not know the worker.
    pub fn end(mut self) -> io::Result<std::process::ExitStatus> {
        // It may have ended by itself: then its exit code is worth knowing.
        if let Some(status) = self.child.try_wait()? {
            self.reap_forks();
            return Ok(status);
        }
        self.kill();
        let status = self.child.wait()?;
        self.reap_forks();
        Ok(status)
    }

    fn group(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().map(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(group) = self.group() {
            // ESRCH: they have gone already.
            let _: nix::Result<()> = killpg(group, Signal::SIGKILL);
        }
    }

    /// A fork whose worker died falls to process 1, which in a container is this service.
    fn reap_forks(&self) {
        let Some(group) = self.group() else { return };
        self.kill();
        // ECHILD: none is ours.
        while waitpid(Pid::from_raw(-group.as_raw()), None).is_ok() {}
    }
}

/// Makes room for `more` bytes, within the budget.
fn grow(heard: &mut Heard, more: usize) -> Result<(), Lost> {
    let needed = heard.bytes.len() + more;
    let capacity = heard.bytes.capacity();
    if needed > capacity {
        let next = needed.max(capacity + capacity.min(STEP_BYTES_MAX));
        if !heard.reservation.resize(next) {
            return Err(Lost::NoMemory);
        }
        heard.bytes.reserve_exact(next - heard.bytes.len());
    }
    Ok(())
}

/// A request as the worker reads it.
fn request(voice: &Voice, script: &Script) -> io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(script.bytes() + 64);
    frame::write(&mut request, voice.name().as_bytes())?;
    let mut line = Vec::new();
    for piece in script.pieces() {
        line.clear();
        line.push(if piece.pause { worker::PAUSE } else { worker::NO_PAUSE });
        line.extend(piece.text.as_bytes());
        frame::write(&mut request, &line)?;
    }
    frame::end(&mut request)?;
    Ok(request)
}
