//! The tables that a decoder looks entries up in (RFC 7541, 2.3).
//!
//! The bytes of the dynamic entries lie in one buffer, in the order of their coming. What was evicted is left behind until the buffer is
//! twice as long as the table may be; then the rest moves to its start.
//!
//! **Invariant:** the entries come to no more than the size in force, each counted with 32 bytes more (RFC 7541, 4.1).

use std::collections::VecDeque;

use super::HpackError;
use super::static_table::TABLE;

/// The static and the dynamic table.
#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    name: u32,
    value: u32,
}

impl Entry {
    const fn size(self) -> usize {
        self.name as usize + self.value as usize + ENTRY_OVERHEAD_BYTES
    }
}

impl Table {
    pub(super) fn new(size_max: usize) -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, size_max }
    }

    /// The entry of this index, from 1.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Result<(&[u8], &[u8]), HpackError> {
        let at = (index as usize).checked_sub(1).ok_or(HpackError::Index)?;
        if let Some((name, value)) = TABLE.get(at) {
            return Ok((name, value));
        }
        let entry = self.entries.get(at - TABLE.len()).ok_or(HpackError::Index)?;
        let bytes = &self.bytes[entry.start as usize..];
        let (name, rest) = bytes.split_at(entry.name as usize);
        Ok((name, &rest[..entry.value as usize]))
    }

    /// Adds an entry and evicts what it leaves no room for; one that is larger than the table empties it (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        if size > self.size_max {
            self.evict(0);
            return;
        }
        self.evict(self.size_max - size);
        if self.bytes.len() + name.len() + value.len() > 2 * self.size_max {
            self.compact();
        }
        let fit = |n: usize| u32::try_from(n).expect("the table is bounded far below 4 GiB");
        let entry = Entry { start: fit(self.bytes.len()), name: fit(name.len()), value: fit(value.len()) };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_front(entry);
        self.size += size;
    }

    /// Changes the size in force (RFC 7541, 4.3).
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(size_max);
    }

    /// Bytes that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.size();
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    fn compact(&mut self) {
        let start = self.entries.back().map_or(self.bytes.len(), |oldest| oldest.start as usize);
        self.bytes.drain(..start);
        let moved = u32::try_from(start).expect("the buffer is bounded far below 4 GiB");
        self.entries.iter_mut().for_each(|entry| entry.start -= moved);
    }
}

/// What an entry counts for besides its bytes.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_go_and_stay_what_they_were() {
        let mut table = Table::new(200);
        let entry = |n: usize| (format!("name-{n}").into_bytes(), vec![b'a' + u8::try_from(n % 26).unwrap(); n % 50]);
        for n in 0..10_000 {
            let (name, value) = entry(n);
            table.insert(&name, &value);
            assert!(table.size <= 200 && table.bytes.len() <= 400);
            for (back, index) in (62..).take(table.entries.len()).enumerate() {
                let (name, value) = entry(n - back);
                assert_eq!(table.get(index), Ok((&name[..], &value[..])));
            }
            assert!(table.get(62 + u32::try_from(table.entries.len()).unwrap()).is_err());
        }
        table.insert(&[b'x'; 300], b"");
        assert_eq!((table.entries.len(), table.size), (0, 0));
        assert_eq!(table.get(0), Err(HpackError::Index));
        table.insert(b"a", b"b");
        table.resize(0);
        assert_eq!(table.get(62), Err(HpackError::Index));
    }
}
