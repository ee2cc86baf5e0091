//! The gateway's port: a switch that joins the wires to the other hosts.

use std::task::{Context, Poll};

use dataplane_dpdk::queue::PacketQueue;
use dataplane_dpdk::queue::wire::WireQueue;
use dataplane_dpdk::{BURST, Frame, FrameVec, Mac};

use crate::bug::Planted;

/// Wires side by side: a frame leaves on the wire of the host it is for, and on all when it is for all.
#[derive(Debug)]
pub struct Switch {
    ports: Vec<(Mac, WireQueue)>,
    planted: Planted,
    burst: FrameVec,
}

impl Switch {
    /// Each wire with the host at its far end; what the gateway sends passes the planted bug.
    pub fn new(ports: Vec<(Mac, WireQueue)>, planted: Planted) -> Self {
        Self { ports, planted, burst: FrameVec::new(BURST) }
    }
}

impl PacketQueue for Switch {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        for (_, wire) in &mut self.ports {
            wire.rx_burst(into);
        }
        // The other wire first in the next turn: a full burst must not starve it.
        self.ports.rotate_left(1);
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let frames = from.len();
        for mut frame in from.take_front(frames) {
            if !self.planted.pass(&mut frame) {
                continue;
            }
            let to = Mac(frame.bytes()[..6].try_into().expect("a frame has a header"));
            for (mac, wire) in self.ports.iter_mut().filter(|(mac, _)| to == *mac || to == Mac::BROADCAST) {
                debug_assert_ne!(*mac, Mac::BROADCAST);
                self.burst.push(copy(&frame));
                wire.tx_burst(&mut self.burst);
            }
        }
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.ports[0].1.alloc_burst(into);
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for (_, wire) in &mut self.ports {
            // Each of them must know whom to wake.
            if wire.poll_rx(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }
}

fn copy(frame: &Frame) -> Frame {
    let len = frame.bytes().len();
    let mut copy = Frame::heap(len);
    copy.set_len(len);
    copy.bytes_mut().copy_from_slice(frame.bytes());
    copy
}
