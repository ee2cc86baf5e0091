//! An mbuf and its one owner.
//!
//! **Invariant:** the raw pointers stay in this folder, and an `Mbuf` is freed exactly once: by its drop, or by the port that sent it.

use std::slice;

use dpdk_sys as sys;

use crate::frame::Checksum;

/// The packet buffer of a port. It lives no longer than its memory pool: a pool that still has one out is never freed.
#[derive(Debug)]
pub struct Mbuf {
    raw: sys::Frame,
}

// SAFETY: nothing of an mbuf belongs to a thread. Its owner alone reaches what the pointers show, and DPDK takes it back on any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over what the shim described.
    ///
    /// # Safety
    /// `raw` comes from `fg_rx_burst` or `fg_alloc_bulk`, and nobody else owns its mbuf.
    pub(super) unsafe fn from_raw(raw: sys::Frame) -> Self {
        Self { raw }
    }

    /// The description, to be given to the port. The mbuf stays ours until [`forget`](Self::forget).
    pub(super) fn raw(&self) -> sys::Frame {
        self.raw
    }

    /// The port has taken the mbuf.
    pub(super) fn forget(self) {
        std::mem::forget(self);
    }

    /// The bytes of the frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the shim says that `len` <= `room` bytes at `data` are the mbuf's, and the mbuf is ours until drop.
        unsafe { slice::from_raw_parts(self.raw.data, usize::from(self.raw.len)) }
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes us the only one.
        unsafe { slice::from_raw_parts_mut(self.raw.data, usize::from(self.raw.len)) }
    }

    /// Sets the length, at most [`room`](Self::room).
    ///
    /// # Panics
    /// When `len` is more than the room.
    pub fn set_len(&mut self, len: usize) {
        let len = u16::try_from(len).ok().filter(|&len| len <= self.raw.room);
        self.raw.len = len.expect("a frame never outgrows its buffer");
    }

    /// Bytes that it can hold.
    #[must_use]
    pub fn room(&self) -> usize {
        usize::from(self.raw.room)
    }

    /// What the port found out about the checksums.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        match self.raw.flags {
            f if f & sys::FLAG_CSUM_BAD != 0 => Checksum::Bad,
            f if f & sys::FLAG_CSUM_GOOD != 0 => Checksum::Good,
            _ => Checksum::Unknown,
        }
    }

    /// Whether the frame goes on in further mbufs.
    #[must_use]
    pub fn is_segmented(&self) -> bool {
        self.raw.flags & sys::FLAG_SEGMENTED != 0
    }

    /// All of a frame that goes on in further mbufs. None: it is longer than any packet.
    #[must_use]
    pub fn gathered(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; FRAME_BYTES_MAX];
        let room = u32::try_from(bytes.len()).expect("a frame's length");
        // SAFETY: the mbuf is ours and so are those that it goes on in; the shim writes no more than `room` bytes.
        let len = unsafe { sys::fg_gather(self.raw.mbuf, bytes.as_mut_ptr(), room) };
        bytes.truncate(usize::try_from(len).expect("no more than the room"));
        (len > 0).then_some(bytes)
    }

    /// Leaves the checksums of a TCP segment to the port.
    pub fn offload_checksums(&mut self, offload: bool) {
        self.raw.flags = if offload { sys::FLAG_TX_CSUM } else { 0 };
    }

    /// The tag that the port took off, or is to put on.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        (self.raw.flags & sys::FLAG_VLAN != 0).then_some(self.raw.vlan)
    }

    /// Has the port put this tag on; None: no tag.
    pub fn set_vlan(&mut self, tag: Option<u16>) {
        let flag = if tag.is_some() { sys::FLAG_VLAN } else { 0 };
        (self.raw.flags, self.raw.vlan) = (self.raw.flags & !sys::FLAG_VLAN | flag, tag.unwrap_or_default());
    }

    /// Begins the frame so many bytes later.
    ///
    /// # Panics
    /// When it is not so long.
    pub fn move_in(&mut self, bytes: u16) {
        let raw = &mut self.raw;
        raw.len = raw.len.checked_sub(bytes).expect("no more than the frame has");
        // SAFETY: `len` was at least `bytes`, and so many bytes at `data` are the mbuf's.
        raw.data = unsafe { raw.data.add(usize::from(bytes)) };
        (raw.room, raw.head) = (raw.room - bytes, raw.head + bytes);
    }

    /// Begins the frame so many bytes earlier; false: there is no room in front of it.
    pub fn move_out(&mut self, bytes: u16) -> bool {
        let raw = &mut self.raw;
        let Some(head) = raw.head.checked_sub(bytes) else { return false };
        // SAFETY: `head` bytes in front of `data` are the mbuf's, and these are no more.
        raw.data = unsafe { raw.data.sub(usize::from(bytes)) };
        (raw.head, raw.len, raw.room) = (head, raw.len + bytes, raw.room + bytes);
        true
    }
}

/// An IP packet's longest, with Ethernet and a tag in front.
const FRAME_BYTES_MAX: usize = 65_535 + 18;

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the mbuf is ours, and its pool lives as long as one of its mbufs is out (`Pool` in mod.rs).
        unsafe { sys::fg_free_bulk(&mut self.raw.mbuf, 1) };
    }
}
