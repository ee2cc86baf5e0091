//! A stream that has become one side of a tunnel (RFC 9113, 8.5; RFC 8441), and its heads where the other side speaks HTTP/1.1.
//!
//! **Invariant:** the tunnel takes from the stream no more than its other side has room for, so that the windows of HTTP/2 are its
//! backpressure; a stream that is not ended in order is reset.

use std::io;
use std::task::{Context, Poll, ready};

use super::SharedMux;
use super::client::StreamLease;
use super::send::{Seen, Sent};
use crate::codec::http2::ErrorCode;
use crate::codec::websocket::{ACCEPT, ACCEPT_BYTES, WEBSOCKET};
use crate::message::{FieldId, HttpHead};
use crate::net::{Conn, ROOM_BYTES_MAX};
use crate::stream::tunnel::{Mouth, Passes};

/// A stream as a side of a tunnel.
pub struct StreamMouth {
    mux: SharedMux,
    stream: u32,
    /// What the peer is told when the tunnel breaks.
    broken: ErrorCode,
    /// Holds the stream, where it goes to an origin.
    _lease: Option<StreamLease>,
}

impl StreamMouth {
    /// That of a client. Whoever opened the stream closes it.
    pub(super) fn to_client(mux: SharedMux, stream: u32) -> Self {
        Self { mux, stream, broken: ErrorCode::ConnectError, _lease: None }
    }

    /// That of an origin.
    pub(super) fn to_origin(lease: StreamLease) -> Option<Self> {
        let (mux, stream) = (SharedMux::clone(&lease.conn.mux), lease.stream?);
        Some(Self { mux, stream, broken: ErrorCode::Cancel, _lease: Some(lease) })
    }

    /// Has the machine wake the tunnel when something happens on the stream.
    fn watch(&self, cx: &Context<'_>) {
        let mut mux = self.mux.borrow_mut();
        let Some(stream) = mux.store.get_mut(self.stream) else { return };
        match &mut stream.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// How much may be written now, at least a byte.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        self.watch(cx);
        match self.mux.borrow_mut().data_room(self.stream) {
            Some(0) => Poll::Pending,
            Some(room) => Poll::Ready(Ok(room)),
            None => Poll::Ready(Err(gone())),
        }
    }

    /// Writes the first of these bytes; how many.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.mux.borrow_mut().send_data(self.stream, bytes, false) {
            Sent::Bytes(sent) => Ok(sent),
            Sent::Wait => Ok(0),
            Sent::Gone => Err(gone()),
        }
    }

    /// Shows `put` what has come, up to `limit` bytes; how many of them it has taken. 0 is the end.
    fn poll_show(
        &self,
        cx: &mut Context<'_>,
        limit: usize,
        put: impl FnOnce(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.watch(cx);
        let taken = {
            let mux = self.mux.borrow();
            match mux.look_at_data(self.stream) {
                Seen::Data(bytes) => ready!(put(cx, &bytes[..bytes.len().min(limit)]))?,
                Seen::End => return Poll::Ready(Ok(0)),
                Seen::Broken => return Poll::Ready(Err(gone())),
                Seen::Wait => return Poll::Pending,
            }
        };
        self.mux.borrow_mut().passed(self.stream, taken);
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }
}

impl Mouth for StreamMouth {
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task of the connection writes it, in order.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.mux.borrow_mut().send_data(self.stream, &[], true) {
            Sent::Bytes(_) => Poll::Ready(Ok(())),
            Sent::Wait => Poll::Pending,
            Sent::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn abort(&mut self) {
        self.mux.borrow_mut().abort(self.stream, self.broken);
    }
}

impl<C: Conn> Passes<C> for StreamMouth {
    fn poll_pass(&mut self, to: &mut C, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        self.poll_show(cx, limit.min(ROOM_BYTES_MAX), |cx, bytes| {
            to.poll_write_with(cx, bytes.len(), |room| {
                room[..bytes.len()].copy_from_slice(bytes);
                (bytes.len(), bytes.len())
            })
        })
    }
}

impl Passes<Self> for StreamMouth {
    fn poll_pass(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        self.poll_show(cx, limit, |cx, bytes| {
            ready!(to.poll_room(cx))?;
            Poll::Ready(to.write(bytes))
        })
    }
}

impl<C: Conn> Passes<StreamMouth> for C {
    fn poll_pass(&mut self, to: &mut StreamMouth, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        // First of all: what there is no room for is not read.
        ready!(to.poll_room(cx))?;
        let read = self.poll_read_with(cx, 0, |bytes| {
            let written = if bytes.is_empty() { Ok(0) } else { to.write(&bytes[..bytes.len().min(limit)]) };
            (written.as_ref().copied().unwrap_or(0), written.map(|n| (n, bytes.is_empty())))
        });
        match ready!(read)?? {
            (0, false) => Poll::Pending,
            (passed, _) => Poll::Ready(Ok(passed)),
        }
    }
}

/// The 101 that a 2xx of HTTP/2 is to who asked for a WebSocket in HTTP/1.1.
pub(super) fn switching(head: &HttpHead, accept: &[u8; ACCEPT_BYTES]) -> HttpHead {
    let mut switching = restated(head, 101);
    switching.append("upgrade", WEBSOCKET);
    switching.append(ACCEPT, accept);
    switching
}

/// The 200 that a 101 of HTTP/1.1 is in HTTP/2.
pub(super) fn connected(head: &HttpHead) -> HttpHead {
    restated(head, 200)
}

/// The fields of `head` that belong to no connection and no handshake, under another status.
fn restated(head: &HttpHead, status: u16) -> HttpHead {
    let mut restated = HttpHead::response(status);
    for (id, name, value) in head.fields() {
        let stays = matches!(id, FieldId::Other | FieldId::Date | FieldId::Server | FieldId::RequestId)
            && !name.eq_ignore_ascii_case(ACCEPT.as_bytes());
        if stays && let Ok(name) = std::str::from_utf8(name) {
            restated.append(name, value);
        }
    }
    restated
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
