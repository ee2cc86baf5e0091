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

    /// Leaves the checksums of a TCP segment to the port.
    pub fn offload_checksums(&mut self, offload: bool) {
        self.raw.flags = if offload { sys::FLAG_TX_CSUM } else { 0 };
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the mbuf is ours, and its pool lives as long as one of its mbufs is out (`Pool` in mod.rs).
        unsafe { sys::fg_free_bulk(&mut self.raw.mbuf, 1) };
    }
}
