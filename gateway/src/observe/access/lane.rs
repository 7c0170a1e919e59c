//! Where one thread's lines wait to be written. Only the writer ever contends for its lock.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::Thread;

use prometheus::IntCounter;

/// Most bytes that wait in one lane: what one thread logs in some tenths of a second at full load.
/// When stdout does not take them in time, further lines are dropped.
pub const BYTES_MAX: usize = 1024 * 1024;

/// From here on the writer is woken early.
const WAKE_BYTES: usize = 128 * 1024;

/// A lane keeps a buffer of at most this size when it is empty.
const KEEP_BYTES: usize = 2 * WAKE_BYTES;

/// The lines of one thread that are not written yet.
#[derive(Debug)]
pub struct Lane {
    lines: Mutex<Vec<u8>>,
    dropped: IntCounter,
}

/// The writer's bed: whether it sleeps without an alarm, and who it is.
#[derive(Debug, Default)]
pub struct Bed {
    pub asleep: AtomicBool,
    pub writer: OnceLock<Thread>,
}

impl Bed {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

impl Lane {
    /// An empty one; `dropped` counts lines that find no room.
    pub fn new(dropped: IntCounter) -> Self {
        Self { lines: Mutex::default(), dropped }
    }

    /// Lets `write` append one line, with its end, unless there is no room.
    pub fn add(&self, bed: &Bed, write: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = self.lock();
        let before = lines.len();
        if before >= BYTES_MAX {
            drop(lines);
            self.dropped.inc();
            return;
        }
        write(&mut lines);
        let many = before < WAKE_BYTES && lines.len() >= WAKE_BYTES;
        drop(lines);
        // The writer looks at every lane between falling asleep and sleeping: it found this line,
        // or it is seen asleep here, as the lock orders the two.
        if many || bed.asleep.load(Ordering::SeqCst) && bed.asleep.swap(false, Ordering::SeqCst) {
            bed.wake();
        }
    }

    /// Takes all lines, in exchange for `spare`, which is empty afterwards or before.
    pub fn take(&self, spare: &mut Vec<u8>) {
        spare.clear();
        spare.shrink_to(KEEP_BYTES);
        std::mem::swap(&mut *self.lock(), spare);
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// A panic while a line was written left half a line; what follows it is still good.
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let (lane, bed) = (Lane::new(dropped.clone()), Bed::default());
        let line = [b'x'; 1024];
        for _ in 0..BYTES_MAX / line.len() + 3 {
            lane.add(&bed, |lines| lines.extend_from_slice(&line));
        }
        assert_eq!(dropped.get(), 3);
        let mut taken = Vec::new();
        lane.take(&mut taken);
        assert_eq!(taken.len(), BYTES_MAX);
        assert!(lane.is_empty());
        lane.take(&mut taken);
        assert!(taken.is_empty());
    }

    #[test]
    fn a_sleeping_writer_is_woken_by_one_line() {
        let (lane, bed) = (Lane::new(IntCounter::new("d", "d").unwrap()), Bed::default());
        bed.asleep.store(true, Ordering::SeqCst);
        lane.add(&bed, |lines| lines.push(b'\n'));
        assert!(!bed.asleep.load(Ordering::SeqCst));
    }
}
