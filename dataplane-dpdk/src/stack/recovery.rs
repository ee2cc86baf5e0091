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

use std::time::Duration;

use smoltcp::time::Instant;

use super::congestion::{Acked, Congestion};
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
    /// The segment that is timed: its end, and when it left.
    timed: Option<(u32, Instant)>,
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
    /// How often losses were seen where there was disorder only: 0 to [`DISORDER_STEPS_MAX`].
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
            timed: None,
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
            self.timed = None;
            return true;
        }
        let again = self.admit_again(emitted, now);
        if again {
            self.timed = None;
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
        (self.sent, self.last_sent, self.has_ended) = (emitted.end, now, emitted.is_last);
        self.timed.get_or_insert((emitted.end, now));
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
        (self.is_probing, self.probed, self.timed, self.phase) = (false, None, None, Phase::Resend(sent));
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
        let measured = self.timed.filter(|(end, _)| !is_after(*end, up_to)).map(|(_, at)| (now - at).into());
        if let Some(round_trip) = measured {
            self.round_trip.measure(round_trip);
            self.timed = None;
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

    /// What has to count as lost by now. `filled`: a probe was what was missing.
    fn see_losses(&mut self, is_new: bool, filled: bool, now: Instant) {
        let segment = u32::from(self.segment_bytes);
        let (acked, probed) = (self.acked, self.probed);
        if !self.has_sack && self.next_is_lost(is_new, filled) {
            self.losses.get_or_insert_with(|| Losses::new(acked)).board.mark_first_lost(acked, segment);
        }
        let patience = self.round_trip.disorder(self.disorder.max(1));
        let late = self.round_trip.shortest() + patience;
        let Some(losses) = &mut self.losses else { return };
        if self.disorder == 0 {
            losses.board.mark_overtaken(segment);
        }
        let Some(top) = losses.board.top() else { return };
        if probed == Some(top) {
            // Everything else left long before the probe did.
            losses.board.mark_lost(top);
        }
        losses.look_at = losses.board.mark_lost_again(now, late);
        losses.sure = losses.sure.or(Some((now + patience.into(), top))).filter(|_| losses.board.is_unsure());
    }

    /// Whether the first segment is lost, of a peer that does not report what arrives behind it (RFC 5681 and 6582).
    fn next_is_lost(&self, is_new: bool, filled: bool) -> bool {
        match self.phase {
            Phase::Open => self.duplicates >= DUPLICATES || (filled && self.in_flight() > 0),
            Phase::Repair(until) => is_new && is_after(until, self.acked),
            _ => false,
        }
    }

    /// From one phase to the next, by what is lost and acknowledged.
    fn move_on(&mut self, is_new: bool) {
        let (acked, sent) = (self.acked, self.sent);
        if let Phase::Repair(until) | Phase::Resend(until) = self.phase
            && is_new
            && !is_after(until, acked)
        {
            self.phase = Phase::Open;
            if let Some(undo) = self.losses.as_mut().and_then(|losses| losses.undo.as_mut()) {
                undo.until = sent;
            }
        }
        if self.phase == Phase::Open && self.missing() > 0 {
            self.begin_repair();
        }
        let is_past = |undo: &Undo| is_after(acked, undo.until);
        let is_spent = |l: &Losses| l.board.is_spent(acked) && l.undo.as_ref().is_none_or(is_past);
        if self.phase == Phase::Open && self.losses.as_ref().is_some_and(|losses| is_spent(losses)) {
            self.losses = None;
        }
    }

    fn begin_repair(&mut self) {
        self.phase = Phase::Repair(self.sent);
        (self.timed, self.probed) = (None, None);
        let on_the_way = self.on_the_way();
        let Some(losses) = &mut self.losses else { return };
        (losses.arrived, losses.left, losses.window) = (0, 0, on_the_way);
        if let Some(congestion) = &mut self.congestion {
            losses.undo = Some(Undo { congestion: *congestion, again: 0, until: self.sent });
            losses.begun_with = congestion.bytes();
            congestion.on_loss();
        }
    }

    /// The window of a repair: it comes down to what the congestion window has become as fast as segments arrive (RFC 6937).
    fn pace(&mut self, arrived: u32, is_new: bool, was_on_the_way: usize) {
        let (Phase::Repair(_), Some(congestion)) = (self.phase, &self.congestion) else { return };
        let (target, segment) = (congestion.bytes(), usize::from(self.segment_bytes));
        let arrived = bytes_of(arrived).max(if self.has_sack || is_new { 0 } else { segment });
        let on_the_way = self.on_the_way();
        let Some(losses) = &mut self.losses else { return };
        losses.arrived += arrived;
        let may_leave = if on_the_way > target {
            (losses.arrived * target).div_ceil(losses.begun_with.max(1)).saturating_sub(losses.left)
        } else {
            let is_better = is_new && on_the_way <= was_on_the_way;
            let owed = losses.arrived.saturating_sub(losses.left).max(arrived) + if is_better { segment } else { 0 };
            owed.min(target - on_the_way)
        };
        // What begins a repair leaves in any case, and so does the next hole of a peer that tells of one at a time.
        let at_least = if losses.left == 0 || (is_new && !self.has_sack) { segment } else { 0 };
        losses.window = on_the_way + may_leave.max(at_least);
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

    /// A probe that filled a hole counts as a loss, once it is clear that no second copy arrived (RFC 8985, 7.4). Answers whether it may have.
    fn judge_probe(&mut self, acked: u32, was_needless: bool) -> bool {
        let Some(probed) = self.probed.filter(|&probed| !is_after(probed, acked)) else { return false };
        if was_needless {
            self.probed = None;
            return false;
        }
        if is_after(acked, probed) {
            self.probed = None;
            if self.phase == Phase::Open
                && let Some(congestion) = &mut self.congestion
            {
                congestion.on_loss();
            }
        }
        true
    }

    /// A segment arrived twice. When all that was sent again did, nothing was lost: the path has changed the order.
    fn on_duplicate(&mut self) {
        let Some(losses) = &mut self.losses else { return };
        let Some(undo) = &mut losses.undo else { return };
        undo.again = undo.again.saturating_sub(1);
        if undo.again == 0 && !matches!(self.phase, Phase::Resend(_)) {
            self.congestion = Some(undo.congestion);
            losses.undo = None;
            self.phase = Phase::Open;
            self.disorder = (self.disorder + 1).min(DISORDER_STEPS_MAX);
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

    /// When there is something to be done if nothing is heard. None: nothing is on its way.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let losses = self.losses.as_deref();
        let sure_at = losses.and_then(|losses| losses.sure).map(|(at, _)| at);
        [sure_at, losses.and_then(|losses| losses.look_at), self.answer_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let late = self.round_trip.shortest() + self.round_trip.disorder(self.disorder.max(1));
        if let Some(losses) = &mut self.losses
            && is_due(losses.sure.map(|(at, _)| at).into_iter().chain(losses.look_at).min())
        {
            if let Some((_, to)) = losses.sure.take_if(|(at, _)| *at <= now) {
                losses.board.mark_lost(to);
            }
            losses.look_at = losses.board.mark_lost_again(now, late);
            let was_on_the_way = self.on_the_way();
            self.move_on(false);
            self.pace(0, false, was_on_the_way);
        }
        if is_due(self.answer_at) {
            self.on_silence(now);
        }
    }

    /// Nothing was heard for too long.
    fn on_silence(&mut self, now: Instant) {
        let (acked, sent) = (self.acked, self.sent);
        if acked == sent {
            // Nobody will tell of a segment that arrived twice any more.
            (self.losses, self.answer_at) = (None, None);
            return;
        }
        if self.tries >= PROBES_MAX || !self.round_trip.is_known() {
            self.on_timeout();
        } else if let (Phase::Repair(_) | Phase::Resend(_), Some(losses)) = (self.phase, &mut self.losses) {
            losses.board.mark_first_lost(acked, u32::from(self.segment_bytes));
            losses.window = losses.window.max(bytes_of(sent.wrapping_sub(acked)));
        } else {
            self.is_probing = true;
        }
        self.tries = self.tries.saturating_add(1);
        self.await_answer(now);
    }

    /// RFC 5681, 3.1: everything is lost.
    fn on_timeout(&mut self) {
        let forget = self.tries > PROBES_MAX;
        let (acked, sent) = (self.acked, self.sent);
        self.losses.get_or_insert_with(|| Losses::new(acked)).board.mark_all_lost(sent, forget);
        (self.is_probing, self.probed, self.timed, self.duplicates) = (false, None, None, 0);
        self.tries = self.tries.max(PROBES_MAX);
        if let Some(congestion) = &mut self.congestion
            && !matches!(self.phase, Phase::Resend(_))
        {
            congestion.on_timeout();
        }
        self.phase = Phase::Resend(sent);
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

    /// New bytes after a silence.
    fn wake_up(&mut self, now: Instant) {
        let timeout = self.round_trip.timeout(0);
        if let Some(congestion) = &mut self.congestion
            && self.last_sent != Instant::ZERO
            && Duration::from(now - self.last_sent) > timeout
        {
            congestion.on_idle();
        }
    }

    /// Sets the time at which silence has lasted too long.
    fn await_answer(&mut self, now: Instant) {
        if self.phase == Phase::Opening || (self.in_flight() == 0 && self.losses.is_none()) {
            self.answer_at = None;
            return;
        }
        let wait = if self.tries < PROBES_MAX && self.round_trip.is_known() {
            let alone = !self.has_ended && self.in_flight() <= u32::from(self.segment_bytes);
            self.round_trip.probe(self.tries, alone)
        } else {
            self.round_trip.timeout(self.tries.saturating_sub(PROBES_MAX))
        };
        self.answer_at = Some(now + wait.into());
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

/// Duplicate acknowledgements that mean a loss (RFC 5681, 3.2).
const DUPLICATES: u16 = 3;
/// What a peer takes that does not say (RFC 9293, 3.7.1), and the least that smoltcp believes.
const SEGMENT_BYTES_DEFAULT: u16 = 536;
const SEGMENT_BYTES_MIN: u16 = 48;
/// Tail probes in a row; then the timeout has its turn.
const PROBES_MAX: u8 = 2;
/// After so many mistakes a whole round trip of disorder is waited for.
const DISORDER_STEPS_MAX: u8 = 4;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::device::Mac;
    use crate::stack::flow_table::FlowKey;

    const SIZE: u32 = 1000;
    const NONE: [u32; 0] = [];

    fn ms(ms: i64) -> Instant {
        Instant::from_millis(1000 + ms)
    }

    /// A sender with a peer that has SACK or not, that has measured 20 ms, and has sent `segments` segments from 1000 on at `ms(0)`.
    fn sender(has_sack: bool, segments: u32) -> Sender {
        let mut sender = Sender::new(1000, true);
        sender.note_options(&Options { sack_permitted: has_sack, segment_bytes_max: Some(1460), ..Options::default() });
        assert!(sender.admit(&segment_of(0), ms(-20)));
        hear(&mut sender, 1, &[], 0);
        (1..=segments).for_each(|n| assert!(sender.admit(&segment_of(n), ms(0))));
        sender
    }

    fn segment_of(n: u32) -> Emitted {
        Emitted { start: n * SIZE, end: (n + 1) * SIZE, acked: 0, window: 0, is_last: false }
    }

    /// The peer has everything before segment `n`.
    fn ack(n: u32) -> Segment {
        let ip = Ipv4Addr::LOCALHOST;
        let key = FlowKey { peer: ip, local: ip, peer_port: 1, local_port: 2 };
        let (syn, ack, rst, has_options) = (false, true, false, true);
        Segment {
            key,
            from: Mac([0; 6]),
            syn,
            ack,
            rst,
            seq: 7,
            acked: n * SIZE,
            end: 7,
            window: 100,
            has_options,
            ip: 0..0,
        }
    }

    /// The peer has everything before segment `n`, and the segments of `sack`.
    fn hear(sender: &mut Sender, n: u32, sack: &[(u32, u32)], at: i64) {
        let mut options = Options::default();
        for (block, (start, end)) in options.sack.iter_mut().zip(sack) {
            *block = Some((start * SIZE, end * SIZE));
        }
        sender.on_segment(&ack(n), &options, true, ms(at));
    }

    /// The segments that leave again when smoltcp goes over all of them.
    fn go_over(sender: &mut Sender, at: i64) -> Vec<u32> {
        let Span { start, end } = sender.outstanding();
        let again =
            (start / SIZE..end / SIZE).filter(|&n| sender.wants_again() && sender.admit(&segment_of(n), ms(at)));
        again.collect()
    }

    fn window(sender: &Sender) -> usize {
        sender.congestion.as_ref().unwrap().bytes() / 1000
    }

    #[test]
    fn several_holes_of_one_window_are_filled_in_one_round_trip() {
        let mut sender = sender(true, 10);
        hear(&mut sender, 1, &[(2, 3)], 20);
        hear(&mut sender, 1, &[(2, 4)], 20);
        assert_eq!((go_over(&mut sender, 20), sender.phase), (vec![], Phase::Open), "two segments may have overtaken");
        hear(&mut sender, 1, &[(2, 5)], 20);
        assert_eq!((sender.phase, window(&sender)), (Phase::Repair(11 * SIZE), 7));
        assert_eq!((go_over(&mut sender, 20), go_over(&mut sender, 20)), (vec![1], vec![]), "once");
        hear(&mut sender, 1, &[(6, 8), (2, 5)], 21);
        hear(&mut sender, 1, &[(6, 9), (2, 5)], 21);
        assert_eq!(go_over(&mut sender, 21), [5]);
        assert_eq!(window(&sender), 7, "two holes of one window are one loss");
        hear(&mut sender, 5, &[(6, 11)], 40);
        assert_eq!(go_over(&mut sender, 40), NONE);
        hear(&mut sender, 11, &[], 41);
        assert_eq!((sender.phase, window(&sender)), (Phase::Open, 7));
    }

    #[test]
    fn one_segment_behind_a_hole_is_enough_after_a_quarter_of_a_round_trip() {
        let mut sender = sender(true, 3);
        hear(&mut sender, 2, &[(3, 4)], 20);
        assert_eq!(sender.deadline(), Some(ms(25)));
        sender.on_time(ms(24));
        assert_eq!(go_over(&mut sender, 24), NONE);
        sender.on_time(ms(25));
        assert_eq!((go_over(&mut sender, 25), window(&sender)), (vec![2], 7));
    }

    #[test]
    fn what_was_lost_twice_is_seen_by_what_left_later() {
        let mut sender = sender(true, 10);
        hear(&mut sender, 1, &[(2, 11)], 20);
        assert_eq!(go_over(&mut sender, 20), [1]);
        (11..13).for_each(|n| assert!(sender.admit(&segment_of(n), ms(21))));
        hear(&mut sender, 1, &[(2, 12)], 41);
        assert_eq!(go_over(&mut sender, 41), NONE, "it may be on its way");
        assert_eq!(sender.deadline(), Some(ms(45)));
        sender.on_time(ms(45));
        assert_eq!((go_over(&mut sender, 45), window(&sender)), (vec![1], 7));
    }

    #[test]
    fn the_window_comes_down_as_segments_arrive() {
        let mut sender = sender(true, 10);
        hear(&mut sender, 1, &[(2, 5)], 20);
        assert_eq!(go_over(&mut sender, 20), [1]);
        assert_eq!(sender.room(10_000), 0);
        let mut left = 0;
        for arrived in 6..=11 {
            hear(&mut sender, 1, &[(2, arrived)], 21);
            if sender.room(10_000 + left * 1000) >= 1000 {
                left += 1;
                assert!(sender.admit(&segment_of(10 + u32::try_from(left).unwrap()), ms(21)));
            }
        }
        assert!((4..=6).contains(&left), "about seven of ten, one of them again, not {left}");
    }

    #[test]
    fn without_sack_three_duplicates_are_a_loss_and_a_partial_acknowledgement_is_the_next() {
        let mut sender = sender(false, 10);
        hear(&mut sender, 1, &[], 20);
        hear(&mut sender, 1, &[], 20);
        assert_eq!(go_over(&mut sender, 20), NONE);
        hear(&mut sender, 1, &[], 20);
        assert_eq!((go_over(&mut sender, 20), sender.phase, window(&sender)), (vec![1], Phase::Repair(11 * SIZE), 7));
        hear(&mut sender, 5, &[], 40);
        assert_eq!((go_over(&mut sender, 40), window(&sender)), (vec![5], 7));
        hear(&mut sender, 11, &[], 60);
        assert_eq!((sender.phase, go_over(&mut sender, 60)), (Phase::Open, vec![]));
    }

    #[test]
    fn silence_is_probed_twice_and_then_everything_is_lost() {
        let mut sender = sender(true, 5);
        let first = sender.deadline().unwrap();
        assert!((ms(30)..ms(70)).contains(&first), "{first}");
        sender.on_time(first - smoltcp::time::Duration::from_millis(1));
        assert!(!sender.wants_again());
        sender.on_time(first);
        assert_eq!(go_over(&mut sender, first.total_millis() - 1000), [5], "the last one tells most");
        let second = sender.deadline().unwrap();
        assert!(second - first > first - ms(0), "later each time");
        sender.on_time(second);
        assert_eq!(go_over(&mut sender, second.total_millis() - 1000), [5]);
        let timeout = sender.deadline().unwrap();
        assert!(timeout - second >= smoltcp::time::Duration::from_millis(220) && window(&sender) == 10);
        sender.on_time(timeout);
        let at = timeout.total_millis() - 1000;
        assert_eq!((go_over(&mut sender, at), sender.phase, window(&sender)), (vec![1, 2], Phase::Resend(6 * SIZE), 2));
        hear(&mut sender, 3, &[], at + 20);
        assert_eq!(go_over(&mut sender, at + 20), [3, 4, 5]);
        hear(&mut sender, 6, &[], at + 40);
        assert_eq!((sender.phase, sender.room(0) >= 3000), (Phase::Open, true));
    }

    #[test]
    fn a_lone_segment_gives_the_peer_time_to_delay_its_acknowledgement_but_not_the_last() {
        for (is_last, expected) in [(false, ms(82)), (true, ms(42))] {
            let mut sender = sender(true, 0);
            assert!(sender.admit(&Emitted { is_last, ..segment_of(1) }, ms(0)));
            assert_eq!(sender.deadline(), Some(expected));
        }
    }

    #[test]
    fn a_probe_shows_the_holes_before_it() {
        let mut sender = sender(true, 5);
        let at = sender.deadline().unwrap();
        sender.on_time(at);
        assert_eq!(go_over(&mut sender, 50), [5]);
        hear(&mut sender, 2, &[(5, 6)], 70);
        assert_eq!((go_over(&mut sender, 70), window(&sender)), (vec![2, 3, 4], 7));
    }

    #[test]
    fn a_probe_that_was_the_repair_counts_as_a_loss_and_a_needless_one_does_not() {
        for second_copy in [false, true] {
            let mut sender = sender(true, 5);
            let at = sender.deadline().unwrap();
            sender.on_time(at);
            assert_eq!(go_over(&mut sender, 50), [5]);
            hear(&mut sender, 6, &[], 70);
            let before = window(&sender);
            if second_copy {
                hear(&mut sender, 6, &[(5, 6)], 71);
            }
            assert!(sender.admit(&segment_of(6), ms(72)));
            hear(&mut sender, 7, &[], 92);
            assert_eq!(window(&sender) >= before, second_copy, "{before} {}", window(&sender));
        }
    }

    #[test]
    fn disorder_that_was_taken_for_a_loss_is_forgiven_and_remembered() {
        let mut sender = sender(true, 10);
        hear(&mut sender, 1, &[(2, 5)], 20);
        assert_eq!((go_over(&mut sender, 20), window(&sender)), (vec![1], 7));
        hear(&mut sender, 5, &[], 21);
        hear(&mut sender, 6, &[(1, 2)], 40);
        assert_eq!((sender.phase, window(&sender) >= 10), (Phase::Open, true));
        hear(&mut sender, 6, &[(7, 10)], 41);
        assert_eq!(go_over(&mut sender, 41), NONE, "this time it is waited for");
        sender.on_time(ms(46));
        assert_eq!(go_over(&mut sender, 46), [6]);
    }

    #[test]
    fn what_a_peer_may_not_say_changes_nothing() {
        let mut sender = sender(true, 5);
        let other = |change: fn(&mut Segment)| {
            let mut segment = ack(1);
            change(&mut segment);
            segment
        };
        let with =
            |blocks: [(u32, u32); 2]| Options { sack: [Some(blocks[0]), Some(blocks[1]), None], ..Options::default() };
        let cases: [(Segment, Options); 5] = [
            (ack(50), Options::default()),
            (ack(0), with([(2000, 6000), (2000, 6000)])),
            (ack(1), with([(9000, 12_000), (5000, 2000)])),
            (other(|s| s.rst = true), with([(2000, 6000), (2000, 6000)])),
            (other(|s| s.ack = false), with([(2000, 6000), (2000, 6000)])),
        ];
        for (segment, options) in cases {
            sender.on_segment(&segment, &options, false, ms(20));
            assert!(
                sender.losses.is_none() && sender.acked == SIZE && go_over(&mut sender, 20).is_empty(),
                "{segment:?}"
            );
        }
    }

    #[test]
    fn without_congestion_control_there_is_room_and_losses_are_repaired_all_the_same() {
        let mut sender = Sender { congestion: None, ..sender(true, 10) };
        assert_eq!(sender.room(1 << 20), usize::MAX);
        hear(&mut sender, 1, &[(3, 4), (5, 6), (7, 11)], 20);
        assert_eq!(go_over(&mut sender, 20), [1, 2, 4, 6]);
    }

    #[test]
    fn a_flow_that_is_done_remembers_no_hole() {
        let mut sender = sender(true, 10);
        hear(&mut sender, 1, &[(2, 11)], 20);
        assert_eq!(go_over(&mut sender, 20), [1]);
        hear(&mut sender, 11, &[], 40);
        sender.on_time(sender.deadline().unwrap());
        assert!(sender.losses.is_none() && sender.deadline().is_none());
        assert!(size_of::<Sender>() <= 232, "{}", size_of::<Sender>());
    }

    #[test]
    fn the_segments_are_as_long_as_the_peer_takes_them() {
        for (theirs, expected) in [(Some(536), 536), (Some(9000), 1000), (None, 536), (Some(0), 536), (Some(1), 48)] {
            let mut sender = Sender::new(1000, true);
            sender.note_options(&Options { segment_bytes_max: theirs, ..Options::default() });
            assert_eq!((sender.segment_bytes, sender.room(0)), (expected, 10 * usize::from(expected)));
        }
    }
}
