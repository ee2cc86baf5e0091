//! Medians, spreads, and intervals of ratios between paired rounds.
//!
//! Everything here is free of assumptions about how the noise is distributed: a neighbour on the machine makes outliers, not a bell curve.
//!
//! **Invariant:** never gives a median without the values that it stands between.

use serde::{Deserialize, Serialize};

/// A median with its spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many values.
    pub count: usize,
    /// The middle one.
    pub median: f64,
    /// A quarter of the values is below.
    pub low: f64,
    /// A quarter of the values is above.
    pub high: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these values, in any order. None when there are none, or one is no number.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values)?;
        Some(Self {
            count: sorted.len(),
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        })
    }

    /// Whether the spread is too wide for the median to be a figure: the middle half is wider than [`NOISY_SPREAD`] of it. With less than
    /// [`ROUNDS_MIN`] values there is no telling.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        self.count < ROUNDS_MIN || self.high - self.low > NOISY_SPREAD * self.median.abs()
    }
}

/// A median with an interval that holds the true median.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// How many values.
    pub count: usize,
    /// The middle one.
    pub median: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How likely the interval holds the true median, 0 to 1.
    pub confidence: f64,
}

impl Interval {
    /// The narrowest pair of order statistics that holds the median of what these values are drawn from with at least this confidence. With
    /// too few values for it the least and the greatest, and the confidence that they give.
    #[must_use]
    pub fn of(values: &[f64], confidence: f64) -> Option<Self> {
        let sorted = sorted(values)?;
        let n = sorted.len();
        // From the outside inwards for as long as the confidence lasts: the ends are the values with `cut` others outside of each.
        let mut cut = 0;
        while 2 * (cut + 1) < n && coverage(n, cut + 1) >= confidence {
            cut += 1;
        }
        Some(Self {
            count: n,
            median: quantile(&sorted, 0.5),
            low: sorted[cut],
            high: sorted[n - 1 - cut],
            confidence: coverage(n, cut),
        })
    }

    /// Of the ratios `a[i] / b[i]` of values that were taken in the same round.
    #[must_use]
    pub fn of_ratios(a: &[f64], b: &[f64], confidence: f64) -> Option<Self> {
        let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
        Self::of(&ratios, confidence)
    }

    /// Of the ratio of two medians whose values were not taken in pairs, by resampling each side by itself.
    #[must_use]
    pub fn of_unpaired(a: &[f64], b: &[f64], confidence: f64) -> Option<Self> {
        let (sorted_a, sorted_b) = (sorted(a)?, sorted(b)?);
        let mut random = SplitMix(RESAMPLING_SEED);
        let mut draw = |from: &[f64]| {
            let drawn: Vec<f64> = (0..from.len()).map(|_| from[random.below(from.len())]).collect();
            sorted(&drawn).map_or(f64::NAN, |s| quantile(&s, 0.5))
        };
        let ratios: Vec<f64> = (0..RESAMPLES).map(|_| draw(&sorted_a) / draw(&sorted_b)).collect();
        let ratios = sorted(&ratios)?;
        let tail = (1.0 - confidence) / 2.0;
        Some(Self {
            count: a.len().min(b.len()),
            median: quantile(&sorted_a, 0.5) / quantile(&sorted_b, 0.5),
            low: quantile(&ratios, tail),
            high: quantile(&ratios, 1.0 - tail),
            confidence,
        })
    }

    /// How wide the interval is, as a part of the median.
    #[must_use]
    pub fn width(&self) -> f64 {
        (self.high - self.low) / self.median.abs()
    }

    /// Whether the ratio can't be relied upon: a second run might well differ by a tenth.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        // Fewer than six rounds can't be 95 % sure of anything: they have to lie closer together for as good a promise.
        let bound = if self.confidence < CONFIDENCE { NOISY_INTERVAL / 2.0 } else { NOISY_INTERVAL };
        self.count < ROUNDS_MIN || self.width().is_nan() || self.width() > bound
    }
}

/// A row whose middle half is wider than this part of its median is noisy.
pub const NOISY_SPREAD: f64 = 0.10;

/// A ratio whose interval is wider than this part of its median is noisy; than half of it, where there are too few rounds for 95 %.
pub const NOISY_INTERVAL: f64 = 0.10;

/// With fewer rounds everything is noisy: a spread of two values is none.
pub const ROUNDS_MIN: usize = 3;

/// How sure a printed interval is, where there are rounds enough for it.
pub const CONFIDENCE: f64 = 0.95;

/// The value below which `part` of the sorted values lie, between two values by straight line.
///
/// # Panics
/// When there are no values.
#[must_use]
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of rounds are small")]
    let at = part * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the last index")]
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * at.fract()
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || !values.iter().all(|v| v.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}

/// How likely the median lies between the values that have `cut` others outside of each: it does unless more than n-cut-1 of n values
/// fell on one side of it, which is a matter of n fair coins.
fn coverage(n: usize, cut: usize) -> f64 {
    let mut term = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut tail = 0.0;
    for k in 0..=cut {
        tail += term;
        #[expect(clippy::cast_precision_loss, reason = "counts of rounds are small")]
        let step = (n - k) as f64 / (k + 1) as f64;
        term *= step;
    }
    (1.0 - 2.0 * tail).max(0.0)
}

/// A small generator: resampling needs no more, and the same input gives the same output.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap_or(0)
    }
}

const RESAMPLES: usize = 2000;
const RESAMPLING_SEED: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_median_and_quartiles() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0]).unwrap();
        assert_eq!((spread.min, spread.low, spread.median, spread.high, spread.max), (1.0, 2.0, 3.0, 4.0, 5.0));
        assert_eq!(Spread::of(&[2.0, 4.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn a_wide_spread_is_noisy() {
        assert!(!Spread::of(&[98.0, 99.0, 100.0, 101.0, 102.0]).unwrap().is_noisy());
        assert!(Spread::of(&[80.0, 90.0, 100.0, 110.0, 120.0]).unwrap().is_noisy());
        // One outlier does not make noise of six good rounds.
        assert!(!Spread::of(&[99.0, 100.0, 100.0, 101.0, 101.0, 99.0, 300.0]).unwrap().is_noisy());
    }

    #[test]
    fn coverages_are_those_of_the_tables() {
        for (n, cut, wanted) in
            [(5, 0, 0.9375), (6, 0, 0.96875), (7, 0, 0.984375), (9, 1, 0.9609375), (15, 3, 0.96484375)]
        {
            assert!((coverage(n, cut) - wanted).abs() < 1e-12, "{n} {cut}: {}", coverage(n, cut));
        }
    }

    #[test]
    fn intervals_cut_what_the_confidence_allows() {
        let seven = [7.0, 1.0, 2.0, 6.0, 3.0, 5.0, 4.0];
        let interval = Interval::of(&seven, 0.95).unwrap();
        assert_eq!((interval.low, interval.median, interval.high), (1.0, 4.0, 7.0));
        let fifteen: Vec<f64> = (1..=15).map(f64::from).collect();
        let interval = Interval::of(&fifteen, 0.95).unwrap();
        assert_eq!((interval.low, interval.median, interval.high), (4.0, 8.0, 12.0));
        // Too few: what there is, and how little that says.
        let interval = Interval::of(&[1.0, 2.0, 3.0], 0.95).unwrap();
        assert_eq!((interval.low, interval.high, interval.confidence), (1.0, 3.0, 0.75));
        let one = Interval::of(&[1.0], 0.95).unwrap();
        assert_eq!((one.low, one.high, one.confidence), (1.0, 1.0, 0.0));
    }

    #[test]
    fn pairing_takes_out_what_both_sides_share() {
        let drift = [1.0, 1.5, 0.7, 2.0, 1.2, 0.9, 1.1];
        let a: Vec<f64> = drift.iter().map(|d| 105.0 * d).collect();
        let b: Vec<f64> = drift.iter().map(|d| 100.0 * d).collect();
        let paired = Interval::of_ratios(&a, &b, CONFIDENCE).unwrap();
        assert!((paired.median - 1.05).abs() < 1e-9 && paired.width() < 1e-9, "{paired:?}");
        assert!(!paired.is_noisy());
        assert!(Interval::of_ratios(&a[..2], &b[..2], CONFIDENCE).unwrap().is_noisy());
        let unpaired = Interval::of_unpaired(&a, &b, CONFIDENCE).unwrap();
        assert!(unpaired.is_noisy() && unpaired.low < 1.0 && unpaired.high > 1.1, "{unpaired:?}");
    }

    #[test]
    fn few_rounds_have_to_lie_closer_together() {
        let noisy = |ratios: &[f64]| Interval::of(ratios, CONFIDENCE).unwrap().is_noisy();
        assert!(!noisy(&[0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.04]));
        assert!(noisy(&[0.97, 0.99, 1.01, 1.04]) && !noisy(&[0.98, 0.99, 1.01, 1.02]));
    }

    #[test]
    fn intervals_hold_the_median_as_often_as_they_say() {
        let mut random = SplitMix(42);
        let (mut held, trials) = (0, 2000);
        for _ in 0..trials {
            let values: Vec<f64> = (0..9).map(|_| f64::from(u32::try_from(random.below(1_000_001)).unwrap())).collect();
            let interval = Interval::of(&values, 0.95).unwrap();
            held += i32::from(interval.low <= 500_000.0 && 500_000.0 <= interval.high);
        }
        assert!(held > trials * 94 / 100, "{held} of {trials}");
    }
}
