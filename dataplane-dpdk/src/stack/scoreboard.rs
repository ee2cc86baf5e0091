//! What of a flow's bytes on their way has arrived behind a hole, what counts as lost, and what was sent again (RFC 2018, 6675, 8985).
//!
//! **Invariant:** bounded by [`SPANS_MAX`], whatever the peer says; what it does not say by the rules, or beyond the bound, changes nothing.

use std::time::Duration;

use smoltcp::time::Instant;

use super::recovery::is_after;

/// Sequence numbers from `start` up to `end`, which does not belong to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The holes of one flow. Made at the first, and gone with the last.
#[derive(Debug)]
pub(super) struct Scoreboard {
    /// What has arrived behind the first hole, in order; no two touch.
    arrived: Vec<Span>,
    /// What was sent again, in order, and is not known to have arrived.
    again: Vec<Again>,
    /// What has not arrived of the bytes before this is lost.
    lost_to: u32,
    /// The latest time at which something was sent again that has arrived.
    heard_of: Option<Instant>,
}

/// Bytes that were sent again.
#[derive(Clone, Copy, Debug)]
struct Again {
    span: Span,
    at: Instant,
    /// What was new then: if it arrives, this should have arrived before.
    sent: u32,
}

impl Span {
    fn len(self) -> u32 {
        self.end.wrapping_sub(self.start)
    }

    /// What is left of it behind `from` and before `to`.
    fn clipped(self, from: u32, to: u32) -> Option<Self> {
        let start = if is_after(from, self.start) { from } else { self.start };
        let end = if is_after(self.end, to) { to } else { self.end };
        is_after(end, start).then_some(Self { start, end })
    }

    fn overlaps(self, other: Self) -> bool {
        is_after(other.end, self.start) && is_after(self.end, other.start)
    }
}

impl Scoreboard {
    /// For a flow whose first unacknowledged byte is `acked`.
    pub(super) fn new(acked: u32) -> Self {
        Self { arrived: Vec::new(), again: Vec::new(), lost_to: acked, heard_of: None }
    }

    /// Everything before `acked` has arrived. Answers how many bytes of it were not known to have arrived, of `bytes` in all.
    pub(super) fn advance(&mut self, acked: u32, bytes: u32, now: Instant, shortest: Duration) -> u32 {
        let mut known = 0;
        self.arrived.retain_mut(|span| {
            let behind = span.clipped(acked, span.end);
            known += span.len() - behind.map_or(0, Span::len);
            *span = behind.unwrap_or(*span);
            behind.is_some()
        });
        self.heard(Span { start: acked.wrapping_sub(bytes), end: acked }, now, shortest);
        if is_after(acked, self.lost_to) {
            self.lost_to = acked;
        }
        bytes.saturating_sub(known)
    }

    /// The peer says that `span` has arrived; `acked` and `sent` bound what can be. Answers how many bytes of it are news.
    pub(super) fn add(&mut self, span: Span, acked: u32, sent: u32, now: Instant, shortest: Duration) -> u32 {
        let Some(span) = span.clipped(acked, sent).filter(|_| is_after(span.end, span.start)) else { return 0 };
        let touches = |other: &Span| !is_after(other.start, span.end) && !is_after(span.start, other.end);
        let first = self.arrived.iter().position(|other| !is_after(span.start, other.end));
        let at = first.unwrap_or(self.arrived.len());
        let joined = self.arrived[at..].iter().take_while(|other| touches(other)).count();
        if joined == 0 && self.arrived.len() >= SPANS_MAX {
            return 0;
        }
        let known: u32 = self.arrived[at..at + joined].iter().map(|other| other.len()).sum();
        let start = self.arrived[at..at + joined].first().filter(|o| is_after(span.start, o.start));
        let end = self.arrived[at..at + joined].last().filter(|o| is_after(o.end, span.end));
        let whole = Span { start: start.map_or(span.start, |o| o.start), end: end.map_or(span.end, |o| o.end) };
        self.arrived.splice(at..at + joined, [whole]);
        self.heard(span, now, shortest);
        whole.len() - known
    }

    /// What was sent again of `span` has arrived.
    fn heard(&mut self, span: Span, now: Instant, shortest: Duration) {
        // What comes back sooner than it can was the first copy.
        let answered = |again: &&Again| again.span.overlaps(span) && Duration::from(now - again.at) >= shortest;
        let latest = self.again.iter().filter(answered).map(|again| again.at).max();
        self.heard_of = self.heard_of.max(latest);
        self.cut(span);
    }

    /// `span` is not on its way again any more.
    fn cut(&mut self, span: Span) {
        let mut rest = None;
        self.again.retain_mut(|again| {
            if !again.span.overlaps(span) {
                return true;
            }
            let before = again.span.clipped(again.span.start, span.start);
            let behind = again.span.clipped(span.end, again.span.end);
            if let (Some(_), Some(span)) = (before, behind) {
                rest = Some(Again { span, ..*again });
            }
            again.span = before.or(behind).unwrap_or(again.span);
            before.is_some() || behind.is_some()
        });
        if let Some(rest) = rest {
            self.keep(rest);
        }
    }

    /// Marks as lost what so much has arrived behind that it can't be late: more than two segments (RFC 6675, 4).
    pub(super) fn mark_overtaken(&mut self, segment_bytes: u32) {
        let (mut behind, mut spans) = (0, 0);
        for span in self.arrived.iter().rev() {
            (behind, spans) = (behind + span.len(), spans + 1);
            if behind > 2 * segment_bytes || spans > 2 {
                self.mark_lost(span.start);
                return;
            }
        }
    }

    /// What has not arrived before `to` is lost.
    pub(super) fn mark_lost(&mut self, to: u32) {
        if is_after(to, self.lost_to) {
            self.lost_to = to;
        }
    }

    /// Everything that has not arrived before `to` is lost, also what was sent again. `forget`: the peer does not stand by what it said (RFC 2018, 8).
    pub(super) fn mark_all_lost(&mut self, to: u32, forget: bool) {
        self.again.clear();
        if forget {
            self.arrived.clear();
        }
        self.lost_to = to;
    }

    /// Takes what was sent again as lost where something that left later has arrived, and it has had `patience`. Answers when there is more to see.
    pub(super) fn mark_lost_again(&mut self, now: Instant, patience: Duration) -> Option<Instant> {
        let top = self.arrived.last().map(|span| span.end);
        let mut next = None;
        self.again.retain(|again| {
            let overtaken =
                self.heard_of.is_some_and(|at| again.at < at) || top.is_some_and(|top| is_after(top, again.sent));
            let due = again.at + patience.into();
            if overtaken && due > now {
                next = Some(next.map_or(due, |at: Instant| at.min(due)));
            }
            !overtaken || due > now
        });
        next
    }

    /// The first hole is lost, also if it was sent again: `segment_bytes` of it, as far as they were sent. What was not can't be lost.
    pub(super) fn mark_first_lost(&mut self, acked: u32, sent: u32, segment_bytes: u32) {
        let end = acked.wrapping_add(segment_bytes);
        let first = Span { start: acked, end: if is_after(end, sent) { sent } else { end } };
        self.mark_lost(first.end);
        self.cut(first);
    }

    /// Whether a part of `span` is lost and was not sent again.
    pub(super) fn wants(&self, span: Span) -> bool {
        let lost = span.clipped(span.start, self.lost_to);
        self.again.len() < SPANS_MAX && lost.is_some_and(|lost| self.gap(lost, true).is_some())
    }

    /// `span` was sent again; what was new then began at `sent`.
    pub(super) fn note_again(&mut self, span: Span, now: Instant, sent: u32) {
        self.cut(span);
        let mut left = Some(span);
        while let Some(gap) = left.and_then(|left| self.gap(left, false)) {
            self.keep(Again { span: gap, at: now, sent });
            left = span.clipped(gap.end, span.end);
        }
    }

    /// The first part of `span` that has not arrived; `again`: nor is on its way again.
    fn gap(&self, span: Span, again: bool) -> Option<Span> {
        // Both lists are in order: each is looked at once, from where `span` begins, however many a peer has made of it.
        let is_before = |known: &Span| !is_after(known.end, span.start);
        let mut arrived = self.arrived[self.arrived.partition_point(is_before)..].iter().copied().peekable();
        let others = if again { self.again.partition_point(|again| is_before(&again.span)) } else { self.again.len() };
        let mut others = self.again[others..].iter().map(|again| again.span).peekable();
        let mut start = span.start;
        while is_after(span.end, start) {
            let known = match (arrived.peek(), others.peek()) {
                (Some(one), Some(other)) if is_after(one.start, other.start) => others.next(),
                (Some(_), _) => arrived.next(),
                (None, _) => others.next(),
            };
            match known {
                Some(known) if is_after(known.start, start) => {
                    let end = if is_after(span.end, known.start) { known.start } else { span.end };
                    return Some(Span { start, end });
                }
                Some(known) if is_after(known.end, start) => start = known.end,
                Some(_) => {}
                None => return Some(Span { start, end: span.end }),
            }
        }
        None
    }

    fn keep(&mut self, again: Again) {
        let at = self.again.iter().position(|other| is_after(other.span.start, again.span.start));
        let at = at.unwrap_or(self.again.len());
        // What leaves in one burst is one entry.
        if let Some(before) = at.checked_sub(1).map(|n| &mut self.again[n])
            && (before.span.end, before.sent, before.at) == (again.span.start, again.sent, again.at)
        {
            before.span.end = again.span.end;
        } else if self.again.len() < 2 * SPANS_MAX {
            self.again.insert(at, again);
        }
    }

    /// Bytes behind the first hole that have arrived.
    pub(super) fn arrived(&self) -> u32 {
        self.arrived.iter().map(|span| span.len()).sum()
    }

    /// The highest number that has arrived.
    pub(super) fn top(&self) -> Option<u32> {
        self.arrived.last().map(|span| span.end)
    }

    /// Whether there are holes that do not count as lost.
    pub(super) fn is_unsure(&self) -> bool {
        self.arrived.last().is_some_and(|span| is_after(span.start, self.lost_to))
    }

    /// Bytes that are lost and were not sent again.
    pub(super) fn missing(&self, acked: u32) -> u32 {
        let lost = self.lost_to.wrapping_sub(acked);
        let within = |span: Span| span.clipped(acked, self.lost_to).map_or(0, Span::len);
        let arrived: u32 = self.arrived.iter().map(|&span| within(span)).sum();
        let again: u32 = self.again.iter().map(|again| within(again.span)).sum();
        lost.saturating_sub(arrived + again)
    }

    /// Whether nothing is known any more that is not known without it.
    pub(super) fn is_spent(&self, acked: u32) -> bool {
        self.arrived.is_empty() && self.again.is_empty() && !is_after(self.lost_to, acked)
    }
}

/// Spans of one kind that are known of a flow, at most; later ones are as if they had not been heard of, and are sent again after a timeout.
const SPANS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that go around their end.
    const START: u32 = u32::MAX - 49;
    const SHORTEST: Duration = Duration::from_millis(20);

    fn span(start: u32, end: u32) -> Span {
        Span { start: START.wrapping_add(start), end: START.wrapping_add(end) }
    }

    fn at(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    fn board(arrived: &[(u32, u32)]) -> Scoreboard {
        let mut board = Scoreboard::new(START);
        for &(start, end) in arrived {
            board.add(span(start, end), START, START.wrapping_add(1000), at(0), SHORTEST);
        }
        board
    }

    #[test]
    fn the_first_hole_is_no_longer_than_what_was_sent() {
        let mut board = board(&[]);
        board.mark_first_lost(START, START.wrapping_add(65), 1000);
        assert_eq!(board.missing(START), 65);
        board.advance(START.wrapping_add(65), 65, at(0), SHORTEST);
        assert!(board.missing(START.wrapping_add(65)) == 0 && board.is_spent(START.wrapping_add(65)));
    }

    #[test]
    fn blocks_join_and_news_are_counted() {
        let mut board = board(&[(10, 20), (40, 50)]);
        let mut add = |start, end| board.add(span(start, end), START, START.wrapping_add(100), at(0), SHORTEST);
        assert_eq!((add(10, 20), add(15, 25), add(20, 40), add(60, 70)), (0, 5, 15, 10));
        assert_eq!((add(0, 5), add(95, 200)), (5, 5), "what was not sent has not arrived");
        assert_eq!(board.arrived, [span(0, 5), span(10, 50), span(60, 70), span(95, 100)]);
        assert_eq!((board.advance(START.wrapping_add(30), 30, at(0), SHORTEST), board.arrived()), (5, 20 + 10 + 5));
    }

    #[test]
    fn what_is_overtaken_by_more_than_two_segments_is_lost() {
        let mut board = board(&[(10, 20), (30, 40), (50, 60)]);
        board.mark_overtaken(30);
        assert_eq!(board.missing(START), 10, "three spans behind the first hole");
        board.mark_overtaken(5);
        assert_eq!((board.missing(START), board.is_unsure()), (20, true));
        board.mark_lost(span(0, 60).end);
        assert_eq!((board.missing(START), board.is_unsure()), (30, false));
    }

    #[test]
    fn what_is_sent_again_is_not_wanted_until_it_is_lost_again() {
        let mut board = board(&[(10, 20), (30, 40)]);
        board.mark_lost(span(0, 40).end);
        assert!(board.wants(span(0, 10)) && board.wants(span(15, 25)) && !board.wants(span(10, 20)));
        assert!(!board.wants(span(40, 50)), "behind what is lost");
        board.note_again(span(0, 25), at(0), span(0, 50).end);
        assert_eq!((board.missing(START), board.wants(span(0, 25)), board.wants(span(25, 30))), (5, false, true));
        board.note_again(span(25, 30), at(5), span(0, 50).end);
        // The later one arrives: the first has had its time at 25.
        board.add(span(25, 30), START, span(0, 50).end, at(26), SHORTEST);
        assert_eq!(board.mark_lost_again(at(24), Duration::from_millis(25)), Some(at(25)));
        assert_eq!(board.mark_lost_again(at(25), Duration::from_millis(25)), None);
        assert_eq!(board.missing(START), 15);
    }

    #[test]
    fn an_answer_that_comes_too_soon_is_to_the_first_copy() {
        let mut board = board(&[(30, 40)]);
        board.mark_lost(span(0, 30).end);
        board.note_again(span(0, 10), at(0), span(0, 40).end);
        board.note_again(span(10, 20), at(1), span(0, 40).end);
        board.add(span(10, 20), START, span(0, 50).end, at(10), SHORTEST);
        assert_eq!((board.mark_lost_again(at(100), SHORTEST), board.missing(START)), (None, 10));
    }

    #[test]
    fn it_is_bounded_and_the_rest_waits_for_the_timeout() {
        let mut board = board(&[]);
        for n in 0..1000 {
            board.add(span(2 * n + 1, 2 * n + 2), START, START.wrapping_add(5000), at(0), SHORTEST);
        }
        assert_eq!(board.arrived.len(), SPANS_MAX);
        board.mark_lost(span(0, 5000).end);
        for n in 0..1000 {
            let odd = span(2 * n, 2 * n + 1);
            if board.wants(odd) {
                board.note_again(odd, at(i64::from(n)), span(0, 5000).end);
            }
        }
        assert!(board.again.len() <= 2 * SPANS_MAX, "{}", board.again.len());
        board.mark_all_lost(span(0, 5000).end, true);
        assert_eq!(board.missing(START), 5000);
    }

    /// Whatever a peer says, the sums agree with the bytes.
    #[test]
    fn sums_agree_with_a_table_of_all_bytes() {
        let mut x = 7_u32;
        let mut draw = |below: u32| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) % below
        };
        for _ in 0..200 {
            let (mut board, mut acked) = (board(&[]), 0);
            let (mut arrived, mut again, mut lost) = ([false; 200], [false; 200], 0);
            for step in 0..60 {
                let start = draw(190);
                let end = start + 1 + draw(10);
                let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
                match draw(4) {
                    0 | 1 => {
                        board.add(span(start, end), START.wrapping_add(acked), span(0, 200).end, at(step), SHORTEST);
                        range.for_each(|n| (arrived[n], again[n]) = (true, false));
                    }
                    2 if board.wants(span(start, end)) => {
                        board.note_again(span(start, end), at(step), span(0, 200).end);
                        range.filter(|&n| !arrived[n]).for_each(|n| again[n] = true);
                    }
                    _ if draw(3) == 0 => {
                        acked += draw(5);
                        board.advance(START.wrapping_add(acked), 5, at(step), SHORTEST);
                        (0..usize::try_from(acked).unwrap()).for_each(|n| (arrived[n], again[n]) = (true, false));
                    }
                    _ => {
                        lost = lost.max(end);
                        board.mark_lost(START.wrapping_add(lost));
                    }
                }
                let (from, lost) = (usize::try_from(acked).unwrap(), usize::try_from(lost.max(acked)).unwrap());
                let missing = (from..lost).filter(|&n| !arrived[n] && !again[n]).count();
                assert_eq!(board.missing(START.wrapping_add(acked)), u32::try_from(missing).unwrap());
                let known = (from..200).filter(|&n| arrived[n]).count();
                assert_eq!(board.arrived(), u32::try_from(known).unwrap());
            }
        }
    }
}
