//! Times in buckets, with one writer each, as [`Counter`]s are.
//!
//! **Invariant:** noting a time is one look at its leading zeros and two counters of memory that no other core writes.

use std::time::Duration;

use super::metrics::Counter;

/// How often times fell into which bucket. Not cumulative.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    nanos: Counter,
}

/// The sum of several histograms, as Prometheus wants it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Upper bound of each bucket in seconds, and the times within; the last has no bound.
    pub buckets: Vec<(f64, u64)>,
    /// Times.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Notes a time.
    pub fn note(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].inc();
        self.nanos.add(nanos);
    }
}

impl Distribution {
    /// Adds histograms up.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a sum of times needs no more than 53 bits to be useful")]
    pub fn of<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Self {
        let (mut counts, mut nanos) = ([0u64; BUCKETS], 0u64);
        for histogram in histograms {
            for (count, bucket) in counts.iter_mut().zip(&histogram.buckets) {
                *count += bucket.get();
            }
            nanos = nanos.wrapping_add(histogram.nanos.get());
        }
        let bound = |n: usize| if n + 1 == BUCKETS { f64::INFINITY } else { (FIRST_NANOS << n) as f64 / 1e9 };
        Self {
            buckets: counts.iter().enumerate().map(|(n, count)| (bound(n), *count)).collect(),
            count: counts.iter().sum(),
            sum: nanos as f64 / 1e9,
        }
    }
}

/// The bucket whose bound is the first that a time does not exceed.
fn bucket_of(nanos: u64) -> usize {
    let above = nanos.saturating_sub(1) / FIRST_NANOS;
    let bits = u64::BITS - above.leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

/// The bound of the first bucket: each further one is twice as wide.
const FIRST_NANOS: u64 = 250_000;

/// 250 µs to 16 s, and what is beyond.
const BUCKETS: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_that_holds_them() {
        for (nanos, bucket) in [(0, 0), (1, 0), (250_000, 0), (250_001, 1), (500_000, 1), (500_001, 2), (1_000_000, 2)]
        {
            assert_eq!(bucket_of(nanos), bucket, "{nanos}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(FIRST_NANOS << (BUCKETS - 2)), BUCKETS - 2);
        let (one, two) = (Histogram::default(), Histogram::default());
        one.note(Duration::from_micros(300));
        two.note(Duration::from_micros(400));
        two.note(Duration::from_secs(60));
        let sum = Distribution::of([&one, &two].into_iter());
        assert_eq!((sum.count, sum.buckets[1], sum.buckets[BUCKETS - 1].1), (3, (0.0005, 2), 1));
        assert!((sum.sum - 60.0007).abs() < 1e-9, "{}", sum.sum);
        assert!(sum.buckets.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
