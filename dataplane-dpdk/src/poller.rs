//! The loop of an lcore, as a task: one turn per poll.
//!
//! It is *spawned* and wakes itself. Then the tasks of a turn's packets run before the next turn, and the executor looks after its timers
//! and its kernel sockets every so many turns. A root future that yields would make it look each time, at ten times the price.
//!
//! **Invariant:** a turn does not block, except in an idle step that was told to sleep.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ferrogate_core::config::dataplane::{Idle, IdleMode};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::counters::LcoreCounters;
use crate::stack::SharedStack;

/// Time as a stack counts it, from tokio's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it reads the clock: no default value")]
    pub fn new() -> Self {
        Self { epoch: Instant::now() }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> smoltcp::time::Instant {
        self.at(Instant::now())
    }

    fn at(&self, at: Instant) -> smoltcp::time::Instant {
        let micros = i64::try_from((at - self.epoch).as_micros()).unwrap_or(i64::MAX - START_MICROS);
        smoltcp::time::Instant::from_micros(START_MICROS + micros)
    }

    fn instant(&self, at: smoltcp::time::Instant) -> Instant {
        let micros = u64::try_from(at.total_micros() - START_MICROS).unwrap_or(0);
        // A deadline beyond tokio's reach is as good as none.
        self.epoch + Duration::from_micros(micros.min(YEAR_MICROS))
    }
}

/// What an idle step is told.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Whether the turn moved anything.
    pub busy: bool,
    /// The stacks of the lcore.
    pub stacks: &'a [SharedStack],
    /// Their clock.
    pub clock: Clock,
}

/// What an lcore does between two turns. It sees to it that the poller is woken again.
pub trait IdleStep: Unpin + 'static {
    /// One step after a turn.
    fn step(&mut self, cx: &mut Context<'_>, turn: &Turn<'_>);
}

/// The poller of one lcore. It never ends.
#[derive(Debug)]
pub struct Poller<I> {
    stacks: Rc<[SharedStack]>,
    clock: Clock,
    idle: I,
    counters: Arc<LcoreCounters>,
    last: Instant,
    busy: bool,
}

impl<I: IdleStep> Poller<I> {
    /// Drives `stacks`, which were made with the times of `clock`, and counts into `counters`.
    #[must_use]
    pub fn new(stacks: impl Into<Rc<[SharedStack]>>, clock: Clock, idle: I, counters: Arc<LcoreCounters>) -> Self {
        Self { stacks: stacks.into(), clock, idle, counters, last: Instant::now(), busy: false }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        let spent = u64::try_from((now - self.last).as_nanos()).unwrap_or(u64::MAX);
        self.last = now;
        if self.busy {
            self.counters.busy_ns.add(spent)
        } else {
            self.counters.idle_ns.add(spent)
        }

        let time = self.clock.at(now);
        self.busy = false;
        for stack in &*self.stacks {
            let mut stack = stack.borrow_mut();
            self.busy |= stack.egress(time);
            self.busy |= stack.ingress(time) > 0;
        }
        self.counters.turns.add(1);
        if !self.busy {
            self.counters.empty_turns.add(1);
        }
    }
}

impl<I: IdleStep> Future for Poller<I> {
    type Output = std::convert::Infallible;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let poller = self.get_mut();
        poller.turn();
        let turn = Turn { busy: poller.busy, stacks: &poller.stacks, clock: poller.clock };
        poller.idle.step(cx, &turn);
        Poll::Pending
    }
}

/// Rests as the configuration says: busy at first, then with pauses of the CPU, then asleep for some microseconds at a time.
#[derive(Debug)]
pub struct PolledIdle {
    config: Idle,
    empty_turns: u32,
}

impl PolledIdle {
    /// Rests by `config`.
    #[must_use]
    pub fn new(config: Idle) -> Self {
        Self { config, empty_turns: 0 }
    }
}

impl IdleStep for PolledIdle {
    fn step(&mut self, cx: &mut Context<'_>, turn: &Turn<'_>) {
        if turn.busy {
            self.empty_turns = 0;
        }
        let empty = self.empty_turns;
        self.empty_turns = empty.saturating_add(1);
        if self.config.mode == IdleMode::Busy || empty < self.config.busy_polls {
            cx.waker().wake_by_ref();
        } else if empty - self.config.busy_polls < self.config.pause_polls {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
            cx.waker().wake_by_ref();
        } else {
            std::thread::sleep(self.config.sleep);
            // Behind a sleep the executor looks after its timers and kernel sockets first, or these would wait for sixty sleeps.
            let yielded = std::pin::pin!(tokio::task::yield_now()).poll(cx);
            debug_assert!(yielded.is_pending(), "the first poll of a yield defers the wake-up");
        }
    }
}

/// Rests until something is due: for a simulation, where a poller that wakes itself would keep a paused clock from moving.
#[derive(Debug, Default)]
pub struct ClockIdle {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleStep for ClockIdle {
    fn step(&mut self, cx: &mut Context<'_>, turn: &Turn<'_>) {
        let mut due: Option<smoltcp::time::Instant> = None;
        let mut ready = turn.busy;
        for stack in turn.stacks {
            let mut stack = stack.borrow_mut();
            ready |= stack.poll_rx(cx).is_ready();
            due = due.into_iter().chain(stack.due()).min();
        }
        let Some(due) = due.map(|due| turn.clock.instant(due)) else {
            if ready {
                cx.waker().wake_by_ref();
            }
            return;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        sleep.as_mut().reset(due);
        if sleep.as_mut().poll(cx).is_ready() || ready {
            cx.waker().wake_by_ref();
        }
    }
}

/// The stack's clock does not start at 0, which smoltcp takes for "at once".
const START_MICROS: i64 = 1_000_000;
/// As far as a deadline is told to tokio.
const YEAR_MICROS: u64 = 365 * 24 * 3600 * 1_000_000;
/// `pause` instructions between two turns: about a microsecond.
const PAUSES: u32 = 20;
