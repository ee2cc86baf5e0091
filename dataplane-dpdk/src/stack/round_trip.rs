//! How long a flow's round trips take, and what follows for its patience (RFC 6298).
//!
//! **Invariant:** a timeout is never shorter than [`TIMEOUT_MIN`], nor longer than [`TIMEOUT_MAX`].

use std::time::Duration;

/// The round trips of a flow, in nanoseconds: each acknowledgement reckons with them, and a `Duration` is of two parts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: u64,
    variation: u64,
    shortest: Option<u64>,
}

impl RoundTrip {
    /// RFC 6298, 2.2 and 2.3.
    pub(super) fn measure(&mut self, round_trip: Duration) {
        let nanos = nanos(round_trip);
        match self.shortest {
            None => (self.smoothed, self.variation) = (nanos, nanos / 2),
            Some(_) => {
                self.variation = (self.variation * 3 + self.smoothed.abs_diff(nanos)) / 4;
                self.smoothed = (self.smoothed * 7 + nanos) / 8;
            }
        }
        self.note(round_trip);
    }

    /// One that counts for the shortest only.
    pub(super) fn note(&mut self, round_trip: Duration) {
        let nanos = nanos(round_trip);
        self.shortest = Some(self.shortest.map_or(nanos, |s| s.min(nanos)));
    }

    /// Whether one was measured.
    pub(super) fn is_known(&self) -> bool {
        self.shortest.is_some()
    }

    /// The shortest one; nothing before the first.
    pub(super) fn shortest(&self) -> Duration {
        Duration::from_nanos(self.shortest.unwrap_or_default())
    }

    /// After so long a silence something is to be sent again, the `tries`-th time in a row (RFC 6298, 2.3 and 5.5).
    pub(super) fn timeout(&self, tries: u8) -> Duration {
        let first =
            if self.is_known() { self.smoothed + (4 * self.variation).max(TIMEOUT_MIN) } else { TIMEOUT_INITIAL };
        Duration::from_nanos(first.saturating_mul(1 << tries.min(10)).min(TIMEOUT_MAX))
    }

    /// After so long a silence the peer is asked: about two round trips (RFC 8985, 7.2). `alone`: it has one segment to acknowledge, and may
    /// wait for a second.
    pub(super) fn probe(&self, tries: u8, alone: bool) -> Duration {
        let wait = 2 * self.smoothed + PROBE_SLACK + if alone { ACK_DELAY_MAX } else { 0 };
        Duration::from_nanos(wait.saturating_mul(1 << tries.min(10)))
    }

    /// What overtakes by no more than this is in the wrong order, and not a sign of a loss (RFC 8985, 6.2): `steps` quarters of a round trip.
    pub(super) fn disorder(&self, steps: u8) -> Duration {
        let quarters = self.shortest.unwrap_or_default() / 4 * u64::from(steps);
        Duration::from_nanos(quarters.min(self.smoothed).max(DISORDER_MIN))
    }
}

/// No longer than an hour or two: what is measured goes around then.
fn nanos(round_trip: Duration) -> u64 {
    round_trip.as_secs() * SECOND + u64::from(round_trip.subsec_nanos())
}

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;
/// The smallest retransmission timeout, on top of the round trip: Linux's.
const TIMEOUT_MIN: u64 = 200 * MILLISECOND;
const TIMEOUT_MAX: u64 = 12 * SECOND;
/// RFC 6298, 2.1.
const TIMEOUT_INITIAL: u64 = SECOND;
/// What the clocks of two machines may add to two round trips.
const PROBE_SLACK: u64 = 2 * MILLISECOND;
/// Longer than a peer delays an acknowledgement where it expects no more.
const ACK_DELAY_MAX: u64 = 40 * MILLISECOND;
/// What a clock of milliseconds can tell apart.
const DISORDER_MIN: u64 = MILLISECOND;
