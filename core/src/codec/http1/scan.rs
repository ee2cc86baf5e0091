//! The byte classes of HTTP/1, and where a run of them ends.
//!
//! The scans look at eight bytes at a time. A word that holds a candidate is settled by the table, so that the word's test may name too
//! many bytes but never too few.
//!
//! **Invariant:** a scan returns the first byte that is not of its class, or the end; it never skips one.

use crate::message::is_token_byte;

/// The first byte from `at` on that is no token byte (RFC 9110, 5.6.2), or the end.
#[inline]
pub(in crate::codec) fn token_end(src: &[u8], at: usize) -> usize {
    run_end(src, at, |word| !(letters(word) | exactly(word, b'-')) & HIGH, TOKEN)
}

/// The first byte from `at` on that may not stand in a request target, or the end: all but visible ASCII, and `#`.
#[inline]
pub(in crate::codec) fn target_end(src: &[u8], at: usize) -> usize {
    run_end(src, at, |word| below(word, 0x21) | equal(word, b'#') | equal(word, 0x7f) | (word & HIGH), TARGET)
}

/// The first byte from `at` on that may not stand in a field value or a reason phrase (RFC 9110, 5.5), or the end.
#[inline]
pub(in crate::codec) fn value_end(src: &[u8], mut at: usize) -> usize {
    while let Some(block) = src.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        // Without a branch inside, so that the compiler makes it four vector instructions.
        if block.iter().fold(false, |bad, &b| bad | (b < 0x20) | (b == 0x7f)) {
            break;
        }
        at += 16;
    }
    run_end(src, at, |word| below(word, 0x20) | equal(word, 0x7f), VALUE)
}

/// The first byte from `at` on that may not stand in a host (RFC 3986, 3.2.2), outside of brackets, or the end. The comma may not: a
/// list of hosts is no host.
#[inline]
pub(super) fn host_end(src: &[u8], mut at: usize) -> usize {
    while at < src.len() && CLASS[usize::from(src[at])] & HOST != 0 {
        at += 1;
    }
    at
}

/// `value` without spaces and tabs around it.
#[inline]
pub(in crate::codec) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The place of `src[start..end]` without spaces and tabs around it.
#[inline]
pub(super) fn trim_span(src: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    // Nearly always: one space before, none behind.
    if let [b' ', b'!'..=b'~', .., b'!'..=b'~'] = src[start..end] {
        return (start + 1, end);
    }
    while start < end && matches!(src[start], b' ' | b'\t') {
        start += 1;
    }
    while end > start && matches!(src[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    (start, end)
}

/// The elements of a comma-separated list (RFC 9110, 5.6.1), empty ones left out.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|element| !element.is_empty())
}

/// The first byte from `at` on whose class lacks `class`. `suspects` marks (with each byte's high bit) at least those bytes.
#[inline(always)]
fn run_end(src: &[u8], mut at: usize, suspects: impl Fn(u64) -> u64, class: u8) -> usize {
    while let Some(word) = src.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let marks = suspects(u64::from_le_bytes(*word));
        if marks == 0 {
            at += 8;
            continue;
        }
        at += (marks.trailing_zeros() / 8) as usize;
        if CLASS[usize::from(src[at])] & class == 0 {
            return at;
        }
        at += 1;
    }
    while at < src.len() && CLASS[usize::from(src[at])] & class != 0 {
        at += 1;
    }
    at
}

/// Marks the bytes below `n`, `n` <= 0x80. A borrow may also mark a byte above a marked one, never leave one out.
#[inline(always)]
const fn below(word: u64, n: u8) -> u64 {
    word.wrapping_sub(ONES * n as u64) & !word & HIGH
}

/// Marks the bytes equal to `b`, with the same proviso.
#[inline(always)]
const fn equal(word: u64, b: u8) -> u64 {
    below(word ^ (ONES * b as u64), 1)
}

/// Marks exactly the bytes equal to `b`, `b` < 0x80: no sum here carries into the next byte.
#[inline(always)]
const fn exactly(word: u64, b: u8) -> u64 {
    let other = word ^ (ONES * b as u64);
    !(((other & !HIGH) + !HIGH) | other) & HIGH
}

/// Marks exactly the ASCII letters: no sum here carries into the next byte.
#[inline(always)]
const fn letters(word: u64) -> u64 {
    let lower = (word & !HIGH) | (ONES * 0x20);
    let from_a = lower + ONES * (0x80 - b'a' as u64);
    let beyond_z = lower + ONES * (0x7f - b'z' as u64);
    from_a & !beyond_z & !word & HIGH
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;
const HOST: u8 = 8;

/// The classes of each byte.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0u8;
    loop {
        let mut class = 0;
        if is_token_byte(b) {
            class |= TOKEN;
        }
        if b.is_ascii_graphic() && b != b'#' {
            class |= TARGET;
        }
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            class |= VALUE;
        }
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
            )
        {
            class |= HOST;
        }
        table[b as usize] = class;
        if b == u8::MAX {
            break table;
        }
        b += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place of a word or a block, before every other byte: the scan must agree with the table.
    #[test]
    fn scans_agree_with_the_table_for_every_byte_at_every_place() {
        type Scan = fn(&[u8], usize) -> usize;
        let scans = [
            (token_end as Scan, TOKEN, b'a'),
            (token_end, TOKEN, b'-'),
            (target_end, TARGET, b'/'),
            (value_end, VALUE, b'v'),
            (value_end, VALUE, b'\t'),
        ];
        for (scan, class, filler) in scans {
            for byte in 0..=u8::MAX {
                for next in 0..=u8::MAX {
                    for place in [0, 1, 6, 7, 8, 15, 16, 30] {
                        let mut text = [filler; 33];
                        text[place] = byte;
                        text[place + 1] = next;
                        let end = text.iter().position(|&b| CLASS[usize::from(b)] & class == 0).unwrap_or(text.len());
                        assert_eq!(scan(&text, 0), end, "{byte:#x} {next:#x} at {place}");
                    }
                }
            }
        }
    }
}
