//! What is done when nothing is heard: probes of the tail (RFC 8985, 7), and then the timeout (RFC 6298).
//!
//! **Invariant:** as long as something is on its way there is a time at which something is done about it.

use std::time::Duration;

use smoltcp::time::Instant;

use super::{Losses, Phase, Sender, bytes_of};

impl Sender {
    /// When there is something to be done if nothing is heard. None: nothing is on its way.
    pub(in crate::stack) fn deadline(&self) -> Option<Instant> {
        let losses = self.losses.as_deref();
        let sure_at = losses.and_then(|losses| losses.sure).map(|(at, _)| at);
        earlier(earlier(sure_at, losses.and_then(|losses| losses.look_at)), self.answer_at)
    }

    /// Does what is due.
    pub(in crate::stack) fn on_time(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if let Some(losses) = &mut self.losses
            && is_due(losses.sure.map(|(at, _)| at).into_iter().chain(losses.look_at).min())
        {
            if let Some((_, to)) = losses.sure.take_if(|(at, _)| *at <= now) {
                losses.board.mark_lost(to);
            }
            let late = self.round_trip.shortest() + self.round_trip.disorder(self.disorder.max(1));
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
            losses.board.mark_first_lost(acked, sent, u32::from(self.segment_bytes));
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
        (self.is_probing, self.probed, self.duplicates) = (false, None, 0);
        self.departures.forget();
        self.tries = self.tries.max(PROBES_MAX);
        if let Some(congestion) = &mut self.congestion
            && !matches!(self.phase, Phase::Resend(_))
        {
            congestion.on_timeout();
        }
        self.phase = Phase::Resend(sent);
    }

    /// New bytes after a silence.
    pub(super) fn wake_up(&mut self, now: Instant) {
        let timeout = self.round_trip.timeout(0);
        if let Some(congestion) = &mut self.congestion
            && self.last_sent != Instant::ZERO
            && Duration::from(now - self.last_sent) > timeout
        {
            congestion.on_idle();
        }
    }

    /// Sets the time at which silence has lasted too long.
    pub(super) fn await_answer(&mut self, now: Instant) {
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

/// The earlier of two times that may never come. Asked for each packet, where a chain of iterators shows in a profile.
pub(in crate::stack) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        _ => a.or(b),
    }
}

/// Tail probes in a row; then the timeout has its turn.
const PROBES_MAX: u8 = 2;
