//! A worker's own source of chance.
//!
//! **Invariant:** the same seed gives the same numbers; nothing secret depends on them.

use std::cell::Cell;

/// A generator of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Cell::new(mix(seed)))
    }

    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(GOLDEN);
        self.0.set(state);
        mix(state)
    }

    /// Below `bound`, each as likely; 0 when `bound` is 0.
    pub(super) fn below(&self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// From 0 to 1, without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    pub(super) fn fraction(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A number that looks nothing like `x`, always the same.
pub(super) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash of a text that every gateway computes alike, today and in the next version (FNV-1a, mixed).
pub(super) fn stable_hash(text: &[u8], seed: u64) -> u64 {
    let fnv = text.iter().fold(0xcbf2_9ce4_8422_2325 ^ seed, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    mix(fnv)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
