//! Memory that all connections share: each has a little for itself, what is more comes from one pot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a connection may hold without asking, in bytes.
const FREE_BYTES: usize = 2 << 10;

/// The pot; a clone is another handle to the same one.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
}

impl Budget {
    /// A pot of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// A share that takes nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), taken: 0 }
    }
}

/// What one connection has taken; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: usize,
}

impl Share {
    /// Says that the connection now holds `bytes`; false when the pot has not enough, and nothing is taken.
    pub fn hold(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE_BYTES);
        let left = &self.budget.left;
        if wanted > self.taken {
            let more = wanted - self.taken;
            let taken = left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
            if taken.is_err() {
                return false;
            }
        } else {
            left.fetch_add(self.taken - wanted, Ordering::Relaxed);
        }
        self.taken = wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

/// Connections that may be there at a time; a clone is another handle to the same count.
#[derive(Debug, Clone)]
pub struct Slots(Arc<AtomicUsize>);

impl Slots {
    /// So many.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(count)))
    }

    /// One of them, if there is one.
    pub fn take(&self) -> Option<Slot> {
        let taken =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.ok().map(|_| Slot(self.clone()))
    }
}

/// One connection's; given back when dropped.
#[derive(Debug)]
pub struct Slot(Slots);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_slots_as_were_made() {
        let slots = Slots::new(1);
        let slot = slots.take();
        assert!(slot.is_some() && slots.take().is_none());
        drop(slot);
        assert!(slots.take().is_some());
    }

    #[test]
    fn what_one_holds_another_cannot_and_small_amounts_are_free() {
        let budget = Budget::new(1000);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.hold(FREE_BYTES + 600));
        assert!(!two.hold(FREE_BYTES + 600));
        assert!(two.hold(FREE_BYTES));
        assert!(one.hold(FREE_BYTES + 100), "less is always possible");
        assert!(two.hold(FREE_BYTES + 900));
        drop(two);
        assert!(one.hold(FREE_BYTES + 1000));
    }
}
