//! So many in a second, at most: for answers that anybody can ask for.
//!
//! **Invariant:** in any second of the stack's clock no more than the limit; no memory of the seconds before.

use smoltcp::time::Instant;

/// Counts one kind of answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    second: i64,
    given: u32,
}

impl Rate {
    /// Whether one more may be given. Counts it.
    pub(super) fn take(&mut self, per_second_max: u32, now: Instant) -> bool {
        if self.second != now.secs() {
            *self = Self { second: now.secs(), given: 0 };
        }
        let may = self.given < per_second_max;
        self.given += u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_share_and_the_next_one_its_own() {
        let mut rate = Rate::default();
        let given = |rate: &mut Rate, at| (0..10).filter(|_| rate.take(3, Instant::from_millis(at))).count();
        assert_eq!((given(&mut rate, 1_000), given(&mut rate, 1_999), given(&mut rate, 2_000)), (3, 0, 3));
        assert!(!rate.take(0, Instant::from_secs(9)));
    }
}
