//! Numbers (RFC 7541, 5.1).
//!
//! **Invariant:** a number has 32 bits; its length is bounded whatever its sender pads it with.

use super::HpackError;

/// Reads a number of which the first byte has `prefix` bits. The number and how many bytes it took.
#[inline]
pub(super) fn read(src: &[u8], prefix: u32) -> Result<(u32, usize), HpackError> {
    let mask = (1u32 << prefix) - 1;
    let first = u32::from(*src.first().ok_or(HpackError::Truncated)?) & mask;
    if first < mask {
        return Ok((first, 1));
    }
    let mut value = u64::from(first);
    for (at, byte) in src[1..].iter().enumerate() {
        if at == TAIL_BYTES_MAX {
            return Err(HpackError::Integer);
        }
        value += u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((u32::try_from(value).map_err(|_| HpackError::Integer)?, at + 2));
        }
    }
    if src.len() > TAIL_BYTES_MAX { Err(HpackError::Integer) } else { Err(HpackError::Truncated) }
}

/// Writes a number behind the bits `pattern` of the first byte.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, value: usize, prefix: u32, pattern: u8) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(pattern | low(value));
        return;
    }
    out.push(pattern | low(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[expect(clippy::cast_possible_truncation, reason = "the low eight bits are what is wanted")]
const fn low(n: usize) -> u8 {
    n as u8
}

/// Bytes behind the first one, at most: five hold 32 bits.
const TAIL_BYTES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, C.1.
    #[test]
    fn the_examples_of_the_rfc() {
        for (value, prefix, wire) in [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a])] {
            assert_eq!(read(wire, prefix), Ok((value, wire.len())));
            let mut out = Vec::new();
            put(&mut out, value as usize, prefix, 0);
            assert_eq!(out, wire);
        }
    }

    #[test]
    fn every_number_comes_back_and_none_is_too_long() {
        for value in [0, 1, 30, 31, 32, 126, 127, 128, 254, 255, 256, 16_383, 16_384, 1 << 28, u32::MAX] {
            for prefix in 4..=8 {
                let mut out = Vec::new();
                put(&mut out, value as usize, prefix, 0);
                assert_eq!(read(&out, prefix), Ok((value, out.len())));
                for cut in 0..out.len() {
                    assert_eq!(read(&out[..cut], prefix), Err(HpackError::Truncated), "{value} {prefix} {cut}");
                }
            }
        }
        assert_eq!(read(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0], 7), Err(HpackError::Integer));
        assert_eq!(read(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], 7), Err(HpackError::Integer));
    }
}
