//! Operations in an accelerator: who waits for which.
//!
//! A handshake that needs its key runs as an ASYNC_JOB, which pauses while the accelerator computes. A job belongs to the thread that started it
//! (R1), so everything here but [`WakeCell`] is the worker's own.
//!
//! **Invariant:** no job is resumed before it was told to be done, and nothing spins while it waits.

#![allow(
    clippy::disallowed_types,
    reason = "an accelerator's own thread meets the worker here, for the time of a move"
)]

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use super::accelerator::Accelerator;
use super::ffi;
use super::turn::{Load, retry, tell_driver, with_load};

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
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.done = true;
        let waker = told.waker.take();
        drop(told);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the news. From now on `waker` is woken by the next.
    fn take(&self, waker: &Waker) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.waker = Some(waker.clone());
        std::mem::take(&mut told.done)
    }
}

/// What an SSL with an accelerated key has beside it.
pub(super) struct Job {
    accelerator: Arc<Accelerator>,
    cell: Arc<WakeCell>,
    at: At,
    /// It was let in from the queue, and has not used its place yet.
    is_let_in: bool,
    /// Times that it paused for the accelerator.
    pauses: u32,
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

impl Job {
    /// Makes an SSL's handshake run as a job.
    ///
    /// # Safety
    /// `ssl` is new; it is freed before the job is dropped.
    pub(super) unsafe fn new(accelerator: Arc<Accelerator>, ssl: *mut ffi::SSL) -> Self {
        let cell = Arc::new(WakeCell::default());
        // SAFETY: the caller says that the SSL is new; the cell lives as long as the job.
        unsafe {
            ffi::SSL_ctrl(ssl, ffi::SSL_CTRL_MODE, ffi::SSL_MODE_ASYNC, std::ptr::null_mut());
            ffi::SSL_set_async_callback(ssl, on_done);
            ffi::SSL_set_async_callback_arg(ssl, Arc::as_ptr(&cell).cast_mut().cast());
        }
        Self { accelerator, cell, at: At::Home, is_let_in: false, pauses: 0 }
    }

    /// Whether the handshake must wait. Then `cx` is woken when it need not any more.
    pub(super) fn must_wait(&mut self, cx: &Context<'_>) -> bool {
        match self.at {
            At::Card => !self.cell.take(cx.waker()),
            At::Refused => {
                self.is_let_in |= self.cell.take(cx.waker());
                !self.is_let_in
            }
            At::Home => {
                self.cell.take(cx.waker());
                self.queue_if_full()
            }
            At::Queue => {
                self.is_let_in |= self.cell.take(cx.waker());
                !self.is_let_in || self.queue_if_full()
            }
        }
    }

    /// Whether there is a paused job to go on with.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.at, At::Card | At::Refused)
    }

    /// libssl says that the job has paused.
    pub(super) fn paused(&mut self, ssl: *mut ffi::SSL) {
        let mut status = 0;
        // SAFETY: the SSL is alive and has run as a job.
        let refused =
            unsafe { ffi::SSL_get_async_status(ssl, &raw mut status) } == 1 && status == ffi::ASYNC_STATUS_EAGAIN;
        self.leave();
        self.is_let_in = false;
        if refused {
            self.at = At::Refused;
            self.accelerator.count.waits.fetch_add(1, Relaxed);
            self.wait_for_another();
        } else {
            self.at = At::Card;
            self.pauses += 1;
            self.accelerator.count.in_flight.fetch_add(1, Relaxed);
            let is_first = with_load(&self.accelerator, |load| {
                load.in_flight += 1;
                load.in_flight == 1
            });
            if is_first && self.accelerator.poll_interval().is_some() {
                tell_driver();
            }
        }
    }

    /// libssl came back without a pause.
    pub(super) fn resumed(&mut self) {
        self.leave();
    }

    /// Lets another in where this one was let in and had no use for it.
    pub(super) fn pass_on(&mut self) {
        if std::mem::take(&mut self.is_let_in) {
            self.let_next_in(|_| ());
        }
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

    /// The handshake is over.
    pub(super) fn finished(&self) {
        self.accelerator.count.handshakes.fetch_add(1, Relaxed);
        if self.pauses > 0 {
            self.accelerator.count.offloaded.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn pauses(&self) -> u32 {
        self.pauses
    }

    fn queue_if_full(&mut self) -> bool {
        let is_full = with_load(&self.accelerator, |load| load.in_flight >= self.accelerator.in_flight_max());
        if is_full {
            (self.at, self.is_let_in) = (At::Queue, false);
            self.accelerator.count.waits.fetch_add(1, Relaxed);
            self.wait_for_another();
        } else {
            self.at = At::Home;
        }
        is_full
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
        self.leave();
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
/// Called by libssl with the argument that was set: the cell of a job that is not dropped.
unsafe extern "C" fn on_done(_ssl: *mut ffi::SSL, cell: *mut c_void) -> c_int {
    // SAFETY: the pointer is that of an Arc; the job holds the cell, and lives in its SSL, which lives until this was called. A share of our
    // own: once it was told, the job may end, and the cell with it, before this has returned.
    let cell = unsafe {
        Arc::increment_strong_count(cell.cast::<WakeCell>());
        Arc::from_raw(cell.cast::<WakeCell>())
    };
    cell.tell();
    1
}
