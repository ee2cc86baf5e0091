//! From a received frame to the flow it belongs to.
//!
//! **Invariant:** what a frame costs does not depend on the number of flows, and a frame makes no new state unless it is a SYN to a
//! listening port within every limit, or an ARP packet for us.

use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

use super::Stack;
use super::arp::Heard;
use super::flow::{Fault, Stage};
use super::flow_table::{Holder, TimeWait};
use super::nic::Emitted;
use super::packet::{self, Packet, Segment};
use super::recovery::{Step, is_after};
use crate::counters::DropReason;
use crate::frame::{Frame, FrameVec};

impl Stack {
    /// Takes one burst from the port. Answers how many frames came.
    pub fn ingress(&mut self, now: Instant) -> usize {
        self.now = now;
        self.nic.rx_burst(&mut self.rx);
        if self.rx.is_empty() {
            return 0;
        }
        let mut rx = std::mem::replace(&mut self.rx, FrameVec::new(0));
        let frames = rx.len();
        for frame in rx.take_front(frames) {
            self.receive(frame);
        }
        self.rx = rx;
        // Answers that could not wait for the next turn: RST, ARP, echo.
        self.nic.flush();
        frames
    }

    fn receive(&mut self, mut frame: Frame) {
        match packet::parse(&frame, self.nic.mac, self.config.address) {
            Ok(Packet::Tcp(segment)) => self.receive_segment(&frame, &segment),
            Ok(Packet::Arp(heard)) => self.receive_arp(heard),
            Ok(Packet::Echo(ip)) => {
                packet::answer_echo(&mut frame, ip);
                self.nic.send(frame);
            }
            Err(reason) => self.nic.counters.drop_frame(reason),
        }
    }

    /// A neighbour asks for us, or answers a question of ours (RFC 826).
    fn receive_arp(&mut self, heard: Heard) {
        let ours = self.config.address;
        let on_link = self.is_on_link(heard.ip);
        // Another station with our address is not a neighbour. A port that hears itself (net_ring) is.
        if !on_link || (heard.ip == ours && heard.mac != self.nic.mac) {
            return self.nic.counters.drop_frame(DropReason::Arp);
        }
        for id in self.arp.learn(heard.ip, heard.mac, self.now) {
            self.mark_waiting(id);
        }
        if heard.asks {
            self.nic.send_arp(ours, Some(heard.mac), heard.ip);
        }
    }

    /// A flow that waited for its neighbour's address. It may be gone, or another one by now: then this costs it a look.
    pub(super) fn mark_waiting(&mut self, id: u32) {
        if self.flows.contains(id as usize) {
            self.mark(id);
        }
    }

    fn receive_segment(&mut self, frame: &Frame, segment: &Segment) {
        match self.table.get(&segment.key) {
            Some(Holder::Flow(id)) => self.deliver(id, frame, segment),
            Some(Holder::TimeWait(old)) => self.receive_late(old, frame, segment),
            None => self.receive_new(frame, segment),
        }
    }

    /// A segment of a flow.
    fn deliver(&mut self, id: u32, frame: &Frame, segment: &Segment) {
        let flow = &mut self.flows[id as usize];
        let state = flow.socket().state();
        if segment.opens()
            && !matches!(state, State::Listen | State::SynSent | State::SynReceived)
            && let Some(last) = flow.emitted
        {
            return self.challenge(segment, last);
        }
        let only_fin = matches!(state, State::FinWait1 | State::Closing) && flow.socket().send_queue() == 0;
        if only_fin && segment.is_bare_ack() && segment.acked == flow.heard.sent {
            // smoltcp 0.14 would count it towards a fast retransmit, find no data to send, and never send the FIN again.
            return;
        }
        let before = (state, flow.socket().send_queue());
        let mut link = self.nic.link(segment.from, Some(&frame.bytes()[segment.ip.clone()]));
        self.iface.poll_ingress_single(flow.clock.shown(self.now), &mut link, flow.sockets());
        if let Some(emitted) = link.emitted {
            flow.note_emitted(emitted, self.now);
        }
        let accepted = before != (flow.socket().state(), flow.socket().send_queue());
        let step = flow.note_segment(segment, accepted, self.now);
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
        if step == Step::Repair {
            self.repair(id, false);
        }
        self.mark(id);
        self.settle(id);
    }

    /// A SYN in the middle of a connection: a peer that forgot it, or a forger (RFC 5961, 4). smoltcp would drop it without a word, and
    /// the peer could not use its port again.
    fn challenge(&mut self, segment: &Segment, last: Emitted) {
        let second = self.now.secs();
        if self.challenges.0 != second {
            self.challenges = (second, 0);
        }
        if self.challenges.1 < CHALLENGES_PER_SECOND_MAX {
            self.challenges.1 += 1;
            self.nic.send_ack(segment, last);
        }
    }

    /// A segment that belongs to no flow: opens one, or is answered by RST.
    fn receive_new(&mut self, frame: &Frame, segment: &Segment) {
        match self.listeners.find(segment.key.local_port) {
            Some(listener) if segment.opens() => self.open(listener, frame, segment),
            _ => self.answer_stray(frame, segment),
        }
    }

    /// A SYN to a listening port.
    fn open(&mut self, listener: u32, frame: &Frame, segment: &Segment) {
        let refused = if self.opening >= self.config.syn_backlog_max {
            Some(DropReason::SynBacklog)
        } else if !self.listeners.has_room(listener) {
            Some(DropReason::AcceptQueue)
        } else {
            None
        };
        // A SYN that is not answered comes again: by then there may be room.
        if let Some(reason) = refused {
            return self.nic.counters.drop_frame(reason);
        }
        let mut flow = match self.take_flow(segment.key) {
            Ok(flow) => flow,
            Err(reason) => return self.nic.counters.drop_frame(reason),
        };
        flow.listen(segment.key, segment.from, self.sender()).expect("the socket is closed, and the port is not 0");
        let id = self.map(flow);
        self.set_stage(id, Stage::Opening(listener));
        self.deliver(id, frame, segment);
    }

    /// A segment for a connection in TIME-WAIT (RFC 9293, 3.10.7.4 and RFC 6191).
    fn receive_late(&mut self, old: TimeWait, frame: &Frame, segment: &Segment) {
        if segment.opens() && is_after(segment.seq, old.expected) {
            return self.receive_new(frame, segment);
        }
        // RFC 1337: an RST must not end TIME-WAIT early. And an answer to an answer would never end.
        if segment.rst || segment.end == segment.seq {
            return self.nic.counters.drop_frame(DropReason::TimeWait);
        }
        self.nic.send_ack(segment, Emitted { start: old.sent, end: old.sent, acked: old.expected, window: 0 });
    }

    /// smoltcp answers what belongs to nobody with RST where that is due.
    fn answer_stray(&mut self, frame: &Frame, segment: &Segment) {
        let mut link = self.nic.link(segment.from, Some(&frame.bytes()[segment.ip.clone()]));
        self.iface.poll_ingress_single(self.now, &mut link, &mut self.strays);
    }
}

/// Challenge ACKs of one lcore in a second, at most (RFC 5961, 7).
const CHALLENGES_PER_SECOND_MAX: u32 = 100;
