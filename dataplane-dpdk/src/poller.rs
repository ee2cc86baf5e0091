//! The loop of an lcore, as a task: one turn per poll.
//!
//! It is *spawned* and wakes itself. Then the tasks of a turn's packets run before the next turn, and the executor looks after its timers
//! and its kernel sockets every so many turns. A root future that yields would make it look each time, at ten times the price.
//!
//! **Invariant:** a turn does not block, except in an idle step that was told to sleep; and who waits is woken by whatever there is to do.

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
            self.counters.busy_ns.add(spent);
            self.counters.turn_lengths.note(spent);
        } else {
            self.counters.idle_ns.add(spent);
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

/// Rests as the configuration says: busy at first, then with pauses of the CPU, then asleep, for longer the longer nothing has come; and in
/// the end it waits to be woken, where the ports can do that.
#[derive(Debug)]
pub struct PolledIdle {
    config: Idle,
    empty_turns: u32,
    /// How long it has slept since there was something to do.
    slept: Duration,
    is_waiting: bool,
    alarm: Alarm,
}

/// What is done until the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Pause,
    Sleep(Duration),
    /// To be woken; where that can't be, asleep for so long.
    Wait(Duration),
}

impl PolledIdle {
    /// Rests by `config`.
    #[must_use]
    pub fn new(config: Idle) -> Self {
        Self { config, empty_turns: 0, slept: Duration::ZERO, is_waiting: false, alarm: Alarm::default() }
    }

    /// After a turn that was busy or not.
    fn rest(&mut self, busy: bool) -> Rest {
        if busy {
            (self.empty_turns, self.slept) = (0, Duration::ZERO);
        }
        let (empty, config) = (self.empty_turns, &self.config);
        self.empty_turns = empty.saturating_add(1);
        if config.mode == IdleMode::Busy || empty < config.busy_polls {
            return Rest::Nothing;
        }
        if empty - config.busy_polls < config.pause_polls {
            return Rest::Pause;
        }
        // What ends a silence waits for a small part of it only.
        let longest = config.sleep_max.max(config.sleep);
        let sleep = (self.slept / SILENCE_PARTS).clamp(config.sleep, longest);
        if config.wait && sleep == longest {
            return Rest::Wait(sleep);
        }
        self.slept = self.slept.saturating_add(sleep);
        Rest::Sleep(sleep)
    }

    /// Has `cx` woken by a frame, a connection that writes, or a timer. False: there is a port that wakes nobody.
    fn wait(&mut self, cx: &mut Context<'_>, turn: &Turn<'_>) -> bool {
        let (mut due, mut ready) = (None, false);
        self.is_waiting = true;
        for stack in turn.stacks {
            let mut stack = stack.borrow_mut();
            let Some(rx) = stack.wait(cx) else { return false };
            ready |= rx.is_ready();
            due = due.into_iter().chain(stack.due()).min();
        }
        if ready {
            cx.waker().wake_by_ref();
        } else {
            let latest = Instant::now() + WAIT_MAX;
            self.alarm.set(due.map_or(latest, |due| turn.clock.instant(due).min(latest)), cx);
        }
        true
    }

    fn end_wait(&mut self, stacks: &[SharedStack]) {
        if std::mem::take(&mut self.is_waiting) {
            stacks.iter().for_each(|stack| stack.borrow_mut().awake());
        }
    }
}

impl IdleStep for PolledIdle {
    fn step(&mut self, cx: &mut Context<'_>, turn: &Turn<'_>) {
        let rest = self.rest(turn.busy);
        if !matches!(rest, Rest::Wait(_)) {
            self.end_wait(turn.stacks);
        }
        match rest {
            Rest::Nothing => cx.waker().wake_by_ref(),
            Rest::Pause => {
                for _ in 0..PAUSES {
                    std::hint::spin_loop();
                }
                cx.waker().wake_by_ref();
            }
            Rest::Wait(_) if self.wait(cx, turn) => {}
            Rest::Wait(time) => {
                // It never will.
                self.config.wait = false;
                self.end_wait(turn.stacks);
                sleep_and_yield(time, cx);
            }
            Rest::Sleep(time) => sleep_and_yield(time, cx),
        }
    }
}

fn sleep_and_yield(time: Duration, cx: &mut Context<'_>) {
    std::thread::sleep(time);
    // Behind a sleep the executor looks after its timers and kernel sockets first, or these would wait for sixty sleeps.
    let yielded = std::pin::pin!(tokio::task::yield_now()).poll(cx);
    debug_assert!(yielded.is_pending(), "the first poll of a yield defers the wake-up");
}

/// Rests until something is due: for a simulation, where a poller that wakes itself would keep a paused clock from moving.
#[derive(Debug, Default)]
pub struct ClockIdle {
    alarm: Alarm,
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
        if let Some(due) = due {
            self.alarm.set(turn.clock.instant(due), cx);
        }
        if ready {
            cx.waker().wake_by_ref();
        }
    }
}

/// A timer that is kept.
#[derive(Debug, Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Has `cx` woken then.
    fn set(&mut self, at: Instant, cx: &mut Context<'_>) {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        sleep.as_mut().reset(at);
        if sleep.as_mut().poll(cx).is_ready() {
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
/// A sleep is such a part of the silence before it.
const SILENCE_PARTS: u32 = 32;
/// A wait ends after so long in any case: what ends in a stack without a timer of its own is seen to, and a driver that wakes nobody is found out.
const WAIT_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_the_more_the_longer_nothing_comes_and_not_at_all_when_something_did() {
        let micros = Duration::from_micros;
        let config = Idle {
            busy_polls: 3,
            pause_polls: 2,
            sleep: micros(50),
            sleep_max: micros(500),
            wait: false,
            ..Idle::default()
        };
        let mut idle = PolledIdle::new(config.clone());
        for _ in 0..2 {
            let first: Vec<_> = (0..7).map(|n| idle.rest(n == 0)).collect();
            let asleep = Rest::Sleep(micros(50));
            assert_eq!(first, [vec![Rest::Nothing; 3], vec![Rest::Pause; 2], vec![asleep; 2]].concat());
            let mut slept = micros(100);
            for _ in 0..1000 {
                let Rest::Sleep(sleep) = idle.rest(false) else { panic!("it stays asleep") };
                assert!(sleep <= micros(50).max(slept / 32) && sleep <= micros(500), "{sleep:?} after {slept:?}");
                slept += sleep;
            }
            assert_eq!(idle.rest(false), Rest::Sleep(micros(500)));
        }
        let mut idle = PolledIdle::new(Idle { wait: true, ..config.clone() });
        let sleeps = (0..1000).map(|_| idle.rest(false)).filter(|rest| matches!(rest, Rest::Sleep(_))).count();
        assert!((100..200).contains(&sleeps), "{sleeps} sleeps before it waits");
        assert_eq!(idle.rest(false), Rest::Wait(micros(500)));
        assert_eq!(idle.rest(true), Rest::Nothing);
        let mut busy = PolledIdle::new(Idle { mode: IdleMode::Busy, ..config });
        assert!((0..100_000).all(|_| busy.rest(false) == Rest::Nothing));
    }
}
