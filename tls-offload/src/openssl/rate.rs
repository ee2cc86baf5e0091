//! How fast an accelerator signs.
//!
//! **Invariant:** never on a worker: it blocks for the time that it is told, and until the accelerator has let go of all that it was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::accelerator::Accelerator;
use super::error::OpenSslError;
use super::installed::{in_accelerator, private_key};
use super::job::Wait;
use super::operation::Operation;
use super::own::PrivateKey;
use super::turn::{Grave, buried, bury, turn};
use crate::error::{Cause, ConfigError, TlsError};
use crate::probe::{MESSAGE, Measure, SignRate};
use crate::server::Identity;

/// As [`crate::probe::rate_in_accelerator`].
pub(crate) fn sign_rate(
    identity: &Identity,
    accelerator: &Arc<Accelerator>,
    at_once: usize,
    measure: Measure,
) -> Result<SignRate, ConfigError> {
    let key = Arc::new(in_accelerator(identity, private_key(identity)?)?);
    let mut slots: Vec<Slot> = (0..at_once).map(|_| Slot::new(accelerator, &key)).collect();
    let result = sign(&mut slots, accelerator, &key, measure);
    let paused = slots.into_iter().map(|slot| slot.operation).filter(|operation| operation.job.is_paused());
    paused.for_each(|operation| bury(Grave::Operation(operation)));
    // As long as may be: the process may end next, and OpenSSL with it, while the accelerator still computes.
    let end = accelerator.now() + accelerator.timeout();
    while buried() > 0 && accelerator.now() < end {
        turn();
        thread::sleep(LOOK_INTERVAL);
    }
    result.map_err(|error| ConfigError::ProofFailed {
        name: accelerator.name().into(),
        key: identity.key.place(),
        cause: Box::new(TlsError::Local(Cause::openssl(error))),
    })
}

/// A place for one signature after the other.
struct Slot {
    operation: Operation,
    news: Arc<News>,
    waker: Waker,
}

/// Whether there is something to do, for whom.
struct News {
    is_there: AtomicBool,
    thread: Thread,
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.is_there.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Slot {
    fn new(accelerator: &Arc<Accelerator>, key: &Arc<PrivateKey>) -> Self {
        let news = Arc::new(News { is_there: AtomicBool::new(true), thread: thread::current() });
        let waker = Waker::from(Arc::clone(&news));
        Self { operation: operation(accelerator, key), news, waker }
    }

    /// Goes on as far as it can. Ready: there is a signature, which has paused or not.
    fn go_on(&mut self) -> Poll<Result<bool, OpenSslError>> {
        if !self.news.is_there.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        loop {
            let operation = &mut self.operation;
            match operation.job.must_wait(&Context::from_waker(&self.waker), true) {
                Wait::Yes => return Poll::Pending,
                Wait::TooLong => return Poll::Ready(Err(OpenSslError::with_text("it does not answer"))),
                Wait::No => {}
            }
            match operation.step() {
                Poll::Pending => operation.paused(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(_)) => {
                    operation.job.resumed(false);
                    return Poll::Ready(Ok(operation.job.pauses() > 0));
                }
            }
        }
    }
}

fn sign(
    slots: &mut [Slot],
    accelerator: &Arc<Accelerator>,
    key: &Arc<PrivateKey>,
    measure: Measure,
) -> Result<SignRate, OpenSslError> {
    let (begun, cpu) = ((measure.clock)(), (measure.cpu)());
    let (mut count, mut paused) = (0, 0);
    loop {
        let mut has_moved = false;
        for slot in &mut *slots {
            if let Poll::Ready(has_paused) = slot.go_on() {
                paused += u64::from(has_paused?);
                count += 1;
                slot.operation = operation(accelerator, key);
                slot.news.is_there.store(true, Ordering::Release);
                has_moved = true;
            }
        }
        let took = (measure.clock)().saturating_sub(begun);
        if took >= measure.time && count > 0 {
            let cpu = (measure.cpu)().zip(cpu).map(|(now, then)| now.saturating_sub(then));
            return Ok(SignRate { at_once: slots.len(), count, paused, took, cpu });
        }
        let wait = turn().unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL);
        if !has_moved && !slots.iter().any(|slot| slot.news.is_there.load(Ordering::Acquire)) {
            thread::park_timeout(wait);
        }
    }
}

fn operation(accelerator: &Arc<Accelerator>, key: &Arc<PrivateKey>) -> Operation {
    let scheme = key.schemes().first().copied().unwrap_or_default();
    Operation::new(accelerator, key, scheme, MESSAGE)
}

/// Between two looks at an accelerator that computes.
const LOOK_INTERVAL: Duration = Duration::from_micros(100);
