//! A share of requests, drawn for each.
//!
//! **Invariant:** 0 of a hundred is none and 100 is all; what lies between is drawn from one sequence for all workers.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many of a hundred.
#[derive(Debug)]
pub(super) struct Share {
    percent: u8,
    drawn: AtomicU64,
}

impl Share {
    /// `percent` of a hundred.
    pub(super) fn new(percent: u8) -> Self {
        Self { percent, drawn: AtomicU64::new(0) }
    }

    /// Whether the next one is among them.
    pub(super) fn draw(&self) -> bool {
        match self.percent {
            0 => false,
            100.. => true,
            percent => mixed(self.drawn.fetch_add(1, Ordering::Relaxed)) % 100 < u64::from(percent),
        }
    }
}

/// The `n`th number of a sequence that looks random (SplitMix64): even over any run, and without a rhythm that requests could share.
fn mixed(n: u64) -> u64 {
    let x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_as_large_as_it_says() {
        for percent in [0, 1, 30, 99, 100] {
            let share = Share::new(percent);
            let drawn = (0..100_000).filter(|_| share.draw()).count();
            let expected = usize::from(percent) * 1000;
            assert!(drawn.abs_diff(expected) <= if matches!(percent, 0 | 100) { 0 } else { 600 }, "{percent}: {drawn}");
            // Nor do requests that come in turns of ten get another share than the others.
            let every_tenth = (0..100_000).filter(|n| share.draw() && n % 10 == 3).count();
            assert!(every_tenth.abs_diff(expected / 10) <= 200, "{percent}: {every_tenth}");
        }
    }
}
