//! What a sender has to know to repair losses fast, beside smoltcp: round trips, duplicate acknowledgements, recovery, tail probes.
//!
//! smoltcp 0.14 sends the first unacknowledged segment again at the third duplicate ACK, and then nothing more until its timeout: every
//! further hole of a window costs a second. From here it is told when to do it again ([`Step::Repair`]): at a partial acknowledgement
//! (RFC 6582), and after a silence of about two round trips (after RFC 8985, 7), by acknowledgements that it has seen already.
//!
//! **Invariant:** looks at what goes out and comes in, and never changes it; a flow with nothing on its way waits for nothing.

use std::time::Duration;

use smoltcp::time::Instant;

use super::congestion::{Acked, Congestion};
use super::nic::Emitted;
use super::packet::Segment;

/// The sending side of one flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// None: as much as the rings and the peer's window allow.
    congestion: Option<Congestion>,
    /// Everything before this is acknowledged.
    acked: u32,
    /// The sequence number behind the last new byte that was sent.
    sent: u32,
    /// The peer's window, as on the wire.
    peer_window: u16,
    /// Duplicate acknowledgements since the last new one.
    duplicates: u16,
    phase: Phase,
    /// smoltcp is about to send a segment again because it was told to, not because its timer ran out.
    expected: bool,
    round_trip: RoundTrip,
    /// The segment that is timed: its end, and when it left.
    timed: Option<(u32, Instant)>,
    /// When silence is taken for a loss.
    probe_at: Option<Instant>,
    probes: u8,
    /// When the last new bytes left.
    last_sent: Instant,
    segment_bytes: u16,
}

/// Where a sender is between losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has been sent.
    Fresh,
    Open,
    /// Segments are sent again one by one, until this is acknowledged (RFC 6582).
    Repair(u32),
    /// After a timeout everything up to this is sent again.
    Resend(u32),
}

/// What there is to do after an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Have the first unacknowledged segment sent again.
    Repair,
}

/// Round trips of a flow (RFC 6298).
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    shortest: Option<Duration>,
}

impl Sender {
    /// For a flow that has sent nothing; `congestion`: whether it minds the path.
    pub(super) fn new(segment_bytes: u16, congestion: bool) -> Self {
        Self {
            congestion: congestion.then(|| Congestion::new(segment_bytes)),
            acked: 0,
            sent: 0,
            peer_window: 0,
            duplicates: 0,
            phase: Phase::Fresh,
            expected: false,
            round_trip: RoundTrip::default(),
            timed: None,
            probe_at: None,
            probes: 0,
            last_sent: Instant::ZERO,
            segment_bytes,
        }
    }

    /// A segment has left.
    pub(super) fn on_emit(&mut self, emitted: &Emitted, now: Instant) {
        if emitted.start == emitted.end {
            return;
        }
        if self.phase == Phase::Fresh {
            (self.acked, self.sent, self.phase) = (emitted.start, emitted.start, Phase::Open);
        }
        if is_after(emitted.end, self.sent) {
            if self.in_flight() == 0 {
                self.wake_up(now);
            }
            self.sent = emitted.end;
            self.last_sent = now;
            self.timed.get_or_insert((emitted.end, now));
            self.probes = 0;
        } else {
            self.on_again(emitted);
        }
        self.await_answer(now);
    }

    /// A segment has left again.
    fn on_again(&mut self, emitted: &Emitted) {
        // Karn: what was sent twice measures nothing.
        self.timed = None;
        if std::mem::take(&mut self.expected) || emitted.start != self.acked {
            return;
        }
        if !matches!(self.phase, Phase::Resend(_)) {
            if let Some(congestion) = &mut self.congestion {
                congestion.on_timeout();
            }
            self.duplicates = 0;
        }
        self.phase = Phase::Resend(self.sent);
    }

    /// A segment of the peer, after smoltcp has seen it. `accepted`: it changed what is queued, or the state; an acknowledgement of new bytes
    /// that did not was not the peer's.
    pub(super) fn on_segment(&mut self, segment: &Segment, accepted: bool, now: Instant) -> Step {
        if !segment.ack || segment.rst || self.phase == Phase::Fresh {
            return Step::Nothing;
        }
        let same_window = std::mem::replace(&mut self.peer_window, segment.window) == segment.window;
        if is_after(segment.acked, self.acked) {
            let is_sent = !is_after(segment.acked, self.sent);
            return if accepted && is_sent { self.on_new(segment.acked, now) } else { Step::Nothing };
        }
        let is_duplicate = segment.acked == self.acked && segment.is_bare_ack() && same_window && self.in_flight() > 0;
        if is_duplicate {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == DUPLICATES && self.phase == Phase::Open {
                // smoltcp counts as we do and sends it again by itself.
                self.begin_repair();
            }
        }
        Step::Nothing
    }

    /// New bytes are acknowledged.
    fn on_new(&mut self, up_to: u32, now: Instant) -> Step {
        let (bytes, in_flight) = (up_to.wrapping_sub(self.acked), self.in_flight());
        let measured = self.timed.filter(|(end, _)| !is_after(*end, up_to)).map(|(_, at)| (now - at).into());
        if let Some(round_trip) = measured {
            self.round_trip.measure(round_trip);
            self.timed = None;
        }
        self.acked = up_to;
        self.duplicates = 0;
        let probed = std::mem::take(&mut self.probes) > 0;
        let step = match self.phase {
            Phase::Repair(until) if is_after(until, up_to) => Step::Repair,
            Phase::Open if probed && self.in_flight() > 0 => {
                // The probe filled a hole, and behind it is another.
                self.begin_repair();
                Step::Repair
            }
            Phase::Resend(until) if is_after(until, up_to) => Step::Nothing,
            _ => {
                self.phase = Phase::Open;
                Step::Nothing
            }
        };
        if step == Step::Nothing {
            self.grow(bytes, in_flight, measured, now);
        }
        self.probe_at = None;
        self.await_answer(now);
        step
    }

    fn grow(&mut self, bytes: u32, in_flight: u32, round_trip: Option<Duration>, now: Instant) {
        let acked = Acked {
            bytes,
            in_flight,
            up_to: self.acked,
            sent: self.sent,
            round_trip,
            smoothed: self.round_trip.smoothed,
            shortest: self.round_trip.shortest.unwrap_or_default(),
            now,
        };
        if let Some(congestion) = &mut self.congestion {
            congestion.on_ack(&acked);
        }
    }

    fn begin_repair(&mut self) {
        self.phase = Phase::Repair(self.sent);
        self.expected = true;
        self.timed = None;
        if let Some(congestion) = &mut self.congestion {
            congestion.on_loss();
        }
    }

    /// Bytes that may be put into the send ring, which holds `queued`.
    pub(super) fn room(&self, queued: usize) -> usize {
        let Some(congestion) = &self.congestion else { return usize::MAX };
        // RFC 6582: each duplicate says that a segment has arrived somewhere behind the hole.
        let arrived = match self.phase {
            Phase::Repair(_) => usize::from(self.duplicates) * usize::from(self.segment_bytes),
            _ => 0,
        };
        (congestion.bytes() + arrived.min(queued)).saturating_sub(queued)
    }

    /// When silence is to be taken for a loss. None: nothing is on its way, or smoltcp's own timeout is next.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Whether it is time to send the first unacknowledged segment again. Counts the probe.
    pub(super) fn take_probe(&mut self, now: Instant) -> bool {
        let due = self.probe_at.is_some_and(|at| at <= now);
        if due {
            self.probes += 1;
            self.probe_at = None;
        }
        due
    }

    /// smoltcp was told to send the first unacknowledged segment again.
    pub(super) fn expect(&mut self) {
        self.expected = true;
    }

    /// What a bare acknowledgement of the peer says that it has sent already: its number and its window.
    pub(super) fn last_heard(&self) -> (u32, u16) {
        (self.acked, self.peer_window)
    }

    fn in_flight(&self) -> u32 {
        self.sent.wrapping_sub(self.acked)
    }

    /// New bytes after a silence.
    fn wake_up(&mut self, now: Instant) {
        let timeout = self.round_trip.timeout();
        if let Some(congestion) = &mut self.congestion
            && self.last_sent != Instant::ZERO
            && Duration::from(now - self.last_sent) > timeout
        {
            congestion.on_idle();
        }
    }

    /// Sets the time at which silence is a loss: about two round trips (RFC 8985, 7.2), later for each probe in vain.
    fn await_answer(&mut self, now: Instant) {
        if self.in_flight() == 0 || self.round_trip.shortest.is_none() || self.probes >= PROBES_MAX {
            self.probe_at = None;
            return;
        }
        // A peer that has one segment only may wait with its acknowledgement.
        let alone = if self.in_flight() <= u32::from(self.segment_bytes) { ACK_DELAY_MAX } else { Duration::ZERO };
        let RoundTrip { smoothed, variation, .. } = self.round_trip;
        let wait = (smoothed + smoothed / 2).max(smoothed + 4 * variation).max(PROBE_MIN) + alone;
        self.probe_at = Some(now + (wait * (1 << self.probes)).into());
    }
}

impl RoundTrip {
    /// RFC 6298, 2.2 and 2.3.
    fn measure(&mut self, round_trip: Duration) {
        match self.shortest {
            None => (self.smoothed, self.variation) = (round_trip, round_trip / 2),
            Some(_) => {
                self.variation = (self.variation * 3 + self.smoothed.abs_diff(round_trip)) / 4;
                self.smoothed = (self.smoothed * 7 + round_trip) / 8;
            }
        }
        self.shortest = Some(self.shortest.map_or(round_trip, |s| s.min(round_trip)));
    }

    fn timeout(&self) -> Duration {
        (self.smoothed + 4 * self.variation).max(TIMEOUT_MIN)
    }
}

/// Whether sequence number `a` is behind `b` (RFC 9293, 3.4).
pub(super) fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// Duplicate acknowledgements that mean a loss (RFC 5681, 3.2). smoltcp's number, too.
const DUPLICATES: u16 = 3;
/// Tail probes in a row; then smoltcp's timeout has its turn.
const PROBES_MAX: u8 = 2;
/// Silence for less than this is none.
const PROBE_MIN: Duration = Duration::from_millis(10);
/// Longer than a peer delays an acknowledgement where it expects no more.
const ACK_DELAY_MAX: Duration = Duration::from_millis(40);
/// The smallest retransmission timeout: Linux's.
const TIMEOUT_MIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::device::Mac;
    use crate::stack::flow_table::FlowKey;

    const SIZE: u32 = 1000;

    fn ms(ms: i64) -> Instant {
        Instant::from_millis(1000 + ms)
    }

    /// A sender that has measured 20 ms, and has sent `segments` segments from 1000 on at `ms(0)`.
    fn sender(segments: u32) -> Sender {
        let mut sender = Sender::new(1000, true);
        sender.on_emit(&segment_of(0), ms(-20));
        assert_eq!(sender.on_segment(&ack(1), true, ms(0)), Step::Nothing);
        (1..=segments).for_each(|n| sender.on_emit(&segment_of(n), ms(0)));
        sender
    }

    fn segment_of(n: u32) -> Emitted {
        Emitted { start: n * SIZE, end: (n + 1) * SIZE, acked: 0, window: 0 }
    }

    /// The peer has everything before segment `n`.
    fn ack(n: u32) -> Segment {
        let ip = Ipv4Addr::LOCALHOST;
        let key = FlowKey { peer: ip, local: ip, peer_port: 1, local_port: 2 };
        let (syn, ack, rst) = (false, true, false);
        Segment { key, from: Mac([0; 6]), syn, ack, rst, seq: 7, acked: n * SIZE, end: 7, window: 100, ip: 0..0 }
    }

    fn window(sender: &Sender) -> usize {
        sender.congestion.as_ref().unwrap().bytes() / 1000
    }

    #[test]
    fn three_duplicates_are_a_loss_and_a_partial_acknowledgement_is_the_next() {
        let mut sender = sender(10);
        for _ in 0..3 {
            assert_eq!(sender.on_segment(&ack(1), true, ms(20)), Step::Nothing, "smoltcp sends it again by itself");
        }
        assert_eq!((sender.phase, window(&sender)), (Phase::Repair(11 * SIZE), 7));
        sender.on_emit(&segment_of(1), ms(20));
        assert_eq!(window(&sender), 7, "what was asked for is no timeout");
        let before = sender.room(10_000);
        assert_eq!(sender.on_segment(&ack(1), true, ms(21)), Step::Nothing);
        assert_eq!(sender.room(10_000) - before, 1000, "a further duplicate says that one more has arrived");
        assert_eq!(sender.on_segment(&ack(5), true, ms(40)), Step::Repair, "the next hole begins there");
        sender.expect();
        sender.on_emit(&segment_of(5), ms(40));
        assert_eq!((window(&sender), sender.on_segment(&ack(11), true, ms(60))), (7, Step::Nothing));
        assert_eq!((sender.phase, sender.probe_at()), (Phase::Open, None));
    }

    #[test]
    fn silence_is_probed_twice_and_then_left_to_the_timeout() {
        let mut sender = sender(5);
        assert!(!sender.take_probe(ms(29)));
        let first = sender.probe_at().unwrap();
        assert!((ms(30)..ms(70)).contains(&first), "{first}");
        assert!(sender.take_probe(first));
        sender.expect();
        sender.on_emit(&segment_of(1), first);
        let second = sender.probe_at().unwrap();
        assert!(second - first > first - ms(0), "later each time");
        assert!(sender.take_probe(second));
        sender.expect();
        sender.on_emit(&segment_of(1), second);
        assert_eq!((sender.probe_at(), window(&sender)), (None, 10));
        // Nobody asked for this one.
        sender.on_emit(&segment_of(1), ms(300));
        assert_eq!((sender.phase, window(&sender)), (Phase::Resend(6 * SIZE), 2));
        sender.on_emit(&segment_of(2), ms(300));
        assert_eq!(sender.on_segment(&ack(3), true, ms(320)), Step::Nothing, "everything is on its way again");
    }

    #[test]
    fn a_probe_that_finds_a_hole_goes_on_to_the_next() {
        let mut sender = sender(5);
        let at = sender.probe_at().unwrap();
        assert!(sender.take_probe(at));
        sender.expect();
        sender.on_emit(&segment_of(1), at);
        assert_eq!(sender.on_segment(&ack(3), true, at), Step::Repair);
        assert_eq!((sender.phase, window(&sender)), (Phase::Repair(6 * SIZE), 7));
    }

    #[test]
    fn what_is_no_duplicate_counts_as_none() {
        let mut sender = sender(5);
        let with_data = Segment { end: 107, ..ack(1) };
        let other_window = |window| Segment { window, ..ack(1) };
        let old = ack(0);
        for segment in [&with_data, &other_window(99), &other_window(98), &old, &with_data, &with_data] {
            assert_eq!(sender.on_segment(segment, true, ms(20)), Step::Nothing);
        }
        assert_eq!((sender.duplicates, sender.phase), (0, Phase::Open));
        assert_eq!(sender.on_segment(&ack(2), false, ms(20)), Step::Nothing);
        assert_eq!(sender.acked, SIZE, "smoltcp did not take it");
        let beyond = ack(50);
        assert_eq!(sender.on_segment(&beyond, true, ms(20)), Step::Nothing);
        assert_eq!(sender.acked, SIZE, "an acknowledgement of what was never sent");
    }

    #[test]
    fn without_congestion_control_there_is_room_and_losses_are_repaired_all_the_same() {
        let mut sender = Sender { congestion: None, ..sender(10) };
        assert_eq!(sender.room(1 << 20), usize::MAX);
        (0..3).for_each(|_| assert_eq!(sender.on_segment(&ack(1), true, ms(20)), Step::Nothing));
        assert_eq!(sender.on_segment(&ack(3), true, ms(40)), Step::Repair);
    }
}
