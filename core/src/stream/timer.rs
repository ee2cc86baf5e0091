//! One timer per connection, for all its deadlines in turn.
//!
//! Arming a runtime timer costs far more than moving a deadline. So the sleep is armed once, and when it fires the deadline of that
//! moment is looked at again: a connection that keeps working re-arms its sleep once a timeout, not once a request.
//!
//! What is idle when nothing has happened for a while does not even look at the clock when something happens: an [`IdleTimer`] counts
//! quiet spans.
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

    /// The deadline is no later than this, whatever was set.
    pub(super) fn end_by(&mut self, at: Instant) {
        let own = match self.deadline {
            None => at,
            Some(Deadline::At(own)) => own,
            Some(Deadline::After(after)) => Instant::now() + after,
        };
        self.begin(own.min(at));
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

/// Tells when nothing has happened for a while. It is for one task, which polls it in each turn.
pub struct IdleTimer {
    span: Duration,
    /// Spans in a row in which nothing happened.
    quiet: u32,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// Fires when nothing has happened for `after`, or up to a quarter longer.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self { span: after.min(TIMEOUT_MAX) / SPANS, quiet: 0, sleep: None }
    }

    /// Ready once nothing has happened for long enough; `active`: something has, in this turn.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>, active: bool) -> Poll<()> {
        if active {
            self.quiet = 0;
        }
        let span = self.span;
        let sleep = match &mut self.sleep {
            // It will wake the task, which has not changed.
            Some(sleep) if active && !sleep.is_elapsed() => return Poll::Pending,
            Some(sleep) => sleep,
            none => none.insert(Box::pin(sleep_until(Instant::now() + span))),
        };
        while sleep.as_mut().poll(cx).is_ready() {
            self.quiet += 1;
            // The first of them may have begun before the last thing happened.
            if self.quiet > SPANS {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(Instant::now() + span);
        }
        Poll::Pending
    }
}

/// What an idle timeout is divided into: so much finer it is kept, and so often it wakes its task.
const SPANS: u32 = 4;

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
    async fn of_two_ends_the_first_counts() {
        let start = Instant::now();
        let mut timer = Timer::new();
        let fired = async |timer: &mut Timer| {
            poll_fn(|cx| timer.poll_expired(cx)).await;
            start.elapsed().as_secs()
        };
        timer.end_by(start + Duration::from_secs(2));
        assert_eq!(fired(&mut timer).await, 2, "nothing was set");
        timer.set(Duration::from_secs(9));
        timer.end_by(start + Duration::from_secs(5));
        assert_eq!(fired(&mut timer).await, 5);
        timer.set(Duration::from_secs(1));
        timer.end_by(start + Duration::from_secs(60));
        assert_eq!(fired(&mut timer).await, 6);
        timer.set(Duration::from_secs(60));
        let waits = poll_fn(|cx| Poll::Ready(timer.poll_expired(cx).is_pending())).await;
        assert!(waits, "it was just set");
        timer.end_by(start + Duration::from_secs(7));
        assert_eq!(fired(&mut timer).await, 7, "the runtime's timer was set for later");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_between_its_time_and_a_quarter_more() {
        for active_at in [0, 1, 99, 100, 101, 399, 400, 1234] {
            let mut timer = IdleTimer::new(Duration::from_millis(400));
            let start = Instant::now();
            let waits = poll_fn(|cx| Poll::Ready(timer.poll_expired(cx, false).is_pending())).await;
            assert!(waits, "it was just made");
            for at in (0..active_at).step_by(50).chain([active_at]) {
                let until = sleep_until(start + Duration::from_millis(at));
                let idle = tokio::time::timeout(Duration::from_secs(9), until);
                tokio::pin!(idle);
                poll_fn(|cx| {
                    assert!(timer.poll_expired(cx, false).is_pending(), "{active_at}: too early, before {at}");
                    idle.as_mut().poll(cx)
                })
                .await
                .unwrap();
                let waits = poll_fn(|cx| Poll::Ready(timer.poll_expired(cx, true).is_pending())).await;
                assert!(waits, "{active_at}: something has just happened");
            }
            let last = Instant::now();
            poll_fn(|cx| timer.poll_expired(cx, false)).await;
            let idle = last.elapsed().as_millis();
            assert!((400..=502).contains(&idle), "{active_at}: {idle} ms");
        }
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
