//! How much memory audio may take, over all requests: in the making, in the cache, on the wire.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// A reservation up to this is small, in bytes: ten seconds of audio and its compressed form.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// One part in so many is for small reservations only, so that a few clients who ask for hours and
/// read slowly do not take away everybody's words.
const SMALL_SHARE: usize = 8;

/// What is left to take, in bytes. A clone is another handle to the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    left: Arc<AtomicUsize>,
    for_small: usize,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)), for_small: bytes / SMALL_SHARE }
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
        let left = &self.budget.left;
        if bytes <= self.bytes {
            left.fetch_add(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            let kept = if bytes > SMALL_BYTES_MAX { self.budget.for_small } else { 0 };
            let take = |left: usize| left.checked_sub(more).filter(|left| *left >= kept);
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return false;
            }
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
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
    fn the_large_leave_a_part_to_the_small() {
        let budget = Budget::new(16 << 20);
        let (mut large, mut small) = (budget.reserve(), budget.reserve());
        assert!(!large.resize((14 << 20) + 1));
        assert!(large.resize(14 << 20));
        assert!(small.resize(1 << 20));
        assert!(!small.resize((1 << 20) + 1));
        assert!(budget.reserve().resize(1 << 20));
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
