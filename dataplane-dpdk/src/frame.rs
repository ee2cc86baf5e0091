//! An owned packet buffer: an mbuf of a port, or plain memory of a simulated wire. And a burst of them.
//!
//! **Invariant:** a frame is owned by exactly one place, and goes back to where it came from when dropped.

use crate::port::Mbuf;

/// Frames of one burst, at most.
pub const BURST: usize = 32;

/// One Ethernet frame.
#[derive(Debug)]
pub struct Frame(Buffer);

impl Frame {
    /// An empty frame in plain memory with room for `room` bytes.
    #[must_use]
    pub fn heap(room: usize) -> Self {
        Self(Buffer::Heap(Heap { bytes: vec![0; room].into(), len: 0, ..Heap::default() }))
    }

    /// The bytes, from the Ethernet header on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Buffer::Mbuf(m) => m.bytes(),
            Buffer::Heap(h) => &h.bytes[..h.len],
        }
    }

    /// The bytes, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Buffer::Mbuf(m) => m.bytes_mut(),
            Buffer::Heap(h) => &mut h.bytes[..h.len],
        }
    }

    /// Sets the length, at most [`room`](Self::room). New bytes hold what was there before.
    ///
    /// # Panics
    /// When `len` is more than the room.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.room(), "a frame never outgrows its buffer");
        match &mut self.0 {
            Buffer::Mbuf(m) => m.set_len(len),
            Buffer::Heap(h) => h.len = len,
        }
    }

    /// Bytes that the frame can hold.
    #[must_use]
    pub fn room(&self) -> usize {
        match &self.0 {
            Buffer::Mbuf(m) => m.room(),
            Buffer::Heap(h) => h.bytes.len(),
        }
    }

    /// What the port found out about the checksums of a received frame.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        match &self.0 {
            Buffer::Mbuf(m) => m.checksum(),
            Buffer::Heap(h) => h.checksum,
        }
    }

    /// Whether a received frame goes on in further mbufs, so that [`bytes`](Self::bytes) shows its start only.
    #[must_use]
    pub fn is_segmented(&self) -> bool {
        match &self.0 {
            Buffer::Mbuf(m) => m.is_segmented(),
            Buffer::Heap(_) => false,
        }
    }

    /// A received frame that goes on in further mbufs, in one piece. None: it is longer than any packet.
    #[must_use]
    pub fn joined(&self) -> Option<Self> {
        let bytes: Box<[u8]> = match &self.0 {
            Buffer::Mbuf(m) => m.gathered()?.into(),
            Buffer::Heap(h) => h.bytes[..h.len].into(),
        };
        let (checksum, vlan) = (self.checksum(), self.vlan());
        Some(Self(Buffer::Heap(Heap { len: bytes.len(), bytes, checksum, vlan, joined: true, ..Heap::default() })))
    }

    /// Whether it was put together from several mbufs: it is in no memory of the port's, and can't be sent as it is.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        match &self.0 {
            Buffer::Mbuf(_) => false,
            Buffer::Heap(h) => h.joined,
        }
    }

    /// The VLAN tag that the port took off a received frame, or is to put on.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        match &self.0 {
            Buffer::Mbuf(m) => m.vlan(),
            Buffer::Heap(h) => h.vlan,
        }
    }

    /// Has the port put this tag on; None: no tag, or the one that the frame has in it.
    pub fn set_vlan(&mut self, tag: Option<u16>) {
        match &mut self.0 {
            Buffer::Mbuf(m) => m.set_vlan(tag),
            Buffer::Heap(h) => h.vlan = tag,
        }
    }

    /// The VLAN tag in the frame.
    #[must_use]
    pub fn tag(&self) -> Option<u16> {
        let [kind @ .., high, low] = *self.bytes().get(TAG_AT..)?.first_chunk::<4>()?;
        (kind == TAG_KIND).then(|| u16::from_be_bytes([high, low]))
    }

    /// Takes the tag out that is in the frame.
    ///
    /// # Panics
    /// When there is none.
    pub fn take_tag_off(&mut self) {
        assert!(self.tag().is_some(), "a tag was found");
        match &mut self.0 {
            Buffer::Mbuf(m) => {
                m.bytes_mut().copy_within(..TAG_AT, TAG_BYTES);
                m.move_in(4);
            }
            Buffer::Heap(h) => {
                h.bytes.copy_within(TAG_AT + TAG_BYTES..h.len, TAG_AT);
                h.len -= TAG_BYTES;
            }
        }
    }

    /// Puts a tag into the frame. False: there is no room for it.
    ///
    /// # Panics
    /// When there are no Ethernet addresses.
    #[must_use]
    pub fn put_tag_on(&mut self, tag: u16) -> bool {
        let has_moved = match &mut self.0 {
            Buffer::Mbuf(m) => m.move_out(4),
            Buffer::Heap(_) => false,
        };
        if has_moved {
            self.bytes_mut().copy_within(TAG_BYTES..TAG_BYTES + TAG_AT, 0);
        } else {
            let len = self.bytes().len();
            if len + TAG_BYTES > self.room() {
                let Buffer::Heap(h) = &mut self.0 else { return false };
                h.bytes = [&h.bytes[..len], &[0; TAG_BYTES][..]].concat().into();
            }
            self.set_len(len + TAG_BYTES);
            self.bytes_mut().copy_within(TAG_AT..len, TAG_AT + TAG_BYTES);
        }
        let place = &mut self.bytes_mut()[TAG_AT..TAG_AT + TAG_BYTES];
        place[..2].copy_from_slice(&TAG_KIND);
        place[2..].copy_from_slice(&tag.to_be_bytes());
        true
    }

    /// Leaves the IPv4 and TCP checksums of a frame to be sent to the port.
    pub fn offload_checksums(&mut self, offload: bool) {
        match &mut self.0 {
            Buffer::Mbuf(m) => m.offload_checksums(offload),
            Buffer::Heap(h) => h.offload = offload,
        }
    }

    /// A copy of a frame that came to another lcore, which answers it.
    #[must_use]
    pub fn overheard(frame: &Self) -> Self {
        let (bytes, vlan) = (frame.bytes(), frame.vlan());
        Self(Buffer::Heap(Heap { bytes: bytes.into(), len: bytes.len(), overheard: true, vlan, ..Heap::default() }))
    }

    /// Whether another lcore has got it too, and answers it.
    #[must_use]
    pub fn is_overheard(&self) -> bool {
        match &self.0 {
            Buffer::Mbuf(_) => false,
            Buffer::Heap(h) => h.overheard,
        }
    }

    /// Takes the frame apart: the mbuf inside, or `None` for plain memory.
    #[must_use]
    pub fn into_mbuf(self) -> Option<Mbuf> {
        match self.0 {
            Buffer::Mbuf(m) => Some(m),
            Buffer::Heap(_) => None,
        }
    }

    /// The mbuf inside; `None` for plain memory, which a port can't send.
    #[must_use]
    pub fn mbuf(&self) -> Option<&Mbuf> {
        match &self.0 {
            Buffer::Mbuf(m) => Some(m),
            Buffer::Heap(_) => None,
        }
    }
}

impl From<Vec<u8>> for Frame {
    /// A frame in plain memory, of these bytes.
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self(Buffer::Heap(Heap { bytes: bytes.into(), len, ..Heap::default() }))
    }
}

impl From<Mbuf> for Frame {
    fn from(mbuf: Mbuf) -> Self {
        Self(Buffer::Mbuf(mbuf))
    }
}

/// What a port says about the checksums of a frame it received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Not looked at: software has to.
    #[default]
    Unknown,
    /// IPv4 header and TCP segment are right.
    Good,
    /// One of them is wrong.
    Bad,
}

/// A burst of frames, first in first out.
#[derive(Debug)]
pub struct FrameVec {
    frames: Vec<Frame>,
    room: usize,
}

impl FrameVec {
    /// An empty burst that takes `room` frames and never grows.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { frames: Vec::with_capacity(room), room }
    }

    /// Adds a frame at the end.
    ///
    /// # Panics
    /// When there is no [`room`](Self::room).
    pub fn push(&mut self, frame: Frame) {
        assert!(self.room() > 0, "a burst never outgrows its array");
        self.frames.push(frame);
    }

    /// Takes the last frame.
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop()
    }

    /// Takes the first `n` frames out, in order.
    pub fn take_front(&mut self, n: usize) -> impl Iterator<Item = Frame> + '_ {
        self.frames.drain(..n)
    }

    /// Keeps of the frames from the `start`th on those of which `f` says so. It may change them.
    pub fn retain_from(&mut self, start: usize, mut f: impl FnMut(&mut Frame) -> bool) {
        let mut seen = 0;
        self.frames.retain_mut(|frame| {
            seen += 1;
            seen <= start || f(frame)
        });
    }

    /// The frames, first to last.
    #[must_use]
    pub fn as_slice(&self) -> &[Frame] {
        &self.frames
    }

    /// Frames that it can still take.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room - self.frames.len()
    }

    /// Frames in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[derive(Debug)]
enum Buffer {
    Mbuf(Mbuf),
    Heap(Heap),
}

#[derive(Debug, Default)]
struct Heap {
    bytes: Box<[u8]>,
    len: usize,
    checksum: Checksum,
    offload: bool,
    overheard: bool,
    joined: bool,
    vlan: Option<u16>,
}

/// Where the tag of a VLAN stands in a frame: behind the addresses.
const TAG_AT: usize = 12;
/// What it begins with, and its length.
const TAG_KIND: [u8; 2] = [0x81, 0];
const TAG_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_first_in_first_out_and_bounded() {
        let mut burst = FrameVec::new(3);
        for len in 1..=3 {
            let mut frame = Frame::heap(8);
            frame.set_len(len);
            burst.push(frame);
        }
        assert_eq!(burst.room(), 0);
        assert_eq!(burst.take_front(2).map(|f| f.bytes().len()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((burst.len(), burst.room()), (1, 2));
    }

    #[test]
    #[should_panic(expected = "never outgrows its buffer")]
    fn a_frame_is_bounded() {
        Frame::heap(8).set_len(9);
    }
}
