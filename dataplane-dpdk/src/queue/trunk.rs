//! The queue of a port on one lcore, split among the stacks of its VLANs (IEEE 802.1Q).
//!
//! Each VLAN has a stack of its own, which knows nothing of tags, and what comes untagged has one. A tag is taken off here, or by the port; it is put
//! on here, or by the port. A tag that says priority alone (VLAN 0) is none.
//!
//! **Invariant:** a frame gets to the stack of its tag and to no other. One of a VLAN that the port is not in keeps its tag, so that nobody takes it
//! for an untagged one; and nothing leaves a VLAN's stack without its tag.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::PacketQueue;
use crate::frame::{BURST, Frame, FrameVec};

/// One stack's part in a port: of what comes untagged, or of a VLAN.
pub struct TrunkQueue {
    trunk: Rc<RefCell<Trunk>>,
    /// By the place of the lane. The first is the untagged one, and asks the port for all.
    lane: usize,
    /// Frames at the front of what is to be sent that have their tag already: the port did not take them.
    tagged: usize,
}

struct Trunk {
    queue: Box<dyn PacketQueue>,
    /// Whether the port puts tags on.
    inserts: bool,
    lanes: Vec<Lane>,
    /// Empty between two bursts, kept for its memory.
    burst: FrameVec,
}

struct Lane {
    /// 0: untagged.
    vlan: u16,
    came: FrameVec,
}

/// Splits a queue: what is untagged, and these VLANs, in this order. `inserts`: the port puts tags on.
#[must_use]
pub fn split(queue: Box<dyn PacketQueue>, vlans: &[u16], inserts: bool) -> Vec<TrunkQueue> {
    let lane = |vlan| Lane { vlan, came: FrameVec::new(BURST) };
    let lanes: Vec<_> = [0].iter().chain(vlans).copied().map(lane).collect();
    let count = lanes.len();
    let trunk = Rc::new(RefCell::new(Trunk { queue, inserts, lanes, burst: FrameVec::new(BURST) }));
    (0..count).map(|lane| TrunkQueue { trunk: Rc::clone(&trunk), lane, tagged: 0 }).collect()
}

impl Trunk {
    /// Takes a burst and sorts it, once all of the one before is taken.
    fn receive(&mut self) {
        if self.lanes.iter().any(|lane| !lane.came.is_empty()) {
            return;
        }
        self.queue.rx_burst(&mut self.burst);
        let count = self.burst.len();
        for frame in self.burst.take_front(count) {
            if let Some((lane, frame)) = sort(&self.lanes, frame) {
                self.lanes[lane].came.push(frame);
            }
        }
    }
}

/// Whose frame it is; its tag is off then, unless it is nobody's. None: it can't be kept apart from others, and is lost.
fn sort(lanes: &[Lane], frame: Frame) -> Option<(usize, Frame)> {
    let mut frame = if frame.is_segmented() { frame.joined()? } else { frame };
    let stripped = frame.vlan();
    let Some(tag) = stripped.or_else(|| frame.tag()) else { return Some((0, frame)) };
    let lane = lanes.iter().position(|lane| lane.vlan == tag & VLAN_BITS);
    frame.set_vlan(None);
    match (lane, stripped) {
        (Some(_), None) => frame.take_tag_off(),
        (None, Some(tag)) if !frame.put_tag_on(tag) => return None,
        _ => {}
    }
    Some((lane.unwrap_or(0), frame))
}

impl PacketQueue for TrunkQueue {
    fn rx_burst(&mut self, into: &mut FrameVec) {
        let mut trunk = self.trunk.borrow_mut();
        if self.lane == 0 {
            trunk.receive();
        }
        let came = &mut trunk.lanes[self.lane].came;
        let count = came.len().min(into.room());
        came.take_front(count).for_each(|frame| into.push(frame));
    }

    fn tx_burst(&mut self, from: &mut FrameVec) {
        let mut trunk = self.trunk.borrow_mut();
        let (vlan, inserts) = (trunk.lanes[self.lane].vlan, trunk.inserts);
        if vlan != 0 {
            from.retain_from(self.tagged, |frame| {
                if inserts {
                    frame.set_vlan(Some(vlan));
                }
                inserts || frame.put_tag_on(vlan)
            });
        }
        trunk.queue.tx_burst(from);
        self.tagged = from.len();
    }

    fn alloc_burst(&mut self, into: &mut FrameVec) {
        self.trunk.borrow_mut().queue.alloc_burst(into);
    }

    fn poll_rx(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut trunk = self.trunk.borrow_mut();
        if trunk.lanes[self.lane].came.is_empty() { trunk.queue.poll_rx(cx) } else { Poll::Ready(()) }
    }

    /// The first waits for all.
    fn wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let mut trunk = self.trunk.borrow_mut();
        let own = if self.lane == 0 { trunk.queue.wait(cx)? } else { Poll::Pending };
        Some(if trunk.lanes[self.lane].came.is_empty() { own } else { Poll::Ready(()) })
    }

    fn awake(&mut self) {
        if self.lane == 0 {
            self.trunk.borrow_mut().queue.awake();
        }
    }

    fn pass_on(&mut self, mut frame: Frame) -> Option<Frame> {
        let mut trunk = self.trunk.borrow_mut();
        let vlan = trunk.lanes[self.lane].vlan;
        // The other lcore's part of the trunk has to know where it belongs.
        frame.set_vlan(Some(vlan).filter(|vlan| *vlan != 0));
        let mut frame = trunk.queue.pass_on(frame)?;
        frame.set_vlan(None);
        Some(frame)
    }
}

impl std::fmt::Debug for TrunkQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrunkQueue").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// The number of the VLAN in a tag, beside the frame's priority.
const VLAN_BITS: u16 = 0x0fff;

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that takes so many frames at a time.
    #[derive(Default)]
    struct Port {
        come: Vec<Frame>,
        sent: Vec<Frame>,
        takes: usize,
    }

    impl PacketQueue for Rc<RefCell<Port>> {
        fn rx_burst(&mut self, into: &mut FrameVec) {
            self.borrow_mut().come.drain(..).for_each(|frame| into.push(frame));
        }

        fn tx_burst(&mut self, from: &mut FrameVec) {
            let mut port = self.borrow_mut();
            let count = from.len().min(port.takes);
            port.sent.extend(from.take_front(count));
        }

        fn alloc_burst(&mut self, _into: &mut FrameVec) {}
    }

    /// With VLANs 100 and 200.
    fn trunk(inserts: bool, takes: usize) -> (Vec<TrunkQueue>, Rc<RefCell<Port>>) {
        let port = Rc::new(RefCell::new(Port { takes, ..Port::default() }));
        (split(Box::new(Rc::clone(&port)), &[100, 200], inserts), port)
    }

    fn frame(tag: Option<u16>, mark: u8) -> Frame {
        let tag = tag.map(|tag| [[0x81, 0], tag.to_be_bytes()].concat()).unwrap_or_default();
        [&[2; 12][..], &tag[..], &[8, 0, mark], &[0; 60]].concat().into()
    }

    /// One whose tag the port has taken off, or is to put on.
    fn stripped(tag: u16, mark: u8) -> Frame {
        let mut frame = frame(None, mark);
        frame.set_vlan(Some(tag));
        frame
    }

    fn burst(frames: impl IntoIterator<Item = Frame>) -> FrameVec {
        let mut burst = FrameVec::new(BURST);
        frames.into_iter().for_each(|frame| burst.push(frame));
        burst
    }

    #[test]
    fn a_frame_gets_to_the_stack_of_its_tag() {
        let (mut lanes, port) = trunk(false, BURST);
        port.borrow_mut().come = vec![
            frame(None, 1),
            frame(Some(100), 2),
            frame(Some(0x6000 | 200), 3),
            frame(Some(0x6000), 4),
            frame(Some(300), 5),
            stripped(100, 6),
            stripped(300, 7),
            stripped(0, 8),
        ];
        let got = [0, 1, 2].map(|lane: usize| {
            let mut got = burst([]);
            lanes[lane].rx_burst(&mut got);
            assert!(got.as_slice().iter().all(|frame| frame.vlan().is_none()));
            got.as_slice().iter().map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>()
        });
        let plain = |mark| frame(None, mark).bytes().to_vec();
        // A foreign tag is still there, whoever found it.
        let foreign = |mark| frame(Some(300), mark).bytes().to_vec();
        assert_eq!(got[0], [plain(1), plain(4), foreign(5), foreign(7), plain(8)]);
        assert_eq!((&got[1], &got[2]), (&vec![plain(2), plain(6)], &vec![plain(3)]));
    }

    #[test]
    fn what_leaves_a_vlan_has_its_tag_once_however_long_it_waits() {
        for inserts in [false, true] {
            let (mut lanes, port) = trunk(inserts, 1);
            lanes[0].tx_burst(&mut burst([frame(None, 0)]));
            let mut waiting = burst((1..4).map(|mark| frame(None, mark)));
            lanes[1].tx_burst(&mut waiting);
            waiting.push(frame(None, 4));
            while !waiting.is_empty() {
                lanes[1].tx_burst(&mut waiting);
            }
            let sent = &port.borrow().sent;
            assert_eq!((sent.len(), sent[0].bytes(), sent[0].vlan()), (5, frame(None, 0).bytes(), None));
            for (mark, sent) in (1..).zip(&sent[1..]) {
                let tagged = if inserts { stripped(100, mark) } else { frame(Some(100), mark) };
                assert_eq!((sent.bytes(), sent.vlan()), (tagged.bytes(), tagged.vlan()));
            }
        }
    }
}
