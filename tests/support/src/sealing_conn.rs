//! A connection in memory of a plane that seals and opens records itself, once it has a session's keys.
//!
//! **Invariant:** promises no more than [`Conn`] does; what is on the wire below is records, sealed by the [record layer](RecordLayer) here.

use std::io;
use std::task::{Context, Poll, ready};

use ferrogate_core::net::{Address, Conn, ROOM_BYTES_MAX};
use tls_offload::{SessionKeys, Suite};

use crate::memory_conn::MemoryConn;
use crate::record_layer::{ALERT, DATA, RecordLayer};

/// One end of a pair.
pub struct SealingConn {
    below: MemoryConn,
    suites: &'static [Suite],
    layer: Option<RecordLayer>,
    /// Records that came and are not opened.
    wire: Vec<u8>,
    /// Opened and left by the reader.
    unread: Vec<u8>,
    /// Records that are not on the wire.
    unsent: Vec<u8>,
    ended: bool,
    said_end: bool,
}

impl SealingConn {
    /// It seals records of these suites.
    #[must_use]
    pub fn new(below: MemoryConn, suites: &'static [Suite]) -> Self {
        let (wire, unread, unsent) = (Vec::new(), Vec::new(), Vec::new());
        Self { below, suites, layer: None, wire, unread, unsent, ended: false, said_end: false }
    }

    /// Opens what has come; waits for more.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { below, wire, .. } = self;
        let is_end = ready!(below.poll_read_with(cx, 0, |bytes| {
            wire.extend_from_slice(bytes);
            (bytes.len(), bytes.is_empty())
        }))?;
        if is_end {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let Some(layer) = &mut self.layer else { return Poll::Ready(Ok(())) };
        while let Some(opened) = layer.open(&mut self.wire) {
            match opened.kind {
                DATA => self.unread.extend_from_slice(opened.plain),
                _ => self.ended = true,
            }
            let len = opened.len;
            self.wire.drain(..len);
        }
        Poll::Ready(Ok(()))
    }

    /// Puts records on the wire.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let wish = self.unsent.len().min(ROOM_BYTES_MAX);
            let unsent = &self.unsent;
            let n = ready!(self.below.poll_write_with(cx, wish, |room| {
                let n = room.len().min(unsent.len());
                room[..n].copy_from_slice(&unsent[..n]);
                (n, n)
            }))?;
            self.unsent.drain(..n);
        }
        Poll::Ready(Ok(()))
    }
}

impl Conn for SealingConn {
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        if self.layer.is_none() {
            return self.below.poll_read_with(cx, known, f);
        }
        while self.unread.len() <= known && !self.ended {
            ready!(self.poll_more(cx))?;
        }
        let (used, result) = f(&self.unread);
        self.unread.drain(..used);
        Poll::Ready(Ok(result))
    }

    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        if self.layer.is_none() {
            return self.below.poll_write_with(cx, wish, f);
        }
        ready!(self.poll_push(cx))?;
        let mut room = vec![0; wish];
        let (written, result) = f(&mut room);
        if let Some(layer) = self.layer.as_mut().filter(|_| written > 0) {
            self.unsent.extend(layer.record(DATA, &room[..written]));
        }
        Poll::Ready(Ok(result))
    }

    fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let room = ready!(to.poll_write_with(cx, ROOM_BYTES_MAX, |room| (0, room.len())))?;
        let mut moved = ready!(self.poll_read_with(cx, 0, |bytes| {
            let n = bytes.len().min(limit).min(room);
            (n, bytes[..n].to_vec())
        }))?;
        let all = moved.len();
        while !moved.is_empty() {
            // There is room: it was asked for.
            let n = ready!(to.poll_write_with(cx, moved.len(), |room| {
                let n = room.len().min(moved.len());
                room[..n].copy_from_slice(&moved[..n]);
                (n, n)
            }))?;
            moved.drain(..n);
        }
        Poll::Ready(Ok(all))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        self.below.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(layer) = self.layer.as_mut().filter(|_| !self.said_end) {
            self.said_end = true;
            self.unsent.extend(layer.record(ALERT, &[1, 0]));
        }
        ready!(self.poll_push(cx))?;
        self.below.poll_shutdown(cx)
    }

    fn peer_addr(&self) -> &Address {
        self.below.peer_addr()
    }

    fn local_addr(&self) -> &Address {
        self.below.local_addr()
    }

    fn can_seal(&mut self, suite: Suite) -> bool {
        self.layer.is_none() && self.below.held_bytes() == 0 && self.suites.contains(&suite)
    }

    fn seal(&mut self, keys: SessionKeys) -> io::Result<()> {
        assert!(self.can_seal(keys.suite()), "keys for a connection that has bytes under way");
        self.layer = Some(RecordLayer::new(keys));
        Ok(())
    }

    fn abort(&mut self) {
        self.below.abort();
    }
}
