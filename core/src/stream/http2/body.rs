//! The body of a request, taken from its stream as it comes.
//!
//! **Invariant:** what is not taken is not promised again, so that a slow receiver closes the sender's window.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::SharedMux;
use super::send::Taken;
use crate::message::{BodyError, BodyLength, BodySource, Chunk};
use crate::stream::timer::Timer;

/// A request's body that streams.
pub(super) struct RequestBody {
    mux: SharedMux,
    stream: u32,
    timer: Timer,
    pace: Pace,
}

/// How fast the client sends, while it is waited for.
#[derive(Default)]
struct Pace {
    /// Since when it has been waited for.
    since: Option<Instant>,
    /// How long it was waited for in this window of the rate.
    waited: Duration,
    /// What came in it.
    bytes: u64,
}

impl RequestBody {
    pub(super) fn new(mux: SharedMux, stream: u32) -> Self {
        Self { mux, stream, timer: Timer::new(), pace: Pace::default() }
    }
}

impl BodySource for RequestBody {
    fn length(&self) -> BodyLength {
        let mux = self.mux.borrow();
        let Some(stream) = mux.store.get(self.stream) else { return BodyLength::None };
        match stream.left {
            Some(left) => BodyLength::Exact(left + stream.inbox.len() as u64),
            None => BodyLength::Chunked,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        let mut mux = self.mux.borrow_mut();
        match mux.take_body(self.stream) {
            Taken::Data(bytes) => {
                let (window, rate) = (mux.limits.body_rate_window, mux.limits.body_bytes_per_second_min);
                // While the chunk is on its way to its receiver, the sender's clock stands still.
                self.timer.clear();
                if self.pace.is_too_slow(bytes.len(), window, rate) {
                    return Poll::Ready(Err(BodyError::TooSlow));
                }
                Poll::Ready(Ok(Some(Chunk::Data(bytes))))
            }
            Taken::Trailers(trailers) => Poll::Ready(Ok(Some(Chunk::Trailers(trailers)))),
            Taken::End => Poll::Ready(Ok(None)),
            Taken::Broken(error) => Poll::Ready(Err(error)),
            Taken::Wait => {
                if self.pace.since.is_none() {
                    self.pace.since = Some(Instant::now());
                    self.timer.set(mux.limits.body_idle_timeout);
                }
                self.timer.poll_expired(cx).map(|()| Err(BodyError::Timeout))
            }
        }
    }
}

impl Pace {
    /// So many bytes have come; whether that took too long.
    fn is_too_slow(&mut self, bytes: usize, window: Duration, bytes_per_second_min: u64) -> bool {
        self.bytes += bytes as u64;
        let Some(since) = self.since.take() else { return false };
        self.waited += since.elapsed();
        if self.waited < window {
            return false;
        }
        let enough = bytes_per_second_min.saturating_mul(self.waited.as_secs());
        let is_slow = self.bytes < enough;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        is_slow
    }
}
