//! The task that watches the clock of a polled load: phases, the schedule, deadlines.
//!
//! **Invariant:** on a polled lcore it runs once a turn and does a clock's read and two comparisons when nothing is due; over kernel sockets
//! it sleeps until something is.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::super::pace::Pace;
use super::super::result::LoadResult;
use super::shared::Shared;
use crate::wire::clock::Nanos;

/// Until the window has closed.
pub(super) async fn run(shared: &Rc<Shared>) -> LoadResult {
    let (done, result) = oneshot::channel();
    let director = Rc::clone(shared);
    // A task of its own that wakes itself, as the poller: a root future would have the executor look at its sockets each time.
    spawn_local(async move {
        let mut swept = 0;
        poll_fn(|cx| {
            let now = director.clock.now();
            if director.turn(now, &mut swept) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        // Whoever waited for it has gone with the run.
        let _ = done.send(director.finish());
    });
    result.await.expect("the director ends with a result")
}

/// The same over kernel sockets, where who polls takes the time of the origin beside it.
///
/// # Errors
/// When the system has no timer to give.
pub(super) async fn run_by_timer(shared: &Rc<Shared>) -> io::Result<LoadResult> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).map_err(io::Error::from)?;
    // tokio's own timer has steps of a millisecond: requests would leave in bursts. What it knows as a pipe is read like one.
    let expired = Receiver::from_owned_fd_unchecked(timer.as_fd().try_clone_to_owned()?)?;
    let mut swept = 0;
    loop {
        let now = shared.clock.now();
        if shared.turn(now, &mut swept) {
            return Ok(shared.finish());
        }
        let wait = Duration::from_nanos(shared.next_turn(swept).saturating_sub(now).max(1));
        timer.set(Expiration::OneShot(TimeSpec::from_duration(wait)), TimerSetTimeFlags::empty())?;
        expired.readable().await?;
        // How often it has expired does not matter.
        let _ = expired.try_read(&mut [0; 8]);
    }
}

impl Shared {
    /// One look at the clock; true when the window has closed.
    fn turn(&self, now: Nanos, swept: &mut Nanos) -> bool {
        self.now.set(now);
        let mut window = self.window.borrow_mut();
        if self.unopened.get() == 0 {
            window.opened(now);
        }
        if window.turn(now, &mut self.record.borrow_mut()) {
            return true;
        }
        if !window.is_opening() {
            self.dispatch(now);
        }
        if now >= *swept + SWEEP_NANOS {
            *swept = now;
            self.sweep(now);
        }
        false
    }

    /// When the next turn has something to do: a phase's end, a sweep, or a request for which there is room.
    fn next_turn(&self, swept: Nanos) -> Nanos {
        let until = self.window.borrow().deadline().min(swept + SWEEP_NANOS);
        match &*self.pace.borrow() {
            Some(pace) if !self.free.borrow().is_empty() => until.min(pace.next()),
            _ => until,
        }
    }

    /// There is room again: hands out what had to wait for it.
    pub(super) fn catch_up(&self, now: Nanos) {
        if self.pace.borrow().as_ref().is_some_and(|pace| pace.next() <= now) {
            self.dispatch(now);
        }
    }

    /// Hands out what is due.
    fn dispatch(&self, now: Nanos) {
        let Some(rate) = self.args.rate else { return };
        let mut pace = self.pace.borrow_mut();
        let pace = pace.get_or_insert_with(|| Pace::new(rate, now));
        let mut free = self.free.borrow_mut();
        loop {
            let Some(&i) = free.front() else {
                self.record.borrow_mut().counts.behind += pace.behind(now);
                break;
            };
            let Some(intended) = pace.take(now) else { break };
            free.pop_front();
            self.stations[i].due.borrow_mut().push_back(intended);
            self.stations[i].wake();
        }
    }

    /// Wakes those whose time is over: they look at the clock themselves.
    fn sweep(&self, now: Nanos) {
        let late = |deadline: Option<Nanos>| deadline.is_some_and(|deadline| deadline <= now);
        self.stations.iter().filter(|station| late(station.deadline.get())).for_each(|station| station.wake());
    }

    fn finish(&self) -> LoadResult {
        let now = self.clock.now();
        self.is_over.set(true);
        let record = self.record.replace(super::super::record::Record::new());
        let result = self.window.borrow().finish(now, record);
        LoadResult { rate_wanted: self.args.rate, established: self.established.get(), ..result }
    }
}

const SWEEP_NANOS: Nanos = 100_000_000;
