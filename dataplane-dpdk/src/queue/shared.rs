//! The part of one lcore in a port that several serve: what belongs to another is handed to it.
//!
//! Whose a frame is says the hash of its flow ([`rss`](crate::rss)). A port with RSS brings flows where they belong, so that little is handed over:
//! fragments, ICMP errors. A port that spreads frames in another way, or not at all, is spread by this. An lcore for which the port has no queue
//! pair sends by the one of another.
//!
//! **Invariant:** between any two lcores there is one ring for each direction, with one writer and one reader. What does not fit is dropped and
//! counted; nobody waits for another.

use std::sync::Arc;
use std::task::{Context, Poll};

use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::mpsc;

use super::PacketQueue;
use super::whose::{Whose, whose};
use crate::counters::{DropReason, LcoreCounters};
use crate::frame::{BURST, Frame, FrameVec};
use crate::rss::Steering;

/// One lcore's part in a port.
pub struct SharedQueue<Q> {
    /// Its own queue pair; or, without one, frames to fill.
    queue: Q,
    sorter: Sorter,
    /// What others have received for it.
    received: Vec<Consumer<Frame>>,
    /// What lcores without a queue pair have it send.
    guests: Vec<Consumer<Frame>>,
    /// Who sends for it, if it has no queue pair.
    host: Option<Neighbour>,
    /// Rung by others when they have put something into a ring.
    bell: mpsc::Receiver<()>,
    /// Its own frames that have not been looked at.
    arrived: FrameVec,
    /// Frames of guests that the port has not taken.
    departing: FrameVec,
    /// Whether the own queue's frames come first, in turns: neither can keep the other out.
    own_first: bool,
}

/// Tells frames apart and hands them over.
struct Sorter {
    index: usize,
    steering: Arc<Steering>,
    counters: Arc<LcoreCounters>,
    /// By lcore; none at its own place.
    others: Vec<Option<Neighbour>>,
}

/// Another lcore, seen from this one.
struct Neighbour {
    frames: Producer<Frame>,
    bell: mpsc::Sender<()>,
    /// Something was put into its ring, and it has not been told.
    is_waiting: bool,
}

/// Shares a port among so many lcores as there are `queues`. The first `pairs` of these are queue pairs of the port; for the others it has none.
///
/// # Panics
/// When there is no queue pair, or no counters for an lcore.
#[must_use]
pub fn share<Q: PacketQueue>(
    queues: Vec<Q>,
    pairs: usize,
    steering: &Arc<Steering>,
    counters: &[Arc<LcoreCounters>],
) -> Vec<SharedQueue<Q>> {
    assert!(pairs > 0 && counters.len() >= queues.len(), "a queue pair, and counters for each lcore");
    let (bells, heard): (Vec<_>, Vec<_>) = queues.iter().map(|_| mpsc::channel(1)).unzip();
    let parts = queues.into_iter().zip(heard).enumerate().map(|(index, (queue, bell))| SharedQueue {
        queue,
        sorter: Sorter {
            index,
            steering: Arc::clone(steering),
            counters: Arc::clone(&counters[index]),
            others: Vec::new(),
        },
        received: Vec::new(),
        guests: Vec::new(),
        host: None,
        bell,
        arrived: FrameVec::new(BURST),
        departing: FrameVec::new(BURST),
        own_first: false,
    });
    let mut parts: Vec<_> = parts.collect();
    let ring = |bell: &mpsc::Sender<()>| {
        let (frames, taken) = RingBuffer::new(HANDOVER_FRAMES_MAX);
        (Neighbour { frames, bell: bell.clone(), is_waiting: false }, taken)
    };
    for from in 0..parts.len() {
        for (to, bell) in bells.iter().enumerate() {
            let other = (from != to).then(|| ring(bell)).map(|(other, taken)| {
                parts[to].received.push(taken);
                other
            });
            parts[from].sorter.others.push(other);
        }
        if from >= pairs {
            let (host, taken) = ring(&bells[from % pairs]);
            parts[from % pairs].guests.push(taken);
            parts[from].host = Some(host);
        }
    }
    parts
}

impl<Q: PacketQueue> SharedQueue<Q> {
    /// Takes what the port has brought, and gives away what is not for this lcore.
    fn take_own(&mut self, into: &mut FrameVec) {
        if self.arrived.is_empty() {
            self.queue.rx_burst(&mut self.arrived);
        }
        let count = self.arrived.len().min(into.room());
        for frame in self.arrived.take_front(count) {
            if let Some(frame) = self.sorter.sort(frame) {
                into.push(frame);
            }
        }
    }

    /// Takes what others have received for this lcore.
    fn take_received(&mut self, into: &mut FrameVec) {
        // Each is the first in its turn: one that is never empty starves none.
        let several = usize::from(self.received.len() > 1);
        self.received.rotate_left(several);
        for ring in &mut self.received {
            while into.room() > 0
                && let Ok(frame) = ring.pop()
            {
                into.push(frame);
            }
        }
    }

    /// Sends what lcores without a queue pair want sent, as far as the port takes it.
    fn send_for_guests(&mut self) {
        let several = usize::from(self.guests.len() > 1);
        self.guests.rotate_left(several);
        for guest in &mut self.guests {
            while self.departing.room() > 0
                && let Ok(frame) = guest.pop()
            {
                self.departing.push(frame);
            }
        }
        if !self.departing.is_empty() {
            self.queue.tx_burst(&mut self.departing);
        }
    }

    fn has_mail(&self) -> bool {
        let is_filled = |ring: &Consumer<Frame>| !ring.is_empty();
        self.received.iter().any(is_filled) || self.guests.iter().any(is_filled) || !self.departing.is_empty()
    }

    /// Ready when there is something from another lcore; else `cx` is woken by it.
    fn poll_mail(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The bell first: what comes behind this look rings it again.
        let rang = self.bell.poll_recv(cx).is_ready();
        if rang || self.has_mail() || !self.arrived.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<Q: PacketQueue> PacketQueue for SharedQueue<Q> {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        self.send_for_guests();
        self.own_first = !self.own_first;
        if self.own_first {
            self.take_own(into);
            self.take_received(into);
        } else {
            self.take_received(into);
            self.take_own(into);
        }
        self.sorter.tell();
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let Some(host) = &mut self.host else { return self.queue.tx_burst(from) };
        let count = from.len().min(host.frames.slots());
        for frame in from.take_front(count) {
            // There are slots.
            let _ = host.frames.push(frame);
        }
        host.is_waiting |= count > 0;
        host.tell();
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.queue.alloc_burst(into);
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let own = self.queue.poll_rx(cx);
        if self.poll_mail(cx).is_ready() { Poll::Ready(()) } else { own }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let own = self.queue.wait(cx)?;
        Some(if self.poll_mail(cx).is_ready() { Poll::Ready(()) } else { own })
    }

    fn awake(&mut self) {
        self.queue.awake();
    }

    fn pass_on(&mut self, frame: Frame) -> Option<Frame> {
        let frame = self.sorter.sort(frame);
        self.sorter.tell();
        frame
    }
}

impl<Q> std::fmt::Debug for SharedQueue<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedQueue").field("index", &self.sorter.index).finish_non_exhaustive()
    }
}

impl Sorter {
    /// Answers a frame that is for this lcore.
    fn sort(&mut self, frame: Frame) -> Option<Frame> {
        let (words, is_of_flow) = match whose(frame.bytes()) {
            Whose::Anybody => return Some(frame),
            Whose::All => {
                self.spread(&frame);
                return Some(frame);
            }
            Whose::Flow(words) => (words, true),
            Whose::About(words) => (words, false),
        };
        let lcore = self.steering.lcore(words);
        let Some(other) = self.others.get_mut(lcore).and_then(Option::as_mut) else { return Some(frame) };
        self.counters.packets_foreign.add(u64::from(is_of_flow));
        match other.frames.push(frame) {
            Ok(()) => {
                other.is_waiting = true;
                self.counters.frames_handed_over.add(1);
            }
            Err(_) => self.counters.drop_frame(DropReason::HandoverFull),
        }
        None
    }

    /// Shows everybody else a frame of which each has something to learn.
    fn spread(&mut self, frame: &Frame) {
        for other in self.others.iter_mut().flatten() {
            // It comes again, and more often than there is something to be learnt of it: half of a ring is kept for connections.
            if other.frames.slots() > HANDOVER_FRAMES_MAX / 2 {
                other.is_waiting |= other.frames.push(Frame::overheard(frame)).is_ok();
            }
        }
    }

    /// Tells the others what was put into their rings.
    fn tell(&mut self) {
        self.others.iter_mut().flatten().for_each(Neighbour::tell);
    }
}

impl Neighbour {
    fn tell(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            // A bell that rings already is heard, and so is one of an lcore that has ended, by nobody.
            let _ = self.bell.try_send(());
        }
    }
}

/// Frames that wait in the ring from one lcore to another, at most.
pub const HANDOVER_FRAMES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::queue::wire::{self, WireOptions, WireQueue};
    use crate::rss::{SOFTWARE_ENTRIES, Words};

    /// Parts in a port with so many queue pairs, the wires' far ends, and what is counted.
    fn parts(lcores: u16, pairs: usize) -> (Vec<SharedQueue<WireQueue>>, Vec<WireQueue>, Vec<Arc<LcoreCounters>>) {
        let counters: Vec<_> = (0..lcores).map(|_| Arc::new(LcoreCounters::default())).collect();
        let (near, far) = (0..lcores).map(|n| wire::pair(n.into(), &WireOptions::default())).unzip();
        let steering = Arc::new(Steering::new(lcores, SOFTWARE_ENTRIES));
        (share(near, pairs, &steering, &counters), far, counters)
    }

    /// A segment from this port of a host.
    fn segment(port: u16) -> Frame {
        let mut bytes = vec![0; 60];
        bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
        bytes[23] = 6;
        bytes[26..34].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        bytes[34..36].copy_from_slice(&port.to_be_bytes());
        bytes[36..38].copy_from_slice(&80_u16.to_be_bytes());
        bytes.into()
    }

    fn lcore_of(part: &SharedQueue<WireQueue>, port: u16) -> usize {
        part.sorter.steering.lcore(Words::of(&[10, 0, 0, 2, 10, 0, 0, 1]).and_port(80).and_port(port))
    }

    fn send(wire: &mut WireQueue, frames: impl IntoIterator<Item = Frame>) {
        let mut burst = FrameVec::new(BURST);
        frames.into_iter().for_each(|frame| burst.push(frame));
        wire.tx_burst(&mut burst);
    }

    fn receive(part: &mut impl PacketQueue) -> Vec<Frame> {
        let mut burst = FrameVec::new(BURST);
        part.rx_burst(&mut burst);
        let count = burst.len();
        burst.take_front(count).collect()
    }

    fn port_of(frame: &Frame) -> u16 {
        u16::from_be_bytes([frame.bytes()[34], frame.bytes()[35]])
    }

    #[tokio::test]
    async fn each_lcore_gets_what_is_its_own_wherever_it_came_in() {
        let (mut parts, mut far, counters) = parts(3, 3);
        for lcore in 0..3_u16 {
            send(&mut far[usize::from(lcore)], (0..30).map(|n| segment(1000 + 100 * lcore + n)));
        }
        let mut got = [(); 3].map(|()| Vec::new());
        for _ in 0..3 {
            for (lcore, part) in parts.iter_mut().enumerate() {
                got[lcore].extend(receive(part).iter().map(port_of));
            }
        }
        assert_eq!(got.iter().map(Vec::len).sum::<usize>(), 90);
        for (lcore, ports) in got.iter().enumerate() {
            assert!(ports.iter().all(|port| lcore_of(&parts[lcore], *port) == lcore), "lcore {lcore}: {ports:?}");
        }
        let strays =
            |lcore: u16| (0..30).filter(|n| lcore_of(&parts[0], 1000 + 100 * lcore + n) != usize::from(lcore)).count();
        for (lcore, counters) in (0..).zip(&counters) {
            assert_eq!(counters.packets_foreign.get(), strays(lcore) as u64);
            assert_eq!((counters.frames_handed_over.get(), counters.drops_total()), (strays(lcore) as u64, 0));
        }
    }

    #[tokio::test]
    async fn an_lcore_without_a_queue_pair_is_served_by_another() {
        let (mut parts, mut far, _) = parts(2, 1);
        let port = (1000..).find(|port| lcore_of(&parts[0], *port) == 1).unwrap();
        send(&mut far[0], [segment(port)]);
        assert!(receive(&mut parts[0]).is_empty());
        assert_eq!(receive(&mut parts[1]).iter().map(port_of).collect::<Vec<_>>(), [port]);
        let mut burst = FrameVec::new(BURST);
        burst.push(segment(7));
        parts[1].tx_burst(&mut burst);
        assert!(burst.is_empty() && receive(&mut far[0]).is_empty());
        receive(&mut parts[0]);
        assert_eq!(receive(&mut far[0]).iter().map(port_of).collect::<Vec<_>>(), [7]);
        assert!(receive(&mut far[1]).is_empty());
    }

    #[tokio::test]
    async fn news_of_neighbours_is_for_all_and_one_answers() {
        let (mut parts, mut far, counters) = parts(3, 3);
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        send(&mut far[1], [Frame::from(arp)]);
        let got: Vec<_> = [1, 0, 2].map(|lcore: usize| receive(&mut parts[lcore])).into();
        assert!(got.iter().all(|frames| frames.len() == 1));
        assert_eq!(got.iter().map(|frames| frames[0].is_overheard()).collect::<Vec<_>>(), [false, true, true]);
        assert!(counters.iter().all(|counters| counters.packets_foreign.get() == 0));
    }

    #[tokio::test]
    async fn a_ring_that_is_full_costs_frames_and_they_are_counted() {
        let (mut parts, mut far, counters) = parts(2, 2);
        let ports: Vec<_> = (1000..).filter(|port| lcore_of(&parts[0], *port) == 1).take(BURST).collect();
        let bursts = HANDOVER_FRAMES_MAX / BURST + 2;
        for _ in 0..bursts {
            send(&mut far[0], ports.iter().map(|port| segment(*port)));
            assert!(receive(&mut parts[0]).is_empty());
        }
        assert_eq!(counters[0].frames_handed_over.get(), HANDOVER_FRAMES_MAX as u64);
        assert_eq!(counters[0].drops(DropReason::HandoverFull), 2 * BURST as u64);
        assert_eq!(counters[0].packets_foreign.get(), (bursts * BURST) as u64);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_another_gives() {
        let (mut parts, mut far, _) = parts(2, 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(parts[1].poll_mail(&mut cx).is_pending());
        let port = (1000..).find(|port| lcore_of(&parts[0], *port) == 1).unwrap();
        send(&mut far[0], [segment(port)]);
        receive(&mut parts[0]);
        assert!(parts[1].poll_mail(&mut cx).is_ready());
        assert_eq!(receive(&mut parts[1]).len(), 1);
        assert!(parts[1].poll_mail(&mut cx).is_pending(), "the bell was heard");
    }
}
