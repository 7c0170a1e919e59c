//! Lines of the log that others can cause as often as they like. Each is written at once, by the
//! thread that has something to say, so who keeps asking a broken service must not fill the log.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Least time between two lines.
const PAUSE_MS: u64 = 1000;

/// Lines of one kind.
#[derive(Debug, Default)]
pub struct Seldom {
    /// When the next may be written; 0 before the first.
    next_ms: AtomicU64,
    left_out: AtomicU64,
}

impl Seldom {
    /// Whether a line may be written at `now_ms` of any clock; if so, how many were left out before
    /// it.
    pub fn due(&self, now_ms: u64) -> Option<u64> {
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let ours = now_ms >= next_ms
            && self
                .next_ms
                .compare_exchange(next_ms, now_ms + PAUSE_MS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if ours {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_says_how_many_there_were_between() {
        let seldom = Seldom::default();
        let due = [1, 2, 1000, 1001, 1500, 5000].map(|now| seldom.due(now));
        assert_eq!(due, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
