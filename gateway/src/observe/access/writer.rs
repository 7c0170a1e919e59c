//! Writes the lanes to stdout.

use std::fs::File;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use crate::observe::access::lane::Bed;
use crate::observe::access::lane::Lane;
use crate::observe::access::line::Form;

/// How long a line waits at most while stdout takes what it is given.
const PAUSE: Duration = Duration::from_millis(100);

/// Rounds with nothing to write after which the writer sleeps until somebody wakes it.
const QUIET_ROUNDS: u32 = 10;

/// How long the end of the process waits for stdout.
const FAREWELL: Duration = Duration::from_secs(1);

/// The access log: a lane for each thread that serves, and a writer.
pub struct AccessLog {
    pub lanes: Vec<Arc<Lane>>,
    pub form: Form,
    bed: Arc<Bed>,
    dropped: IntCounter,
    closing: Arc<AtomicBool>,
}

/// A writer at work.
pub struct Writing {
    bed: Arc<Bed>,
    closing: Arc<AtomicBool>,
    done: mpsc::Receiver<()>,
}

impl AccessLog {
    /// A log for `threads` threads; lines wait until [`Self::start`].
    pub fn new(threads: usize, dropped: &IntCounter) -> Self {
        let form = if io::stdout().is_terminal() { Form::Text } else { Form::Json };
        Self {
            lanes: (0..threads).map(|_| Arc::new(Lane::new(dropped.clone()))).collect(),
            form,
            bed: Arc::default(),
            dropped: dropped.clone(),
            closing: Arc::default(),
        }
    }

    /// Appends one line of the thread with that number.
    pub fn add(&self, thread: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.lanes[thread % self.lanes.len()].add(&self.bed, write);
    }

    /// Starts to write, to stdout.
    ///
    /// # Errors
    ///
    /// When there is no stdout, or no thread to be had.
    pub fn start(&self) -> io::Result<Writing> {
        // Past the buffer and the lock of Rust's own stdout, which nobody uses once we are ready.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        self.write_to(stdout)
    }

    fn write_to(&self, out: impl Write + Send + 'static) -> io::Result<Writing> {
        let (sender, done) = mpsc::channel();
        let (bed, closing) = (Arc::clone(&self.bed), Arc::clone(&self.closing));
        let (lanes, dropped) = (self.lanes.clone(), self.dropped.clone());
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let mut writer = Writer { out, torn: false, told: false, dropped };
            run(&mut writer, &lanes, &bed, &closing);
            drop(sender);
        })?;
        // Nobody else sets it.
        let _: Result<(), thread::Thread> = self.bed.writer.set(thread.thread().clone());
        Ok(Writing { bed: Arc::clone(&self.bed), closing: Arc::clone(&self.closing), done })
    }
}

impl Writing {
    /// Writes what is left, and waits a bounded time for that.
    pub fn finish(self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(writer) = self.bed.writer.get() {
            writer.unpark();
        }
        if self.done.recv_timeout(FAREWELL) == Err(mpsc::RecvTimeoutError::Timeout) {
            log::warn!("stdout does not take the last lines of the access log");
        }
    }
}

fn run(writer: &mut Writer<impl Write>, lanes: &[Arc<Lane>], bed: &Bed, closing: &AtomicBool) {
    let mut spare = Vec::new();
    let mut quiet = 0;
    loop {
        // Asked before the lanes are emptied: whoever closes has added all lines.
        let last = closing.load(Ordering::SeqCst);
        let mut wrote = false;
        for lane in lanes {
            lane.take(&mut spare);
            wrote |= !spare.is_empty();
            writer.write(&spare);
        }
        if last {
            return;
        }
        quiet = if wrote { 0 } else { quiet + 1 };
        if quiet < QUIET_ROUNDS {
            thread::park_timeout(PAUSE);
            continue;
        }
        bed.asleep.store(true, Ordering::SeqCst);
        if lanes.iter().all(|lane| lane.is_empty()) && !closing.load(Ordering::SeqCst) {
            // A wake-up that comes before this is kept and ends it at once.
            thread::park();
        }
        bed.asleep.store(false, Ordering::SeqCst);
        quiet = 0;
        if !closing.load(Ordering::SeqCst) {
            // The first line after a silence waits for its fellows.
            thread::park_timeout(PAUSE);
        }
    }
}

struct Writer<W> {
    out: W,
    /// The last thing written was part of a line.
    torn: bool,
    /// It was said that writing fails.
    told: bool,
    dropped: IntCounter,
}

impl<W: Write> Writer<W> {
    /// Writes whole lines; those that fail are dropped and counted.
    fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.torn && self.put(b"\n").is_ok() {
            self.torn = false;
        }
        match self.put(lines) {
            Ok(()) => self.told = false,
            Err((written, error)) => {
                let lost = lines[written..].iter().filter(|byte| **byte == b'\n').count();
                self.dropped.inc_by(lost as u64);
                self.torn |= written > 0 && lines[written - 1] != b'\n';
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!("the access log cannot be written to stdout: {error}");
                }
            }
        }
    }

    /// Writes all of it, or says how much.
    fn put(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.write(&bytes[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody made our stdout non-blocking; the lanes bound what waits meanwhile.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(PAUSE / 10);
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // In small pieces, as pipes do.
            let some = &bytes[..bytes.len().min(7)];
            self.0.lock().unwrap().write(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_is_lost_between_many_threads_and_the_end() {
        let (log, sink) = (Arc::new(AccessLog::new(4, &counter())), Sink::default());
        let writing = log.write_to(sink.clone()).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    for line in 0..1000 {
                        log.add(thread, |lines| writeln!(lines, "{thread} {line}").unwrap());
                        if line % 200 == 0 {
                            // Some rounds find nothing.
                            thread::park_timeout(Duration::from_millis(3));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        writing.finish();
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        for thread in 0..4 {
            let mine = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(mine.map(|n| n.parse::<i32>().unwrap()).eq(0..1000), "{thread}");
        }
    }

    #[test]
    fn a_line_after_a_long_silence_is_written() {
        let (log, sink) = (AccessLog::new(1, &counter()), Sink::default());
        let writing = log.write_to(sink.clone()).unwrap();
        // Until the writer sleeps for good.
        while !log.bed.asleep.load(Ordering::SeqCst) {
            thread::park_timeout(PAUSE);
        }
        log.add(0, |lines| lines.extend_from_slice(b"late\n"));
        while sink.0.lock().unwrap().is_empty() {
            thread::park_timeout(PAUSE / 10);
        }
        writing.finish();
        assert_eq!(*sink.0.lock().unwrap(), b"late\n");
    }

    /// Takes `room` bytes, then fails until it has room again.
    struct Full {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_lines_but_never_joins_two() {
        let full = Full { room: 6, taken: Vec::new() };
        let dropped = counter();
        let mut writer = Writer { out: full, torn: false, told: false, dropped: dropped.clone() };
        writer.write(b"one\ntwo\nthree\n");
        assert_eq!(dropped.get(), 2);
        writer.write(b"four\n");
        assert_eq!(dropped.get(), 3);
        writer.out.room = 100;
        writer.write(b"five\n");
        assert_eq!(writer.out.taken, b"one\ntw\nfive\n");
    }
}
