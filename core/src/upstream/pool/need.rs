//! How many connections to a host are worth keeping.
//!
//! A limit of idle connections alone turns against whoever needs more of them: under more clients than ever each answer would close one and each
//! request open one, which costs several times what the request does.
//!
//! **Invariant:** what is kept beyond the limit was needed at once, and is given up when it is not any more.

use std::cell::Cell;

/// Connections of HTTP/1 that were needed at once lately.
#[derive(Default)]
pub(super) struct Need {
    /// Leased now, or being opened for who will lease it.
    leased: Cell<usize>,
    /// The most that were leased at once; less with each sweep.
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
        let leased = self.leased.get() + 1;
        self.leased.set(leased);
        self.most.set(self.most.get().max(leased));
        Wanted(self)
    }

    /// A lease is over.
    pub(super) fn end(&self) {
        self.leased.set(self.leased.get() - 1);
    }

    /// Forgets a little of what was needed. To be called with each sweep.
    pub(super) fn forget(&self) {
        let most = self.most.get();
        self.most.set(self.leased.get().max(most - most.div_ceil(SWEEPS)));
    }

    /// Connections that may lie idle, where there is a limit for those that were not needed.
    pub(super) fn idle_max(&self, limit: usize) -> usize {
        limit.max(self.most.get() - self.leased.get())
    }
}

/// A part of so many is forgotten with each sweep, which comes four times a second: half in eleven seconds.
const SWEEPS: usize = 64;
