//! A worker's part for its accelerators: its share of what is in them, polls, timeouts, what is to be tried again, what software computes in
//! their place, and the graveyard.
//!
//! **Invariant:** an SSL with a paused job is never freed: it goes to the graveyard until the accelerator has let go of it (R4). Nothing here is
//! seen by another thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::accelerator::Accelerator;
use super::job::WakeCell;
use super::operation::Operation;
use super::ssl::Ssl;
use super::watch;

/// One worker's share of an accelerator.
#[derive(Default)]
pub(super) struct Load {
    accelerator: Option<Arc<Accelerator>>,
    pub(super) in_flight: u32,
    pub(super) queue: VecDeque<Arc<WakeCell>>,
    /// Who wants to look at the clock, and when; the earliest first.
    deadlines: VecDeque<(Duration, Arc<WakeCell>)>,
}

/// What the driver of this thread has not seen yet.
struct News {
    is_there: bool,
    /// The last turn has said that the next one comes before long: what only waits for that is no news.
    comes_soon: bool,
    waker: Option<Waker>,
}

/// Key operations that software does on this thread in an accelerator's place: so many a turn, so that a lost accelerator does not hold up
/// everybody else.
struct Software {
    left: usize,
    queue: VecDeque<Arc<WakeCell>>,
}

thread_local! {
    static LOADS: RefCell<Vec<Load>> = const { RefCell::new(Vec::new()) };
    static RETRIES: RefCell<Vec<Arc<WakeCell>>> = const { RefCell::new(Vec::new()) };
    static NEWS: RefCell<News> = const { RefCell::new(News { is_there: false, comes_soon: false, waker: None }) };
    static SOFTWARE: RefCell<Software> =
        const { RefCell::new(Software { left: SOFTWARE_PER_TURN, queue: VecDeque::new() }) };
    /// When the thread ends, what is still in an accelerator stays in memory, for it may call back.
    static GRAVEYARD: RefCell<Vec<ManuallyDrop<Grave>>> = const { RefCell::new(Vec::new()) };
    static GRAVEYARD_INTERVAL: Cell<Duration> = const { Cell::new(GRAVEYARD_INTERVAL_MIN) };
}

/// Works with this thread's share of an accelerator.
pub(super) fn with_load<R>(accelerator: &Arc<Accelerator>, f: impl FnOnce(&mut Load) -> R) -> R {
    LOADS.with_borrow_mut(|loads| {
        if loads.len() <= accelerator.index {
            loads.resize_with(accelerator.index + 1, Load::default);
        }
        let load = &mut loads[accelerator.index];
        load.accelerator.get_or_insert_with(|| Arc::clone(accelerator));
        let result = f(load);
        load.rest();
        result
    })
}

impl Load {
    /// Lets go of the accelerator when there is nothing to do for it.
    fn rest(&mut self) {
        if self.in_flight == 0 && self.queue.is_empty() && self.deadlines.is_empty() {
            self.accelerator = None;
        }
    }

    /// Takes those out whose time is over; says how long to wait before the next.
    fn expire(&mut self, late: &mut Vec<Arc<WakeCell>>) -> Option<Duration> {
        let accelerator = self.accelerator.clone().filter(|_| !self.deadlines.is_empty())?;
        let now = accelerator.now();
        let count = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).count();
        late.extend(self.deadlines.drain(..count).map(|(_, cell)| cell));
        let next = self.deadlines.front().map(|(deadline, _)| *deadline - now);
        self.rest();
        // So late at most, so that many operations are not as many turns.
        next.map(|next| next.max(accelerator.timeout() / 8))
    }
}

/// Has `cell` look at the clock at `deadline`: no earlier than those before it.
pub(super) fn expire_at(accelerator: &Arc<Accelerator>, deadline: Duration, cell: Arc<WakeCell>) {
    let is_first = with_load(accelerator, |load| {
        load.deadlines.push_back((deadline, cell));
        load.deadlines.len() == 1
    });
    if is_first {
        tell_driver();
    }
}

/// Has a job told in the next turn.
pub(super) fn retry(cell: Arc<WakeCell>) {
    RETRIES.with_borrow_mut(|retries| retries.push(cell));
    if !NEWS.with_borrow(|news| news.comes_soon) {
        tell_driver();
    }
}

/// Asks for a key operation in software: now, or when `cell` is told.
pub(super) fn may_compute(cell: &Arc<WakeCell>) -> bool {
    let now = SOFTWARE.with_borrow_mut(|software| {
        let now = software.left > 0 && software.queue.is_empty();
        if now {
            software.left -= 1;
        } else {
            software.queue.push_back(Arc::clone(cell));
        }
        now
    });
    if !now {
        tell_driver();
    }
    now
}

/// What has paused, and nobody waits for.
pub(super) enum Grave {
    Ssl(Ssl),
    Operation(Operation),
}

impl Grave {
    /// Goes on with it; None when it has ended, and all is freed.
    fn drive_to_end(self) -> Option<Self> {
        match self {
            Self::Ssl(ssl) => ssl.drive_to_end().map(Self::Ssl),
            Self::Operation(operation) => operation.drive_to_end().map(Self::Operation),
        }
    }
}

/// Puts it where it stays until the accelerator has let go.
pub(super) fn bury(grave: Grave) {
    // Not there when the thread ends.
    let grave = ManuallyDrop::new(grave);
    let _ = GRAVEYARD.try_with(|graveyard| graveyard.borrow_mut().push(grave));
    let _ = GRAVEYARD_INTERVAL.try_with(|interval| interval.set(GRAVEYARD_INTERVAL_MIN));
    tell_driver();
}

/// Does a worker's part for its accelerators: polls those that want it, tells who has waited too long, tries again what they refused, lets software
/// compute in their place, frees what they have let go of. Says how long to wait before the next time; None: not before there is news.
pub fn turn() -> Option<Duration> {
    NEWS.with_borrow_mut(|news| news.is_there = false);
    watch::collect();
    let polled: Vec<_> = LOADS.with_borrow(|loads| {
        let busy = loads.iter().filter(|load| load.in_flight > 0);
        busy.filter_map(|load| load.accelerator.clone()).filter(|a| a.poll_interval().is_some()).collect()
    });
    polled.iter().for_each(|accelerator| accelerator.poll());
    let expires = expire();
    let retries = RETRIES.take();
    retries.iter().for_each(|cell| cell.tell());
    let wished = polled.iter().filter_map(|a| a.poll_interval()).min();
    let retried = (!retries.is_empty()).then_some(RETRY_INTERVAL);
    let wait = [compute(), wished, expires, retried, tend_graves()].into_iter().flatten().min();
    NEWS.with_borrow_mut(|news| news.comes_soon = wait.is_some_and(|wait| wait <= RETRY_INTERVAL));
    wait
}

/// Has those look at the clock who have waited too long.
fn expire() -> Option<Duration> {
    let mut late = Vec::new();
    let next = LOADS.with_borrow_mut(|loads| loads.iter_mut().filter_map(|load| load.expire(&mut late)).min());
    late.iter().for_each(|cell| cell.poke());
    next
}

/// Lets software compute for the next that wait for it.
fn compute() -> Option<Duration> {
    let (next, is_more) = SOFTWARE.with_borrow_mut(|software| {
        // Who has left meanwhile is passed over.
        software.queue.retain(|cell| Arc::strong_count(cell) > 1);
        let count = software.queue.len().min(SOFTWARE_PER_TURN);
        software.left = SOFTWARE_PER_TURN - count;
        let next: Vec<_> = software.queue.drain(..count).collect();
        (next, !software.queue.is_empty())
    });
    next.iter().for_each(|cell| cell.tell());
    is_more.then_some(Duration::ZERO)
}

/// Frees what accelerators have let go of.
fn tend_graves() -> Option<Duration> {
    // Taken out: to go on with one may bury another.
    let graves = GRAVEYARD.take();
    if graves.is_empty() {
        return None;
    }
    let before = graves.len();
    let still: Vec<_> = graves.into_iter().filter_map(|grave| ManuallyDrop::into_inner(grave).drive_to_end()).collect();
    // Those that an accelerator never lets go of are looked at ever more seldom.
    let interval = if still.len() < before { GRAVEYARD_INTERVAL_MIN } else { GRAVEYARD_INTERVAL.get() };
    GRAVEYARD_INTERVAL.set((interval * 2).min(GRAVEYARD_INTERVAL_MAX));
    GRAVEYARD.with_borrow_mut(|graveyard| graveyard.extend(still.into_iter().map(ManuallyDrop::new)));
    (buried() > 0).then_some(interval)
}

/// Ready when something has begun since the last [`turn`] that wants the next one sooner than that said; else the caller is woken then. One
/// caller per thread.
pub fn poll_news(cx: &mut Context<'_>) -> Poll<()> {
    NEWS.with_borrow_mut(|news| {
        if news.is_there {
            return Poll::Ready(());
        }
        news.waker = Some(cx.waker().clone());
        Poll::Pending
    })
}

/// Wakes who waits in [`poll_news`].
pub(super) fn tell_driver() {
    // Not there when the thread ends.
    let waker = NEWS.try_with(|news| {
        let mut news = news.borrow_mut();
        news.is_there = true;
        news.waker.take()
    });
    if let Ok(Some(waker)) = waker {
        waker.wake();
    }
}

/// Handshakes and operations of this thread that wait in the graveyard.
#[must_use]
pub fn buried() -> usize {
    GRAVEYARD.with_borrow(Vec::len)
}

/// Key operations in software, each turn: the others of the worker wait for so many at most.
const SOFTWARE_PER_TURN: usize = 4;
/// Before what an accelerator refused is tried again, when none of its operations is this thread's.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// Between two looks at the graveyard.
const GRAVEYARD_INTERVAL_MIN: Duration = Duration::from_millis(1);
const GRAVEYARD_INTERVAL_MAX: Duration = Duration::from_millis(128);
