//! Draws from a seed, and bodies that tell whose they are.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A stream of numbers that depends on its seed alone (splitmix64).
#[derive(Debug)]
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x6a09_e667_f3bc_c908)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another stream, for a part of its own.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub fn between(&mut self, range: RangeInclusive<usize>) -> usize {
        let span = (range.end() - range.start()) as u64 + 1;
        range.start() + usize::try_from(self.next() % span).expect("less than a usize")
    }

    pub fn millis(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_millis(self.between(range) as u64)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        let draw = u32::try_from(self.next() >> 40).expect("24 bits are left");
        f64::from(draw) < probability * f64::from(1_u32 << 24)
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.between(0..=all.len() - 1)]
    }

    /// The length of a body: mostly short, now and then longer than every ring.
    pub fn body_len(&mut self) -> usize {
        match self.between(0..=19) {
            0 => 0,
            1 => self.between(60_000..=150_000),
            2..=5 => self.between(5_000..=40_000),
            _ => self.between(1..=3_000),
        }
    }
}

/// A body that belongs to `id` alone and repeats nowhere.
pub fn pattern(id: u64, len: usize) -> Vec<u8> {
    let mut draw = Draw::new(id);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&draw.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
