//! Operations in an accelerator: who waits for which, and for how long.
//!
//! A handshake that needs its key runs as an ASYNC_JOB, which pauses while the accelerator computes. A job belongs to the thread that started it
//! (R1), so everything here but [`WakeCell`] is the worker's own.
//!
//! **Invariant:** no job is resumed before it was told to be done, nothing spins while it waits, and nothing waits longer than the accelerator's
//! timeout.

#![allow(
    clippy::disallowed_types,
    reason = "an accelerator's own thread meets the worker here, for the time of a move"
)]

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use super::accelerator::Accelerator;
use super::breaker::{Admission, Trial};
use super::ffi;
use super::own::WaitContext;
use super::rescue::Doubt;
use super::turn::{Load, expire_at, retry, tell_driver, with_load};
use super::watch::{self, Watched};
use crate::accelerator::Failure;

/// Where the accelerator says that an operation is done. It may be told before the job has paused (R6).
#[derive(Debug, Default)]
pub(super) struct WakeCell(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    done: bool,
    waker: Option<Waker>,
}

impl WakeCell {
    /// Says that it is done.
    pub(super) fn tell(&self) {
        self.wake(true);
    }

    /// Has the owner look at the clock.
    pub(super) fn poke(&self) {
        self.wake(false);
    }

    /// Takes the news. From now on `waker` is woken by the next.
    pub(super) fn take(&self, waker: &Waker) -> bool {
        let mut told = self.told();
        told.waker = Some(waker.clone());
        std::mem::take(&mut told.done)
    }

    /// Nobody waits any more.
    fn rest(&self) {
        self.told().waker = None;
    }

    fn wake(&self, done: bool) {
        let mut told = self.told();
        told.done |= done;
        let waker = told.waker.take();
        drop(told);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an SSL with an accelerated key has beside it.
pub(super) struct Job {
    accelerator: Arc<Accelerator>,
    cell: Arc<WakeCell>,
    at: At,
    /// Where it waits: until when, by the accelerator's clock.
    deadline: Duration,
    /// It was let in from the queue, and has not used its place yet.
    is_let_in: bool,
    /// Times that it paused for the accelerator.
    pauses: u32,
    admission: Option<Admission>,
    /// Its operation came back from the accelerator as a fault.
    is_faulty: bool,
    /// By which the accelerator tells, while it computes.
    watched: Vec<Watched>,
}

/// Where the operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nowhere: libssl computes, or waits for the peer.
    Home,
    /// In the accelerator; the job has paused.
    Card,
    /// The accelerator took no more: the job has paused and tries again when another operation ends.
    Refused,
    /// No job yet: as many as may be are in the accelerator.
    Queue,
}

/// Whether a handshake must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    /// Its task is woken when it need not any more.
    Yes,
    /// It has waited for as long as it may.
    TooLong,
}

/// What pauses: a handshake of libssl's, or an operation by itself.
pub(super) trait Pausing {
    /// Whether the accelerator took no more.
    fn is_refused(&self) -> bool;
    /// The descriptors by which it tells; 0: none, or too many.
    fn descriptors(&self, fds: &mut [c_int; FDS_MAX]) -> usize;
}

impl Job {
    pub(super) fn new(accelerator: Arc<Accelerator>) -> Self {
        let (cell, at, deadline) = (Arc::default(), At::Home, Duration::MAX);
        let (is_let_in, is_faulty, watched) = (false, false, Vec::new());
        Self { accelerator, cell, at, deadline, is_let_in, pauses: 0, admission: None, is_faulty, watched }
    }

    /// Makes an SSL's handshake run as this job, where the accelerator computes on its own time.
    ///
    /// # Safety
    /// `ssl` is new; it is freed before the job is dropped.
    pub(super) unsafe fn attach_to(&self, ssl: *mut ffi::SSL) {
        if !self.accelerator.is_asynchronous() {
            return;
        }
        // SAFETY: the caller says that the SSL is new; the cell lives as long as the job.
        unsafe {
            ffi::SSL_ctrl(ssl, ffi::SSL_CTRL_MODE, ffi::SSL_MODE_ASYNC, std::ptr::null_mut());
            if !self.accelerator.tells_by_fd() {
                ffi::SSL_set_async_callback(ssl, on_done);
                ffi::SSL_set_async_callback_arg(ssl, self.cell_ptr());
            }
        }
    }

    /// Has this job told of what pauses with `wait`, which lives no longer than the job.
    pub(super) fn tell_by(&self, wait: &WaitContext) {
        // SAFETY: the context is alive; the cell lives as long as the job.
        unsafe { ffi::ASYNC_WAIT_CTX_set_callback(wait.as_ptr(), on_done_by_itself, self.cell_ptr()) };
    }

    fn cell_ptr(&self) -> *mut c_void {
        Arc::as_ptr(&self.cell).cast_mut().cast()
    }

    pub(super) fn accelerator(&self) -> &Arc<Accelerator> {
        &self.accelerator
    }

    /// Whether the accelerator may be asked. It is the same for all operations of a handshake.
    pub(super) fn is_admitted(&mut self) -> bool {
        *self.admission.get_or_insert_with(|| self.accelerator.admit()) != Admission::No
    }

    /// Whether the handshake must wait. Then `cx` is woken when it need not any more. `has_record`: there is something to go on with.
    pub(super) fn must_wait(&mut self, cx: &Context<'_>, has_record: bool) -> Wait {
        let is_told = match self.at {
            At::Home if !has_record => return Wait::No,
            At::Home => {
                self.cell.take(cx.waker());
                // With an operation done it has had its turn.
                return if self.pauses == 0 && self.queue_if_full() { Wait::Yes } else { Wait::No };
            }
            At::Card => {
                let is_told = self.cell.take(cx.waker());
                if is_told {
                    self.watched.clear();
                }
                is_told
            }
            At::Refused => {
                self.is_let_in |= self.cell.take(cx.waker());
                self.is_let_in
            }
            At::Queue => {
                self.is_let_in |= self.cell.take(cx.waker());
                // Let in, it keeps its place until there is something to do with it.
                self.is_let_in && (!has_record || !self.queue_if_full())
            }
        };
        if is_told {
            Wait::No
        } else if self.accelerator.now() >= self.deadline {
            Wait::TooLong
        } else {
            Wait::Yes
        }
    }

    /// Whether there is a paused job to go on with.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.at, At::Card | At::Refused)
    }

    /// Whether a paused one can go on.
    pub(super) fn is_told(&mut self) -> bool {
        self.must_wait(&Context::from_waker(Waker::noop()), true) == Wait::No
    }

    /// It has paused.
    pub(super) fn paused(&mut self, of: &impl Pausing) {
        let refused = of.is_refused();
        let was_refused = self.at == At::Refused;
        self.leave();
        self.is_let_in = false;
        if refused {
            self.at = At::Refused;
            self.accelerator.count.waits.fetch_add(1, Relaxed);
            if !was_refused {
                self.start_time();
            }
            self.wait_for_another();
        } else {
            self.at = At::Card;
            self.pauses += 1;
            self.accelerator.count.in_flight.fetch_add(1, Relaxed);
            self.start_time();
            let is_first = with_load(&self.accelerator, |load| {
                load.in_flight += 1;
                load.in_flight == 1
            });
            if self.accelerator.tells_by_fd() {
                self.watch(of);
            }
            if is_first && (self.accelerator.poll_interval().is_some() || self.accelerator.tells_by_fd()) {
                tell_driver();
            }
        }
    }

    /// Waits for the descriptors by which the accelerator tells.
    fn watch(&mut self, of: &impl Pausing) {
        let mut fds = [0; FDS_MAX];
        let count = of.descriptors(&mut fds);
        self.watched.extend(fds[..count].iter().filter_map(|fd| watch::add(*fd, &self.cell)));
        // With nothing to wait for it looks again in the next turn.
        if self.watched.is_empty() {
            retry(Arc::clone(&self.cell));
        }
    }

    /// libssl came back without a pause. `is_fault`: because something on our side failed.
    pub(super) fn resumed(&mut self, is_fault: bool) {
        self.is_faulty = self.at == At::Card && is_fault;
        // What comes too late is no success.
        if self.at == At::Card && !is_fault && self.admission != Some(Admission::No) {
            self.has_succeeded();
        }
        self.leave();
    }

    /// Lets another in where this one was let in and had no use for it.
    pub(super) fn pass_on(&mut self) {
        if self.at != At::Queue && std::mem::take(&mut self.is_let_in) {
            self.let_next_in(|_| ());
        }
    }

    /// The handshake has waited too long.
    pub(super) fn too_late(&mut self) -> Failure {
        let failure = if self.at == At::Card { Failure::Timeout } else { Failure::Full };
        let since = self.deadline.saturating_sub(self.accelerator.timeout());
        self.accelerator.failed(failure, since, self.trial());
        self.admission = Some(Admission::No);
        failure
    }

    /// Something on our side failed. Where the accelerator computed it was its fault; else that is still to be shown.
    pub(super) fn fault(&mut self) -> Option<Doubt> {
        let trial = self.trial();
        self.admission = Some(Admission::No);
        if !self.is_faulty {
            return Some(Doubt { trial });
        }
        self.accelerator.failed(Failure::Fault, self.accelerator.now(), trial);
        None
    }

    /// The accelerator's operation, and nothing else, failed.
    pub(super) fn failed(&mut self) {
        self.leave();
        self.accelerator.failed(Failure::Fault, self.accelerator.now(), self.trial());
        self.admission = Some(Admission::No);
    }

    /// Takes an SSL back whose handshake is over: its accelerator has told all that it was asked.
    ///
    /// # Safety
    /// `ssl` is alive, and was attached to this.
    pub(super) unsafe fn detach_from(&self, ssl: *mut ffi::SSL) {
        // SAFETY: the caller says so. libssl can't be told to forget the callback, only what it is for.
        unsafe {
            ffi::SSL_ctrl(ssl, ffi::SSL_CTRL_CLEAR_MODE, ffi::SSL_MODE_ASYNC, std::ptr::null_mut());
            ffi::SSL_set_async_callback_arg(ssl, std::ptr::null_mut());
        }
    }

    /// The handshake is over. `is_resumed`: it needed no key. Says how often it paused.
    pub(super) fn finish(&mut self, is_resumed: bool) -> u32 {
        self.cell.rest();
        self.accelerator.count.handshakes.fetch_add(1, Relaxed);
        let has_blocked = !self.accelerator.is_asynchronous() && !is_resumed;
        if has_blocked {
            self.has_succeeded();
        }
        if self.pauses > 0 || has_blocked {
            self.accelerator.count.offloaded.fetch_add(1, Relaxed);
        } else if let Some(trial) = self.trial() {
            self.accelerator.release(trial);
            self.admission = Some(Admission::Yes);
        }
        self.pauses
    }

    pub(super) fn pauses(&self) -> u32 {
        self.pauses
    }

    fn trial(&self) -> Option<Trial> {
        match self.admission {
            Some(Admission::Trial(trial)) => Some(trial),
            _ => None,
        }
    }

    fn has_succeeded(&mut self) {
        self.accelerator.succeeded();
        self.admission = Some(Admission::Yes);
    }

    fn let_next_in(&self, f: impl FnOnce(&mut Load)) {
        let next = with_load(&self.accelerator, |load| {
            f(load);
            load.queue.pop_front()
        });
        if let Some(next) = next {
            next.tell();
        }
    }

    fn queue_if_full(&mut self) -> bool {
        let max = self.accelerator.in_flight_max();
        let is_new = self.at == At::Home;
        // The last place is for who has waited.
        let is_full = with_load(&self.accelerator, |load| {
            load.in_flight >= max || (is_new && load.in_flight + 1 >= max && !load.queue.is_empty())
        });
        if is_full {
            if self.at != At::Queue {
                self.start_time();
            }
            (self.at, self.is_let_in) = (At::Queue, false);
            self.accelerator.count.waits.fetch_add(1, Relaxed);
            self.wait_for_another();
        } else {
            self.at = At::Home;
        }
        is_full
    }

    /// From now on it waits, and is woken when it has waited too long.
    fn start_time(&mut self) {
        self.deadline = self.accelerator.now() + self.accelerator.timeout();
        expire_at(&self.accelerator, self.deadline, Arc::clone(&self.cell));
    }

    /// To be told when an operation of this worker ends. With none in the accelerator it is full of other workers': the next turn tries again.
    fn wait_for_another(&self) {
        let queued = with_load(&self.accelerator, |load| {
            if load.in_flight > 0 {
                load.queue.push_back(Arc::clone(&self.cell));
            }
            load.in_flight > 0
        });
        if !queued {
            retry(Arc::clone(&self.cell));
        }
    }

    /// Takes the operation out of the accelerator's account, and lets the next one in.
    fn leave(&mut self) {
        if self.at == At::Card {
            self.accelerator.count.in_flight.fetch_sub(1, Relaxed);
            self.let_next_in(|load| load.in_flight -= 1);
        }
        self.at = At::Home;
    }

    /// The SSL is dropped while its job has paused.
    pub(super) fn cancelled(&self) {
        self.accelerator.count.cancelled.fetch_add(1, Relaxed);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(trial) = self.trial() {
            self.accelerator.release(trial);
        }
        let has_waited = matches!(self.at, At::Refused | At::Queue);
        self.leave();
        if !has_waited {
            return self.pass_on();
        }
        let queued = with_load(&self.accelerator, |load| {
            let before = load.queue.len();
            load.queue.retain(|cell| !Arc::ptr_eq(cell, &self.cell));
            before > load.queue.len()
        });
        // Told but not gone on with: whoever is next has the place.
        self.is_let_in |= !queued && self.cell.take(Waker::noop());
        self.pass_on();
    }
}

/// # Safety
/// Called by libssl with the argument that was set: the cell of a job that is not dropped, or null.
unsafe extern "C" fn on_done(_ssl: *mut ffi::SSL, cell: *mut c_void) -> c_int {
    // SAFETY: the caller says so.
    unsafe { on_done_by_itself(cell) }
}

/// # Safety
/// Called by libcrypto with the argument that was set: the cell of a job that is not dropped, or null.
unsafe extern "C" fn on_done_by_itself(cell: *mut c_void) -> c_int {
    if cell.is_null() {
        return 1;
    }
    // SAFETY: the pointer is that of an Arc; the job holds the cell, and lives in its SSL, which lives until this was called. A share of our
    // own: once it was told, the job may end, and the cell with it, before this has returned.
    let cell = unsafe {
        Arc::increment_strong_count(cell.cast::<WakeCell>());
        Arc::from_raw(cell.cast::<WakeCell>())
    };
    cell.tell();
    1
}

/// Descriptors of one operation.
pub(super) const FDS_MAX: usize = 4;
