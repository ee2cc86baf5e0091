//! What a field may be (RFC 9113, 8.2), on either side of the compression.
//!
//! **Invariant:** a field that passes can stand as a line of HTTP/1 and be read as the same field.

use super::error::Malformed;
use crate::codec::http1::{token_end, value_end};
use crate::message::FieldId;

/// A name is a token in lower case.
#[inline]
pub(super) fn check_name(name: &[u8]) -> Result<(), Malformed> {
    let upper = name.iter().fold(false, |any, b| any | b.is_ascii_uppercase());
    if name.is_empty() || upper || token_end(name, 0) < name.len() { Err(Malformed::FieldName) } else { Ok(()) }
}

/// A value has no control byte but the tab inside of it.
#[inline]
pub(super) fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let padded = matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if padded || value_end(value, 0) < value.len() { Err(Malformed::FieldValue) } else { Ok(()) }
}

/// Whether a field ends with its connection of HTTP/1: never received, never sent (RFC 9113, 8.2.2).
#[inline]
pub(super) const fn is_of_connection(id: FieldId) -> bool {
    matches!(
        id,
        FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::TransferEncoding
            | FieldId::Upgrade
    )
}
