//! How smoltcp is made to send again what was lost, and nothing else.
//!
//! When its retransmission timer runs out, smoltcp goes back to the first unacknowledged byte and builds every segment once more. So it is
//! shown the time at which that happens, and of what it builds then only what [`Sender::admit`](super::recovery::Sender::admit) lets pass
//! leaves; the other frames are taken back.
//!
//! **Invariant:** afterwards smoltcp is where it was, but for a port that takes no more: then it goes on in the next turn.

use smoltcp::time::Instant;

use super::Stack;
use super::nic::Emitted;
use super::packet;
use super::recovery::is_after;
use super::scoreboard::Span;
use crate::device::Mac;

impl Stack {
    /// Goes over what is on its way of a flow, once. False: the port takes no more.
    pub(super) fn send_again(&mut self, id: u32, mac: Mac) -> bool {
        let flow = &mut self.flows[id as usize];
        let shown = flow.clock.shown(self.now);
        // What ends a silent connection is not to see a time that has not come.
        let timeout = flow.socket().timeout();
        flow.socket().set_timeout(None);
        // Nor is a short segment to wait that has left before.
        flow.socket().set_nagle_enabled(false);
        let all = flow.sender.outstanding();
        let mut waits = WAITS_MAX;
        let went = loop {
            let flow = &mut self.flows[id as usize];
            let at = self.ifaces.of(flow.path).poll_at(shown, flow.sockets());
            let ahead = at.is_none_or(|at| at > shown);
            if ahead && waits == 0 {
                break true;
            }
            if at.is_none() {
                self.ask(id, mac, shown);
            }
            waits -= u8::from(ahead);
            match self.build(id, mac, at.unwrap_or(shown).max(shown)) {
                Built::Nothing if !ahead => break true,
                Built::Nothing => {}
                Built::Exhausted => break false,
                Built::Segment(emitted) if is_last(&emitted, all) => break true,
                Built::Segment(_) => {}
            }
        };
        let socket = self.flows[id as usize].socket();
        socket.set_timeout(timeout);
        socket.set_nagle_enabled(self.config.limits.nagle);
        went
    }

    /// Has smoltcp build one segment at the time `shown`, and sends it if it may leave.
    fn build(&mut self, id: u32, mac: Mac, shown: Instant) -> Built {
        let flow = &mut self.flows[id as usize];
        let mut link = self.nic.link(mac, None);
        self.ifaces.of(flow.path).poll_egress(shown, &mut link, flow.sockets());
        let (exhausted, emitted) = (link.exhausted, link.emitted);
        let Some(emitted) = emitted else {
            return if exhausted { Built::Exhausted } else { Built::Nothing };
        };
        let before = flow.sender.outstanding().end;
        if !flow.admit(emitted, self.now) {
            self.nic.take_back();
        } else if emitted.start != emitted.end && !is_after(emitted.end, before) {
            self.nic.counters.segments_repaired.add(1);
        }
        Built::Segment(emitted)
    }

    /// smoltcp forgets its timer when a closed window opens: three times the last acknowledgement has it set one again. It may have counted such
    /// ones already; a window that moves and moves back has it count anew.
    fn ask(&mut self, id: u32, mac: Mac, shown: Instant) {
        let flow = &mut self.flows[id as usize];
        let (acked, window) = flow.sender.last_heard();
        if window == 0 || flow.socket().send_queue() == 0 {
            return;
        }
        for window in [window - 1, window, window, window, window] {
            let packet = packet::bare_ack(&flow.key, flow.expected, acked, window);
            let mut link = self.nic.link(mac, Some(packet.bytes()));
            self.ifaces.of(flow.path).poll_ingress_single(shown, &mut link, flow.sockets());
        }
    }
}

/// What smoltcp built.
enum Built {
    Nothing,
    Segment(Emitted),
    /// The port takes no more.
    Exhausted,
}

/// Whether this is the end of what was on its way before.
fn is_last(emitted: &Emitted, all: Span) -> bool {
    emitted.start != emitted.end && is_after(all.end, emitted.start) && !is_after(all.end, emitted.end)
}

/// Times ahead that smoltcp is shown: its timer's, behind that of an acknowledgement that waits and of one that was just set.
const WAITS_MAX: u8 = 3;
