//! The handshake of a WebSocket in HTTP/1.1 (RFC 6455, 4): the key that asks for it, and the answer that the key wants.
//!
//! HTTP/2 has neither (RFC 8441, 5). Where a WebSocket changes its version of HTTP on its way, the side that speaks HTTP/1.1 is given both.
//!
//! **Invariant:** no cipher and no proof of anybody's identity: it says that the other side knows what it is asked for, nothing else.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha1::{Digest, Sha1};

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
    base64(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The key of a request that asks for a WebSocket, and for nothing beside it.
#[must_use]
pub fn asked(head: &HttpHead) -> Option<&[u8]> {
    let asks = head.method() == Method::Get
        && head.get_id(FieldId::Upgrade).is_some_and(|value| value.eq_ignore_ascii_case(WEBSOCKET));
    // The name is looked for only where it may stand.
    if asks { head.get(KEY).filter(|key| key.len() == KEY_BYTES) } else { None }
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
    let mut text = [b'='; N];
    let written = BASE64_STANDARD.encode_slice(bytes, &mut text);
    debug_assert_eq!(written, Ok(N), "the text has its length by its type");
    text
}

/// What the key is hashed with (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
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
