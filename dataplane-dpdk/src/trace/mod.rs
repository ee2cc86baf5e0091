//! Frames as they pass a port: for a capture that runs, and for the flight recorder, which keeps the last ones for the case of a crash.
//!
//! **Invariant:** a port without taps pays one look at an empty list for a burst; with one, what it pays is bounded, and it waits for nobody.

mod filter;
mod live;
pub(crate) mod pcapng;
mod recorder;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smoltcp::time::Instant;

pub(crate) use self::filter::Filter;
pub(crate) use self::live::{Limits, Live};
pub(crate) use self::recorder::{Recorder, Recording};
use self::ring::{Ring, Sight};
use crate::frame::Frame;
use crate::words::Words;

/// One lcore's end of a capture or of the flight recorder.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    words: Arc<Words>,
    /// Where its ring is among the words.
    begin: usize,
    len: usize,
    kept_bytes: usize,
    filter: Filter,
    /// The port's number in the capture.
    port: u16,
    /// Nanoseconds from 1970 to the stack's time 0.
    epoch: u64,
    /// Nobody wants more.
    over: Arc<AtomicBool>,
}

impl Tap {
    /// The same for the port of this number, of a stack whose time is `now` when it is `unix` nanoseconds after 1970.
    pub(crate) fn at(&self, port: usize, now: Instant, unix: u64) -> Self {
        let since = u64::try_from(now.total_micros()).unwrap_or(0) * 1000;
        Self { port: u16::try_from(port).unwrap_or(u16::MAX), epoch: unix.saturating_sub(since), ..self.clone() }
    }

    /// Whether nobody wants more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A burst passes.
    pub(crate) fn see(&self, frames: &[Frame], now: Instant, sent: bool) {
        let words = self.words.all().get(self.begin..self.begin + self.len).unwrap_or_default();
        let Some(ring) = Ring::new(words, self.kept_bytes) else { return };
        let at = self.epoch + u64::try_from(now.total_micros()).unwrap_or(0) * 1000;
        for frame in frames.iter().filter(|frame| self.filter.takes(frame.bytes())) {
            ring.push(Sight { at, bytes: frame.bytes(), port: self.port, sent });
        }
    }
}
