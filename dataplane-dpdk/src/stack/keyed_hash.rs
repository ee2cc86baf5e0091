//! The hash of tables whose keys peers choose: multilinear, over words of 32 bits.
//!
//! The sum of each word times a random number of its own, of which the upper half counts, is strongly universal (Lemire and Kaser, "Strongly
//! universal string hashing is fast", 2014): whichever keys of one length somebody chooses without knowing the numbers, two of them meet in 32
//! bits no more often than once in 2^32. That is all that a table asks for, at a fraction of what SipHash costs for so short a key. Nothing of
//! it is ever shown to a peer: what peers see is made by SipHash ([`isn`](super::isn), [`syn_cookie`](super::syn_cookie)).
//!
//! **Invariant:** the numbers are drawn at random for each table, and a table's keys are all of one length, [`WORDS_MAX`] at most.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes the hashers of one table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    /// One in front of the words, and one for each.
    numbers: [u64; WORDS_MAX + 1],
}

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self { numbers: std::array::from_fn(|n| random.hash_one(n)) }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Multilinear;

    fn build_hasher(&self) -> Multilinear {
        Multilinear { numbers: self.numbers, sum: self.numbers[0], words: 0 }
    }
}

/// The sum so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Multilinear {
    numbers: [u64; WORDS_MAX + 1],
    sum: u64,
    words: usize,
}

impl Hasher for Multilinear {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(4) {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            self.write_u32(u32::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u32(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.words += 1;
        let number = self.numbers[self.words];
        self.sum = self.sum.wrapping_add(number.wrapping_mul(word.into()));
    }

    fn write_u64(&mut self, words: u64) {
        let [a, b, c, d, e, f, g, h] = words.to_le_bytes();
        self.write_u32(u32::from_le_bytes([a, b, c, d]));
        self.write_u32(u32::from_le_bytes([e, f, g, h]));
    }

    fn write_u128(&mut self, words: u128) {
        for part in words.to_le_bytes().chunks_exact(4) {
            self.write(part);
        }
    }

    /// The table takes its place from the lower bits and a tag from the upper ones: both get the same half.
    fn finish(&self) -> u64 {
        let upper = self.sum >> 32;
        upper << 32 | upper
    }
}

/// Words of a key, at most: two addresses of IPv6 and two ports.
const WORDS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_counts_and_so_does_its_place() {
        let keyed = Keyed::default();
        let hash = |words: [u32; 3]| {
            let mut hasher = keyed.build_hasher();
            hasher.write_u64(u64::from(words[1]) << 32 | u64::from(words[0]));
            hasher.write_u32(words[2]);
            hasher.finish()
        };
        let mut all: Vec<_> = [[1, 2, 3], [2, 1, 3], [1, 3, 2], [0, 2, 3], [1, 2, 0], [3, 2, 1]].map(hash).into();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
        assert_ne!(Keyed::default().numbers, keyed.numbers);
    }

    #[test]
    fn keys_that_follow_one_another_are_spread_as_by_chance() {
        let keyed = Keyed::default();
        let mut places = vec![0_u32; 4096];
        for port in 0..40_960_u32 {
            let mut hasher = keyed.build_hasher();
            hasher.write_u64(0x0a00_0001_0a00_0002);
            hasher.write_u32(port << 16 | 80);
            places[usize::try_from(hasher.finish() % 4096).expect("a place")] += 1;
        }
        assert!(places.iter().all(|&n| n < 60), "ten on average, and {:?} at most", places.iter().max());
    }
}
