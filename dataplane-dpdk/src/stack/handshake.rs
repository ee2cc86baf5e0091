//! Handshakes that peers begin: with a flow, or without one while there are too many.
//!
//! As long as half-open flows are few, a SYN makes one, which sends its SYN-ACK again when that was lost. Beyond the backlog, or for a source
//! that has many, the answer is a cookie and nothing is kept. The ACK that brings it back makes the flow: a socket is shown the SYN as it
//! must have been, by an interface that draws the cookie as its number, and then the ACK.
//!
//! **Invariant:** a SYN that no limit lets through leaves nothing behind, and what it costs does not depend on how many came before.

use smoltcp::socket::tcp::State;

use super::Stack;
use super::flow::Stage;
use super::flow_table::TimeWait;
use super::nic::Emitted;
use super::packet::{self, Segment};
use super::syn_cookie::{ANSWER_BYTES_MAX, Offer};
use super::{isn, recovery, syn_cookie};
use crate::counters::DropReason;
use crate::frame::Frame;

impl Stack {
    /// A SYN to a listening port.
    pub(super) fn open(&mut self, listener: u32, frame: &mut Frame, segment: &Segment) {
        let limits = self.config.limits;
        let is_full = self.half_open.len() >= self.config.syn_backlog_max;
        let has_many = || self.half_open.of(segment.key.peer) >= limits.half_open_per_source_max;
        // A SYN that is not answered comes again: by then there may be room.
        if !self.listeners.has_room(listener) {
            return self.nic.counters.drop_frame(DropReason::AcceptQueue);
        }
        if is_full || has_many() {
            return match (limits.syn_cookies, is_full) {
                (true, _) => self.answer_with_cookie(frame, segment),
                (false, true) => self.nic.counters.drop_frame(DropReason::SynBacklog),
                (false, false) => self.nic.counters.drop_frame(DropReason::SynSource),
            };
        }
        let mut flow = match self.take_flow(segment.key) {
            Ok(flow) => flow,
            Err(reason) => return self.nic.counters.drop_frame(reason),
        };
        let listening = flow.listen(segment.key, segment.from, self.sender(&segment.key), &self.config.limits);
        listening.expect("the socket is closed, and the port is not 0");
        let id = self.map(flow);
        self.set_stage(id, Stage::Opening(listener));
        let number = isn::initial(self.config.seed, &segment.key, self.now);
        self.show_syn(id, segment, &frame.bytes()[segment.ip.clone()], number);
        self.mark(id);
        self.settle(id);
    }

    /// Shows a listening flow its SYN. It will answer with `number`.
    fn show_syn(&mut self, id: u32, segment: &Segment, packet: &[u8], number: u32) {
        let mut iface = isn::interface(number, &mut self.nic.link(segment.from, None), self.now);
        let flow = &mut self.flows[id as usize];
        let mut link = self.nic.link(segment.from, Some(packet));
        iface.poll_ingress_single(flow.clock.shown(self.now), &mut link, flow.sockets());
        let is_taken = flow.socket().state() == State::SynReceived;
        flow.note_segment(segment, &packet::options(packet, segment), is_taken, self.now);
    }

    fn answer_with_cookie(&mut self, frame: &mut Frame, segment: &Segment) {
        if frame.room() < ANSWER_BYTES_MAX {
            return self.nic.counters.drop_frame(DropReason::TxFull);
        }
        let offer = Offer::of(packet::tcp_of(&frame.bytes()[segment.ip.clone()]));
        let cookie = self.cookies.make(&segment.key, segment.seq, offer, self.now);
        self.nic.counters.syn_cookies_sent.add(1);
        let rx_ring_bytes = self.config.rx_ring_bytes;
        // smoltcp's for such a ring.
        let scale = (usize::BITS - rx_ring_bytes.leading_zeros()).saturating_sub(16);
        let ours = Offer {
            segment_bytes: self.config.segment_packet_bytes().saturating_sub(segment.key.header_bytes()),
            window_scale: offer.window_scale.map(|_| scale.to_le_bytes()[0]),
            sack: offer.sack,
        };
        let window = u16::try_from(rx_ring_bytes).unwrap_or(u16::MAX);
        let mut frame = std::mem::replace(frame, Frame::heap(0));
        syn_cookie::answer(&mut frame, self.nic.mac, segment, cookie, ours, window);
        self.nic.answer(frame);
    }

    /// What a segment's sender offered in its SYN, if the segment is the answer to a cookie.
    pub(super) fn find_cookie(&self, segment: &Segment) -> Option<Offer> {
        if !segment.ack || segment.syn || segment.rst {
            return None;
        }
        let (number, cookie) = (segment.seq.wrapping_sub(1), segment.acked.wrapping_sub(1));
        self.cookies.check(&segment.key, number, cookie, self.now)
    }

    /// Whether a segment may be the second of a connection whose first brings a cookie, and was lost or overtaken. It comes again then.
    pub(super) fn may_follow_cookie(&self, segment: &Segment) -> bool {
        segment.ack && !segment.rst && !segment.is_bare_ack() && self.cookies.are_out(self.now)
    }

    /// The ACK that brings a cookie back, perhaps with the first data.
    pub(super) fn open_by_cookie(&mut self, listener: u32, offer: Offer, frame: &Frame, segment: &Segment) {
        // It comes again with the peer's first data.
        if !self.listeners.has_room(listener) {
            return self.nic.counters.drop_frame(DropReason::AcceptQueue);
        }
        let mut flow = match self.take_flow(segment.key) {
            Ok(flow) => flow,
            Err(reason) => return self.nic.counters.drop_frame(reason),
        };
        let listening = flow.listen(segment.key, segment.from, self.sender(&segment.key), &self.config.limits);
        listening.expect("the socket is closed, and the port is not 0");
        let id = self.map(flow);
        self.set_stage(id, Stage::Opening(listener));
        self.nic.counters.syn_cookies_accepted.add(1);

        let number = segment.seq.wrapping_sub(1);
        let packet = packet::syn(&segment.key, number, offer);
        let (syn, ack, has_options) = (true, false, true);
        let numbers = Segment { seq: number, end: segment.seq, acked: 0, ..segment.clone() };
        let syn = Segment { syn, ack, has_options, ip: 0..packet.bytes().len(), ..numbers };
        self.show_syn(id, &syn, packet.bytes(), segment.acked.wrapping_sub(1));
        // Its SYN-ACK has left long ago.
        let flow = &mut self.flows[id as usize];
        let mut link = self.nic.muted_link(segment.from);
        self.ifaces.of(flow.path).poll_egress(flow.clock.shown(self.now), &mut link, flow.sockets());
        if let Some(emitted) = link.emitted {
            // As if it had been sent twice: nobody knows when it left, so its answer measures no round trip (Karn).
            flow.admit(emitted, self.now);
            flow.admit(emitted, self.now);
        }
        self.deliver(id, frame, segment);
    }

    /// A segment for a connection in TIME-WAIT (RFC 9293, 3.10.7.4 and RFC 6191).
    pub(super) fn receive_late(&mut self, old: TimeWait, frame: Frame, segment: &Segment) {
        let is_later = segment.opens() && recovery::is_after(segment.seq, old.expected);
        // The answer to the cookie of such a SYN.
        if is_later || self.find_cookie(segment).is_some() {
            return self.receive_new(frame, segment);
        }
        // RFC 1337: an RST must not end TIME-WAIT early. And an answer to an answer would never end.
        if segment.rst || segment.end == segment.seq {
            return self.nic.counters.drop_frame(DropReason::TimeWait);
        }
        self.nic.send_ack(
            &segment.key,
            segment.from,
            Emitted { start: old.sent, end: old.sent, acked: old.expected, window: 0, is_last: false },
        );
    }
}
