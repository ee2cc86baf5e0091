//! From flows that may have something to send to the port, and the ends of flows.
//!
//! **Invariant:** a flow sends at most [`SEGMENTS_PER_TURN_MAX`] segments in a turn, and a port that takes no more stops the turn: what
//! was not sent keeps its place in line.

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

use super::Stack;
use super::flow::{Fault, Stage};
use super::neighbours::Neighbour;
use super::recovery::earlier;
use crate::device::Mac;

impl Stack {
    /// Sends what timers and tasks want sent. Answers whether anything was done: of a port that takes nothing there is nothing to be done.
    pub fn egress(&mut self, now: Instant) -> bool {
        (self.now, self.nic.now) = (now, now);
        let before = self.nic.counters.tx_packets.get();
        self.nic.flush();
        self.fire_timers();
        self.tend_datagrams();
        if self.dirty.is_empty() {
            return self.nic.counters.tx_packets.get() != before;
        }
        // What becomes dirty on the way is for the next turn. The two lists take turns, so that neither is allocated again.
        std::mem::swap(&mut self.dirty, &mut self.sending);
        let mut turn = std::mem::take(&mut self.sending);
        let mut done = 0;
        for &id in &turn {
            if self.flows.get(id as usize).is_some_and(|f| f.dirty) && !self.send(id) {
                break;
            }
            done += 1;
        }
        turn.drain(..done);
        turn.append(&mut self.dirty);
        self.sending = std::mem::replace(&mut self.dirty, turn);
        self.nic.flush();
        done > 0 || self.nic.counters.tx_packets.get() != before
    }

    fn fire_timers(&mut self) {
        // What these look at moves on once in a millisecond, and there are many turns in one.
        let millis = self.now.total_millis();
        if std::mem::replace(&mut self.millis, millis) != millis {
            self.fire_wheels();
        }
        self.count_time_waits();
        if self.neighbours.is_asking() {
            self.ask_neighbours();
        }
        if self.announcements.next().is_some() {
            self.announce();
        }
    }

    fn fire_wheels(&mut self) {
        let Self { wheel, flows, dirty, .. } = self;
        wheel.advance(self.now, |id| {
            let flow = &mut flows[id as usize];
            if !flow.dirty {
                flow.dirty = true;
                dirty.push(id);
            }
        });
        self.give_back_rings();
        self.table.expire(self.now);
    }

    /// The counter is shared by the stacks of an lcore: it gets the difference.
    fn count_time_waits(&mut self) {
        let time_waits = self.table.time_waits() as u64;
        self.nic.counters.time_waits.add(time_waits.wrapping_sub(self.time_waits));
        self.time_waits = time_waits;
    }

    /// Flows that waited for a neighbour that does not answer.
    pub(super) fn lose_neighbour(&mut self, flows: &[u32]) {
        for &id in flows {
            // The flow may be another one by now: one that waits has no address yet.
            if self.flows.get(id as usize).is_some_and(|f| f.mapped && f.peer_mac.is_none()) {
                self.fail(id, Fault::Unreachable);
            }
        }
    }

    /// Sends what a dirty flow has. False: the port takes no more, and the flow stays dirty.
    fn send(&mut self, id: u32) -> bool {
        let flow = &mut self.flows[id as usize];
        if !flow.mapped {
            flow.dirty = false;
            return true;
        }
        let Some(mac) = flow.peer_mac.or_else(|| self.find_neighbour(id)) else {
            // `mark_waiting` or `fail` goes on.
            if let Some(flow) = self.flows.get_mut(id as usize) {
                flow.dirty = false;
            }
            return true;
        };
        self.flows[id as usize].peer_mac = Some(mac);
        self.ask_if_silent(id, mac);
        let flow = &mut self.flows[id as usize];
        flow.sender.on_time(self.now);
        // One that was aborted has an RST to send, and nothing else.
        if flow.fault.is_none() && flow.sender.wants_again() && !self.send_again(id, mac) {
            return false;
        }
        let Some(more) = self.send_due(id, mac) else { return false };
        self.flows[id as usize].dirty = false;
        if more {
            self.mark(id);
        }
        self.settle(id);
        true
    }

    /// Sends what smoltcp has to send for a flow. Answers whether there is more than a turn's share; None: the port takes no more.
    fn send_due(&mut self, id: u32, mac: Mac) -> Option<bool> {
        let flow = &mut self.flows[id as usize];
        let shown = flow.clock.shown(self.now);
        for sent in 1.. {
            let mut link = self.nic.link(mac, None);
            let result = self.ifaces.of(flow.path).poll_egress(shown, &mut link, flow.sockets());
            let (exhausted, emitted) = (link.exhausted, link.emitted);
            if exhausted {
                return None;
            }
            if emitted.is_some_and(|emitted| !flow.admit(emitted, self.now)) {
                self.nic.take_back();
            }
            if result == PollResult::None
                || self.ifaces.of(flow.path).poll_at(shown, flow.sockets()).is_none_or(|at| at > shown)
            {
                break;
            }
            if sent == SEGMENTS_PER_TURN_MAX {
                return Some(true);
            }
        }
        Some(false)
    }

    /// The Ethernet address of the next hop, if it is known. Otherwise the flow is told later.
    fn find_neighbour(&mut self, id: u32) -> Option<Mac> {
        let next_hop = self.ours.next_hop(self.flows[id as usize].key.peer)?;
        match self.neighbours.look_up(next_hop, Some(id), self.now) {
            Neighbour::Known(mac) => Some(mac),
            Neighbour::Asked => {
                self.ask_neighbours();
                None
            }
            Neighbour::Silent => {
                self.fail(id, Fault::Unreachable);
                None
            }
        }
    }

    /// Ends a flow that can't go on; whoever holds it learns why.
    pub(super) fn fail(&mut self, id: u32, fault: Fault) {
        let flow = &mut self.flows[id as usize];
        flow.fault.get_or_insert(fault);
        flow.socket().abort();
        self.unmap(id);
        self.settle(id);
    }

    /// After a flow was touched: moves it on in its life, and sees to its next timer.
    pub(super) fn settle(&mut self, id: u32) {
        self.move_on(id);
        self.arm(id);
    }

    /// The same, where it may have something to send at once.
    pub(super) fn settle_or_send(&mut self, id: u32) {
        self.move_on(id);
        let wants_again = self.flows.get(id as usize).is_some_and(|flow| flow.mapped && flow.sender.wants_again());
        match self.deadline(id) {
            Some(at) if at > self.now && !wants_again => self.wheel.arm(id, at),
            None if !wants_again => {}
            _ => self.mark(id),
        }
    }

    /// From one part of its life to the next. It may be gone then.
    fn move_on(&mut self, id: u32) {
        let flow = &mut self.flows[id as usize];
        let stage = flow.stage;
        if stage == Stage::Orphan && flow.mapped && flow.given_up_at <= self.now {
            flow.socket().abort();
            self.mark(id);
        }
        let flow = &mut self.flows[id as usize];
        match flow.socket().state() {
            // An RST ended the handshake (smoltcp listens again then, on a tuple that is ours to give).
            State::Listen => self.release(id),
            State::Closed if flow.is_over() || !flow.mapped => self.end(id),
            State::TimeWait => self.settle_time_wait(id),
            State::SynSent | State::SynReceived | State::Closed => {}
            _ => {
                flow.hurry(self.now, &self.config.limits);
                match stage {
                    Stage::Opening(listener) => self.offer(id, listener),
                    Stage::Orphan => self.settle_orphan(id),
                    Stage::Connecting | Stage::Owned => {}
                }
            }
        }
    }

    /// The handshake is done: the listener may accept.
    fn offer(&mut self, id: u32, listener: u32) {
        self.flows[id as usize].set_timeout(None);
        if self.listeners.queue(listener, id) {
            self.nic.counters.flows_accepted.add(1);
            self.set_stage(id, Stage::Owned);
        } else {
            // The queue filled up while the handshake ran, or the listener is gone.
            self.set_stage(id, Stage::Orphan);
            self.flows[id as usize].socket().abort();
            self.mark(id);
        }
    }

    /// Nobody reads what an orphan receives. As long as it has something to send, that is thrown away; then the peer is told by RST.
    fn settle_orphan(&mut self, id: u32) {
        let flow = &mut self.flows[id as usize];
        let socket = flow.socket();
        if socket.recv_queue() == 0 {
            return;
        }
        if socket.state() == State::FinWait2 {
            socket.abort();
        } else {
            // Twice: a ring shows its two parts one after the other.
            for _ in 0..2 {
                let _ = socket.recv(|bytes| (bytes.len(), ()));
            }
        }
        self.mark(id);
    }

    /// Once its last ACK has left, a connection in TIME-WAIT is an entry in the flow table, without socket and rings.
    fn settle_time_wait(&mut self, id: u32) {
        let flow = &mut self.flows[id as usize];
        // TIME-WAIT itself asks for a time far ahead: a near one is an acknowledgement that waits.
        let shown = flow.clock.shown(self.now);
        let soon = shown + flow.clock.stretched(self.config.limits.ack_delay.into());
        let unsent = self.ifaces.of(flow.path).poll_at(shown, flow.sockets()).is_some_and(|at| at <= soon);
        if unsent || !flow.mapped {
            return;
        }
        // It takes the flow's place in the table.
        flow.mapped = false;
        self.wheel.cancel(id);
        self.table.wait(flow.key, flow.heard, self.now);
        self.count_time_waits();
        self.end(id);
    }

    /// The connection is over. Who holds the flow may still read; who does not, is done with it.
    fn end(&mut self, id: u32) {
        let flow = &mut self.flows[id as usize];
        if flow.mapped && flow.fault.is_none() && flow.socket().timeout().is_some() && flow.stage != Stage::Orphan {
            flow.fault = Some(Fault::TimedOut);
            self.nic.counters.flows_timed_out.add(1);
        }
        self.unmap(id);
        match self.flows[id as usize].stage {
            Stage::Orphan | Stage::Opening(_) => self.release(id),
            Stage::Owned | Stage::Connecting => {}
        }
    }

    /// Puts the flow's next deadline into the wheel.
    fn arm(&mut self, id: u32) {
        if let Some(deadline) = self.deadline(id) {
            self.wheel.arm(id, deadline);
        }
    }

    /// When there is something to be done about a flow if nothing happens. None: never, or it is dirty, and the next turn sees to it.
    fn deadline(&mut self, id: u32) -> Option<Instant> {
        let flow = self.flows.get_mut(id as usize).filter(|f| f.mapped && !f.dirty)?;
        let clock = flow.clock;
        let timer = self.ifaces.of(flow.path).poll_at(clock.shown(self.now), flow.sockets()).map(|at| clock.ours(at));
        let given_up_at = (flow.stage == Stage::Orphan).then_some(flow.given_up_at);
        earlier(earlier(timer, flow.sender.deadline()), earlier(flow.asks_at(&self.config.limits), given_up_at))
    }
}

/// Segments that one flow sends in a turn, at most.
const SEGMENTS_PER_TURN_MAX: u32 = 64;
