//! Header blocks to fields (RFC 7541, 3.2 and 6).
//!
//! **Invariant:** a block is decoded to its end whatever becomes of its fields, or the tables of the two sides would differ; the time that
//! it takes is bounded by its bytes and by what the receiver does with each field.

use super::table::Table;
use super::{HpackError, huffman, integer};

/// Takes the fields of a block, in order. It keeps its own account of what is too much: a field may be as long as a table entry, and cost
/// its sender one byte.
pub trait Fields {
    /// The next field.
    fn field(&mut self, name: &[u8], value: &[u8]);
}

/// Decodes the blocks of one connection, one after another.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    table_bytes_max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// For a peer that was told of a table of this size.
    #[must_use]
    pub fn new(table_bytes_max: usize) -> Self {
        Self { table: Table::new(table_bytes_max), table_bytes_max, name: Vec::new(), value: Vec::new() }
    }

    /// Decodes a block, which is whole.
    ///
    /// # Errors
    /// When it breaks the coding; the decoder is of no use then.
    pub fn decode(&mut self, block: &[u8], fields: &mut impl Fields) -> Result<(), HpackError> {
        let (mut rest, mut begun) = (block, false);
        while let Some(&first) = rest.first() {
            rest = match first {
                0x80.. => {
                    let (index, used) = integer::read(rest, 7)?;
                    let (name, value) = self.table.get(index)?;
                    fields.field(name, value);
                    &rest[used..]
                }
                0x40.. => self.literal(rest, 6, true, fields)?,
                0x20.. => {
                    // RFC 7541, 4.2: at the start of a block.
                    if begun {
                        return Err(HpackError::TableSizeLate);
                    }
                    let (size, used) = integer::read(rest, 5)?;
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    if size > self.table_bytes_max {
                        return Err(HpackError::TableSize);
                    }
                    self.table.resize(size);
                    rest = &rest[used..];
                    continue;
                }
                _ => self.literal(rest, 4, false, fields)?,
            };
            begun = true;
        }
        Ok(())
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.table.held_bytes() + self.name.capacity() + self.value.capacity()
    }

    /// Gives back what no table needs.
    pub fn release(&mut self) {
        (self.name, self.value) = (Vec::new(), Vec::new());
    }

    /// A field that is written out, at least its value. What follows it.
    fn literal<'b>(
        &mut self,
        src: &'b [u8],
        prefix: u32,
        indexed: bool,
        fields: &mut impl Fields,
    ) -> Result<&'b [u8], HpackError> {
        let (index, used) = integer::read(src, prefix)?;
        let mut rest = &src[used..];
        let name: &[u8] = if index == 0 {
            let name;
            (name, rest) = string(rest, &mut self.name)?;
            name
        } else {
            // Copied: its entry may have to go for the one that is added.
            let (name, _) = self.table.get(index)?;
            self.name.clear();
            self.name.extend_from_slice(name);
            &self.name
        };
        let (value, rest) = string(rest, &mut self.value)?;
        fields.field(name, value);
        if indexed {
            self.table.insert(name, value);
        }
        Ok(rest)
    }
}

/// A string (RFC 7541, 5.2) and what follows it; where it is coded it is decoded into `scratch`.
#[inline]
fn string<'s, 'b: 's>(src: &'b [u8], scratch: &'s mut Vec<u8>) -> Result<(&'s [u8], &'b [u8]), HpackError> {
    let coded = src.first().is_some_and(|b| b & 0x80 != 0);
    let (len, used) = integer::read(src, 7)?;
    let rest = &src[used..];
    let (bytes, rest) = rest.split_at_checked(len as usize).ok_or(HpackError::Truncated)?;
    if !coded {
        return Ok((bytes, rest));
    }
    scratch.clear();
    huffman::decode(bytes, scratch)?;
    Ok((scratch, rest))
}

#[cfg(test)]
#[path = "vectors.rs"]
mod vectors;
