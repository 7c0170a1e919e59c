//! How much memory audio may take, over all requests: in the making, in the cache, on the wire.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// What is left to take, in bytes. A clone is another handle to the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Takes nothing yet.
    #[must_use]
    pub fn reserve(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    /// Makes it `bytes` in all, more or less than now. False, and no change, when not that much is left.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let left = &self.budget.0;
        if bytes <= self.bytes {
            left.fetch_add(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            let taken = left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
            if taken.is_err() {
                return false;
            }
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes in memory that the budget knows of.
pub struct Counted {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl Counted {
    /// `bytes`, which `reservation` was made for.
    #[must_use]
    pub fn new(bytes: Vec<u8>, reservation: Reservation) -> Self {
        Self { bytes, _reservation: reservation }
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.reserve(), budget.reserve());
        assert!(one.resize(60));
        assert!(!other.resize(41));
        assert!(other.resize(40));
        assert!(!one.resize(61));
        assert!(one.resize(10));
        assert!(other.resize(90));
    }

    #[test]
    fn what_is_dropped_comes_back_with_the_last_clone() {
        let budget = Budget::new(100);
        let mut reservation = budget.reserve();
        assert!(reservation.resize(100));
        let body = Bytes::from_owner(Counted::new(vec![0; 100], reservation));
        let clone = body.clone();
        drop(body);
        assert!(!budget.reserve().resize(1));
        drop(clone);
        assert!(budget.reserve().resize(100));
    }
}
