//! The generator's clock: nanoseconds since it was made.
//!
//! **Invariant:** monotonic, and one read costs a vDSO call.

#![allow(clippy::disallowed_types, reason = "no runtime here whose clock a test could pause")]

use std::time::{Duration, Instant};

/// A point in time: nanoseconds since the clock was made.
pub(crate) type Nanos = u64;

/// Where the time comes from.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }
}

/// A duration as nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds as nanoseconds; none below zero.
pub(crate) fn seconds(seconds: f64) -> Nanos {
    nanos(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
