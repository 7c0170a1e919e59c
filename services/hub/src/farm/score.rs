//! Keeps rare boards free: a place that is asked for with few alternatives scores high, and of the free
//! candidates the most common is given away first.

use super::Chance;

/// How much a new sample counts.
const ALPHA: f64 = 0.25;

/// An exponential moving average; the first sample sets it.
#[derive(Debug, Default)]
pub struct Score(Option<f64>);

impl Score {
    /// 0.0 before the first sample.
    pub fn get(&self) -> f64 {
        self.0.unwrap_or(0.0)
    }

    /// Takes a sample in.
    pub fn update(&mut self, sample: f64) {
        self.0 = Some(self.0.map_or(sample, |old| (1.0 - ALPHA) * old + ALPHA * sample));
    }
}

/// The sample of a request: 0 when every registered place would do.
pub fn uniqueness(candidates: usize, registered: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of places are far below 2^52")]
    let share = candidates as f64 / registered as f64;
    1.0 - share
}

/// One of the free places whose score is at most `tolerance` above the lowest, each equally likely.
pub fn choose<T: Copy>(
    free: impl Iterator<Item = (T, f64)>,
    tolerance: f64,
    chance: &mut impl Chance,
) -> Option<T> {
    let mut common: Vec<(T, f64)> = free.collect();
    let lowest = common.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    common.retain(|(_, score)| score - lowest <= tolerance);
    if common.is_empty() {
        return None;
    }
    common.get(chance(common.len())).map(|(place, _)| *place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_sets_the_score_and_later_ones_count_a_quarter() {
        let mut score = Score::default();
        assert_eq!(score.get(), 0.0);
        score.update(0.5);
        assert_eq!(score.get(), 0.5);
        score.update(0.0);
        assert_eq!(score.get(), 0.375);
    }

    #[test]
    fn any_of_the_most_common_is_chosen_within_the_tolerance() {
        let free = [('a', 0.5), ('b', 0.505), ('c', 0.52)];
        for (draw, expected) in [(0, 'a'), (1, 'b')] {
            let chosen = choose(free.into_iter(), 0.01, &mut |count: usize| {
                assert_eq!(count, 2, "c is too unique");
                draw
            });
            assert_eq!(chosen, Some(expected));
        }
        assert_eq!(choose(std::iter::empty::<(char, f64)>(), 0.01, &mut |_: usize| 0), None);
    }
}
