//! The exception path: what the gateway does not own goes from the port to Linux, and what Linux sends leaves by the port.
//!
//! The port has a twin in the kernel, a TAP interface with the same addresses. Whatever is known to be ours never gets there: flows, listeners,
//! sockets, echo requests, questions about our addresses. News of neighbours is for both.
//!
//! **Invariant:** a frame is handled by one of the two, but for news; a burst is held for no longer than a turn; and both directions are bounded
//! by `exception_frames_per_second_max`.

use std::convert::Infallible;
use std::task::{Context, Poll, ready};

use ferrogate_core::config::dataplane::{Exception, Foreign};
use smoltcp::time::Instant;

use super::Stack;
use super::packet::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, ETHERNET_BYTES};
use super::rate::Rate;
use crate::counters::DropReason;
use crate::frame::{BURST, Frame, FrameVec};
use crate::queue::PacketQueue;

/// A port's other self in the kernel.
pub(super) struct Twin {
    queue: Box<dyn PacketQueue>,
    policy: Exception,
    /// For Linux, of this turn.
    out: FrameVec,
    /// Of Linux. Empty between two bursts, kept for its memory.
    came: FrameVec,
    sent: Rate,
    received: Rate,
}

impl Stack {
    /// Has Linux get, by `queue`, what `policy` wants of what is not ours.
    pub fn add_twin(&mut self, queue: Box<dyn PacketQueue>, policy: Exception) {
        let (out, came) = (FrameVec::new(BURST), FrameVec::new(BURST));
        self.twin = Some(Box::new(Twin { queue, policy, out, came, sent: Rate::default(), received: Rate::default() }));
    }

    /// Sends what Linux sends, a burst in each turn. Never ready; `cx` is woken by the next frame.
    ///
    /// A stack without a twin wakes nobody.
    pub fn poll_twin(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Infallible> {
        let Some(twin) = &mut self.twin else { return Poll::Pending };
        ready!(twin.queue.poll_rx(cx));
        twin.queue.rx_burst(&mut twin.came);
        let frames = twin.came.len();
        for frame in twin.came.take_front(frames) {
            if twin.received.take(self.config.limits.exception_frames_per_second_max, now) {
                self.nic.counters.exceptions_received.add(1);
                self.nic.send_copy(frame.bytes());
            } else {
                self.nic.counters.drop_frame(DropReason::ExceptionRate);
            }
        }
        self.nic.flush();
        // After a burst it is the flows' turn. Where nothing came, it was not ready after all.
        if frames > 0 || twin.queue.poll_rx(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Drops a frame that is not ours, unless Linux takes it.
    pub(super) fn reject(&mut self, frame: Frame, reason: DropReason) {
        let is_foreign = match reason {
            // To a group: LLDP, VRRP, OSPF, DHCP's answer to all. What is for one other station is not Linux's either.
            DropReason::OtherMac => frame.bytes().first().is_some_and(|first| first & 1 == 1),
            DropReason::EtherType
            | DropReason::OtherAddress
            | DropReason::Fragment
            | DropReason::Protocol
            | DropReason::Extension
            | DropReason::Arp
            | DropReason::Nd => true,
            _ => false,
        };
        if !is_foreign || self.hand_over(frame).is_some() {
            self.nic.counters.drop_frame(reason);
        }
    }

    /// Shows Linux a frame that has told us something.
    pub(super) fn share(&mut self, frame: Frame) {
        // What it does not want was of use here. Linux has it from where it came in.
        if !frame.is_overheard() {
            drop(self.hand_over(frame));
        }
    }

    /// The same of a neighbour's news, and whether it was any to us. A question about an address of ours is answered here alone.
    pub(super) fn share_news(&mut self, frame: Frame, told: Result<(), DropReason>, is_ours: bool) {
        match told {
            Ok(()) if is_ours => {}
            Ok(()) => self.share(frame),
            Err(reason) if is_ours => self.nic.counters.drop_frame(reason),
            Err(reason) => self.reject(frame, reason),
        }
    }

    /// Offers a frame to Linux. Answers it when it is not taken.
    pub(super) fn hand_over(&mut self, frame: Frame) -> Option<Frame> {
        let Some(twin) = &mut self.twin else { return Some(frame) };
        if !wants(&twin.policy, frame.bytes()) {
            return Some(frame);
        }
        if !twin.sent.take(self.config.limits.exception_frames_per_second_max, self.now) {
            self.nic.counters.drop_frame(DropReason::ExceptionRate);
            return None;
        }
        twin.out.push(frame);
        if twin.out.room() == 0 {
            self.flush_twin();
        }
        None
    }

    /// Hands Linux the frames of this turn.
    pub(super) fn flush_twin(&mut self) {
        let Some(twin) = &mut self.twin else { return };
        let frames = twin.out.len();
        if frames == 0 {
            return;
        }
        twin.queue.tx_burst(&mut twin.out);
        let left = twin.out.len();
        twin.out.take_front(left).for_each(drop);
        if left > 0 {
            // Whoever has begun with those is to know that they are gone.
            twin.queue.tx_burst(&mut twin.out);
        }
        self.nic.counters.exceptions_sent.add((frames - left) as u64);
        self.nic.counters.drop_frames(DropReason::ExceptionFull, left as u64);
    }
}

/// Whether Linux is to have this frame.
fn wants(policy: &Exception, frame: &[u8]) -> bool {
    let (kind, port) = kind_of(frame);
    let ports: &[(u16, u16)] = match kind {
        Foreign::Tcp => &policy.tcp_ports,
        Foreign::Udp => &policy.udp_ports,
        _ => &[],
    };
    let is_named = |port| ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
    policy.protocols.contains(&kind) && (ports.is_empty() || port.is_some_and(is_named))
}

/// What a frame is, and the port that it goes to where it has one.
fn kind_of(frame: &[u8]) -> (Foreign, Option<u16>) {
    let Some(packet) = frame.get(ETHERNET_BYTES..) else { return (Foreign::Ethernet, None) };
    let (protocol, payload) = match &frame[12..ETHERNET_BYTES] {
        ETHER_ARP => return (Foreign::Arp, None),
        ETHER_IPV4 => match packet.first_chunk::<20>() {
            // The later fragments of a packet have no ports.
            Some(head) if u16::from_be_bytes([head[6], head[7]]) & OFFSET == 0 => {
                (head[9], packet.get(usize::from(head[0] & 15) * 4..))
            }
            _ => return (Foreign::Ip, None),
        },
        ETHER_IPV6 => match packet.get(6) {
            Some(next) => (*next, packet.get(40..)),
            None => return (Foreign::Ip, None),
        },
        _ => return (Foreign::Ethernet, None),
    };
    let port = || payload?.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]]));
    match protocol {
        ICMP | ICMPV6 => (Foreign::Icmp, None),
        TCP => (Foreign::Tcp, port()),
        UDP => (Foreign::Udp, port()),
        _ => (Foreign::Ip, None),
    }
}

/// The bits of an IPv4 header that say where a fragment belongs.
const OFFSET: u16 = 0x1fff;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
