//! The sending side of a flow: what is on its way, what of it was lost, what is sent again and when.
//!
//! smoltcp 0.14 ignores what its peer reports behind a hole, and waits a second before it sends again. But it keeps everything that is
//! unacknowledged in its ring, and goes over all of it once more when its timer runs out. That is what it serves for here: the times and the
//! losses are ours, and when something has to be sent again, smoltcp is shown the time of its timer ([`Sender::wants_again`]) and each segment
//! that it builds passes through [`Sender::admit`], which lets go what is lost and keeps back what is not.
//!
//! Losses are seen as in RFC 6675 and 8985: more than two segments arrived behind, or a quarter of a round trip has passed since one did; a
//! silence of about two round trips is probed; after two probes there is the timeout of RFC 6298. Repair goes at the pace of RFC 6937. A peer
//! without SACK has one segment repaired in a round trip (RFC 6582).
//!
//! **Invariant:** new bytes always leave; bytes that were sent before leave again only if they count as lost, or as a probe. A flow without
//! a hole has no memory of holes.

mod repair;
mod silence;
#[cfg(test)]
mod tests;

use std::time::Duration;

use smoltcp::time::Instant;

pub(super) use self::silence::earlier;
use super::congestion::{Acked, Congestion};
use super::departures::Departures;
use super::nic::Emitted;
use super::packet::{Options, Segment};
use super::round_trip::RoundTrip;
use super::scoreboard::{Scoreboard, Span};

/// The sending side of one flow.
#[derive(Debug)]
pub(super) struct Sender {
    /// None: as much as the rings and the peer's window allow.
    congestion: Option<Congestion>,
    /// Everything before this is acknowledged.
    acked: u32,
    /// The sequence number behind the last new byte that was sent.
    sent: u32,
    /// The peer's window, as on the wire.
    peer_window: u16,
    /// Acknowledgements that said nothing new since the last that did, from a peer without SACK.
    duplicates: u16,
    phase: Phase,
    losses: Option<Box<Losses>>,
    round_trip: RoundTrip,
    departures: Departures,
    /// An acknowledgement beyond this is of another round trip than the one that was counted last.
    counted_to: u32,
    /// When silence has lasted too long.
    answer_at: Option<Instant>,
    /// Probes and timeouts since the last sign of progress.
    tries: u8,
    /// The next segment that is sent again is a probe.
    is_probing: bool,
    /// The end of what a probe was sent for whose fate is not known.
    probed: Option<u32>,
    /// The peer reports what arrived behind a hole.
    has_sack: bool,
    /// A FIN has left: an acknowledgement can't wait for more.
    has_ended: bool,
    /// How often losses were seen where there was disorder only; [`repair`] has the bound.
    disorder: u8,
    /// When the last new bytes left.
    last_sent: Instant,
    segment_bytes: u16,
}

/// Where a sender is between losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has been sent.
    Fresh,
    /// A SYN has left: smoltcp looks after it alone.
    Opening,
    Open,
    /// Lost segments are sent again, until this is acknowledged.
    Repair(u32),
    /// After a timeout everything up to this is lost that has not arrived.
    Resend(u32),
}

/// What a sender knows while there are holes.
#[derive(Debug)]
struct Losses {
    board: Scoreboard,
    /// When the holes before this number count as lost though little has arrived behind them.
    sure: Option<(Instant, u32)>,
    /// When to look again whether something was lost twice.
    look_at: Option<Instant>,
    /// The window of a repair, in bytes (RFC 6937).
    window: usize,
    /// What was on its way when the repair began, and what has arrived and left since, in bytes.
    begun_with: usize,
    arrived: usize,
    left: usize,
    undo: Option<Undo>,
}

/// What to go back to if nothing was lost after all.
#[derive(Debug)]
struct Undo {
    congestion: Congestion,
    /// Segments that were sent again, and have not arrived twice.
    again: u32,
    /// Nobody hears of it any more when this is acknowledged.
    until: u32,
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
            losses: None,
            round_trip: RoundTrip::default(),
            departures: Departures::new(),
            counted_to: 0,
            answer_at: None,
            tries: 0,
            is_probing: false,
            probed: None,
            has_sack: false,
            has_ended: false,
            disorder: 0,
            last_sent: Instant::ZERO,
            segment_bytes,
        }
    }

    /// smoltcp has built a segment. Answers whether it may leave.
    pub(super) fn admit(&mut self, emitted: &Emitted, now: Instant) -> bool {
        if emitted.start == emitted.end {
            return true;
        }
        if self.phase == Phase::Fresh {
            (self.acked, self.sent, self.phase) = (emitted.start, emitted.start, Phase::Opening);
        }
        if is_after(emitted.end, self.sent) {
            // A byte into a closed window is smoltcp's own affair.
            if self.peer_window > 0 || emitted.end.wrapping_sub(emitted.start) > 1 || self.phase == Phase::Opening {
                self.note_new(emitted, now);
            }
            return true;
        }
        if self.phase == Phase::Opening || self.in_flight() == 0 {
            // A SYN, or a byte that keeps alive. Karn: what was sent twice measures nothing.
            self.departures.forget();
            return true;
        }
        let again = self.admit_again(emitted, now);
        if again {
            self.departures.forget();
            self.await_answer(now);
        }
        again
    }

    fn note_new(&mut self, emitted: &Emitted, now: Instant) {
        if self.in_flight() == 0 {
            self.wake_up(now);
        }
        if let Some(losses) = &mut self.losses {
            losses.left += bytes_of(emitted.end.wrapping_sub(self.sent));
        }
        self.departures.note(Span { start: self.sent, end: emitted.end }, now);
        (self.sent, self.last_sent, self.has_ended) = (emitted.end, now, emitted.is_last);
        self.await_answer(now);
    }

    /// Whether what was sent before may leave again.
    fn admit_again(&mut self, emitted: &Emitted, now: Instant) -> bool {
        let is_target = if self.has_sack { emitted.end == self.sent } else { emitted.start == self.acked };
        if self.is_probing && is_target {
            (self.is_probing, self.probed) = (false, Some(emitted.end));
            return true;
        }
        let has_room = self.window().is_none_or(|window| self.on_the_way() < window);
        let span = Span { start: emitted.start, end: emitted.end };
        let sent = self.sent;
        let Some(losses) = self.losses.as_mut().filter(|losses| has_room && losses.board.wants(span)) else {
            return false;
        };
        losses.board.note_again(span, now, sent);
        losses.left += bytes_of(emitted.end.wrapping_sub(emitted.start));
        if let Some(undo) = &mut losses.undo {
            undo.again += 1;
        }
        true
    }

    /// Whether smoltcp is to go over what is on its way once more, because something of it may leave again.
    pub(super) fn wants_again(&self) -> bool {
        let has_room = || self.window().is_none_or(|window| self.on_the_way() < window);
        self.in_flight() > 0 && (self.is_probing || (self.missing() > 0 && has_room()))
    }

    /// The peer's SYN says what it can.
    pub(super) fn note_options(&mut self, options: &Options) {
        self.has_sack = options.sack_permitted;
        // As smoltcp reads it: RFC 9293, 3.7.1, and a floor.
        let theirs = options.segment_bytes_max.filter(|&bytes| bytes > 0).unwrap_or(SEGMENT_BYTES_DEFAULT);
        let segment_bytes = theirs.max(SEGMENT_BYTES_MIN).min(self.segment_bytes);
        if segment_bytes < self.segment_bytes {
            self.segment_bytes = segment_bytes;
            self.congestion = self.congestion.map(|_| Congestion::new(segment_bytes));
        }
    }

    /// Whether the handshake is done.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Fresh | Phase::Opening)
    }

    /// The path takes segments of so many bytes only: what is on its way has not arrived, though it was not too much.
    pub(super) fn narrow(&mut self, segment_bytes: u16, now: Instant) {
        self.segment_bytes = self.segment_bytes.min(segment_bytes);
        if let Some(congestion) = &mut self.congestion {
            congestion.narrow(self.segment_bytes);
        }
        let (acked, sent) = (self.acked, self.sent);
        self.losses.get_or_insert_with(|| Losses::new(acked)).board.mark_all_lost(sent, false);
        (self.is_probing, self.probed, self.phase) = (false, None, Phase::Resend(sent));
        self.departures.forget();
        self.await_answer(now);
    }

    /// A segment of the peer, after smoltcp has seen it. `accepted`: it changed what is queued, or the state; an acknowledgement of new bytes
    /// that did not was not the peer's.
    pub(super) fn on_segment(&mut self, segment: &Segment, options: &Options, accepted: bool, now: Instant) {
        if segment.syn {
            self.note_options(options);
        }
        if !segment.ack || segment.rst || self.phase == Phase::Fresh {
            return;
        }
        let same_window = std::mem::replace(&mut self.peer_window, segment.window) == segment.window;
        let is_new = is_after(segment.acked, self.acked);
        if (is_new && !accepted) || is_after(self.acked, segment.acked) {
            return;
        }
        let (was_in_flight, was_on_the_way) = (self.in_flight(), self.on_the_way());
        let (arrived, round_trip) = if is_new { self.advance(segment.acked, now) } else { (0, None) };
        let twice = options.tells_of_duplicate(segment.acked);
        let reported = self.take_report(options, twice, now);
        let says_nothing =
            !is_new && segment.is_bare_ack() && same_window && options.sack[0].is_none() && was_in_flight > 0;
        if says_nothing && !self.has_sack {
            self.duplicates = self.duplicates.saturating_add(1);
        }
        let is_of_probe = self.probed.is_some();
        let filled = self.judge_probe(segment.acked, twice || says_nothing);
        if twice && !is_of_probe {
            self.on_duplicate();
        }
        self.see_losses(is_new, filled, now);
        self.move_on(is_new);
        self.pace(arrived + reported, is_new, was_on_the_way);
        if is_new {
            self.grow(arrived, was_in_flight, round_trip, now);
        }
        if is_new || reported > 0 {
            self.tries = 0;
            self.await_answer(now);
        }
    }

    /// New bytes are acknowledged. Answers how many were not known to have arrived, and the round trip that it measures.
    fn advance(&mut self, up_to: u32, now: Instant) -> (u32, Option<Duration>) {
        let bytes = up_to.wrapping_sub(self.acked);
        let measured = self.departures.measure(up_to, now);
        if let Some(round_trip) = measured {
            self.note_round_trip(up_to, round_trip);
        }
        if self.phase == Phase::Opening {
            self.phase = Phase::Open;
        }
        (self.acked, self.duplicates, self.is_probing) = (up_to, 0, false);
        if is_after(up_to, self.sent) {
            // A byte that went into a closed window, and was taken.
            self.sent = up_to;
        }
        let shortest = self.round_trip.shortest();
        let arrived = self.losses.as_mut().map(|losses| losses.board.advance(up_to, bytes, now, shortest));
        (arrived.unwrap_or(bytes), measured)
    }

    /// All of them count for the shortest, and one of each round trip for the average and the variation (RFC 6298, 4).
    fn note_round_trip(&mut self, up_to: u32, round_trip: Duration) {
        if is_after(up_to, self.counted_to) || !self.round_trip.is_known() {
            self.counted_to = self.sent;
            self.round_trip.measure(round_trip);
        } else {
            self.round_trip.note(round_trip);
        }
    }

    /// What the peer says has arrived behind a hole. Answers how many bytes of it are news.
    fn take_report(&mut self, options: &Options, first_is_duplicate: bool, now: Instant) -> u32 {
        let (acked, sent, shortest) = (self.acked, self.sent, self.round_trip.shortest());
        let mut news = 0;
        for &(start, end) in options.sack.iter().flatten().skip(usize::from(first_is_duplicate)) {
            if is_after(start, acked) && is_after(end, start) && !is_after(end, sent) {
                let losses = self.losses.get_or_insert_with(|| Losses::new(acked));
                news += losses.board.add(Span { start, end }, acked, sent, now, shortest);
            }
        }
        news
    }

    fn grow(&mut self, arrived: u32, in_flight: u32, round_trip: Option<Duration>, now: Instant) {
        if matches!(self.phase, Phase::Repair(_)) {
            return;
        }
        let acked = Acked {
            bytes: arrived,
            in_flight,
            up_to: self.acked,
            sent: self.sent,
            round_trip,
            shortest: self.round_trip.shortest(),
            now,
        };
        if let Some(congestion) = &mut self.congestion {
            congestion.on_ack(&acked);
        }
    }

    /// Bytes that may be put into the send ring, which holds `queued`.
    pub(super) fn room(&self, queued: usize) -> usize {
        let Some(window) = self.window() else { return usize::MAX };
        let unsent = queued.saturating_sub(bytes_of(self.in_flight()));
        let room = window.saturating_sub(self.on_the_way() + bytes_of(self.missing()) + unsent);
        // Not a part of a segment, when there will be more of it soon (RFC 9293, 3.8.6.2.1).
        if queued == 0 { room } else { room - room % usize::from(self.segment_bytes) }
    }

    /// Bytes that may be on their way. None: as many as will.
    fn window(&self) -> Option<usize> {
        let congestion = self.congestion.as_ref()?;
        match (self.phase, &self.losses) {
            (Phase::Repair(_), Some(losses)) => Some(losses.window),
            _ => Some(congestion.bytes()),
        }
    }

    /// Bytes that were sent, and have neither arrived nor are lost.
    fn on_the_way(&self) -> usize {
        let arrived = self.losses.as_ref().map_or(0, |losses| losses.board.arrived());
        // Each duplicate says that a segment has arrived somewhere (RFC 6582).
        let counted = u32::from(self.duplicates) * u32::from(self.segment_bytes);
        bytes_of(self.in_flight().saturating_sub(arrived + self.missing() + counted))
    }

    /// Bytes that are lost and were not sent again.
    fn missing(&self) -> u32 {
        self.losses.as_ref().map_or(0, |losses| losses.board.missing(self.acked))
    }

    /// What a bare acknowledgement of the peer says that it has sent already: its number and its window.
    pub(super) fn last_heard(&self) -> (u32, u16) {
        (self.acked, self.peer_window)
    }

    /// The first number that is not acknowledged, and the one behind the last that was sent.
    pub(super) fn outstanding(&self) -> Span {
        Span { start: self.acked, end: self.sent }
    }

    fn in_flight(&self) -> u32 {
        self.sent.wrapping_sub(self.acked)
    }
}

impl Losses {
    fn new(acked: u32) -> Box<Self> {
        let board = Scoreboard::new(acked);
        Box::new(Self { board, sure: None, look_at: None, window: 0, begun_with: 0, arrived: 0, left: 0, undo: None })
    }
}

/// Whether sequence number `a` is behind `b` (RFC 9293, 3.4).
pub(super) fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

fn bytes_of(bytes: u32) -> usize {
    usize::try_from(bytes).expect("a 64-bit machine")
}

/// What a peer takes that does not say (RFC 9293, 3.7.1), and the least that smoltcp believes.
const SEGMENT_BYTES_DEFAULT: u16 = 536;
const SEGMENT_BYTES_MIN: u16 = 48;
