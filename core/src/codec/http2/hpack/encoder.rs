//! Fields to header blocks (RFC 7541, 6), without a dynamic table.
//!
//! **Invariant:** what is written is decoded the same by every decoder, whatever it has seen before; names are written in lower case.

use super::integer;
use super::static_table::{TABLE, index_of_name};

/// Writes a field: by number where the static table has it, else without indexing; credentials so that no hop may index them
/// (RFC 7541, 7.1.3).
#[inline]
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut lower = [0; NAME_BYTES_MAX];
    let Some(room) = lower.get_mut(..name.len()) else { return put_long(out, name, value) };
    room.copy_from_slice(name);
    room.make_ascii_lowercase();
    let name = &*room;
    let index = index_of_name(name);
    let pattern = if is_secret(index) { NEVER_INDEXED } else { NOT_INDEXED };
    match TABLE.get(index.wrapping_sub(1)) {
        Some(_) if PAIRED.contains(&index) && put_pair(out, index, value) => return,
        Some(_) => integer::put(out, index, 4, pattern),
        None => {
            out.push(pattern);
            put_string(out, name);
        }
    }
    put_string(out, value);
}

/// Writes `:status`.
#[inline]
pub fn put_status(out: &mut Vec<u8>, status: u16) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            integer::put(out, 8, 4, NOT_INDEXED);
            put_string(out, itoa::Buffer::new().format(status).as_bytes());
            return;
        }
    };
    out.push(INDEXED | index);
}

/// Writes a field with a number.
#[inline]
pub fn put_number(out: &mut Vec<u8>, name: &[u8], number: u64) {
    put_field(out, name, itoa::Buffer::new().format(number).as_bytes());
}

/// Says how large a table is used (RFC 7541, 6.3). At the start of a block.
pub fn put_table_size(out: &mut Vec<u8>, size: usize) {
    integer::put(out, size, 5, 0x20);
}

/// Writes the entry whose name is that of `index` and whose value this is, if there is one.
fn put_pair(out: &mut Vec<u8>, index: usize, value: &[u8]) -> bool {
    let name = TABLE[index - 1].0;
    let same = TABLE[index - 1..].iter().take_while(|(other, _)| *other == name);
    let Some(at) = same.into_iter().position(|(_, known)| *known == value) else { return false };
    integer::put(out, index + at, 7, INDEXED);
    true
}

/// A name that is longer than any of the table.
fn put_long(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(NOT_INDEXED);
    integer::put(out, name.len(), 7, 0);
    let start = out.len();
    out.extend_from_slice(name);
    out[start..].make_ascii_lowercase();
    put_string(out, value);
}

#[inline]
fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    integer::put(out, text.len(), 7, 0);
    out.extend_from_slice(text);
}

/// authorization, cookie, proxy-authorization, set-cookie.
fn is_secret(index: usize) -> bool {
    matches!(index, 23 | 32 | 49 | 55)
}

/// The first entry of each name that has values: :method, :path, :scheme, accept-encoding.
const PAIRED: [usize; 4] = [2, 4, 6, 16];

const INDEXED: u8 = 0x80;
const NOT_INDEXED: u8 = 0x00;
const NEVER_INDEXED: u8 = 0x10;

/// Names up to this length are looked up, in bytes.
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Decoder, Fields};
    use super::*;

    #[derive(Default)]
    struct List(Vec<(Vec<u8>, Vec<u8>)>);

    impl Fields for List {
        fn field(&mut self, name: &[u8], value: &[u8]) {
            self.0.push((name.to_vec(), value.to_vec()));
        }
    }

    fn decoded(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut list = List::default();
        Decoder::new(4096).decode(block, &mut list).unwrap();
        list.0
    }

    #[test]
    fn what_the_static_table_has_is_one_byte() {
        for (name, value) in
            [(":method", "POST"), (":path", "/index.html"), (":scheme", "https"), ("Accept-Encoding", "gzip, deflate")]
        {
            let mut out = Vec::new();
            put_field(&mut out, name.as_bytes(), value.as_bytes());
            assert_eq!(out.len(), 1, "{name}");
            assert_eq!(decoded(&out), [(name.to_ascii_lowercase().into_bytes(), value.as_bytes().to_vec())]);
        }
        let mut out = Vec::new();
        put_field(&mut out, b"Authorization", b"x");
        assert_eq!(out[0] & 0xf0, NEVER_INDEXED);
    }

    #[test]
    fn statuses_come_back() {
        for status in 100..1000 {
            let mut out = Vec::new();
            put_table_size(&mut out, 0);
            put_status(&mut out, status);
            assert_eq!(decoded(&out), [(b":status".to_vec(), status.to_string().into_bytes())]);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(name in "[A-Za-z0-9-]{1,200}", value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put_field(&mut out, name.as_bytes(), &value);
            prop_assert_eq!(decoded(&out), vec![(name.to_ascii_lowercase().into_bytes(), value)]);
        }
    }
}
