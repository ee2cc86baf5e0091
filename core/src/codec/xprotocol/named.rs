//! What protocols have in common whose frames say a service and a method without names for them, behind a length of four bytes.
//!
//! **Invariant:** the names lie behind the frame's own bytes, where nothing that was received can be.

use std::ops::Range;

use crate::message::{Field, FieldId, HttpHead, Span, spare};

/// The names of a frame's first two fields, behind its bytes.
const NAMES: &str = "servicemethod";
const SERVICE_LEN: usize = "service".len();

/// The first byte of the first frame, at most, where the bytes are to tell the protocol: one of 16 MiB would look like many others.
pub(super) const LENGTH_FIRST_MAX: u8 = 0;

/// The bytes that a head's fields point into: parts of a frame, and the names behind them. To be given back.
pub(super) fn text(parts: [&[u8]; 2]) -> Vec<u8> {
    let mut text = spare::take();
    parts.into_iter().chain([NAMES.as_bytes()]).for_each(|part| text.extend_from_slice(part));
    text
}

/// Such bytes without the names.
pub(super) fn own(text: &[u8]) -> &[u8] {
    &text[..text.len() - NAMES.len()]
}

/// Adds the service and the method, which lie in `text`.
pub(super) fn push_names(fields: &mut HttpHead, text: &[u8], service: &Range<usize>, method: &Range<usize>) {
    let names_at = own(text).len();
    push(fields, text, names_at..names_at + SERVICE_LEN, service.clone());
    push(fields, text, names_at + SERVICE_LEN..text.len(), method.clone());
}

/// Adds a field, as places in `text`.
pub(super) fn push(fields: &mut HttpHead, text: &[u8], name: Range<usize>, value: Range<usize>) {
    let id = FieldId::of(&text[name.clone()]);
    fields.push(Field { name: Span::within(name.start, name.end), value: Span::within(value.start, value.end), id });
}
