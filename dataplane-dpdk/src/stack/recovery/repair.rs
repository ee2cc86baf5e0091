//! What counts as lost, and at what pace it is repaired (RFC 6675, 6582, 6937, 8985).
//!
//! **Invariant:** the holes of one window are one loss to the congestion window, and none at all once it turns out that nothing was lost.

use smoltcp::time::Instant;

use super::{Losses, Phase, Sender, Undo, bytes_of, is_after};

impl Sender {
    /// What has to count as lost by now. `filled`: a probe was what was missing.
    pub(super) fn see_losses(&mut self, is_new: bool, filled: bool, now: Instant) {
        let segment = u32::from(self.segment_bytes);
        let (acked, sent, probed) = (self.acked, self.sent, self.probed);
        if !self.has_sack && self.next_is_lost(is_new, filled) {
            self.losses.get_or_insert_with(|| Losses::new(acked)).board.mark_first_lost(acked, sent, segment);
        }
        let Some(losses) = &mut self.losses else { return };
        let patience = self.round_trip.disorder(self.disorder.max(1));
        let late = self.round_trip.shortest() + patience;
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
    pub(super) fn move_on(&mut self, is_new: bool) {
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
        self.departures.forget();
        self.probed = None;
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
    pub(super) fn pace(&mut self, arrived: u32, is_new: bool, was_on_the_way: usize) {
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

    /// A probe that filled a hole counts as a loss, once it is clear that no second copy arrived (RFC 8985, 7.4). Answers whether it may have.
    pub(super) fn judge_probe(&mut self, acked: u32, was_needless: bool) -> bool {
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
    pub(super) fn on_duplicate(&mut self) {
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
}

/// Duplicate acknowledgements that mean a loss (RFC 5681, 3.2).
const DUPLICATES: u16 = 3;
/// After so many mistakes a whole round trip of disorder is waited for.
const DISORDER_STEPS_MAX: u8 = 4;
