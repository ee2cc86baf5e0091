//! One timer per connection, for all its deadlines in turn.
//!
//! Arming a runtime timer costs far more than moving a deadline. So the sleep is armed once, and when it fires the deadline of that
//! moment is looked at again: a connection that keeps working re-arms its sleep once a timeout, not once a request.
//!
//! **Invariant:** never fires before the deadline in force, and holds no runtime timer until something waited on it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that can be moved for the price of a store.
#[derive(Default)]
pub struct Timer {
    deadline: Option<Deadline>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// When a deadline is. One that nothing waits for yet needs no look at the clock.
#[derive(Clone, Copy)]
enum Deadline {
    /// So long after it is first waited for.
    After(Duration),
    At(Instant),
}

impl Timer {
    /// A timer without a deadline.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The deadline is `after` from when it is next waited for, which is to be in this turn.
    pub fn set(&mut self, after: Duration) {
        self.deadline = Some(Deadline::After(after.min(TIMEOUT_MAX)));
    }

    /// There is no deadline.
    pub fn clear(&mut self) {
        self.deadline = None;
    }

    /// Whether there is a deadline, passed or not.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// There is no deadline, and the runtime's timer is given back: for a connection that may wait long.
    pub fn release(&mut self) {
        *self = Self::default();
    }

    /// Runs while something is waited for, from when it began to be; whether it has run out.
    pub(super) fn watch(&mut self, waits: bool, timeout: Duration, cx: &mut Context<'_>) -> bool {
        if !waits {
            self.release();
            return false;
        }
        if !self.is_set() {
            self.set(timeout);
        }
        self.poll_expired(cx).is_ready()
    }

    /// Ready once the deadline has passed; it stays passed until it is moved.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match self.deadline {
            None => return Poll::Pending,
            Some(Deadline::At(at)) => at,
            Some(Deadline::After(after)) => self.begin(Instant::now() + after),
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn begin(&mut self, at: Instant) -> Instant {
        self.deadline = Some(Deadline::At(at));
        if let Some(sleep) = &mut self.sleep
            && at < sleep.deadline()
        {
            sleep.as_mut().reset(at);
        }
        at
    }
}

/// Longer timeouts are cut to this: a year is "never", and further ahead the clock would overflow.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_in_force_counts() {
        let start = Instant::now();
        let mut timer = Timer::new();
        timer.set(Duration::from_secs(5));
        poll_fn(|cx| {
            let _: () = assert!(timer.poll_expired(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        timer.set(Duration::from_secs(20));
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 20);
        timer.set(Duration::from_secs(7));
        poll_fn(|cx| {
            let _: () = assert!(timer.poll_expired(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        timer.set(Duration::from_secs(1));
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 21);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_it_never_fires() {
        let mut timer = Timer::new();
        timer.set(Duration::from_secs(1));
        timer.clear();
        let waited = tokio::time::timeout(Duration::from_secs(60), poll_fn(|cx| timer.poll_expired(cx)));
        assert!(waited.await.is_err());
    }
}
