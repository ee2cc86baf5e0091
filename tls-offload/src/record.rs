//! Records as far as a session must know them before a backend sees them: where one ends (RFC 8446 section 5.1).
//!
//! **Invariant:** looks at headers only, and takes nothing off the wire that is not a whole record.

use bytes::BufMut;

use crate::session::{PLAIN_ROOM_BYTES_MIN, RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES_MAX};

/// What stands at the front of the wire.
pub(crate) enum Frame {
    Incomplete,
    /// A record of this many bytes.
    Whole(usize),
    /// No TLS record, by its header alone.
    Bad,
}

pub(crate) fn frame(wire: &[u8]) -> Frame {
    let &[kind, major, _minor, high, low, ..] = wire else { return Frame::Incomplete };
    let len = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if !CONTENT_TYPES.contains(&kind) || major != 3 || len > RECORD_BYTES_MAX {
        Frame::Bad
    } else if wire.len() < len {
        Frame::Incomplete
    } else {
        Frame::Whole(len)
    }
}

pub(crate) fn take<'a>(wire: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (record, rest) = wire.split_at(len);
    *wire = rest;
    record
}

/// How much of `plain` bytes goes into the next record of a room that has `written` bytes before it and `room` bytes left; 0 is none.
///
/// The end of a nearly full room is left empty rather than filled with a tiny record.
pub(crate) fn payload_len(plain: usize, room: usize, written: usize) -> usize {
    let len = plain.min(room.saturating_sub(RECORD_OVERHEAD_BYTES_MAX).min(FRAGMENT_BYTES_MAX));
    let is_tiny = len < plain && len < TINY_RECORD_BYTES && written > 0;
    if is_tiny { 0 } else { len }
}

/// Room for plaintext.
pub(crate) trait PlainRoom {
    /// Whether it takes what a record of `len` bytes can hold.
    fn has_room_for_record(&self, len: usize) -> bool;
}

impl<B: BufMut> PlainRoom for B {
    fn has_room_for_record(&self, len: usize) -> bool {
        self.remaining_mut() >= len.saturating_sub(RECORD_OVERHEAD_BYTES_MIN).min(PLAIN_ROOM_BYTES_MIN)
    }
}

/// Type, version and length.
pub(crate) const HEADER_BYTES: usize = 5;
/// The plaintext of a record, at most (RFC 8446 section 5.1).
const FRAGMENT_BYTES_MAX: usize = 16 * 1024;
/// A record this small is not begun at the end of a room when more could follow in the next one.
const TINY_RECORD_BYTES: usize = 1024;
/// Change cipher spec, alert, handshake, application data, heartbeat.
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=24;
/// What a record adds to its plaintext at least: header and tag.
const RECORD_OVERHEAD_BYTES_MIN: usize = HEADER_BYTES + 16;
