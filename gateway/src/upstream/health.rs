//! When a replica that gives errors is put out, and for how long: decided by its errors alone.
//!
//! After some errors in a row it is out for a second, and each time that it fails again for twice as
//! long, up to a bound. Back again it is on trial: its first error puts it out anew, until an answer
//! of it says otherwise. That it is the last one is not known here: who chooses then asks it all the
//! same.

/// Errors in a row that put a replica out, and the time in which they must have come.
const ERRORS_MAX: u32 = 3;
const WINDOW_MS: u64 = 30_000;

/// How long it is out: the first time, and at most.
const OUT_MS: u64 = 1_000;
const OUT_MS_MAX: u64 = 16_000;

/// After so long without being put out, the next time is a first time.
const FORGIVEN_MS: u64 = 60_000;

/// What is remembered of a replica's errors. Times are milliseconds of any clock.
#[derive(Debug, Default)]
pub struct Health {
    errors: u32,
    /// When the first of them came.
    since_ms: u64,
    /// Times in a row that it was put out.
    outs: u32,
    /// Until when it was put out last.
    out_until_ms: u64,
}

impl Health {
    /// It failed at `now_ms`. When that puts it out: until when.
    pub fn failed(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms < self.out_until_ms {
            // A request from before, or one that had no other choice.
            return None;
        }
        if self.errors == 0 || now_ms.saturating_sub(self.since_ms) > WINDOW_MS {
            (self.errors, self.since_ms) = (0, now_ms);
        }
        self.errors += 1;
        if self.errors < ERRORS_MAX {
            return None;
        }
        if now_ms.saturating_sub(self.out_until_ms) > FORGIVEN_MS {
            self.outs = 0;
        }
        let growing = OUT_MS << self.outs.min(OUT_MS_MAX.ilog2());
        self.outs += 1;
        self.out_until_ms = now_ms + growing.min(OUT_MS_MAX);
        // On trial once it is back.
        (self.errors, self.since_ms) = (ERRORS_MAX - 1, self.out_until_ms);
        Some(self.out_until_ms)
    }

    /// It answered.
    pub fn answered(&mut self) {
        self.errors = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_in_a_row_put_it_out_and_an_answer_between_does_not() {
        let mut health = Health::default();
        for _ in 0..10 {
            assert_eq!(health.failed(1), None);
            assert_eq!(health.failed(2), None);
            health.answered();
        }
        assert_eq!([1, 2, 3].map(|now| health.failed(now)), [None, None, Some(3 + OUT_MS)]);
    }

    #[test]
    fn errors_far_apart_are_none_in_a_row() {
        let mut health = Health::default();
        for nth in 0..10 {
            assert_eq!(health.failed(1 + nth * WINDOW_MS), None);
        }
    }

    #[test]
    fn each_time_is_longer_up_to_a_bound_and_the_past_is_forgiven() {
        let mut health = Health::default();
        let mut now = 1;
        let out = |health: &mut Health, now: &mut u64| -> u64 {
            loop {
                if let Some(until) = health.failed(*now) {
                    let out = until - *now;
                    *now = until;
                    return out;
                }
            }
        };
        let times: Vec<u64> = (0..7).map(|_| out(&mut health, &mut now)).collect();
        assert_eq!(times, [1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]);
        // On trial: one error is enough.
        assert!(health.failed(now).is_some());
        health.answered();
        now += 2 * FORGIVEN_MS;
        assert_eq!(out(&mut health, &mut now), OUT_MS);
    }

    proptest! {
        #[test]
        fn it_is_never_out_for_longer_than_the_bound(
            steps in prop::collection::vec((0u64..100_000, any::<bool>()), 0..200),
        ) {
            let mut health = Health::default();
            let mut now = 1;
            for (pause, well) in steps {
                now += pause;
                if well {
                    health.answered();
                } else if let Some(until) = health.failed(now) {
                    prop_assert!((OUT_MS..=OUT_MS_MAX).contains(&(until - now)));
                }
            }
        }
    }
}
