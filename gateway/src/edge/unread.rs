//! Answers that a client of HTTP/2 or HTTP/3 leaves unread, or reads so slowly that it is the same. Its
//! window closes one stream while the connection lives, so the kernel's time limit does not end it;
//! without another, a few connections that read nothing could hold every request that the gateway
//! admits.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Instant;

use futures_util::future::AbortHandle;

use crate::edge::streams;
use crate::rules::rate::Least;
use crate::rules::rate::Pace;

/// The answers of one connection.
#[derive(Debug)]
pub struct Unread {
    least: Least,
    slots: Mutex<Vec<Option<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    state: State,
    pace: Pace,
    /// Ends the stream alone.
    end: Option<AbortHandle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The upstream is to send; the client has taken everything.
    Caught,
    /// The client's connection was given these bytes then, and has not asked for more.
    Given(usize, Instant),
}

impl Unread {
    /// A connection whose client has to take `least` of each answer.
    pub fn new(least: Least) -> Self {
        Self { least, slots: Mutex::default() }
    }

    /// Ends every stream whose answer is left unread; true when one cannot be ended alone.
    pub fn end_stale(&self) -> bool {
        let mut beyond = false;
        for slot in self.slots().iter().flatten().filter(|slot| slot.is_stale()) {
            match &slot.end {
                Some(end) => end.abort(),
                None => beyond = true,
            }
        }
        beyond
    }

    /// Begins to watch an answer.
    pub fn watch(self: &Arc<Self>) -> Watch {
        let state = State::Given(0, Instant::now());
        let slot = Slot { state, pace: Pace::new(self.least), end: streams::current() };
        let mut slots = self.slots();
        let free = slots.iter().position(Option::is_none);
        let index = free.unwrap_or(slots.len());
        match slots.get_mut(index) {
            Some(place) => *place = Some(slot),
            None => slots.push(Some(slot)),
        }
        Watch { unread: Arc::clone(self), index }
    }

    /// Sections under this lock are short and never await. There are no more slots than streams.
    fn slots(&self) -> MutexGuard<'_, Vec<Option<Slot>>> {
        self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Slot {
    fn is_stale(&self) -> bool {
        matches!(self.state, State::Given(_, since) if since.elapsed() > self.pace.left())
    }

    /// The client's connection asked for more.
    fn taken(&mut self, now: Instant) {
        if let State::Given(bytes, since) = self.state {
            self.pace.moved(bytes, now.saturating_duration_since(since));
        }
    }
}

/// One answer that is watched until this is dropped.
#[derive(Debug)]
pub struct Watch {
    unread: Arc<Unread>,
    index: usize,
}

impl Watch {
    /// The client's connection asked for more and was given a piece.
    pub fn given(&self, bytes: usize) {
        let now = Instant::now();
        self.set(|slot| {
            slot.taken(now);
            slot.state = State::Given(bytes, now);
        });
    }

    /// The client's connection wants more than there is.
    pub fn caught_up(&self) {
        self.set(|slot| {
            if slot.state != State::Caught {
                slot.taken(Instant::now());
                slot.state = State::Caught;
            }
        });
    }

    fn set(&self, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = &mut self.unread.slots()[self.index] {
            change(slot);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.unread.slots()[self.index] = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn unread(patience: Duration) -> Arc<Unread> {
        Arc::new(Unread::new(Least { bytes_per_s: 0, patience }))
    }

    #[test]
    fn only_an_answer_that_could_be_taken_grows_stale() {
        let patient = unread(Duration::from_secs(60));
        let _watch = patient.watch();
        assert!(!patient.end_stale());
        let unread = unread(Duration::ZERO);
        assert!(!unread.end_stale());
        let (one, two) = (unread.watch(), unread.watch());
        assert!(unread.end_stale());
        one.caught_up();
        two.caught_up();
        assert!(!unread.end_stale());
        one.given(1);
        assert!(unread.end_stale());
        drop(one);
        assert!(!unread.end_stale());
    }

    #[test]
    fn places_are_used_again() {
        let unread = unread(Duration::ZERO);
        for _ in 0..100 {
            let _watches: Vec<Watch> = (0..3).map(|_| unread.watch()).collect();
        }
        assert_eq!(unread.slots().len(), 3);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stream_that_can_be_ended_alone_is() {
        use hyper::rt::Executor as _;

        let unread = unread(Duration::ZERO);
        let (send, begun) = tokio::sync::oneshot::channel();
        let (gone, mut dropped) = tokio::sync::mpsc::channel::<()>(1);
        let watched = Arc::clone(&unread);
        streams::Streams.execute(async move {
            let _watch = watched.watch();
            let _gone = gone;
            send.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        begun.await.unwrap();
        assert!(!unread.end_stale());
        assert_eq!(dropped.recv().await, None);
        assert_eq!(unread.slots().iter().flatten().count(), 0);
    }
}
