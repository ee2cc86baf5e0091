//! How long the turns of a worker are: what becomes ready waits for one turn until it runs.
//!
//! **Invariant:** one writer; a reader may see the sum a moment before the count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::metrics::Counter;

/// A histogram of turn times.
#[derive(Debug, Default)]
pub struct Turns {
    buckets: [Counter; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Turns {
    /// Notes a turn.
    pub fn note(&self, turn: Duration) {
        let micros = u64::try_from(turn.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].inc();
        // One writer: no locked instruction.
        self.sum_micros.store(self.sum_micros.load(Ordering::Relaxed).wrapping_add(micros), Ordering::Relaxed);
    }

    /// The turns of several workers together: their number by upper bound in seconds (the last is infinite), and their sum in seconds.
    pub fn together<'t>(all: impl Iterator<Item = &'t Self> + Clone) -> (Vec<(f64, u64)>, f64) {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of a process's life are below 2^53")]
        let seconds = |micros: u64| micros as f64 / 1e6;
        let bounds = BOUNDS_MICROS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let counts = (0..=BOUNDS_MICROS.len()).map(|i| all.clone().map(|t| t.buckets[i].get()).sum());
        let sum = all.clone().map(|t| t.sum_micros.load(Ordering::Relaxed)).sum();
        (bounds.zip(counts).collect(), seconds(sum))
    }
}

/// The upper bounds of the buckets but the last, in microseconds.
const BOUNDS_MICROS: [u64; 11] = [30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_in_its_bucket() {
        let (a, b) = (Turns::default(), Turns::default());
        a.note(Duration::from_micros(30));
        a.note(Duration::from_micros(31));
        b.note(Duration::from_secs(100));
        let (buckets, sum) = Turns::together([&a, &b].into_iter());
        assert_eq!((buckets[0], buckets[1], buckets[11].1), ((0.00003, 1), (0.0001, 1), 1));
        assert_eq!(buckets.iter().map(|(_, n)| n).sum::<u64>(), 3);
        assert!((sum - 100.000_061).abs() < 1e-9);
    }
}
