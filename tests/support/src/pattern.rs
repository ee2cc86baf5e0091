//! Long bodies whose every byte is known, made and checked at the speed of memory.

use std::sync::OnceLock;

/// Fills `out` with the bytes of the pattern from `offset` on.
pub fn fill(offset: u64, out: &mut [u8]) {
    let block = block();
    let mut at = place(offset);
    let mut done = 0;
    while done < out.len() {
        let n = (out.len() - done).min(block.len() - at);
        out[done..done + n].copy_from_slice(&block[at..at + n]);
        done += n;
        at = 0;
    }
}

/// Whether `bytes` are those of the pattern from `offset` on.
#[must_use]
pub fn matches(offset: u64, bytes: &[u8]) -> bool {
    let block = block();
    let mut at = place(offset);
    let mut done = 0;
    while done < bytes.len() {
        let n = (bytes.len() - done).min(block.len() - at);
        if bytes[done..done + n] != block[at..at + n] {
            return false;
        }
        done += n;
        at = 0;
    }
    true
}

/// The first `len` bytes of the pattern.
#[must_use]
pub fn bytes(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    fill(0, &mut out);
    out
}

fn place(offset: u64) -> usize {
    usize::try_from(offset % BLOCK_BYTES as u64).expect("less than a block")
}

/// The repeated part. Its length is a prime, so that a loss or a repetition of any buffer's size shows.
fn block() -> &'static [u8] {
    static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..BLOCK_BYTES).map(next).collect()
    })
}

const BLOCK_BYTES: usize = 65_521;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_recognised_and_any_shift_is_not() {
        let whole = bytes(200_000);
        for (from, to) in [(0, 10), (65_520, 65_523), (1, 199_999), (131_042, 131_042)] {
            assert!(matches(from as u64, &whole[from..to]));
            assert!(from == to || !matches(from as u64 + 1, &whole[from..to]));
        }
    }
}
