//! A worker's part for its accelerators: its share of what is in them, polls, what is to be tried again, and the graveyard.
//!
//! **Invariant:** an SSL with a paused job is never freed: it goes to the graveyard until the accelerator has let go of it (R4). Nothing here is
//! seen by another thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::accelerator::Accelerator;
use super::job::WakeCell;
use super::ssl::Ssl;

/// One worker's share of an accelerator.
#[derive(Default)]
pub(super) struct Load {
    accelerator: Option<Arc<Accelerator>>,
    pub(super) in_flight: u32,
    pub(super) queue: VecDeque<Arc<WakeCell>>,
}

/// What the driver of this thread has not seen yet.
struct News {
    is_there: bool,
    /// The last turn has said when the next one comes: what only waits for that is no news.
    comes_back: bool,
    waker: Option<Waker>,
}

thread_local! {
    static LOADS: RefCell<Vec<Load>> = const { RefCell::new(Vec::new()) };
    static RETRIES: RefCell<Vec<Arc<WakeCell>>> = const { RefCell::new(Vec::new()) };
    static NEWS: RefCell<News> = const { RefCell::new(News { is_there: false, comes_back: false, waker: None }) };
    static GRAVEYARD: RefCell<Vec<Ssl>> = const { RefCell::new(Vec::new()) };
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
        if load.in_flight == 0 && load.queue.is_empty() {
            load.accelerator = None;
        }
        result
    })
}

/// Has a job told in the next turn.
pub(super) fn retry(cell: Arc<WakeCell>) {
    RETRIES.with_borrow_mut(|retries| retries.push(cell));
    if !NEWS.with_borrow(|news| news.comes_back) {
        tell_driver();
    }
}

/// Puts an SSL with a paused job where it stays until the accelerator has let go.
pub(super) fn bury(ssl: Ssl) {
    // When the thread ends there is no graveyard any more: what is still in the accelerator stays in memory, for it may call back.
    let ssl = ManuallyDrop::new(ssl);
    let _ = GRAVEYARD.try_with(|graveyard| graveyard.borrow_mut().push(ManuallyDrop::into_inner(ssl)));
    tell_driver();
}

/// Does a worker's part for its accelerators: polls those that want it, tries again what they refused, frees what they have let go of. Says how long
/// to wait before the next time; None: not before another operation has begun.
pub fn turn() -> Option<Duration> {
    NEWS.with_borrow_mut(|news| news.is_there = false);
    let polled: Vec<_> = LOADS.with_borrow(|loads| {
        let busy = loads.iter().filter(|load| load.in_flight > 0);
        busy.filter_map(|load| load.accelerator.clone()).filter(|a| a.poll_interval().is_some()).collect()
    });
    polled.iter().for_each(|accelerator| accelerator.poll());
    let retries = RETRIES.take();
    retries.iter().for_each(|cell| cell.tell());
    // Taken out: to go on with one may bury another.
    let buried = GRAVEYARD.take();
    let still: Vec<_> = buried.into_iter().filter_map(Ssl::drive_to_end).collect();
    let is_haunted = !still.is_empty();
    GRAVEYARD.with_borrow_mut(|graveyard| graveyard.extend(still));
    let wished = polled.iter().filter_map(|a| a.poll_interval()).min();
    let waiting = (is_haunted || !retries.is_empty()).then_some(GRAVEYARD_INTERVAL);
    let wait = wished.into_iter().chain(waiting).min();
    NEWS.with_borrow_mut(|news| news.comes_back = wait.is_some());
    wait
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

/// SSLs of this thread that wait in the graveyard.
#[must_use]
pub fn buried() -> usize {
    GRAVEYARD.with_borrow(Vec::len)
}

/// Between two looks at the graveyard.
const GRAVEYARD_INTERVAL: Duration = Duration::from_millis(1);
