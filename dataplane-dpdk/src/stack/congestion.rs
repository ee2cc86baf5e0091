//! How much a flow may have on its way: CUBIC (RFC 9438) with an initial window of ten segments (RFC 6928) and a slow start that ends
//! before the queue of the path overflows (HyStart++, RFC 9406).
//!
//! smoltcp's own congestion control stays off: it starts at 2 KiB and knows nothing of what [`recovery`](super::recovery) repairs. This window
//! is kept by what is admitted to the send ring.
//!
//! **Invariant:** never below two segments, so that a flow always moves; grows only while it is what holds the flow back.

use std::num::NonZeroU8;
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
    /// Slow start goes on at a quarter of its pace, until it is clear whether a queue was filling.
    conservative: Option<Conservative>,
}

/// The conservative part of slow start (RFC 9406, 4.2).
#[derive(Clone, Copy, Debug)]
struct Conservative {
    /// The shortest round trip of the round that it began in, in microseconds: a shorter one proves that it was no queue.
    baseline: u32,
    /// Rounds that are left before slow start is over.
    rounds: NonZeroU8,
}

/// One round trip: whether it took longer than the one before, and how much was on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The sequence number that ends it.
    end: u32,
    samples: u32,
    /// The shortest round trip in it, and in the one before, in microseconds; 0: none was measured.
    shortest: u32,
    shortest_before: u32,
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
            conservative: None,
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
                let step = if self.conservative.is_some() { bytes / CONSERVATIVE_DIVISOR } else { bytes };
                self.window = (self.window + step).min(self.threshold.max(self.window));
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
        (self.round, self.conservative) = (Round::default(), None);
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
        (self.epoch, self.round, self.conservative) = (None, Round::default(), None);
    }

    /// RFC 9438, 4.6 and 4.7.
    fn reduce(&mut self) {
        let fast_convergence = self.window < self.before;
        self.before = if fast_convergence { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.threshold = (self.window * BETA).max(SEGMENTS_MIN);
        (self.epoch, self.conservative) = (None, None);
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

    /// Keeps account of rounds. While the path is new, slow start becomes conservative when they get longer, and goes on as before when that
    /// passes (RFC 9406, 4.2). One late sample is none: there have to be some, and the shortest counts.
    fn watch_round(&mut self, acked: &Acked, in_flight: f32) {
        if acked.up_to.wrapping_sub(self.round.end).cast_signed() >= 0 {
            self.end_round(acked.sent);
        }
        let round = &mut self.round;
        round.most = round.most.max(in_flight);
        let Some(round_trip) = acked.round_trip else { return };
        let micros = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX).max(1);
        let shortest = if round.samples == 0 { micros } else { round.shortest.min(micros) };
        (round.samples, round.shortest) = (round.samples.saturating_add(1), shortest);
        if self.threshold < f32::MAX || round.samples < SAMPLES_MIN {
            return;
        }
        let before = round.shortest_before;
        let late = before.saturating_add((before / SLACK_DIVISOR).clamp(SLACK_MIN, SLACK_MAX));
        match self.conservative {
            None if before > 0 && shortest >= late => {
                self.conservative = Some(Conservative { baseline: shortest, rounds: CONSERVATIVE_ROUNDS });
            }
            Some(Conservative { baseline, .. }) if shortest < baseline => self.conservative = None,
            _ => {}
        }
    }

    /// The next round ends with what is on its way now.
    fn end_round(&mut self, end: u32) {
        let Round { shortest, most, .. } = self.round;
        self.round = Round { end, shortest_before: shortest, most_before: most, ..Round::default() };
        let Some(Conservative { baseline, rounds }) = self.conservative else { return };
        self.conservative = NonZeroU8::new(rounds.get() - 1).map(|rounds| Conservative { baseline, rounds });
        if self.conservative.is_none() {
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
/// RFC 9406, 4.3: how much longer than the one before a round may be, in microseconds, the samples that it takes to say so, and for how many
/// rounds and how much slower slow start goes on then.
const SLACK_DIVISOR: u32 = 8;
const SLACK_MIN: u32 = 4_000;
const SLACK_MAX: u32 = 16_000;
const SAMPLES_MIN: u32 = 8;
const CONSERVATIVE_ROUNDS: NonZeroU8 = NonZeroU8::new(5).unwrap();
const CONSERVATIVE_DIVISOR: f32 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u16 = 1460;

    /// A round trip in which the whole window is sent and acknowledged, two segments at a time, and each acknowledgement measures one.
    fn round(
        window: &mut Congestion,
        sent: &mut u32,
        now: &mut Instant,
        mut round_trip: impl FnMut(usize) -> Duration,
    ) {
        let bytes = u32::try_from(window.bytes()).unwrap();
        let (mut acked, end) = (*sent, *sent + bytes);
        *now += round_trip(0).into();
        let mut left = bytes;
        for n in 0.. {
            let step = left.min(2 * u32::from(SEGMENT));
            if step == 0 {
                break;
            }
            acked += step;
            window.on_ack(&Acked {
                bytes: step,
                in_flight: left,
                up_to: acked,
                // A little more, so that the next window's first acknowledgement ends the round.
                sent: end + 1,
                round_trip: Some(round_trip(n)),
                shortest: Duration::from_millis(20),
                now: *now,
            });
            left -= step;
        }
        *sent = end;
    }

    fn always(ms: u64) -> impl Fn(usize) -> Duration {
        move |_| Duration::from_millis(ms)
    }

    fn segments(window: &Congestion) -> usize {
        window.bytes() / usize::from(SEGMENT)
    }

    #[test]
    fn slow_start_doubles_and_ends_five_rounds_after_a_queue_fills() {
        let (mut window, mut sent, mut now) = (Congestion::new(SEGMENT), 0, Instant::ZERO);
        assert_eq!(segments(&window), 10);
        for expected in [20, 40, 80] {
            round(&mut window, &mut sent, &mut now, always(20));
            assert!((expected - 1..=expected).contains(&segments(&window)), "{}", segments(&window));
        }
        let before = segments(&window);
        round(&mut window, &mut sent, &mut now, always(30));
        // The first seven samples still doubled.
        assert!((before + 14 + 14..before + 14 + 20).contains(&segments(&window)), "{}", segments(&window));
        let mut last = segments(&window);
        for _ in 1..CONSERVATIVE_ROUNDS.get() {
            round(&mut window, &mut sent, &mut now, always(30));
            assert!((last * 5 / 4 - 2..=last * 5 / 4 + 2).contains(&segments(&window)), "{last} {}", segments(&window));
            last = segments(&window);
        }
        round(&mut window, &mut sent, &mut now, always(30));
        assert!(window.threshold < f32::MAX && segments(&window) < last + 5, "{last} {}", segments(&window));
    }

    #[test]
    fn what_is_late_once_does_not_end_slow_start() {
        // All but one of a round's acknowledgements are late, as on a core that was busy elsewhere.
        let (mut window, mut sent, mut now) = (Congestion::new(SEGMENT), 0, Instant::ZERO);
        for expected in [20, 40, 80, 160] {
            let one_in_time = |n: usize| Duration::from_millis(if n == 3 { 20 } else { 90 });
            round(&mut window, &mut sent, &mut now, one_in_time);
            assert!((expected - 1..=expected).contains(&segments(&window)), "{}", segments(&window));
        }
        // Even when all of them are, it goes on as before with the next.
        round(&mut window, &mut sent, &mut now, always(90));
        assert!(window.conservative.is_some());
        let before = segments(&window);
        round(&mut window, &mut sent, &mut now, always(20));
        assert!(
            window.conservative.is_none() && segments(&window) > before * 19 / 10 - 14,
            "{before} {}",
            segments(&window)
        );
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
            round(&mut window, &mut sent, &mut now, always(100));
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
