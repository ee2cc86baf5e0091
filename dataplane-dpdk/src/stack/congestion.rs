//! How much a flow may have on its way: CUBIC (RFC 9438) with an initial window of ten segments (RFC 6928) and a slow start that ends
//! before the queue of the path overflows (after RFC 9406).
//!
//! smoltcp's own congestion control stays off: it starts at 2 KiB and knows nothing of what [`recovery`](super::recovery) repairs. This window
//! is kept by what is admitted to the send ring.
//!
//! **Invariant:** never below two segments, so that a flow always moves; grows only while it is what holds the flow back.

use std::time::Duration;

use smoltcp::time::Instant;

/// One flow's window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Congestion {
    /// The window, in segments.
    window: f32,
    /// Where slow start ends, in segments.
    threshold: f32,
    /// The window before it was last reduced, in segments.
    before: f32,
    /// When this growth began, and how long it takes to `before` from there, in seconds; None: not since a loss.
    epoch: Option<(Instant, f32)>,
    /// What Reno would have by now, in segments (RFC 9438, 4.3).
    reno: f32,
    /// Bytes of a segment.
    segment: f32,
    round: Round,
}

/// One round trip: whether it took longer than those before, and how much was on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The sequence number that ends it.
    end: u32,
    /// The shortest round trip in it.
    shortest: Option<Duration>,
    samples: u32,
    /// The most that was on its way in it, in segments, and in the one before.
    most: f32,
    most_before: f32,
}

/// An acknowledgement of new bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    /// New bytes.
    pub(super) bytes: u32,
    /// Bytes that were on their way before it.
    pub(super) in_flight: u32,
    /// Up to here.
    pub(super) up_to: u32,
    /// The last byte sent.
    pub(super) sent: u32,
    /// The round trip that it measures.
    pub(super) round_trip: Option<Duration>,
    /// The shortest round trip of the flow.
    pub(super) shortest: Duration,
    pub(super) now: Instant,
}

impl Congestion {
    /// For segments of so many bytes.
    pub(super) fn new(segment_bytes: u16) -> Self {
        Self {
            window: INITIAL_SEGMENTS,
            threshold: f32::MAX,
            before: 0.0,
            epoch: None,
            reno: 0.0,
            segment: f32::from(segment_bytes.max(1)),
            round: Round::default(),
        }
    }

    /// Bytes that may be on their way.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^32")]
    pub(super) fn bytes(&self) -> usize {
        (self.window * self.segment) as usize
    }

    /// New bytes were acknowledged.
    #[expect(clippy::cast_precision_loss, reason = "bytes of a window")]
    pub(super) fn on_ack(&mut self, acked: &Acked) {
        let (bytes, in_flight) = (acked.bytes as f32 / self.segment, acked.in_flight as f32 / self.segment);
        self.watch_round(acked, in_flight);
        // A flow that does not use its window learns nothing about the path.
        let used = self.round.most.max(self.round.most_before);
        if self.window < self.threshold {
            if used * 2.0 >= self.window {
                self.window = (self.window + bytes).min(self.threshold.max(self.window));
            }
        } else if used + REACHED_SEGMENTS >= self.window {
            self.grow(bytes, acked.shortest, acked.now);
        }
        self.window = self.window.min(WINDOW_BYTES_MAX / self.segment);
    }

    /// Segments have so many bytes from now on: as many bytes may be on their way as before.
    pub(super) fn narrow(&mut self, segment_bytes: u16) {
        let factor = self.segment / f32::from(segment_bytes.max(1));
        self.segment /= factor;
        (self.window, self.threshold) = (self.window * factor, self.threshold * factor);
        (self.before, self.reno, self.epoch) = (self.before * factor, self.reno * factor, None);
        self.round = Round::default();
    }

    /// A segment was lost.
    pub(super) fn on_loss(&mut self) {
        self.reduce();
        self.window = self.threshold;
    }

    /// Nothing came back for a whole retransmission timeout.
    pub(super) fn on_timeout(&mut self) {
        self.reduce();
        self.window = SEGMENTS_MIN;
    }

    /// The flow has been silent for a retransmission timeout: what it knew of the path is old (RFC 5681, 4.1).
    pub(super) fn on_idle(&mut self) {
        self.window = self.window.min(INITIAL_SEGMENTS);
        self.epoch = None;
    }

    /// RFC 9438, 4.6 and 4.7.
    fn reduce(&mut self) {
        let fast_convergence = self.window < self.before;
        self.before = if fast_convergence { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.threshold = (self.window * BETA).max(SEGMENTS_MIN);
        self.epoch = None;
    }

    /// RFC 9438, 4.2 to 4.5.
    fn grow(&mut self, bytes: f32, round_trip: Duration, now: Instant) {
        let (begun, to_before) = *self.epoch.get_or_insert_with(|| {
            self.before = self.before.max(self.window);
            self.reno = self.window;
            (now, ((self.before - self.window) / C).cbrt())
        });
        let elapsed = Duration::from(now - begun) + round_trip;
        let beyond = elapsed.as_secs_f32() - to_before;
        let cubic = (C * beyond * beyond * beyond + self.before).clamp(self.window, self.window * 1.5);
        // Not faster where the old window is reached, though the RFC allows it: Linux does not either, and has to share with us.
        self.reno += RENO_ALPHA * bytes / self.window;
        let step = (cubic - self.window) * bytes / self.window;
        self.window = (self.window + step).max(self.reno);
    }

    /// Keeps account of round trips, and ends slow start when they get longer: a queue is filling.
    fn watch_round(&mut self, acked: &Acked, in_flight: f32) {
        let round = &mut self.round;
        if acked.up_to.wrapping_sub(round.end).cast_signed() >= 0 {
            *round = Round { end: acked.sent, most_before: round.most, ..Round::default() };
        }
        round.most = round.most.max(in_flight);
        let Some(round_trip) = acked.round_trip else { return };
        round.samples += 1;
        let shortest = round.shortest.map_or(round_trip, |s| s.min(round_trip));
        round.shortest = Some(shortest);
        let slack = (acked.shortest / 8).clamp(SLACK_MIN, SLACK_MAX);
        if self.window < self.threshold
            && round.samples >= SAMPLES_MIN
            && self.window >= SLOW_START_SEGMENTS
            && shortest > acked.shortest + slack
        {
            self.threshold = self.window;
        }
    }
}

/// RFC 6928.
const INITIAL_SEGMENTS: f32 = 10.0;
const SEGMENTS_MIN: f32 = 2.0;
/// A window is used when less than so many segments of it are free.
const REACHED_SEGMENTS: f32 = 3.0;
/// RFC 9438, 4.1: the scale of the cubic function, in segments per cubed second, and what is left of the window after a loss.
const C: f32 = 0.4;
const BETA: f32 = 0.7;
/// RFC 9438, 4.3: how fast Reno would grow with this BETA.
const RENO_ALPHA: f32 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// The largest window, in bytes: what a scaled receive window can be.
const WINDOW_BYTES_MAX: f32 = 1_073_725_440.0;
/// RFC 9406: how much longer a round trip may be, samples of a round that count, and below what window slow start goes on in any case.
const SLACK_MIN: Duration = Duration::from_millis(4);
const SLACK_MAX: Duration = Duration::from_millis(16);
const SAMPLES_MIN: u32 = 1;
const SLOW_START_SEGMENTS: f32 = 16.0;

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u16 = 1460;

    /// A round trip in which the whole window is sent and acknowledged, two segments at a time.
    fn round(window: &mut Congestion, sent: &mut u32, now: &mut Instant, round_trip: Duration) {
        let bytes = u32::try_from(window.bytes()).unwrap();
        let (mut acked, end) = (*sent, *sent + bytes);
        *now += round_trip.into();
        let mut left = bytes;
        while left > 0 {
            let step = left.min(2 * u32::from(SEGMENT));
            acked += step;
            window.on_ack(&Acked {
                bytes: step,
                in_flight: left,
                up_to: acked,
                sent: end,
                round_trip: (left == bytes).then_some(round_trip),
                shortest: Duration::from_millis(20),
                now: *now,
            });
            left -= step;
        }
        *sent = end;
    }

    fn segments(window: &Congestion) -> usize {
        window.bytes() / usize::from(SEGMENT)
    }

    #[test]
    fn slow_start_doubles_and_ends_at_the_first_longer_round() {
        let (mut window, mut sent, mut now) = (Congestion::new(SEGMENT), 0, Instant::ZERO);
        assert_eq!(segments(&window), 10);
        for expected in [20, 40, 80] {
            round(&mut window, &mut sent, &mut now, Duration::from_millis(20));
            assert!((expected - 1..=expected).contains(&segments(&window)), "{}", segments(&window));
        }
        round(&mut window, &mut sent, &mut now, Duration::from_millis(30));
        let ended = segments(&window);
        round(&mut window, &mut sent, &mut now, Duration::from_millis(30));
        assert!(ended < 90 && segments(&window) < ended + 5, "{ended} {}", segments(&window));
    }

    #[test]
    fn after_a_loss_it_comes_back_along_a_cubic() {
        let (mut window, mut sent, mut now) = (Congestion::new(SEGMENT), 0, Instant::ZERO);
        window.window = 100.0;
        window.on_loss();
        assert_eq!(segments(&window), 70);
        let begun = now;
        let mut last = segments(&window);
        while segments(&window) < 99 {
            round(&mut window, &mut sent, &mut now, Duration::from_millis(100));
            assert!(segments(&window) >= last);
            last = segments(&window);
        }
        // With shorter round trips Reno would be there before. K is the cube root of 30 / 0.4: 4.2 s.
        let took = Duration::from(now - begun).as_secs_f32();
        assert!((3.0..4.5).contains(&took), "{took}");
        // A second loss before the old window was reached gives way to others.
        window.window = 60.0;
        window.on_loss();
        assert!(window.before < 60.0);
    }

    #[test]
    fn what_is_not_used_does_not_grow_and_what_is_old_shrinks() {
        let mut window = Congestion::new(SEGMENT);
        let ack = |in_flight| Acked {
            bytes: 100,
            in_flight,
            up_to: 0,
            sent: 100,
            round_trip: None,
            shortest: Duration::from_millis(1),
            now: Instant::ZERO,
        };
        (0..1000).for_each(|_| window.on_ack(&ack(100)));
        assert_eq!(segments(&window), 10);
        window.window = 200.0;
        window.on_idle();
        assert_eq!(segments(&window), 10);
        window.on_timeout();
        assert_eq!(segments(&window), 2);
        (0..20).for_each(|_| window.on_timeout());
        assert_eq!(segments(&window), 2);
    }
}
