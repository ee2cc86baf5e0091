//! The Huffman code of strings (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: among codes of one length those of lower characters come first. So the lengths are all that is written down
//! here, and everything else is computed from them when the crate is compiled.
//!
//! **Invariant:** a string that passes has one reading: it is padded by the first bits of EOS, fewer than eight, and EOS is not in it.

/// A string is no Huffman code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HuffmanError;

/// Decodes `src` and adds what it says to `out`.
pub(super) fn decode(src: &[u8], out: &mut Vec<u8>) -> Result<(), HuffmanError> {
    // No code is shorter than five bits.
    out.reserve(src.len() * 8 / 5);
    let (mut bits, mut have) = (0u64, 0u32);
    let mut rest = src;
    loop {
        while have <= 32 {
            let Some((&byte, after)) = rest.split_first() else { break };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
            rest = after;
        }
        let short = SHORT[(bits >> (64 - SHORT_BITS)) as usize];
        let (symbol, len) = if short.len > 0 { (u16::from(short.symbol), u32::from(short.len)) } else { long(bits) };
        if len > have {
            return end(bits, have);
        }
        // EOS inside a string is an error (RFC 7541, 5.2).
        out.push(u8::try_from(symbol).map_err(|_| HuffmanError)?);
        bits <<= len;
        have -= len;
    }
}

/// What is left when no whole code is: the padding.
fn end(bits: u64, have: u32) -> Result<(), HuffmanError> {
    let ones = have < 8 && bits.leading_ones() >= have;
    if ones { Ok(()) } else { Err(HuffmanError) }
}

/// A code longer than [`SHORT_BITS`], by the first code of the next length.
fn long(bits: u64) -> (u16, u32) {
    let top = (bits >> 32) as u32;
    let mut at = 0;
    while at + 1 < STEPS.len() && top >= STEPS[at + 1].first {
        at += 1;
    }
    let step = STEPS[at];
    let index = (top - step.first) >> (32 - step.len);
    (SYMBOLS[step.start as usize + index as usize], step.len)
}

/// A code of at most [`SHORT_BITS`] bits; length 0: it is longer.
#[derive(Clone, Copy)]
struct Short {
    symbol: u8,
    len: u8,
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Step {
    /// The first one, its bits at the top of the word.
    first: u32,
    len: u32,
    /// Where its symbol is among all.
    start: u32,
}

/// How many bits are looked up at once: all letters, digits and most signs.
const SHORT_BITS: u32 = 8;

/// By the next eight bits.
#[expect(clippy::cast_possible_truncation, reason = "a symbol of a short code is a byte")]
static SHORT: [Short; 1 << SHORT_BITS] = {
    let mut table = [Short { symbol: 0, len: 0 }; 1 << SHORT_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, len) = CODES[symbol];
        if len as u32 <= SHORT_BITS {
            let spare = SHORT_BITS - len as u32;
            let mut fill = 0;
            while fill < 1 << spare {
                table[((code << spare) + fill) as usize] = Short { symbol: symbol as u8, len };
                fill += 1;
            }
        }
        symbol += 1;
    }
    table
};

/// The symbols by length, then by value: the order of their codes.
#[expect(clippy::cast_possible_truncation, reason = "there are 257 symbols")]
static SYMBOLS: [u16; 257] = {
    let (mut table, mut at, mut len) = ([0; 257], 0, 1);
    while len <= CODE_BITS_MAX {
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] == len {
                table[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    table
};

/// How many lengths there are.
const STEPS_LEN: usize = {
    let (mut count, mut len) = (0, 1);
    while len <= CODE_BITS_MAX {
        count += (count_of(len) > 0) as usize;
        len += 1;
    }
    count
};

#[expect(clippy::cast_possible_truncation, reason = "codes have at most 30 bits, moved to the top of 32")]
static STEPS: [Step; STEPS_LEN] = {
    let mut table = [Step { first: 0, len: 0, start: 0 }; STEPS_LEN];
    let (mut at, mut start, mut code, mut len) = (0, 0, 0u64, 1);
    while len <= CODE_BITS_MAX {
        code <<= 1;
        let count = count_of(len);
        if count > 0 {
            table[at] = Step { first: (code << (32 - len as u32)) as u32, len: len as u32, start };
            at += 1;
            start += count;
            code += count as u64;
        }
        len += 1;
    }
    // A code is complete when the one behind the last is a one with zeros: nothing is left over.
    assert!(code == 1 << CODE_BITS_MAX);
    table
};

/// Each symbol's code and its length.
static CODES: [(u32, u8); 257] = {
    let mut table = [(0, 0); 257];
    let (mut code, mut len) = (0u32, 1);
    while len <= CODE_BITS_MAX {
        code <<= 1;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] == len {
                table[symbol] = (code, len);
                code += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    table
};

const fn count_of(len: u8) -> u32 {
    let (mut count, mut symbol) = (0, 0);
    while symbol < 257 {
        count += (LENGTHS[symbol] == len) as u32;
        symbol += 1;
    }
    count
}

/// The longest code, in bits.
const CODE_BITS_MAX: u8 = 30;

/// The length of each symbol's code in bits, EOS last (RFC 7541, appendix B), sixteen a line.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodes `src`.
    pub(in super::super) fn encode(src: &[u8]) -> Vec<u8> {
        let (mut out, mut bits, mut have) = (Vec::new(), 0u64, 0);
        for &byte in src {
            let (code, len) = CODES[usize::from(byte)];
            (bits, have) = (bits << len | u64::from(code), have + u32::from(len));
            while have >= 8 {
                have -= 8;
                out.push(u8::try_from(bits >> have & 0xff).unwrap());
            }
        }
        if have > 0 {
            out.push(u8::try_from((bits << (8 - have) | (0xff >> have)) & 0xff).unwrap());
        }
        out
    }

    fn decoded(src: &[u8]) -> Result<Vec<u8>, HuffmanError> {
        let mut out = Vec::new();
        decode(src, &mut out).map(|()| out)
    }

    /// Codes as RFC 7541, appendix B, prints them, among them the first and the last of most lengths.
    #[test]
    fn the_codes_are_those_of_the_rfc() {
        let printed: &[(usize, u32, u8)] = &[
            (48, 0x0, 5),
            (116, 0x9, 5),
            (32, 0x14, 6),
            (117, 0x2d, 6),
            (58, 0x5c, 7),
            (122, 0x7b, 7),
            (38, 0xf8, 8),
            (90, 0xfd, 8),
            (33, 0x3f8, 10),
            (63, 0x3fc, 10),
            (39, 0x7fa, 11),
            (124, 0x7fc, 11),
            (35, 0xffa, 12),
            (0, 0x1ff8, 13),
            (126, 0x1ffd, 13),
            (94, 0x3ffc, 14),
            (123, 0x7ffe, 15),
            (92, 0x7fff0, 19),
            (226, 0xf_ffed, 20),
            (230, 0x1f_ffe8, 21),
            (233, 0x3f_ffeb, 22),
            (239, 0x7f_fff4, 23),
            (237, 0xff_fff5, 24),
            (235, 0x1ff_ffef, 25),
            (255, 0x3ff_ffee, 26),
            (254, 0x7ff_fff0, 27),
            (249, 0xfff_fffe, 28),
            (10, 0x3fff_fffc, 30),
            (256, 0x3fff_ffff, 30),
        ];
        for &(symbol, code, len) in printed {
            assert_eq!(CODES[symbol], (code, len), "{symbol}");
        }
    }

    #[test]
    fn padding_is_checked() {
        // 'a' is 00011: three ones pad it.
        assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
        assert_eq!(decoded(&[0b0001_1110]), Err(HuffmanError), "padded by something else");
        assert_eq!(decoded(&[0b0001_1111, 0xff]), Err(HuffmanError), "a whole byte of padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), Err(HuffmanError), "EOS");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(HuffmanError), "EOS and padding");
        assert_eq!(decoded(b""), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decoded(&encode(&text)), Ok(text));
        }

        /// One reading: what decodes is what that text encodes to.
        #[test]
        fn what_is_decoded_is_encoded(wire in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(text) = decoded(&wire) {
                prop_assert_eq!(encode(&text), wire);
            }
        }
    }
}
