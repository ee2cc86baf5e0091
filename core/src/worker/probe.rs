//! Measures turns from inside: a task that gives way and sees how long it takes until it runs again.
//!
//! That is what everything waits that becomes ready in this moment: one look at the sockets and one run of all that is ready. A sample
//! is taken every so often rather than in each turn, so that nothing is added to a request.
//!
//! **Invariant:** runs as any other task of the worker, never before them.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::stream::load::Load;

/// Measures until it is aborted.
pub(super) async fn probe(load: Rc<Load>) {
    loop {
        let runs = load.runs();
        sleep(BUSY_INTERVAL).await;
        if load.runs() == runs {
            // An idle worker is left alone, almost.
            sleep(IDLE_INTERVAL).await;
        }
        let start = Instant::now();
        yield_now().await;
        load.note_turn(start.elapsed());
    }
}

/// Between two measurements of a worker that works.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// What is added to that when it does not.
const IDLE_INTERVAL: Duration = Duration::from_millis(200);
