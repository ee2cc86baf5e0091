//! The handshake of a WebSocket in HTTP/1.1 (RFC 6455, 4): the key that asks for it, and the answer that the key wants.
//!
//! HTTP/2 has neither (RFC 8441, 5). Where a WebSocket changes its version of HTTP on its way, the side that speaks HTTP/1.1 is given both.
//!
//! **Invariant:** no cipher and no proof of anybody's identity: it says that the other side knows what it is asked for, nothing else.

use crate::message::{FieldId, HttpHead, Method};

/// The name of the protocol, in `Upgrade` and in `:protocol`.
pub const WEBSOCKET: &[u8] = b"websocket";

/// The field that asks.
pub const KEY: &str = "sec-websocket-key";

/// The field that answers.
pub const ACCEPT: &str = "sec-websocket-accept";

/// The bytes of a key.
pub const KEY_BYTES: usize = 24;

/// The bytes of an answer to one.
pub const ACCEPT_BYTES: usize = 28;

/// A key made of these numbers.
#[must_use]
pub fn key(random: [u8; 16]) -> [u8; KEY_BYTES] {
    base64(&random)
}

/// The answer that `key` wants.
#[must_use]
pub fn accept(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    base64(&sha1(&[key, GUID].concat()))
}

/// The key of a request that asks for a WebSocket, and for nothing beside it.
#[must_use]
pub fn asked(head: &HttpHead) -> Option<&[u8]> {
    let asks = head.method() == Method::Get
        && head.get_id(FieldId::Upgrade).is_some_and(|value| value.eq_ignore_ascii_case(WEBSOCKET));
    head.get(KEY).filter(|key| asks && key.len() == KEY_BYTES)
}

/// Whether an answer is the one that this request for a WebSocket wants.
#[must_use]
pub fn is_accepted(request: &HttpHead, response: &HttpHead) -> bool {
    let Some(key) = asked(request) else { return false };
    response.get_id(FieldId::Upgrade).is_some_and(|value| value.eq_ignore_ascii_case(WEBSOCKET))
        && response.get(ACCEPT) == Some(&accept(key)[..])
}

/// `N` bytes of text for three quarters as many of `bytes`.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    debug_assert!(bytes.len().div_ceil(3) * 4 == N, "the text has its length by its type");
    let mut text = [b'='; N];
    for (three, four) in bytes.chunks(3).zip(text.chunks_exact_mut(4)) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for (at, place) in four.iter_mut().enumerate().take(three.len() + 1) {
            *place = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
        }
    }
    text
}

/// SHA-1 (RFC 3174), which the handshake asks for.
fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = four.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (f, constant) = match at {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, word) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(word);
        }
    }
    let mut digest = [0; 20];
    digest.chunks_exact_mut(4).zip(state).for_each(|(four, word)| four.copy_from_slice(&word.to_be_bytes()));
    digest
}

/// What the key is hashed with (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// RFC 4648, 4.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfcs() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for (bytes, digest) in [
            (&b""[..], "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            (b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
            (&[b'a'; 1_000_000], "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
        ] {
            assert_eq!(hex(&sha1(bytes)), digest);
        }
        // RFC 6455, 1.3.
        assert_eq!(&accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&key(*b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn who_asks_and_what_is_an_answer() {
        let asking = |fields: &[(&str, &str)]| {
            let mut head = HttpHead::request("GET", b"/");
            fields.iter().for_each(|(name, value)| assert!(head.append(name, value.as_bytes())));
            head
        };
        let (upgrade, key) = (("Upgrade", "WebSocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(asked(&asking(&[upgrade, key])).is_some());
        for fields in
            [&[upgrade][..], &[key], &[("Upgrade", "websocket, x"), key], &[upgrade, ("Sec-WebSocket-Key", "a")]]
        {
            assert_eq!(asked(&asking(fields)), None, "{fields:?}");
        }
        let request = asking(&[upgrade, key]);
        let accept = ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (fields, good) in [
            (&[upgrade, accept][..], true),
            (&[upgrade, ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=")], false),
            (&[upgrade], false),
            (&[accept], false),
            (&[("Upgrade", "h2c"), accept], false),
        ] {
            let mut head = HttpHead::response(101);
            fields.iter().for_each(|(name, value)| assert!(head.append(name, value.as_bytes())));
            assert_eq!(is_accepted(&request, &head), good, "{fields:?}");
        }
    }
}
