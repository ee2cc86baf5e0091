//! The card itself: slots that each hold one operation for a time, a ring of bounded size in front of them, faults on order.
//!
//! The time is pretended; the operation is really computed, by the card's own thread, when its time is over.
//!
//! **Invariant:** an operation that was taken ends exactly once, with its result or a fault, whatever its owner does meanwhile.

#![allow(clippy::disallowed_types, reason = "a thread of its own beside the program under test, on the real clock")]

use std::collections::{BinaryHeap, VecDeque};
use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a card is asked to do: computes, then tells its owner.
pub(crate) struct Operation {
    /// False where the card is to fail.
    pub(crate) compute: Box<dyn FnOnce(bool) + Send>,
    pub(crate) tell: Box<dyn FnOnce() + Send>,
}

/// How a card behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// Operations at the same time.
    pub(crate) slots: usize,
    /// How long one takes.
    pub(crate) latency: Duration,
    /// Operations in the card, at most; more are refused.
    pub(crate) ring: usize,
    /// Every so manieth operation fails; 0: none.
    pub(crate) fail_every: usize,
    /// What is done waits for [`Card::poll`].
    pub(crate) polled: bool,
    /// What is done makes a descriptor readable.
    pub(crate) by_fd: bool,
    /// The card is gone while this file is there.
    pub(crate) gone_file: Option<PathBuf>,
    /// Is there while the card is plugged in.
    pub(crate) in_file: Option<PathBuf>,
    /// What it is asked meanwhile fails at once. Else nothing is heard of it until the card is back, and then that it failed.
    pub(crate) gone_tells: bool,
}

impl Behaviour {
    /// What it can be told: `slots`, `latency_us`, `ring`, `fail_every`, `completion` (`callback`, `poll` or `fd`), `gone_file` (the card is gone while
    /// it is there), `gone` (`silent` or `fault`: what it is asked meanwhile) and `in_file` (made when it is plugged in, and removed when it is pulled out).
    pub(crate) const PARAMETERS: [&'static CStr; 8] =
        [c"slots", c"latency_us", c"ring", c"fail_every", c"completion", c"gone_file", c"gone", c"in_file"];

    /// With the defaults where nothing is told.
    pub(crate) fn read(text: impl Fn(&CStr) -> Option<String>) -> Self {
        let number = |key: &CStr, default: usize| text(key).and_then(|t| t.parse().ok()).unwrap_or(default);
        Self {
            slots: number(c"slots", 256).max(1),
            latency: Duration::from_micros(number(c"latency_us", 1000) as u64),
            ring: number(c"ring", 1024).max(1),
            fail_every: number(c"fail_every", 0),
            polled: text(c"completion").as_deref() == Some("poll"),
            by_fd: text(c"completion").as_deref() == Some("fd"),
            gone_file: text(c"gone_file").map(Into::into),
            in_file: text(c"in_file").map(Into::into),
            gone_tells: text(c"gone").as_deref() == Some("fault"),
        }
    }

    fn is_gone(&self) -> bool {
        self.gone_file.as_ref().is_some_and(|file| file.exists())
    }
}

/// A card.
pub(crate) struct Card {
    behaviour: Behaviour,
    state: Mutex<State>,
    arrived: Condvar,
    in_flight: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// When each slot is free again.
    slots: VecDeque<Instant>,
    waiting: BinaryHeap<Timed>,
    /// In the card when it went, or given to it since.
    lost: Vec<Operation>,
    done: Vec<Box<dyn FnOnce() + Send>>,
    taken: usize,
    /// It is being pulled out.
    ends: bool,
}

/// An operation and when it is done. The heap's greatest is the earliest.
struct Timed(Instant, bool, Operation);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl Card {
    /// Plugs a card in. It stays until its provider is unloaded, if ever: an operation may be in it when everybody else has gone.
    pub(crate) fn plug_in(behaviour: Behaviour) -> &'static Self {
        let card: &'static Self = Box::leak(Box::new(Self {
            behaviour,
            state: Mutex::default(),
            arrived: Condvar::new(),
            in_flight: AtomicUsize::new(0),
            thread: Mutex::default(),
        }));
        if let Some(file) = &card.behaviour.in_file {
            drop(std::fs::write(file, ""));
        }
        *card.thread.lock().unwrap_or_else(PoisonError::into_inner) =
            std::thread::Builder::new().name("card".into()).spawn(|| card.work()).ok();
        card
    }

    /// Pulls it out: its thread ends.
    pub(crate) fn pull_out(self: Box<Self>) {
        self.state().ends = true;
        self.arrived.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(thread.map(JoinHandle::join));
        if let Some(file) = &self.behaviour.in_file {
            drop(std::fs::remove_file(file));
        }
    }

    /// Takes an operation; gives it back when the ring is full.
    pub(crate) fn submit(&self, operation: Operation) -> Result<(), Operation> {
        let mut state = self.state();
        if self.in_flight.load(Ordering::Relaxed) >= self.behaviour.ring {
            return Err(operation);
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let free = if state.slots.len() < self.behaviour.slots { now } else { state.slots.pop_front().unwrap_or(now) };
        let end = free.max(now) + self.behaviour.latency;
        state.slots.push_back(end);
        state.taken += 1;
        let fails_at_once = self.behaviour.gone_tells && self.behaviour.is_gone();
        let end = if fails_at_once { now } else { end };
        let good = self.behaviour.fail_every == 0 || !state.taken.is_multiple_of(self.behaviour.fail_every);
        let is_next = state.waiting.peek().is_none_or(|first| end < first.0);
        state.waiting.push(Timed(end, good, operation));
        drop(state);
        // A doorbell is no system call: whoever sleeps until an earlier one is done sees this one then.
        if is_next {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Tells the owners of what is done; says how many.
    pub(crate) fn poll(&self) -> usize {
        let done = std::mem::take(&mut self.state().done);
        let count = done.len();
        done.into_iter().for_each(|tell| tell());
        count
    }

    pub(crate) fn tells_by_fd(&self) -> bool {
        self.behaviour.by_fd
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.state();
        while !state.ends {
            let is_gone = self.behaviour.is_gone();
            let now = Instant::now();
            let next = state.waiting.peek().map(|first| first.0);
            let due = if next.is_some_and(|end| end <= now) { state.waiting.pop() } else { None };
            let ended = match due {
                Some(Timed(_, _, operation)) if is_gone && !self.behaviour.gone_tells => {
                    state.lost.push(operation);
                    continue;
                }
                Some(Timed(_, good, operation)) => Some((good && !is_gone, operation)),
                None if !is_gone => state.lost.pop().map(|operation| (false, operation)),
                None => None,
            };
            let Some((good, operation)) = ended else {
                state = self.wait(state, next.map(|end| end - now));
                continue;
            };
            drop(state);
            self.end(good, operation);
            state = self.state();
        }
    }

    /// Waits for an operation that comes, for the next that is done, or for the card to come back.
    fn wait<'s>(&self, state: MutexGuard<'s, State>, next: Option<Duration>) -> MutexGuard<'s, State> {
        let look = (!state.lost.is_empty()).then_some(LOOK_INTERVAL);
        match next.into_iter().chain(look).min() {
            None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => self.arrived.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    fn end(&self, good: bool, operation: Operation) {
        (operation.compute)(good);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.behaviour.polled {
            self.state().done.push(operation.tell);
        } else {
            (operation.tell)();
        }
    }
}

/// How soon a card that is back is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
