//! From a received frame to the flow it belongs to.
//!
//! **Invariant:** what a frame costs does not depend on the number of flows, and a frame makes no new state unless it is a SYN to a
//! listening port within every limit, an ARP packet for us, or a datagram for a socket, which wait within theirs. What is not ours is offered to
//! Linux, if the port has a twin there, and else dropped.

use std::io;

use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

use super::Stack;
use super::arena::prefetch;
use super::flow::Fault;
use super::flow_table::{Holder, TimeWait};
use super::nd;
use super::nic::Emitted;
use super::ours::Ours;
use super::packet::{self, Packet, Segment};
use crate::counters::DropReason;
use crate::device::Mac;
use crate::frame::Frame;

/// A frame of the burst in work.
pub(super) struct Arrival {
    frame: Frame,
    packet: Result<Packet, DropReason>,
    /// The flow that it belongs to, as far as was seen when the burst came in.
    flow: Option<u32>,
}

impl Arrival {
    fn of(frame: Frame, ours: &Ours) -> Self {
        let packet = packet::parse(&frame, ours);
        Self { frame, packet, flow: None }
    }
}

impl Stack {
    /// Takes one burst from the port. Answers how many frames came.
    pub fn ingress(&mut self, now: Instant) -> usize {
        (self.now, self.nic.now) = (now, now);
        self.nic.rx_burst(&mut self.rx);
        if self.rx.is_empty() {
            return 0;
        }
        let frames = self.rx.len();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        arrivals.extend(self.rx.take_front(frames).map(|frame| Arrival::of(frame, &self.ours)));
        self.look_ahead(&mut arrivals);
        for Arrival { frame, packet, flow } in arrivals.drain(..) {
            match packet {
                Ok(Packet::Tcp(segment)) => self.receive_segment(frame, &segment, flow),
                packet => self.receive_packet(frame, packet),
            }
        }
        self.arrivals = arrivals;
        self.flush_twin();
        // Answers that could not wait for the next turn: RST, ARP, echo.
        self.nic.flush();
        frames
    }

    /// Has the caches fetch the flows of a burst: one that waits long for its next request has left them. What is fetched in one go comes in the
    /// time of one.
    fn look_ahead(&self, arrivals: &mut [Arrival]) {
        for arrival in &mut *arrivals {
            let Ok(Packet::Tcp(segment)) = &arrival.packet else { continue };
            // It has no flow, or one that is just being opened. A flood of them must not cost a look more.
            if segment.opens() {
                continue;
            }
            let Some(Holder::Flow(id)) = self.table.get(&segment.key) else { continue };
            arrival.flow = Some(id);
            if let Some(flow) = self.flows.get(id as usize) {
                prefetch(&**flow);
            }
        }
        for flow in arrivals.iter().filter_map(|a| self.flows.get(a.flow? as usize)) {
            flow.fetch();
        }
    }

    pub(super) fn receive(&mut self, frame: Frame) {
        let packet = packet::parse(&frame, &self.ours);
        self.receive_packet(frame, packet);
    }

    fn receive_packet(&mut self, mut frame: Frame, packet: Result<Packet, DropReason>) {
        match packet {
            Ok(Packet::Tcp(segment)) => self.receive_segment(frame, &segment, None),
            Ok(Packet::Datagram { ip, arrived }) => self.receive_datagram(frame, &ip, &arrived),
            Ok(Packet::Fragment { place, payload }) => self.receive_fragment(place, &frame, payload),
            Ok(Packet::TooBig(told)) => {
                self.receive_too_big(told);
                self.share(frame);
            }
            Ok(Packet::Narrow(told)) => {
                // An lcore that only overhears it has sent others.
                if !self.narrow_path(&told) && !frame.is_overheard() {
                    self.nic.counters.drop_frame(DropReason::Protocol);
                }
                self.share(frame);
            }
            Ok(Packet::Refused(key)) => {
                self.udp.fail(&key, io::ErrorKind::ConnectionRefused);
                self.share(frame);
            }
            Ok(Packet::Arp(heard)) if frame.is_overheard() => self.overhear_arp(heard),
            Ok(Packet::Nd(heard)) if frame.is_overheard() => self.overhear_nd(heard),
            // It is counted where it came in.
            Err(_) if frame.is_overheard() => {}
            Ok(Packet::Arp(heard)) => {
                let is_ours = heard.asks && self.ours.has_v4(heard.target);
                let told = self.receive_arp(heard);
                self.share_news(frame, told, is_ours);
            }
            Ok(Packet::Nd(heard)) => {
                let is_ours = matches!(heard, nd::Heard::Asks { target, .. } if self.ours.has_v6(target));
                let told = self.receive_nd(heard);
                self.share_news(frame, told, is_ours);
            }
            Ok(Packet::Echo(_)) if !self.echoes.take(self.config.limits.echoes_per_second_max, self.now) => {
                self.nic.counters.drop_frame(DropReason::EchoRate);
            }
            Ok(Packet::Echo(ip)) => {
                packet::answer_echo(&mut frame, ip, &self.ours);
                self.nic.answer(frame);
            }
            Err(DropReason::Segmented) => match frame.joined() {
                Some(whole) => self.receive(whole),
                None => self.reject(frame, DropReason::Segmented),
            },
            Err(reason) => self.reject(frame, reason),
        }
    }

    /// A flow that waited for its neighbour's address. It may be gone, or another one by now: then this costs it a look.
    pub(super) fn mark_waiting(&mut self, id: u32) {
        if self.flows.contains(id as usize) {
            self.mark(id);
        }
    }

    /// `found`: the flow that it belonged to when its burst came in.
    fn receive_segment(&mut self, frame: Frame, segment: &Segment, found: Option<u32>) {
        let is_still = |id: &u32| self.flows.get(*id as usize).is_some_and(|f| f.mapped && f.key == segment.key);
        if let Some(id) = found.filter(is_still) {
            return self.deliver(id, &frame, segment);
        }
        match self.table.get(&segment.key) {
            Some(Holder::Flow(id)) => self.deliver(id, &frame, segment),
            Some(Holder::TimeWait(old)) => self.receive_late(old, frame, segment),
            None => self.receive_new(frame, segment),
        }
    }

    /// A segment of a flow.
    pub(super) fn deliver(&mut self, id: u32, frame: &Frame, segment: &Segment) {
        let flow = &mut self.flows[id as usize];
        let state = flow.socket().state();
        if segment.opens()
            && !matches!(state, State::Listen | State::SynSent | State::SynReceived)
            && let Some(last) = flow.emitted
        {
            return self.challenge(segment, last);
        }
        if state == State::SynReceived && segment.opens() && segment.seq.wrapping_add(1) == flow.expected {
            return self.repeat_syn(id, segment.from);
        }
        let is_synchronized = !matches!(state, State::Closed | State::Listen | State::SynSent);
        // Of a byte beyond the window `expected` knows, and the socket does not.
        let is_exact = segment.seq == flow.expected || segment.seq == flow.acknowledged;
        if segment.rst && is_synchronized && !is_exact {
            return self.doubt_reset(id, segment);
        }
        let only_fin = matches!(state, State::FinWait1 | State::Closing) && flow.socket().send_queue() == 0;
        if only_fin && segment.is_bare_ack() && segment.acked == flow.heard.sent {
            // smoltcp 0.14 would count it towards a fast retransmit, find no data to send, and never send the FIN again.
            return;
        }
        let before = (state, flow.socket().send_queue());
        let packet = &frame.bytes()[segment.ip.clone()];
        let mut link = self.nic.link(segment.from, Some(packet));
        self.ifaces.of(flow.path).poll_ingress_single(flow.clock.shown(self.now), &mut link, flow.sockets());
        if let Some(emitted) = link.emitted {
            // An acknowledgement, or an RST: these may always leave.
            flow.admit(emitted, self.now);
        }
        let accepted = before != (flow.socket().state(), flow.socket().send_queue());
        flow.note_segment(segment, &packet::options(packet, segment), accepted, self.now);
        if accepted {
            // The way back may be by another router by now.
            flow.peer_mac = Some(segment.from);
        }
        if !segment.syn && segment.end != segment.seq {
            self.note_use(id);
        }
        let flow = &mut self.flows[id as usize];
        if state != State::TimeWait {
            flow.heard = TimeWait { sent: segment.acked, expected: segment.end };
        }
        if segment.rst && flow.socket().state() == State::Closed {
            flow.fault.get_or_insert(Fault::Reset);
            self.nic.counters.flows_reset.add(1);
        }
        self.settle_or_send(id);
    }

    /// A SYN in the middle of a connection: a peer that forgot it, or a forger (RFC 5961, 4). smoltcp would drop it without a word, and
    /// the peer could not use its port again.
    fn challenge(&mut self, segment: &Segment, last: Emitted) {
        if self.may_answer_twice() {
            self.nic.send_ack(&segment.key, segment.from, last);
        }
    }

    /// Whether there may be one more answer in this second to what may be forged.
    fn may_answer_twice(&mut self) -> bool {
        let may = self.challenges.take(self.config.limits.challenges_per_second_max, self.now);
        if !may {
            self.nic.counters.drop_frame(DropReason::ChallengeRate);
        }
        may
    }

    /// A SYN comes again: our answer to it was lost. smoltcp would wait for its timer.
    fn repeat_syn(&mut self, id: u32, peer: Mac) {
        if self.may_answer_twice() && self.send_again(id, peer) {
            self.settle(id);
        }
    }

    /// An RST that is not at the very number that is expected. One within the window is asked about: a peer that means it sends another, to the
    /// number (RFC 5961, 3). smoltcp would believe any within the window.
    fn doubt_reset(&mut self, id: u32, segment: &Segment) {
        let flow = &mut self.flows[id as usize];
        let ahead = segment.seq.wrapping_sub(flow.expected);
        let is_within = usize::try_from(ahead).is_ok_and(|ahead| ahead < flow.socket().recv_capacity());
        if let Some(last) = flow.emitted.filter(|_| is_within) {
            self.challenge(segment, last);
        }
    }

    /// A segment that belongs to no flow: opens one, or is answered by RST.
    pub(super) fn receive_new(&mut self, mut frame: Frame, segment: &Segment) {
        let Some(listener) = self.listeners.find(segment.key.local, segment.key.local_port) else {
            // Linux answers what Linux gets.
            let Some(frame) = self.hand_over(frame) else { return };
            return self.answer_stray(&frame, segment);
        };
        if segment.opens() {
            self.open(listener, &mut frame, segment);
        } else if let Some(offer) = self.find_cookie(segment) {
            self.open_by_cookie(listener, offer, &frame, segment);
        } else if self.may_follow_cookie(segment) {
            self.nic.counters.drop_frame(DropReason::SynCookie);
        } else {
            self.answer_stray(&frame, segment);
        }
    }

    /// smoltcp answers what belongs to nobody with RST where that is due.
    fn answer_stray(&mut self, frame: &Frame, segment: &Segment) {
        // An RST is answered by nothing.
        if segment.rst {
            return;
        }
        if !self.resets.take(self.config.limits.resets_per_second_max, self.now) {
            return self.nic.counters.drop_frame(DropReason::ResetRate);
        }
        let mut link = self.nic.link(segment.from, Some(&frame.bytes()[segment.ip.clone()]));
        self.ifaces.of(0).poll_ingress_single(self.now, &mut link, &mut self.strays);
    }
}
