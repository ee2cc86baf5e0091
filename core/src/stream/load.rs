//! How much a worker has taken on, and whether it takes more: the memory it holds, how long its turns are, how many requests run.
//!
//! Memory is counted where it is taken, by kind: a connection and a request by what they cost at least, their heads and bodies by their
//! length, buffers by the plane that owns them. That is an estimate from below, and close: it does not know the allocator's slack.
//!
//! **Invariant:** a worker that sheds answers at once and goes on with what runs; asking costs a few loads.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Limits;
use crate::telemetry::metrics::WorkerCounters;
use crate::telemetry::pulse::{Running, Work};

/// One worker's load.
pub struct Load {
    counters: Arc<WorkerCounters>,
    plane_bytes: Box<dyn Fn() -> usize>,
    charged_bytes: Cell<usize>,
    turn: Cell<Duration>,
    runs: Cell<u64>,
    bounds: Cell<Bounds>,
}

#[derive(Clone, Copy)]
struct Bounds {
    memory_bytes_max: usize,
    turn_time_max: Duration,
    requests_active_max: u64,
}

/// Why a worker takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// It holds `memory_bytes_max`.
    Memory,
    /// Its turns are longer than `turn_time_max`.
    TurnTime,
    /// `requests_active_max` requests run.
    Requests,
}

impl Load {
    /// Of a worker that counts in `counters` and whose plane holds `plane_bytes()`.
    #[must_use]
    pub fn new(counters: Arc<WorkerCounters>, plane_bytes: impl Fn() -> usize + 'static) -> Self {
        let bounds =
            Bounds { memory_bytes_max: usize::MAX, turn_time_max: Duration::MAX, requests_active_max: u64::MAX };
        Self {
            counters,
            plane_bytes: Box::new(plane_bytes),
            charged_bytes: Cell::new(0),
            turn: Cell::new(Duration::ZERO),
            runs: Cell::new(0),
            bounds: Cell::new(bounds),
        }
    }

    /// Puts limits in force. `memory_bytes_max` counts where they do not say.
    pub fn set_limits(&self, limits: &Limits, memory_bytes_max: usize) {
        self.bounds.set(Bounds {
            memory_bytes_max: if limits.memory_bytes_max == 0 { memory_bytes_max } else { limits.memory_bytes_max },
            turn_time_max: limits.turn_time_max,
            requests_active_max: if limits.requests_active_max == 0 { u64::MAX } else { limits.requests_active_max },
        });
    }

    /// Why no more requests are taken; None: they are. Counts what is refused.
    #[must_use]
    pub fn overload(&self) -> Option<Overload> {
        let (bounds, counters) = (self.bounds.get(), &self.counters.downstream);
        if self.held_bytes() >= bounds.memory_bytes_max {
            counters.shed_memory.inc();
            Some(Overload::Memory)
        } else if self.turn.get() > bounds.turn_time_max {
            counters.shed_turn_time.inc();
            Some(Overload::TurnTime)
        } else if counters.request_active.get() >= bounds.requests_active_max {
            counters.shed_requests.inc();
            Some(Overload::Requests)
        } else {
            None
        }
    }

    /// Whether there is no memory for another connection either. A little later than for requests: who is told to try again must get in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let max = self.bounds.get().memory_bytes_max;
        self.held_bytes() >= max.saturating_add(max / 8)
    }

    /// The memory that the worker holds, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.charged_bytes.get() + (self.plane_bytes)()
    }

    /// Counts so many bytes as held while the charge lives.
    #[must_use]
    pub fn charge(self: &Rc<Self>, bytes: usize) -> Charge {
        self.charged_bytes.set(self.charged_bytes.get() + bytes);
        Charge { load: Rc::clone(self), bytes }
    }

    /// Where its worker counts.
    #[must_use]
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Notes how long a turn was.
    pub fn note_turn(&self, turn: Duration) {
        self.turn.set(turn);
        self.counters.turns.note(turn);
        self.counters.downstream.memory_held.set(self.held_bytes() as u64);
    }

    /// How often something was run.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs.get()
    }

    /// Says what begins to run.
    #[must_use]
    pub fn enter(&self, work: Work, subject: u64) -> Running<'_> {
        self.counters.pulse.enter(&self.runs, work, subject)
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("held_bytes", &self.held_bytes()).field("turn", &self.turn.get()).finish()
    }
}

/// Memory that is held.
pub struct Charge {
    load: Rc<Load>,
    bytes: usize,
}

impl Charge {
    /// Counts further bytes.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.load.charged_bytes.set(self.load.charged_bytes.get() + bytes);
    }

    /// Counts so many bytes in place of those before.
    pub fn set(&mut self, bytes: usize) {
        self.load.charged_bytes.set(self.load.charged_bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.load.charged_bytes.set(self.load.charged_bytes.get() - self.bytes);
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "the worker holds memory_bytes_max",
            Self::TurnTime => "the worker's turns are longer than turn_time_max",
            Self::Requests => "requests_active_max requests run on the worker",
        })
    }
}

/// What a connection costs while it is open, in bytes: its task, its state, its place in tables.
pub const CONN_BYTES: usize = 1536;

/// What a session of datagrams costs while it is open, in bytes: its task, its state, its place in tables.
pub const SESSION_BYTES: usize = 1024;

/// What a TLS session costs in addition, in bytes.
pub const TLS_BYTES: usize = 16 * 1024;

/// What a request costs while it runs, in bytes, its head and body aside: the future of its exchange, and its share of an upstream
/// connection.
pub const REQUEST_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn load(limits: &Limits) -> (Rc<Load>, Rc<Cell<usize>>, Arc<WorkerCounters>) {
        let (plane, counters) = (Rc::new(Cell::new(0)), Arc::new(WorkerCounters::default()));
        let bytes = Rc::clone(&plane);
        let load = Load::new(Arc::clone(&counters), move || bytes.get());
        load.set_limits(limits, 1000);
        (Rc::new(load), plane, counters)
    }

    #[test]
    fn each_bound_sheds_and_lets_in_again() {
        let limits = Limits { requests_active_max: 2, turn_time_max: Duration::from_millis(5), ..Limits::default() };
        let (load, plane, counters) = load(&limits);
        assert_eq!(load.overload(), None);

        plane.set(400);
        let mut charge = load.charge(500);
        assert_eq!((load.held_bytes(), load.overload()), (900, None));
        charge.add(100);
        assert_eq!((load.overload(), load.is_full()), (Some(Overload::Memory), false));
        charge.add(125);
        assert!(load.is_full(), "at an eighth above");
        drop(charge);
        assert_eq!((load.held_bytes(), load.overload(), load.is_full()), (400, None, false));

        load.note_turn(Duration::from_millis(6));
        assert_eq!(load.overload(), Some(Overload::TurnTime));
        load.note_turn(Duration::from_millis(5));
        assert_eq!(load.overload(), None);

        counters.downstream.request_active.add(2);
        assert_eq!(load.overload(), Some(Overload::Requests));
        let down = &counters.downstream;
        assert_eq!((down.shed_memory.get(), down.shed_turn_time.get(), down.shed_requests.get()), (1, 1, 1));
    }

    #[test]
    fn what_the_file_says_goes_before_what_was_derived() {
        let (load, plane, _) = load(&Limits { memory_bytes_max: 50, ..Limits::default() });
        plane.set(60);
        assert_eq!(load.overload(), Some(Overload::Memory));
        load.set_limits(&Limits::default(), 1000);
        assert_eq!(load.overload(), None);
    }
}
