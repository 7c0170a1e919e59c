//! Answers that a client of HTTP/2 leaves unread. Its window closes one stream while the connection
//! lives, so the kernel's time limit does not end it; without another, a few connections that read
//! nothing could hold every request that the gateway admits.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;
use std::time::Instant;

/// The answers of one connection.
#[derive(Debug, Default)]
pub struct Unread(Mutex<Vec<Slot>>);

/// `Free`, or since when the client's connection could take more of an answer and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    /// The upstream is to send; the client has taken everything.
    Caught,
    Since(Instant),
}

impl Unread {
    /// True when an answer was left for longer than `limit`.
    pub fn stale(&self, limit: Duration) -> bool {
        let since = |slot: &Slot| matches!(slot, Slot::Since(since) if since.elapsed() > limit);
        self.slots().iter().any(since)
    }

    /// Begins to watch an answer.
    pub fn watch(self: &Arc<Self>) -> Watch {
        let begun = Slot::Since(Instant::now());
        let mut slots = self.slots();
        let free = slots.iter().position(|slot| *slot == Slot::Free);
        let index = free.unwrap_or(slots.len());
        match slots.get_mut(index) {
            Some(slot) => *slot = begun,
            None => slots.push(begun),
        }
        Watch { unread: Arc::clone(self), index }
    }

    /// Sections under this lock are short and never await. There are no more slots than streams.
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One answer that is watched until this is dropped.
#[derive(Debug)]
pub struct Watch {
    unread: Arc<Unread>,
    index: usize,
}

impl Watch {
    /// The client's connection was given a piece.
    pub fn given(&self) {
        self.set(Slot::Since(Instant::now()));
    }

    /// The client's connection wants more than there is.
    pub fn caught_up(&self) {
        self.set(Slot::Caught);
    }

    fn set(&self, slot: Slot) {
        self.unread.slots()[self.index] = slot;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.set(Slot::Free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_could_be_taken_grows_stale() {
        let unread = Arc::new(Unread::default());
        let now = Duration::ZERO;
        assert!(!unread.stale(now));
        let (one, two) = (unread.watch(), unread.watch());
        assert!(unread.stale(now) && !unread.stale(Duration::from_secs(60)));
        one.caught_up();
        two.caught_up();
        assert!(!unread.stale(now));
        one.given();
        assert!(unread.stale(now));
        drop(one);
        assert!(!unread.stale(now));
    }

    #[test]
    fn places_are_used_again() {
        let unread = Arc::new(Unread::default());
        for _ in 0..100 {
            let _watches: Vec<Watch> = (0..3).map(|_| unread.watch()).collect();
        }
        assert_eq!(unread.slots().len(), 3);
    }
}
