//! The worker process: a warm engine in a sandbox that forks for every request.
//!
//! It is this binary, started by [`crate::process`] with [`ARGUMENT`]. Over stdout it first says
//! hello: a message of lines. Then, for each request over stdin (a message: the voice, then the
//! pieces, each with a leading [`PAUSE`] or [`NO_PAUSE`]), a fork answers frames of samples, the
//! message's end, and one frame of one byte, an [`Outcome`]. When the fork dies instead, the worker
//! ends, since the answer may have broken off anywhere; the parent starts another.
//!
//! Setting a voice takes as long as saying a word, so it is kept for the next request. But some
//! voices leave traces in the engine that the next voice would speak with. So the worker itself
//! has the [`FIRST_VOICE`] for ever, and for another one it forks a keeper, which sets that voice
//! on an engine without traces, and serves while requests ask for it.

use std::ffi::CStr;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use nix::unistd::getpid;

use crate::engine;
use crate::engine::Engine;
use crate::engine::Language;
use crate::frame;
use crate::sandbox;

/// The hidden subcommand; its arguments are [`Limits`].
pub const ARGUMENT: &str = "worker";

/// A piece after which a sentence's pause follows.
pub const PAUSE: u8 = b'.';
/// A piece in mid-sentence.
pub const NO_PAUSE: u8 = b',';

/// Longest request, in bytes: the settings keep texts far shorter.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// What the worker's own engine speaks with.
const FIRST_VOICE: &str = "en";

/// Exit code after a fork's death, plus its signal.
const FORK_DIED: u8 = 128;

/// What one request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest answer, in samples.
    pub samples_max: u32,
    /// Time on a processor, in seconds.
    pub cpu_s_max: u32,
    /// Time by the clock, in seconds.
    pub wall_s_max: u32,
}

impl Limits {
    /// As arguments of the worker.
    #[must_use]
    pub fn arguments(&self) -> [String; 3] {
        [self.samples_max, self.cpu_s_max, self.wall_s_max].map(|limit| limit.to_string())
    }

    /// From arguments.
    #[must_use]
    pub fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let limits: Vec<u32> = arguments.map(|limit| limit.parse().ok()).collect::<Option<_>>()?;
        let [samples_max, cpu_s_max, wall_s_max] = limits[..] else { return None };
        Some(Self { samples_max, cpu_s_max, wall_s_max })
    }
}

/// How a request ended that did not kill its fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was spoken.
    Spoken,
    /// It would have been more than [`Limits::samples_max`].
    TooLong,
    /// The engine refused the voice or the text.
    Refused,
    /// Another voice was set, and is no more: the same request will be answered now.
    AskAgain,
}

impl Outcome {
    /// On the wire.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Spoken => b's',
            Self::TooLong => b'l',
            Self::Refused => b'r',
            Self::AskAgain => b'a',
        }
    }

    /// From the wire.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Spoken, Self::TooLong, Self::Refused, Self::AskAgain]
            .into_iter()
            .find(|outcome| outcome.byte() == byte)
    }
}

/// Serves requests until stdin ends.
#[must_use]
pub fn run(limits: Option<Limits>) -> ExitCode {
    let Some(limits) = limits else {
        let _: io::Result<()> = writeln!(io::stderr(), "say: `worker` is for say itself");
        return ExitCode::from(2);
    };
    match serve(limits) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // After the sandbox is up this goes nowhere; the parent sees the exit code.
            let _: io::Result<()> = writeln!(io::stderr(), "say: the worker ended: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(limits: Limits) -> io::Result<u8> {
    prctl::set_name(c"say-worker")?;
    engine::close_inherited()?;
    let mut engine = Engine::start().map_err(io::Error::other)?;
    let first = CString::new(FIRST_VOICE)?;
    engine.set_voice(&first).map_err(io::Error::other)?;
    let mut hello = vec![format!("engine {}", engine.version())];
    hello.extend(engine.languages().iter().map(|language| {
        let Language { code, name } = language;
        format!("language {code} {name}")
    }));
    hello.extend(engine.variants().iter().map(|name| format!("variant {name}")));
    // Files, not std's handles: those buffer by lines.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    hello.push(format!("sandbox {}", sandbox::enclose()?));
    let mut server = Server { engine, limits, input, output };
    let mut message = Vec::new();
    for line in hello {
        frame::write(&mut message, line.as_bytes())?;
    }
    frame::end(&mut message)?;
    server.output.write_all(&message)?;
    server.worker(&first)
}

/// A process that forks for requests: the worker, or a keeper of another voice.
struct Server {
    engine: Engine,
    limits: Limits,
    input: File,
    output: File,
}

/// The voice and the pieces.
type Request = Vec<Vec<u8>>;

/// How a process ended: 0 is good.
type Code = u8;

impl Server {
    /// Serves all voices until stdin ends.
    fn worker(&mut self, first: &CStr) -> io::Result<Code> {
        while let Some(request) = self.next()? {
            let code = if voice(&request)? == first.to_bytes() {
                self.fork(|server| server.answer(&request))?
            } else {
                self.fork(|server| server.keeper(&request))?
            };
            if code != 0 {
                return Ok(code);
            }
        }
        Ok(0)
    }

    /// Answers this request and those after it, while they want the same voice.
    fn keeper(&mut self, first: &Request) -> io::Result<Code> {
        let wanted = voice(first)?;
        if self.engine.set_voice(&CString::new(wanted)?).is_err() {
            self.end(Outcome::Refused)?;
            return Ok(0);
        }
        let mut code = self.fork(|server| server.answer(first))?;
        while code == 0 {
            let Some(request) = self.next()? else { break };
            if voice(&request)? != wanted {
                self.end(Outcome::AskAgain)?;
                break;
            }
            code = self.fork(|server| server.answer(&request))?;
        }
        Ok(code)
    }

    /// Speaks the request, in a process of its own.
    fn answer(&mut self, request: &Request) -> io::Result<Code> {
        let wall = Duration::from_secs(self.limits.wall_s_max.into());
        sandbox::enclose_answer(&self.output, self.limits.cpu_s_max, wall)?;
        let mut samples = Samples::new(self.limits.samples_max, &mut self.output);
        let outcome = speak(&mut self.engine, &request[1..], &mut samples)?;
        samples.end(outcome)?;
        Ok(0)
    }

    /// Answers without a sample.
    fn end(&mut self, outcome: Outcome) -> io::Result<()> {
        Samples::new(0, &mut self.output).end(outcome)
    }

    fn next(&mut self) -> io::Result<Option<Request>> {
        frame::message(&mut self.input, REQUEST_BYTES_MAX)
    }

    /// Does `work` in a fork, and answers how that ended.
    fn fork(&mut self, work: impl FnOnce(&mut Self) -> io::Result<Code>) -> io::Result<Code> {
        let this = getpid();
        let fork = engine::fork(|| {
            let done = sandbox::die_with(this).map_err(io::Error::from).and_then(|()| work(self));
            done.unwrap_or(1)
        })?;
        Ok(match wait(fork)? {
            WaitStatus::Exited(_, code) => Code::try_from(code).unwrap_or(FORK_DIED),
            WaitStatus::Signaled(_, signal, _) => FORK_DIED.saturating_add(signal as u8),
            _ => FORK_DIED,
        })
    }
}

fn voice(request: &Request) -> io::Result<&[u8]> {
    let none = || io::Error::new(io::ErrorKind::InvalidData, "a request without a voice");
    request.first().map(Vec::as_slice).ok_or_else(none)
}

fn wait(child: Pid) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn speak(
    engine: &mut Engine,
    pieces: &[Vec<u8>],
    samples: &mut Samples<'_>,
) -> io::Result<Outcome> {
    for piece in pieces {
        let [pause, text @ ..] = piece.as_slice() else { return Ok(Outcome::Refused) };
        let text = CString::new(text)?;
        let mut taken = Ok(true);
        let spoken = engine.speak(&text, *pause == PAUSE, &mut |heard| {
            taken = samples.take(heard);
            if matches!(taken, Ok(true)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if samples.left == 0 {
            return Ok(Outcome::TooLong);
        }
        taken?;
        if spoken.is_err() {
            return Ok(Outcome::Refused);
        }
    }
    Ok(Outcome::Spoken)
}

/// Samples on their way to the parent, in frames as long as may be: each costs the parent a wake-up.
struct Samples<'a> {
    /// How many more there may be.
    left: u32,
    /// Room for a frame's head, then its samples.
    frame: Vec<u8>,
    output: &'a mut File,
}

const HEAD: [u8; 4] = [0; 4];

/// Bytes of one sample.
const SAMPLE_BYTES: usize = size_of::<i16>();

impl<'a> Samples<'a> {
    fn new(left: u32, output: &'a mut File) -> Self {
        let mut frame = Vec::with_capacity(HEAD.len() + frame::BYTES_MAX + 16);
        frame.extend(HEAD);
        Self { left, frame, output }
    }

    /// Takes what was heard; false once there is too much of it.
    fn take(&mut self, heard: &[i16]) -> io::Result<bool> {
        let Some(left) =
            u32::try_from(heard.len()).ok().and_then(|count| self.left.checked_sub(count))
        else {
            self.left = 0;
            return Ok(false);
        };
        self.left = left;
        let mut heard = heard;
        while !heard.is_empty() {
            let room = (HEAD.len() + frame::BYTES_MAX - self.frame.len()) / SAMPLE_BYTES;
            if room == 0 {
                self.close_frame()?;
                self.output.write_all(&self.frame)?;
                self.frame.truncate(HEAD.len());
                continue;
            }
            let (fitting, rest) = heard.split_at(room.min(heard.len()));
            let at = self.frame.len();
            self.frame.resize(at + fitting.len() * SAMPLE_BYTES, 0);
            for (place, sample) in self.frame[at..].chunks_exact_mut(SAMPLE_BYTES).zip(fitting) {
                place.copy_from_slice(&sample.to_le_bytes());
            }
            heard = rest;
        }
        Ok(true)
    }

    fn close_frame(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.frame.len() - HEAD.len()).map_err(io::Error::other)?;
        self.frame[..HEAD.len()].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Writes what is left, the end of the message, and the outcome.
    fn end(mut self, outcome: Outcome) -> io::Result<()> {
        if self.frame.len() == HEAD.len() {
            self.frame.clear();
        } else {
            self.close_frame()?;
        }
        frame::end(&mut self.frame)?;
        frame::write(&mut self.frame, &[outcome.byte()])?;
        self.output.write_all(&self.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_outcomes_survive_the_way() {
        let limits = Limits { samples_max: 1, cpu_s_max: 2, wall_s_max: 3 };
        assert_eq!(Limits::parse(limits.arguments().into_iter()), Some(limits));
        for wrong in [&[][..], &["1", "2"], &["1", "2", "x"], &["1", "2", "3", "4"]] {
            assert_eq!(
                Limits::parse(wrong.iter().map(|text| (*text).to_owned())),
                None,
                "{wrong:?}"
            );
        }
        for outcome in [Outcome::Spoken, Outcome::TooLong, Outcome::Refused, Outcome::AskAgain] {
            assert_eq!(Outcome::from_byte(outcome.byte()), Some(outcome));
        }
        assert_eq!(Outcome::from_byte(0), None);
    }

    /// What `heard` becomes with so many samples allowed: the samples and the outcome.
    fn sent(samples_max: u32, heard: &[i16], outcome: Outcome) -> (Vec<u8>, u8, bool) {
        let mut file = tempfile::tempfile().unwrap();
        let mut samples = Samples::new(samples_max, &mut file);
        let took = samples.take(heard).unwrap();
        samples.end(outcome).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let frames = frame::message(&mut file, 1 << 24).unwrap().unwrap_or_default();
        let mut last = [0; 5];
        io::Read::read_exact(&mut file, &mut last).unwrap();
        assert_eq!(last[..4], 1_u32.to_le_bytes());
        (frames.concat(), last[4], took)
    }

    #[test]
    fn samples_arrive_whole_whatever_the_frames() {
        for count in [0_i16, 1, 32_767] {
            let heard: Vec<i16> = (0..count).chain(0..count).collect();
            let bytes: Vec<u8> = heard.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            assert_eq!(sent(100_000, &heard, Outcome::Spoken), (bytes, b's', true), "{count}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        assert_eq!(sent(9, &[1; 10], Outcome::TooLong), (Vec::new(), b'l', false));
    }
}
