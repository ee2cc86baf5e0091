//! The task that watches the clock of a polled load: phases, the schedule, deadlines.
//!
//! **Invariant:** it runs once a turn and does a clock's read and two comparisons when nothing is due.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

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
            self.stations[i].intended.set(Some(intended));
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
