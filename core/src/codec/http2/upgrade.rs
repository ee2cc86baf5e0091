//! The change from HTTP/1.1 to HTTP/2 by `Upgrade: h2c` (RFC 7540, 3.2): what a request has to bring along for it.
//!
//! **Invariant:** an offer that is not to the letter is none, and its request stays one of HTTP/1.1.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::settings::{Setting, Settings};
use crate::codec::http1::trim;
use crate::message::{FieldId, HttpHead};

/// What precedes the first frame of a connection that has changed.
pub const SWITCHING_TO_H2C: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// The client's SETTINGS in a request that offers the change: one HTTP2-Settings field, which Connection names, and in it what a SETTINGS
/// frame may say (RFC 7540, 3.2.1).
#[must_use]
pub fn offered_settings(head: &HttpHead) -> Option<Settings> {
    let mut offers = head.fields().filter(|(id, ..)| *id == FieldId::Http2Settings);
    let (_, _, value) = offers.next()?;
    let options =
        head.fields().filter(|(id, ..)| *id == FieldId::Connection).flat_map(|(.., v)| v.split(|&b| b == b','));
    let is_named = options.map(trim).any(|option| option.eq_ignore_ascii_case(b"http2-settings"));
    if offers.next().is_some() || !is_named {
        return None;
    }
    // RFC 7540, 3.2.1: without padding.
    let entries = BASE64_URL_SAFE_NO_PAD.decode(trim(value)).ok()?;
    if !entries.len().is_multiple_of(Setting::BYTES) {
        return None;
    }
    let mut settings = Settings::default();
    settings.apply(&entries).ok()?;
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(fields: &[(&str, &str)]) -> Option<Settings> {
        let mut head = HttpHead::request("GET", b"/");
        fields.iter().for_each(|(name, value)| assert!(head.append(name, value.as_bytes())));
        offered_settings(&head)
    }

    #[test]
    fn an_offer_is_to_the_letter_or_none() {
        let connection = ("Connection", "Upgrade, HTTP2-Settings");
        // What curl sends: 100 streams, a window of 10 MiB, no push.
        let settings = offered(&[connection, ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")]).unwrap();
        assert_eq!((settings.streams_max, settings.window_bytes, settings.push), (100, 10 << 20, false));
        assert_eq!(offered(&[connection, ("HTTP2-Settings", "")]), Some(Settings::default()));
        for (what, fields) in [
            ("none", &[connection][..]),
            ("not named", &[("Connection", "Upgrade"), ("HTTP2-Settings", "AAMAAABk")]),
            ("twice", &[connection, ("HTTP2-Settings", "AAMAAABk"), ("HTTP2-Settings", "AAMAAABk")]),
            ("half an entry", &[connection, ("HTTP2-Settings", "AAMAAAA")]),
            ("a letter too many", &[connection, ("HTTP2-Settings", "AAMAAABkA")]),
            ("padding", &[connection, ("HTTP2-Settings", "AAMAAABk=")]),
            ("other letters", &[connection, ("HTTP2-Settings", "AAMA+ABk")]),
            ("two in one", &[connection, ("HTTP2-Settings", "AAMAAABk, AAMAAABk")]),
            ("a window beyond the largest", &[connection, ("HTTP2-Settings", "AASAAAAA")]),
            ("a push that is neither", &[connection, ("HTTP2-Settings", "AAIAAAAC")]),
        ] {
            assert_eq!(offered(fields), None, "{what}");
        }
    }
}
