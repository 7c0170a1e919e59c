//! How slow a client may be with a body. A total limit would cut a long upload over a thin line; a
//! limit on silence alone lets one byte a minute hold a place for ever. So a client has some
//! patience, which its waiting uses up and each byte it moves gives back.

use std::time::Duration;

/// The least that a body has to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Least {
    /// On average; 0 asks for nothing.
    pub bytes_per_s: u64,
    /// The most patience, and what a body starts with.
    pub patience: Duration,
}

/// What is left for one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    least: Least,
    left: Duration,
}

impl Pace {
    /// At a body's start.
    pub fn new(least: Least) -> Self {
        Self { least, left: least.patience }
    }

    /// How much longer the client may be waited for from now on.
    pub fn left(&self) -> Duration {
        self.left
    }

    /// The client moved `bytes` after it had been waited for as long as `waited`.
    pub fn moved(&mut self, bytes: usize, waited: Duration) {
        let earned = match self.least.bytes_per_s {
            0 => self.least.patience,
            rate => Duration::from_millis((bytes as u64).saturating_mul(1000) / rate),
        };
        let left = self.left.saturating_sub(waited).saturating_add(earned);
        self.left = left.min(self.least.patience);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(bytes_per_s: u64) -> Pace {
        Pace::new(Least { bytes_per_s, patience: 120 * SECOND })
    }

    #[test]
    fn slow_and_steady_lives_for_hours() {
        let mut pace = pace(240);
        for _ in 0..3600 {
            assert!(pace.left() > 10 * SECOND);
            pace.moved(2400, 10 * SECOND);
        }
        assert_eq!(pace.left(), 120 * SECOND);
    }

    #[test]
    fn a_byte_now_and_then_buys_little() {
        let mut pace = pace(240);
        let mut lived = Duration::ZERO;
        while pace.left() > 10 * SECOND {
            pace.moved(1, 10 * SECOND);
            lived += 10 * SECOND;
        }
        assert!(lived <= 120 * SECOND, "{lived:?}");
    }

    #[test]
    fn bursts_may_pause() {
        let mut pace = pace(240);
        for _ in 0..100 {
            pace.moved(1 << 20, 100 * SECOND);
            assert_eq!(pace.left(), 120 * SECOND);
        }
    }

    #[test]
    fn without_a_rate_only_silence_counts() {
        let mut pace = pace(0);
        pace.moved(1, 119 * SECOND);
        assert_eq!(pace.left(), 120 * SECOND);
    }

    proptest! {
        #[test]
        fn nobody_is_slower_than_the_least_for_longer_than_the_patience(
            moves in prop::collection::vec((0_usize..5000, 0_u64..30_000), 1..200),
        ) {
            let mut pace = pace(240);
            let (mut bytes, mut waited_ms) = (0, 0);
            for (moved, wait_ms) in moves {
                if Duration::from_millis(wait_ms) > pace.left() {
                    break;
                }
                pace.moved(moved, Duration::from_millis(wait_ms));
                bytes += moved as u64;
                waited_ms += wait_ms;
                prop_assert!(pace.left() <= 120 * SECOND);
                prop_assert!(waited_ms <= 120_000 + bytes * 1000 / 240);
            }
        }
    }
}
