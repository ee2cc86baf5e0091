//! How long a flow's round trips take, and what follows for its patience (RFC 6298).
//!
//! **Invariant:** a timeout is never shorter than [`TIMEOUT_MIN`], nor longer than [`TIMEOUT_MAX`].

use std::time::Duration;

/// The round trips of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    shortest: Option<Duration>,
}

impl RoundTrip {
    /// RFC 6298, 2.2 and 2.3.
    pub(super) fn measure(&mut self, round_trip: Duration) {
        match self.shortest {
            None => (self.smoothed, self.variation) = (round_trip, round_trip / 2),
            Some(_) => {
                self.variation = (self.variation * 3 + self.smoothed.abs_diff(round_trip)) / 4;
                self.smoothed = (self.smoothed * 7 + round_trip) / 8;
            }
        }
        self.note(round_trip);
    }

    /// One that counts for the shortest only.
    pub(super) fn note(&mut self, round_trip: Duration) {
        self.shortest = Some(self.shortest.map_or(round_trip, |s| s.min(round_trip)));
    }

    /// Whether one was measured.
    pub(super) fn is_known(&self) -> bool {
        self.shortest.is_some()
    }

    /// The shortest one; nothing before the first.
    pub(super) fn shortest(&self) -> Duration {
        self.shortest.unwrap_or_default()
    }

    /// After so long a silence something is to be sent again, the `tries`-th time in a row (RFC 6298, 2.3 and 5.5).
    pub(super) fn timeout(&self, tries: u8) -> Duration {
        let first =
            if self.is_known() { self.smoothed + (4 * self.variation).max(TIMEOUT_MIN) } else { TIMEOUT_INITIAL };
        (first * (1 << tries.min(10))).min(TIMEOUT_MAX)
    }

    /// After so long a silence the peer is asked: about two round trips (RFC 8985, 7.2). `alone`: it has one segment to acknowledge, and may
    /// wait for a second.
    pub(super) fn probe(&self, tries: u8, alone: bool) -> Duration {
        let wait = 2 * self.smoothed + PROBE_SLACK + if alone { ACK_DELAY_MAX } else { Duration::ZERO };
        wait * (1 << tries.min(10))
    }

    /// What overtakes by no more than this is in the wrong order, and not a sign of a loss (RFC 8985, 6.2): `steps` quarters of a round trip.
    pub(super) fn disorder(&self, steps: u8) -> Duration {
        (self.shortest() / 4 * u32::from(steps)).min(self.smoothed).max(DISORDER_MIN)
    }
}

/// The smallest retransmission timeout, on top of the round trip: Linux's.
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
const TIMEOUT_MAX: Duration = Duration::from_secs(12);
/// RFC 6298, 2.1.
const TIMEOUT_INITIAL: Duration = Duration::from_secs(1);
/// What the clocks of two machines may add to two round trips.
const PROBE_SLACK: Duration = Duration::from_millis(2);
/// Longer than a peer delays an acknowledgement where it expects no more.
const ACK_DELAY_MAX: Duration = Duration::from_millis(40);
/// What a clock of milliseconds can tell apart.
const DISORDER_MIN: Duration = Duration::from_millis(1);
