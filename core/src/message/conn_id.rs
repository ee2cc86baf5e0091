//! Numbers of connections, for logs.
//!
//! **Invariant:** no number is given twice in a process; a worker asks the others once for many.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of a new connection, from 1.
#[must_use]
pub fn next_conn_id() -> u64 {
    OWN.with(|own| {
        let (next, end) = own.get();
        let (next, end) = if next < end {
            (next, end)
        } else {
            let start = NEXT.fetch_add(BLOCK, Ordering::Relaxed);
            (start, start + BLOCK)
        };
        own.set((next + 1, end));
        next
    })
}

thread_local! {
    /// The next number of this worker, and the end of its block.
    static OWN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Numbers that a worker takes at a time.
const BLOCK: u64 = 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_number_is_given_twice() {
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| (0..5000).map(|_| next_conn_id()).collect::<Vec<_>>())).collect();
        let all: Vec<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 20_000);
        assert!(!all.contains(&0));
    }
}
