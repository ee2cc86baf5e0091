//! What a worker runs right now, for a watchdog on another thread: a turn that does not end is seen, and named.
//!
//! **Invariant:** costs the worker a few stores to a line of its own, and no look at the clock.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::metrics::Counter;

/// One worker's pulse. Written by the worker, but for `told`, which the watchdog writes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Pulse {
    /// Counts what was run, over eight bits that say what runs: [`Work`], or 0 for nothing.
    word: AtomicU64,
    /// Which connection, where that is what runs.
    subject: AtomicU64,
    told: Told,
}

/// What the watchdog writes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Told {
    /// Milliseconds for which what runs has run, once the watchdog has told of it; else 0.
    milliseconds: AtomicU64,
    stalls: Counter,
}

/// What a worker can be held up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A connection: reading, filters, routing, writing.
    Connection = 1,
    /// A TLS handshake.
    Handshake = 2,
    /// Looking for idle connections.
    Sweep = 3,
    /// Putting a generation of the configuration in force.
    Generation = 4,
    /// Polling accelerators, and freeing what they have let go of.
    Accelerators = 5,
    /// Datagrams that have come to a listener.
    Datagrams = 6,
}

/// A look at a pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    word: u64,
    /// The connection's id, as in the access log; 0 for other work.
    pub subject: u64,
}

/// Something runs while this lives.
pub struct Running<'p> {
    pulse: &'p Pulse,
    word: u64,
}

impl Pulse {
    /// Says what begins to run. `count` counts what this worker has run.
    pub fn enter(&self, count: &Cell<u64>, work: Work, subject: u64) -> Running<'_> {
        let next = count.get().wrapping_add(1);
        count.set(next);
        let word = next << WORK_BITS;
        self.subject.store(subject, Ordering::Relaxed);
        // Behind the subject, so that the watchdog never gives a beat the subject of the one before.
        self.word.store(word | work as u64, Ordering::Release);
        Running { pulse: self, word }
    }

    /// What runs now.
    #[must_use]
    pub fn beat(&self) -> Beat {
        let word = self.word.load(Ordering::Acquire);
        Beat { word, subject: self.subject.load(Ordering::Relaxed) }
    }

    /// Notes that what runs has been told to run for so long, so that it says more when it is done.
    pub fn tell(&self, milliseconds: u64) {
        self.told.stalls.inc();
        self.told.milliseconds.store(milliseconds, Ordering::Relaxed);
    }

    /// How often that was.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.told.stalls.get()
    }
}

impl Beat {
    /// What it is; None: nothing runs.
    #[must_use]
    pub fn work(self) -> Option<Work> {
        [Work::Connection, Work::Handshake, Work::Sweep, Work::Generation, Work::Accelerators, Work::Datagrams]
            .into_iter()
            .find(|work| *work as u64 == self.word & ((1 << WORK_BITS) - 1))
    }
}

impl Running<'_> {
    /// For how many milliseconds the watchdog saw it run, if it was told of.
    #[must_use]
    pub fn stalled(&self) -> Option<u64> {
        match self.pulse.told.milliseconds.load(Ordering::Relaxed) {
            0 => None,
            milliseconds => {
                self.pulse.told.milliseconds.store(0, Ordering::Relaxed);
                Some(milliseconds)
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.pulse.word.store(self.word, Ordering::Release);
    }
}

/// Bits of a pulse's word that say what runs.
const WORK_BITS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_says_what_runs_and_no_two_are_alike() {
        let (pulse, count) = (Pulse::default(), Cell::new(0));
        assert_eq!(pulse.beat().work(), None);
        let running = pulse.enter(&count, Work::Handshake, 7);
        let first = pulse.beat();
        assert_eq!((first.work(), first.subject), (Some(Work::Handshake), 7));
        assert_eq!(running.stalled(), None);
        pulse.tell(30);
        assert_eq!((running.stalled(), running.stalled()), (Some(30), None));
        drop(running);
        assert_eq!(pulse.beat().work(), None);
        let again = pulse.enter(&count, Work::Handshake, 7);
        assert_ne!(pulse.beat(), first, "the same again is another turn");
        drop(again);
    }
}
