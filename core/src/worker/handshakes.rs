//! The TLS handshakes of a worker that are under way: how many there may be, and whose turn it is.
//!
//! Clients that begin a handshake and do not end it are held off by the oldest going first: one that means it takes milliseconds. And since a
//! handshake computes for longer than anything else that a connection does, so many steps are taken in a turn, and then everybody else has
//! theirs.
//!
//! **Invariant:** whoever waits for a turn has it before those who came later; who is dropped leaves nothing behind but an empty place in the
//! queue, which is skipped.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::telemetry::metrics::DownstreamCounters;

/// All of a worker's.
#[derive(Default)]
pub(super) struct Handshakes {
    /// The oldest first.
    running: RefCell<BTreeMap<u64, Rc<Seat>>>,
    next: Cell<u64>,
    /// Those whose step waits for a later turn.
    waiting: RefCell<VecDeque<Weak<Seat>>>,
    /// Steps that were taken in this turn.
    taken: Cell<usize>,
    per_turn: Cell<usize>,
    /// A turn has begun that has an end to be looked after.
    begun: Notify,
}

/// One of them.
#[derive(Default)]
struct Seat {
    waker: RefCell<Option<Waker>>,
    is_queued: Cell<bool>,
    /// It has waited, and has its step now.
    is_called: Cell<bool>,
    is_evicted: Cell<bool>,
}

/// A handshake is among those under way while this lives.
pub(super) struct Running<'a> {
    all: &'a Handshakes,
    counters: &'a DownstreamCounters,
    number: u64,
    seat: Rc<Seat>,
}

/// Whether a handshake may take a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Now,
    /// Its task is woken when it may.
    Later,
    /// Never: it is to end.
    Evicted,
}

impl Handshakes {
    /// One more, with these bounds in force. Where there would be too many, the oldest ends that waits for its peer; without such a one, this one.
    pub(super) fn begin<'a>(
        &'a self,
        handshakes_max: usize,
        per_turn: usize,
        counters: &'a DownstreamCounters,
    ) -> Running<'a> {
        self.per_turn.set(per_turn.max(1));
        let mut running = self.running.borrow_mut();
        let (number, seat) = (self.next.get(), Rc::<Seat>::default());
        while running.len() >= handshakes_max.max(1) {
            counters.handshake_evicted.inc();
            // Who waits for us is not ended for being slow: under load that would be whoever is about to be served.
            let idle = running.iter().take(EVICTION_LOOKS_MAX).find(|(_, seat)| !seat.waits_for_us());
            let Some(oldest) = idle.map(|(number, _)| *number).and_then(|number| running.remove(&number)) else {
                seat.is_evicted.set(true);
                break;
            };
            oldest.is_evicted.set(true);
            oldest.wake();
        }
        self.next.set(number + 1);
        running.insert(number, Rc::clone(&seat));
        counters.handshake_active.inc();
        Running { all: self, counters, number, seat }
    }

    /// Ends turns, until it is dropped.
    pub(super) async fn drive(self: Rc<Self>) {
        loop {
            self.begun.notified().await;
            if self.waiting.borrow().is_empty() {
                // Whoever was ready with the first of them has been run by now. Nobody waits, so that nobody wants the sockets looked at.
                self.taken.set(0);
                continue;
            }
            loop {
                // Everybody else first.
                yield_now().await;
                if !self.end_turn() {
                    break;
                }
            }
        }
    }

    /// Begins another turn with those who wait; says whether there were any.
    fn end_turn(&self) -> bool {
        self.taken.set(0);
        let mut waiting = self.waiting.borrow_mut();
        let mut called = 0;
        while called < self.per_turn.get() {
            let Some(next) = waiting.pop_front() else { break };
            let Some(seat) = next.upgrade() else { continue };
            seat.is_queued.set(false);
            seat.is_called.set(true);
            seat.wake();
            called += 1;
        }
        self.taken.set(called);
        called > 0
    }
}

impl Running<'_> {
    /// Whether it may take a step. Whatever comes of it, `cx` is woken when it is to end.
    pub(super) fn step(&self, cx: &Context<'_>) -> Step {
        let (all, seat) = (self.all, &*self.seat);
        if seat.is_evicted.get() {
            return Step::Evicted;
        }
        seat.waker.replace(Some(cx.waker().clone()));
        if seat.is_called.take() {
            return Step::Now;
        }
        if all.taken.get() < all.per_turn.get() && all.waiting.borrow().is_empty() {
            if all.taken.get() == 0 {
                all.begun.notify_one();
            }
            all.taken.set(all.taken.get() + 1);
            return Step::Now;
        }
        if !seat.is_queued.replace(true) {
            self.counters.handshake_deferred.inc();
            all.waiting.borrow_mut().push_back(Rc::downgrade(&self.seat));
        }
        Step::Later
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.all.running.borrow_mut().remove(&self.number);
        self.counters.handshake_active.dec();
    }
}

impl Seat {
    /// Whether it is for its turn that it waits, and not for its peer.
    fn waits_for_us(&self) -> bool {
        self.is_queued.get() || self.is_called.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Seats that are looked at for one to end: under a flood of the silent the first is one.
const EVICTION_LOOKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let (all, counters) = (Handshakes::default(), DownstreamCounters::default());
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let begin = || all.begin(2, 100, &counters);
        let (first, second) = (begin(), begin());
        assert_eq!((first.step(&cx), second.step(&cx)), (Step::Now, Step::Now));
        let third = begin();
        assert_eq!((first.step(&cx), second.step(&cx), third.step(&cx)), (Step::Evicted, Step::Now, Step::Now));
        assert_eq!((woken.0.load(Ordering::Relaxed), counters.handshake_evicted.get()), (1, 1));
        drop(second);
        let fourth = begin();
        assert_eq!((third.step(&cx), fourth.step(&cx)), (Step::Now, Step::Now), "there was room");
        assert_eq!(counters.handshake_active.get(), 3, "with the one that is to end");
        drop((first, third, fourth));
        assert_eq!((counters.handshake_active.get(), all.running.borrow().len()), (0, 0));
    }

    #[test]
    fn who_waits_for_a_turn_is_not_ended_for_one_more() {
        let (all, counters) = (Handshakes::default(), DownstreamCounters::default());
        let cx = Context::from_waker(Waker::noop());
        let begin = || all.begin(2, 1, &counters);
        let (first, second) = (begin(), begin());
        assert_eq!((first.step(&cx), second.step(&cx)), (Step::Now, Step::Later));
        let third = begin();
        assert_eq!(first.step(&cx), Step::Evicted, "it waited for its peer");
        assert_eq!(third.step(&cx), Step::Later);
        let fourth = begin();
        assert_eq!((second.step(&cx), third.step(&cx), fourth.step(&cx)), (Step::Later, Step::Later, Step::Evicted));
        assert!(all.end_turn());
        assert_eq!(second.step(&cx), Step::Now);
        drop((first, second, third, fourth));
        assert_eq!((counters.handshake_evicted.get(), all.running.borrow().len()), (2, 0));
    }

    #[test]
    fn who_waits_has_the_next_turn_in_order() {
        let (all, counters) = (Handshakes::default(), DownstreamCounters::default());
        let cx = Context::from_waker(Waker::noop());
        let seats: Vec<_> = (0..6).map(|_| all.begin(100, 2, &counters)).collect();
        let steps = |seats: &[Running<'_>]| seats.iter().map(|s| s.step(&cx) == Step::Now).collect::<Vec<_>>();
        assert_eq!(steps(&seats), [true, true, false, false, false, false]);
        assert_eq!(steps(&seats[2..]), [false; 4], "asked again, they keep their places");
        assert_eq!(counters.handshake_deferred.get(), 4);
        let mut seats = seats;
        // One that is dropped takes nobody's turn.
        drop(seats.remove(3));
        assert!(all.end_turn());
        let late = all.begin(100, 2, &counters);
        assert_eq!(late.step(&cx), Step::Later, "who comes late comes behind");
        assert_eq!(steps(&seats[2..]), [true, true, false]);
        assert!(all.end_turn());
        assert_eq!((late.step(&cx), seats[4].step(&cx)), (Step::Now, Step::Now));
        assert!(!all.end_turn());
        assert_eq!(steps(&seats[..2]), [true, true]);
    }

    #[tokio::test]
    async fn a_turn_ends_behind_whoever_was_ready() {
        let (all, counters) = (Rc::<Handshakes>::default(), DownstreamCounters::default());
        let cx = Context::from_waker(Waker::noop());
        let turns = async {
            yield_now().await;
            for _ in 0..5 {
                let seats = [(); 2].map(|()| all.begin(100, 2, &counters));
                assert_eq!(seats.each_ref().map(|seat| seat.step(&cx)), [Step::Now; 2]);
                assert_eq!(all.taken.get(), 2, "the turn goes on");
                yield_now().await;
                assert_eq!(all.taken.get(), 0, "nobody waited");
            }
            let seats = [(); 7].map(|()| all.begin(100, 2, &counters));
            let mut begun = 0;
            for _ in 0..20 {
                let now = seats[begun..].iter().take_while(|seat| seat.step(&cx) == Step::Now).count();
                assert!(now <= 2, "{now} in one turn");
                begun += now;
                yield_now().await;
            }
            assert_eq!(begun, 7);
            assert_eq!(all.taken.get(), 0, "and it ends when all have had theirs");
        };
        tokio::select! {
            biased;
            () = Rc::clone(&all).drive() => unreachable!("it goes on for ever"),
            () = turns => {}
        }
    }
}
