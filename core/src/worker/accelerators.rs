//! A worker's part for its accelerators: polls those that want it, looks after those that are slow or lost, frees what they have let go of.
//!
//! **Invariant:** sleeps while there is nothing to do for any of them.

use std::future::{pending, poll_fn};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tls_offload::{poll_news, turn, watched};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::stream::load::Load;
use crate::telemetry::pulse::Work;

/// Runs until it is dropped. `is_polled`: the plane never sleeps, so that a short wait is one round of its loop.
pub(super) async fn drive(load: Rc<Load>, is_polled: bool) {
    let mut fd = None;
    loop {
        let running = load.enter(Work::Accelerators, 0);
        let wait = turn();
        drop(running);
        if fd.is_none() {
            fd = watched().and_then(watch);
        }
        match wait {
            // Everybody else first.
            Some(wait) if wait.is_zero() || (is_polled && wait < TIMER_STEP) => yield_now().await,
            wait => tokio::select! {
                () = poll_fn(poll_news) => {}
                () = readable(fd.as_ref()) => {}
                () = passed(wait) => {}
            },
        }
    }
}

#[allow(deprecated, reason = "its successor is unsafe, for descriptors that may change; one that is owned does not")]
fn watch(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE).ok()
}

async fn passed(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => pending().await,
    }
}

/// An accelerator has told by a descriptor.
async fn readable(fd: Option<&AsyncFd<OwnedFd>>) {
    match fd {
        Some(fd) => {
            if let Ok(mut ready) = fd.readable().await {
                ready.clear_ready();
            }
        }
        None => pending().await,
    }
}

/// The least that a timer waits.
const TIMER_STEP: Duration = Duration::from_millis(1);
