//! What all workers together count of one host: work in progress, speed, and errors.
//!
//! **Invariant:** counts of work in progress are exact at every moment; averages may lose a sample to a race, never more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The numbers of one host. On cache lines of its own: every worker writes here.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Tally {
    /// Requests in progress.
    pub requests: AtomicU32,
    /// Connections open.
    pub conns: AtomicU32,
    /// The moving average of the time to an answer, in nanoseconds; 0: no answer yet.
    latency: AtomicU64,
    /// When the averages changed last, in milliseconds of the cluster's clock.
    changed: AtomicU64,
    /// Moving averages of the shares of 4xx and of 5xx answers.
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    /// Answers of 500 and more, or none, in a row.
    pub(super) errors: AtomicU32,
    /// 502, 503, 504, or none, in a row.
    pub(super) gateway_errors: AtomicU32,
    /// No answer at all, in a row.
    pub(super) no_answers: AtomicU32,
    /// Ejections in a row.
    pub(super) ejections: AtomicU32,
    /// When the ejection ends, in milliseconds of the cluster's clock.
    pub(super) ejected_until: AtomicU64,
    /// Answers within the running interval, and good ones among them.
    pub(super) answers: AtomicU32,
    pub(super) successes: AtomicU32,
}

/// The averages of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Nanoseconds to an answer; None: it has not answered yet.
    pub latency: Option<f64>,
    /// The share of 4xx answers.
    pub client_errors: f64,
    /// The share of 5xx answers and failures.
    pub server_errors: f64,
}

impl Tally {
    /// Takes an answer into the averages. Of a failure only the share of errors changes: a quick refusal is not speed.
    pub(super) fn sample(&self, status: u16, took: Duration, now: u64) {
        let before = self.changed.swap(now, Ordering::Relaxed);
        // How much of the average is still true: after a long silence nothing is.
        let kept = decay(now.saturating_sub(before));
        let share = |average: &AtomicU64, hit: bool| {
            let old = f64::from_bits(average.load(Ordering::Relaxed));
            let kept = kept.min(SAMPLE_KEPT);
            store(average, old * kept + f64::from(u8::from(hit)) * (1.0 - kept));
        };
        share(&self.client_errors, (400..500).contains(&status));
        share(&self.server_errors, status >= 500);
        if status >= 400 {
            return;
        }
        let took = took.as_secs_f64() * 1e9;
        let old = f64::from_bits(self.latency.load(Ordering::Relaxed));
        // A peak counts at once, an improvement little by little.
        let kept = if took >= old { 0.0 } else { kept.min(SAMPLE_KEPT) };
        store(&self.latency, old * kept + took * (1.0 - kept));
    }

    /// The averages at `now`. What a host was slow in is forgotten with time, so that it is asked again.
    #[must_use]
    pub fn speed(&self, now: u64) -> Speed {
        let age = now.saturating_sub(self.changed.load(Ordering::Relaxed));
        let latency = f64::from_bits(self.latency.load(Ordering::Relaxed)) * decay(age);
        Speed {
            latency: (latency > 0.0).then_some(latency),
            client_errors: f64::from_bits(self.client_errors.load(Ordering::Relaxed)),
            server_errors: f64::from_bits(self.server_errors.load(Ordering::Relaxed)),
        }
    }
}

fn store(average: &AtomicU64, value: f64) {
    average.store(value.to_bits(), Ordering::Relaxed);
}

/// What is left of an average after so many milliseconds: e^-5 after 30 s, as in MOSN.
fn decay(millis: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "beyond 2^52 ms nothing is left either way")]
    let age = millis as f64;
    (-age / DECAY_MILLIS).exp()
}

/// Milliseconds in which an average loses all but 1/e.
const DECAY_MILLIS: f64 = 6000.0;

/// What one sample leaves of an average, at most.
const SAMPLE_KEPT: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let tally = Tally::default();
        assert_eq!(tally.speed(0).latency, None);
        let ms = Duration::from_millis;
        tally.sample(200, ms(10), 0);
        assert_eq!(tally.speed(0).latency, Some(10e6));
        tally.sample(200, ms(100), 1);
        assert_eq!(tally.speed(1).latency, Some(100e6));
        tally.sample(200, ms(10), 2);
        let fading = tally.speed(2).latency.unwrap();
        assert!((90e6..100e6).contains(&fading), "{fading}");
        // Unasked for half a minute, it is as good as any.
        assert!(tally.speed(30_002).latency.unwrap() < 1e6);
        tally.sample(200, ms(10), 60_000);
        assert!(tally.speed(60_000).latency.unwrap() < 10.1e6);
    }

    #[test]
    fn errors_raise_their_share_and_leave_the_latency() {
        let tally = Tally::default();
        for now in 0..100 {
            tally.sample(503, Duration::from_millis(1), now);
        }
        let speed = tally.speed(100);
        assert!(speed.server_errors > 0.9 && speed.client_errors == 0.0 && speed.latency.is_none(), "{speed:?}");
    }
}
