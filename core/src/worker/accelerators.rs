//! A worker's part for its accelerators: polls those that want it, frees what they have let go of.
//!
//! **Invariant:** sleeps while there is nothing to do for any of them.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tls_offload::{poll_news, turn};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::stream::load::Load;
use crate::telemetry::pulse::Work;

/// Runs until it is dropped. `is_polled`: the plane never sleeps, so that a short wait is one round of its loop.
pub(super) async fn drive(load: Rc<Load>, is_polled: bool) {
    loop {
        let running = load.enter(Work::Accelerators, 0);
        let wait = turn();
        drop(running);
        let news = poll_fn(poll_news);
        match wait {
            None => news.await,
            // Everybody else first.
            Some(wait) if wait.is_zero() || (is_polled && wait < TIMER_STEP) => yield_now().await,
            Some(wait) => {
                let _ = timeout(wait, news).await;
            }
        }
    }
}

/// The least that a timer waits.
const TIMER_STEP: Duration = Duration::from_millis(1);
