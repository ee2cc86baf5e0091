//! How many connections to a host are worth keeping.
//!
//! A limit of idle connections alone turns against whoever needs more of them: under more clients than that each answer would close one and each
//! request open one, which costs several times what the request does.
//!
//! **Invariant:** what is kept beyond the limit was needed at once, and is given up when it is not any more.

use std::cell::Cell;

/// Connections of HTTP/1 that were needed at once lately.
#[derive(Default)]
pub(super) struct Need {
    /// Leased now, or being opened or waited for by who will lease it.
    now: Cell<usize>,
    /// The most that were needed at once; less with each sweep.
    most: Cell<usize>,
}

/// One that is not leased yet.
pub(super) struct Wanted<'a>(&'a Need);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Need {
    /// Another one is wanted: counted as long as the result lives, or, once that is forgotten, until the lease [ends](Self::end).
    pub(super) fn want(&self) -> Wanted<'_> {
        let now = self.now.get() + 1;
        self.now.set(now);
        self.most.set(self.most.get().max(now));
        Wanted(self)
    }

    /// A lease is over.
    pub(super) fn end(&self) {
        self.now.set(self.now.get() - 1);
    }

    /// Forgets a little of what was needed. To be called with each sweep.
    pub(super) fn forget(&self) {
        let most = self.most.get();
        self.most.set(self.now.get().max(most - most.div_ceil(SWEEPS)));
    }

    /// Connections that may lie idle, where there is a limit for those that were not needed. A limit of 0 means that none is used again.
    pub(super) fn idle_max(&self, limit: usize) -> usize {
        if limit == 0 { 0 } else { limit.max(self.most.get() - self.now.get()) }
    }
}

/// A part of so many, one at least, is forgotten with each sweep, which comes four times a second: half in eleven seconds.
const SWEEPS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_kept_as_were_needed_at_once_and_then_fewer() {
        let need = Need::default();
        for _ in 0..640 {
            std::mem::forget(need.want());
        }
        // Somebody gave up before he had one.
        drop(need.want());
        assert_eq!(need.idle_max(256), 256, "all are leased");
        (0..640).for_each(|_| need.end());
        assert_eq!(need.idle_max(256), 641);
        need.forget();
        assert_eq!(need.idle_max(256), 630);
        let sweeps = (1..).find(|_| {
            need.forget();
            need.idle_max(256) == 256
        });
        assert!((50..70).contains(&sweeps.unwrap()), "{sweeps:?}");
    }

    #[test]
    fn what_is_leased_is_not_forgotten_and_no_limit_keeps_none() {
        let need = Need::default();
        std::mem::forget((need.want(), need.want()));
        (0..100).for_each(|_| need.forget());
        need.end();
        assert_eq!((need.idle_max(1), need.idle_max(0)), (1, 0));
        need.end();
        assert_eq!((need.idle_max(1), need.idle_max(0)), (2, 0));
        (0..9).for_each(|_| need.forget());
        assert_eq!(need.idle_max(1), 1);
    }
}
