//! Where frames come from and go to: a queue pair of a DPDK port, a TAP interface, or a simulated wire.
//!
//! **Invariant:** no call blocks, and a frame that is not taken stays with the caller.

pub mod shared;
pub mod tap;
pub mod trunk;
mod whose;
pub mod wire;

use std::task::{Context, Poll};

use crate::frame::{Frame, FrameVec};

/// A receive and a transmit queue, crossed once per burst.
pub trait PacketQueue {
    /// Adds the frames that have arrived to `into`, as many as it has room for.
    fn rx_burst(&mut self, into: &mut FrameVec);

    /// Sends frames from the front of `from`; what does not fit stays there.
    fn tx_burst(&mut self, from: &mut FrameVec);

    /// Fills `into` with empty frames, or leaves it when there are none.
    fn alloc_burst(&mut self, into: &mut FrameVec);

    /// Ready when [`rx_burst`](Self::rx_burst) may bring a frame. A port is polled and therefore always ready; a simulated wire wakes
    /// its poller, so that a paused clock can move on.
    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// The same for a poller that stops to poll: `cx` is woken by the next frame, until [`awake`](Self::awake). None: this queue can't do that.
    fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let _ = cx;
        None
    }

    /// It is polled again.
    fn awake(&mut self) {}

    /// Gives a frame that was made of received ones to the lcore that it belongs to, where several share a port: None. Otherwise it is this
    /// one's, and comes back.
    fn pass_on(&mut self, frame: Frame) -> Option<Frame> {
        Some(frame)
    }
}

impl<Q: PacketQueue + ?Sized> PacketQueue for Box<Q> {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        (**self).rx_burst(into);
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        (**self).tx_burst(from);
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        (**self).alloc_burst(into);
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_rx(cx)
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        (**self).wait(cx)
    }

    fn awake(&mut self) {
        (**self).awake();
    }

    fn pass_on(&mut self, frame: Frame) -> Option<Frame> {
        (**self).pass_on(frame)
    }
}
