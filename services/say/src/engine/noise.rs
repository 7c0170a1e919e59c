//! The noise in breath and whisper.
//!
//! espeak-ng 1.52 has a generator that answers `r % range - min` where `min + r % range` is meant:
//! the noise is then never negative, which shifts and colours every whisper; and its seed is the
//! time. This one is even, and has the same seed in every process, so that the same words make the
//! same bytes.

use std::ffi::c_long;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Any seed but 0 will do: xorshift stays at 0.
static STATE: AtomicU32 = AtomicU32::new(0x2545_F491);

/// Marsaglia's xorshift, <https://doi.org/10.18637/jss.v008.i14>: all 2³² − 1 values but 0.
fn draw() -> u32 {
    let mut state = STATE.load(Ordering::Relaxed);
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    STATE.store(state, Ordering::Relaxed);
    state
}

/// A number from `min` to `max`, both included.
fn between(min: i32, max: i32, drawn: u32) -> i32 {
    let range = u64::from(max.abs_diff(min)) + 1;
    let above = (u64::from(drawn) * range) >> 32;
    i32::try_from(i64::from(min) + i64::try_from(above).unwrap_or(0)).unwrap_or(max)
}

/// What the engine calls for each sample of noise.
#[unsafe(no_mangle)]
extern "C" fn espeak_rand(min: c_long, max: c_long) -> c_long {
    match (i32::try_from(min), i32::try_from(max)) {
        (Ok(min), Ok(max)) if min <= max => between(min, max, draw()).into(),
        _ => min,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_range_are_drawn() {
        assert_eq!(between(-0x2000, 0x1fff, 0), -0x2000);
        assert_eq!(between(-0x2000, 0x1fff, u32::MAX), 0x1fff);
        assert_eq!(between(i32::MIN, i32::MAX, 0), i32::MIN);
        assert_eq!(between(i32::MIN, i32::MAX, u32::MAX), i32::MAX);
        assert_eq!(between(7, 7, 123_456), 7);
        assert_eq!(espeak_rand(5, 4), 5, "an empty range answers its start");
    }

    #[test]
    fn the_noise_has_no_bias() {
        let count = 100_000;
        let sum: i64 = (0..count).map(|_| espeak_rand(-0x2000, 0x1fff)).sum();
        // The mean of n even draws has deviation 0x4000 / √(12 n): 15 here; five of them.
        let mean = sum as f64 / f64::from(count);
        assert!((-75.0..75.0).contains(&mean), "{mean}");
    }
}
