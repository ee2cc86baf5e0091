//! Header compression (RFC 7541).
//!
//! The decoder keeps the dynamic table that a peer may use. The encoder uses none: it writes what the static table has by number and the
//! rest as it is. That is what HAProxy and nginx do too; it costs some bytes of the wire and no time, and no header can be guessed by what
//! it compresses to.
//!
//! **Invariant:** the table holds what [`Settings::table_bytes_max`](super::Settings) allows and no more; a block is decoded in time
//! that grows with its own bytes.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod static_table;
mod table;

pub use decoder::{Decoder, Fields};
pub use encoder::{put_field, put_number, put_status, put_table_size};
pub use huffman::HuffmanError;

use std::fmt;

/// Why a header block can't be decoded: the connection is lost (RFC 9113, 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// It ends inside a field.
    Truncated,
    /// A number has more than 32 bits, or is written in more bytes than any needs.
    Integer,
    /// There is no entry of this number.
    Index,
    /// A Huffman code is no character, or is not padded as it should be.
    Huffman,
    /// The table is made larger than was allowed.
    TableSize,
    /// The table's size is changed behind a field.
    TableSizeLate,
}

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the header block ends inside a field",
            Self::Integer => "a number of the header block is too long",
            Self::Index => "the header block names an entry that is in no table",
            Self::Huffman => "a string of the header block is no Huffman code",
            Self::TableSize => "the header block makes the table larger than was allowed",
            Self::TableSizeLate => "the header block changes the table's size behind a field",
        })
    }
}

impl std::error::Error for HpackError {}

impl From<HuffmanError> for HpackError {
    fn from(_: HuffmanError) -> Self {
        Self::Huffman
    }
}
