//! The phases of a run: connections open, the load warms up, a window is measured.
//!
//! **Invariant:** phases follow each other once; `measuring` and `measured` are said at the very edges of the window.

use super::args::{LoadArgs, Mode};
use super::record::Record;
use super::result::LoadResult;
use super::spare::{Meter, Spare};
use crate::wire::clock::{Nanos, seconds};

/// Where a run is, and when that ends.
pub(crate) struct Window {
    phase: Phase,
    warmup: Nanos,
    length: Nanos,
    meter: Meter,
}

enum Phase {
    /// Until all connections have been tried; at most until this time.
    Opening(Nanos),
    Warmup(Nanos),
    Measured {
        begin: Nanos,
        end: Nanos,
        spare: Spare,
    },
}

impl Window {
    pub(crate) fn new(args: &LoadArgs, meter: Meter, now: Nanos) -> Self {
        let warmup = if args.mode == Mode::Idle { 0 } else { seconds(args.warmup) };
        let patience = seconds(args.timeout) + u64::from(args.connections) * OPENING_NANOS_PER_CONN;
        Self { phase: Phase::Opening(now + patience), warmup, length: seconds(args.seconds), meter }
    }

    /// All connections have been tried.
    pub(crate) fn opened(&mut self, now: Nanos) {
        if matches!(self.phase, Phase::Opening(_)) {
            self.phase = Phase::Warmup(now + self.warmup);
        }
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    /// When the phase ends at the latest.
    pub(crate) fn deadline(&self) -> Nanos {
        match self.phase {
            Phase::Opening(end) | Phase::Warmup(end) | Phase::Measured { end, .. } => end,
        }
    }

    /// Goes on to the next phase when it is time; true when the window has closed.
    pub(crate) fn turn(&mut self, now: Nanos, record: &mut Record) -> bool {
        if now < self.deadline() {
            return false;
        }
        match self.phase {
            Phase::Opening(_) => self.opened(now),
            Phase::Warmup(_) => {
                super::say("measuring");
                record.reset();
                self.phase = Phase::Measured { begin: now, end: now + self.length, spare: Spare::begin(&self.meter) };
            }
            Phase::Measured { .. } => {
                super::say("measured");
                return true;
            }
        }
        false
    }

    /// The result, after the window has closed.
    pub(crate) fn finish(&self, now: Nanos, record: Record) -> LoadResult {
        let Phase::Measured { begin, spare, .. } = &self.phase else { return LoadResult::default() };
        let elapsed = now - begin;
        LoadResult { spare: spare.share(elapsed), ..record.finish(elapsed) }
    }
}

const OPENING_NANOS_PER_CONN: Nanos = 5_000_000;
