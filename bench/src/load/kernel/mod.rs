//! The load over kernel sockets: one epoll loop, edge-triggered, a read and a write per request.
//!
//! **Invariant:** never blocks but in epoll; wakes for bytes, for the next request of the schedule, and for the end of a phase.

mod events;
mod open;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::args::{LoadArgs, Mode};
use super::error::LoadError;
use super::pace::Pace;
use super::record::Record;
use super::requests::Requests;
use super::response::LastHead;
use super::result::LoadResult;
use super::slot::{Explained, Fault, Phase, Slot};
use super::spare::Meter;
use super::tls::Client;
use super::window::Window;
use crate::wire::clock::{Clock, Nanos, seconds};
use crate::wire::io::Scratch;

/// Runs a load over kernel sockets.
pub(super) fn run(args: &LoadArgs) -> Result<LoadResult, LoadError> {
    let mut load = Load::new(args)?;
    load.drive()?;
    let now = load.clock.now();
    let established = load.slots.iter().filter(|slot| slot.io.is_some() && slot.is_counted).count() as u64;
    let result = load.window.finish(now, load.record);
    Ok(LoadResult { rate_wanted: args.rate, established, ..result })
}

struct Load<'a> {
    args: &'a LoadArgs,
    clock: Clock,
    poll: Poll,
    timer: TimerFd,
    /// What the timer is set to.
    timer_at: Nanos,
    slots: Vec<Slot>,
    /// Slots of a load with a rate that have no request, longest free first.
    free: VecDeque<usize>,
    /// Slots that failed, and when they are taken up again.
    resting: VecDeque<(Nanos, usize)>,
    /// Slots whose first connection is still to be tried.
    unopened: usize,
    /// First connections under way.
    opening: usize,
    pace: Option<Pace>,
    window: Window,
    requests: Requests,
    last_head: LastHead,
    scratch: Scratch,
    record: Record,
    tls: Option<Client>,
    timeout: Nanos,
    /// When the deadlines were looked at.
    swept: Nanos,
    /// Connections opened so far: which source address is next.
    connects: usize,
    explained: Explained,
}

impl<'a> Load<'a> {
    fn new(args: &'a LoadArgs) -> Result<Self, LoadError> {
        let clock = Clock::new();
        let poll = Poll::new()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).map_err(io::Error::from)?;
        let slots: Vec<_> = (0..args.connections).map(|_| Slot::default()).collect();
        let timer_fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&timer_fd), Token(slots.len()), Interest::READABLE)?;
        Ok(Self {
            args,
            poll,
            timer,
            timer_at: 0,
            free: VecDeque::with_capacity(slots.len()),
            resting: VecDeque::new(),
            unopened: slots.len(),
            opening: 0,
            slots,
            pace: None,
            window: Window::new(args, Meter::Kernel, clock.now()),
            requests: Requests::new(args),
            last_head: LastHead::default(),
            scratch: Scratch::new(),
            record: Record::new(),
            tls: Client::new(args)?,
            timeout: seconds(args.timeout),
            swept: 0,
            connects: 0,
            explained: Explained::default(),
            clock,
        })
    }

    /// The loop: until the window has closed.
    fn drive(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = self.clock.now();
            if self.window.turn(now, &mut self.record) {
                return Ok(());
            }
            self.open_more(now);
            self.wake_rested(now);
            self.dispatch(now);
            self.sweep(now);
            let wait = self.wait(now)?;
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                self.on_event(event);
            }
        }
    }

    /// Takes failed slots up again, and begins the schedule when the window has left its first phase.
    fn wake_rested(&mut self, now: Nanos) {
        if self.pace.is_none() && !self.window.is_opening() {
            self.pace = self.args.rate.map(|rate| Pace::new(rate, now));
        }
        while let Some(&(at, i)) = self.resting.front()
            && at <= now
        {
            self.resting.pop_front();
            self.next(i, now);
        }
    }

    /// Sends what is due.
    fn dispatch(&mut self, now: Nanos) {
        while let Some(pace) = &mut self.pace {
            let Some(&i) = self.free.front() else {
                self.record.counts.behind += pace.behind(now);
                break;
            };
            let Some(intended) = pace.take(now) else { break };
            self.free.pop_front();
            self.start(i, intended, now);
        }
    }

    /// How long nothing can happen but bytes; sets the timer for a request that is due before.
    fn wait(&mut self, now: Nanos) -> io::Result<Duration> {
        let mut until = self.window.deadline().min(now + SWEEP_NANOS);
        if let Some(&(at, _)) = self.resting.front() {
            until = until.min(at);
        }
        if let Some(pace) = &self.pace
            && !self.free.is_empty()
        {
            let next = pace.next();
            if next <= now {
                return Ok(Duration::ZERO);
            }
            if next < until && self.timer_at != next {
                self.timer_at = next;
                let after = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(next - now)));
                self.timer.set(after, TimerSetTimeFlags::empty())?;
            }
        }
        Ok(Duration::from_nanos(until.saturating_sub(now)))
    }

    /// Gives up what has waited too long.
    fn sweep(&mut self, now: Nanos) {
        if now < self.swept + SWEEP_NANOS {
            return;
        }
        self.swept = now;
        for i in 0..self.slots.len() {
            if self.slots[i].phase != Phase::Free && self.slots[i].deadline <= now {
                let fault = if self.slots[i].is_counted { Fault::Timeout } else { Fault::Connect };
                self.fail(i, fault);
            }
        }
    }

    /// The slot has no request: what it does next.
    fn next(&mut self, i: usize, now: Nanos) {
        self.slots[i].phase = Phase::Free;
        if self.args.mode == Mode::Idle {
            return;
        }
        if self.args.rate.is_some() {
            self.free.push_back(i);
            self.dispatch(now);
        } else {
            self.start(i, now, now);
        }
    }

    /// Begins a request that was meant to leave at `intended`.
    fn start(&mut self, i: usize, intended: Nanos, now: Nanos) {
        let slot = &mut self.slots[i];
        (slot.phase, slot.sent) = (Phase::Busy, 0);
        (slot.intended, slot.deadline) = (intended, now + self.timeout);
        slot.request = self.requests.next();
        let raw_len = (self.args.mode == Mode::Tcp).then(|| self.requests.bytes(slot.request).len());
        slot.reader.begin(raw_len);
        if slot.io.is_some() || self.connect(i) {
            self.send(i);
        }
    }
}

/// How often deadlines are looked at.
const SWEEP_NANOS: Nanos = 100_000_000;
