//! Random numbers for choices that need no secrecy: shares, waits, cookies that lead back to a host.
//!
//! **Invariant:** a sequence that its seed decides, so that a simulation can be run again.

use std::cell::Cell;

/// A sequence of numbers that look random (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(Cell<u64>);

impl Dice {
    /// The sequence of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub(super) fn draw(&self) -> u64 {
        let next = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_is_spread() {
        let (one, same, other) = (Dice::new(1), Dice::new(1), Dice::new(2));
        let draw = |dice: &Dice| (0..4).map(|_| dice.draw()).collect::<Vec<_>>();
        let first = draw(&one);
        assert!(first == draw(&same) && first != draw(&other));
        let low = (0..10_000).filter(|_| one.draw() % 100 < 20).count();
        assert!((1_850..2_150).contains(&low), "{low}");
    }
}
