//! The numbers of the requests on one upstream connection.
//!
//! **Invariant:** a number that is in use is not given again, however often the counter has gone round.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What waits under each number that is in use.
#[derive(Debug)]
pub(super) struct Ids<V> {
    open: HashMap<u64, V, BuildHasherDefault<IdHasher>>,
    next: u64,
    max: u64,
    /// How many were given, as far as the counter reaches.
    given: u64,
}

impl<V> Ids<V> {
    /// Numbers up to `max`, from `first` on. 0 is none of them.
    pub(super) fn new(first: u64, max: u64) -> Self {
        Self { open: HashMap::default(), next: first.clamp(FIRST, max), max, given: 0 }
    }

    /// A number that is not in use.
    pub(super) fn draw(&mut self) -> u64 {
        loop {
            let id = self.next;
            self.next = if id == self.max { FIRST } else { id + 1 };
            self.given = self.given.saturating_add(1).min(self.max);
            // Far fewer are open than there are numbers.
            if !self.open.contains_key(&id) {
                return id;
            }
        }
    }

    /// Puts what waits under a number that was drawn.
    pub(super) fn put(&mut self, id: u64, waits: V) {
        self.open.insert(id, waits);
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        self.open.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<V> {
        self.open.remove(&id)
    }

    /// Whether a number was given before, whatever has become of it.
    pub(super) fn was_given(&self, id: u64) -> bool {
        if !(FIRST..=self.max).contains(&id) {
            return false;
        }
        let back = self.next.checked_sub(id).filter(|back| *back > 0);
        back.unwrap_or_else(|| (self.max - id).saturating_add(self.next)) <= self.given
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.open.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

/// The number behind the largest one: 0 stands for none in some clients, and for what was never asked in Tars.
const FIRST: u64 = 1;

/// Spreads numbers that nobody but this process chooses.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_goes_round_what_is_open() {
        let mut ids: Ids<()> = Ids::new(u64::from(u32::MAX) - 1, u32::MAX.into());
        let drawn: Vec<_> = (0..4).map(|_| ids.draw()).collect();
        assert_eq!(drawn, [u64::from(u32::MAX) - 1, u32::MAX.into(), 1, 2]);

        let mut ids = Ids::new(0, 4);
        for open in [1, 3] {
            ids.put(open, ());
        }
        let drawn: Vec<_> = (0..5).map(|_| ids.draw()).collect();
        assert_eq!(drawn, [2, 4, 2, 4, 2], "1 and 3 are in use, and 0 is none");
        ids.remove(3);
        assert_eq!(ids.draw(), 3);
    }

    #[test]
    fn what_was_given_is_told_from_what_never_was() {
        let max = u64::from(u32::MAX);
        let mut ids: Ids<()> = Ids::new(max - 1, max);
        assert!(!ids.was_given(max - 1) && !ids.was_given(0));
        for _ in 0..4 {
            ids.draw();
        }
        for (id, given) in [
            (max - 2, false),
            (max - 1, true),
            (max, true),
            (0, false),
            (1, true),
            (2, true),
            (3, false),
            (max + 1, false),
        ] {
            assert_eq!(ids.was_given(id), given, "{id}");
        }
    }
}
