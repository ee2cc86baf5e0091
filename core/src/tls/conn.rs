//! The TLS connection: plaintext above, records below.
//!
//! **Invariant:** each direction holds a bounded amount: what one look opened, and [`UNSENT_BYTES_MAX`] to be sealed; beyond that it waits.

use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tls_offload::{
    PLAIN_ROOM_BYTES_MIN, PeerCertificate, RECORD_OVERHEAD_BYTES_MAX, Session, SessionInfo, Step, TlsError,
};

#[cfg(doc)]
use super::buffers::UNSENT_BYTES_MAX;
use super::buffers::{Scratch, Unsent};
use super::records::{Handed, Records};
use crate::net::{Address, Conn, ROOM_BYTES_MAX};

/// A connection with an established TLS session.
pub struct TlsConn<C: Conn> {
    conn: C,
    records: Records,
    /// The plane is to have the keys, as soon as it can.
    wants_plane: bool,
    /// Opened and left by the reader.
    unread: BytesMut,
    unsent: Unsent,
    /// Ciphertext below that is the beginning of a record.
    wire_known: usize,
    /// Something of the session's own may wait in the connection below for a flush.
    unflushed: bool,
    tickets: Tickets,
    reading: Reading,
    writing: Writing,
}

impl<C: Conn> TlsConn<C> {
    /// `hand_down`: the plane gets the session's keys, where it can do with them.
    pub(super) fn new(conn: C, session: Session, hand_down: bool) -> Self {
        let may_wait = !hand_down && session.has_output();
        Self {
            conn,
            records: Records::Ours(session),
            wants_plane: hand_down,
            unread: BytesMut::new(),
            unsent: Unsent::default(),
            wire_known: 0,
            unflushed: true,
            tickets: if may_wait { Tickets::Fresh } else { Tickets::Gone },
            reading: Reading::Open,
            writing: Writing::Open,
        }
    }

    pub(super) fn peer_certificate(&self) -> Option<PeerCertificate> {
        self.records.peer_certificate()
    }

    pub(super) fn info(&self) -> SessionInfo<'_> {
        self.records.info()
    }

    /// Bytes of memory it holds for data under way, ciphertext below not counted. 0 when it is idle.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.unread.capacity() + self.unsent.held_bytes() + self.records.held_bytes()
    }

    /// Whether the plane seals and opens the records.
    #[must_use]
    pub fn is_sealed_by_plane(&self) -> bool {
        self.records.are_planes()
    }

    /// The connection below, where its bytes are plaintext and nothing of them lies here.
    pub(super) fn bare(&mut self) -> Option<&mut C> {
        let is_bare = self.records.are_planes() && self.unread.is_empty() && self.writing != Writing::Aborted;
        is_bare.then_some(&mut self.conn)
    }

    /// Moves what `from` has to read into our send buffer. For [`Conn::poll_relay`].
    pub(super) fn poll_take_from(
        &mut self,
        from: &mut C,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        self.check_writing()?;
        if self.records.are_planes() {
            return from.poll_relay(&mut self.conn, cx, limit);
        }
        ready!(self.poll_room(cx, ROOM_BYTES_MAX))?;
        let unsent = &mut self.unsent;
        from.poll_read_with(cx, 0, |bytes| {
            let moved = unsent.fill(|room| {
                let moved = bytes.len().min(limit).min(room.len());
                room[..moved].copy_from_slice(&bytes[..moved]);
                (moved, moved)
            });
            (moved, moved)
        })
    }

    /// Moves what we have to read into `to`. For [`Conn::poll_relay`].
    pub(super) fn poll_relay_to<D: Conn>(
        &mut self,
        to: &mut D,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        self.check_aborted()?;
        if !self.unread.is_empty() {
            let moved = ready!(poll_put(to, cx, &self.unread, limit))?;
            self.unread_used(moved);
            return Poll::Ready(Ok(moved));
        }
        // Room first: nothing is read from a fast sender for a slow reader.
        let room = ready!(to.poll_write_with(cx, ROOM_BYTES_MAX, |room| (0, room.len())))?;
        let mut scratch = Scratch::take();
        let opened_max = room.clamp(PLAIN_ROOM_BYTES_MIN, scratch.len());
        let opened = ready!(self.poll_open(cx, &mut scratch[..opened_max]))?;
        if opened == 0 {
            return Poll::Ready(Ok(0));
        }
        let put = poll_put(to, cx, &scratch[..opened], limit);
        let moved = if let Poll::Ready(Ok(moved)) = put { moved } else { 0 };
        self.unread.extend_from_slice(&scratch[moved..opened]);
        put
    }

    /// Waits for plaintext and opens as much as fits into `plain`, which is at least [`PLAIN_ROOM_BYTES_MIN`]. 0 is the end.
    fn poll_open(&mut self, cx: &mut Context<'_>, plain: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            self.push_output(cx);
            self.hand_down();
            match &mut self.reading {
                Reading::Open => {}
                Reading::Ended => return Poll::Ready(Ok(0)),
                Reading::Failed { kind, error } => return Poll::Ready(Err(error.take().unwrap_or((*kind).into()))),
            }
            let Records::Ours(session) = &mut self.records else { return poll_copy(&mut self.conn, cx, plain) };
            let known = self.wire_known;
            let looked = self.conn.poll_read_with(cx, known, |wire| look(session, wire, known, plain));
            if looked.is_pending() && self.tickets == Tickets::Fresh {
                self.tickets = Tickets::Gone;
                self.push_output(cx);
            }
            let look = ready!(looked)?;
            self.wire_known = look.left;
            self.tickets = self.tickets.after(&look);
            match look.step {
                Some(Ok(Step::Closed)) => self.reading = Reading::Ended,
                // There may be whole records left: the next look must not wait.
                Some(Ok(Step::NeedsRoom)) => self.wire_known = 0,
                Some(Ok(Step::NeedsWire | Step::Done)) => {}
                Some(Err(error)) => self.reading = Reading::failed(read_error(error)),
                None => self.reading = Reading::failed(io::Error::new(io::ErrorKind::UnexpectedEof, Truncated)),
            }
            if look.opened > 0 {
                self.push_output(cx);
                self.hand_down();
                return Poll::Ready(Ok(look.opened));
            }
        }
    }

    /// Hands a key update, an alert or the end of the handshake to the plane. What it can't take now goes with the next look or write; a
    /// plane that takes no more does not keep us from reading.
    fn push_output(&mut self, cx: &mut Context<'_>) {
        let Records::Ours(session) = &mut self.records else { return };
        if self.tickets == Tickets::Gone && (self.unflushed || session.has_output()) {
            self.unflushed = drain_output(&mut self.conn, session, cx).is_pending();
        }
    }

    /// Lets the plane have the keys, if it is to have them and nothing is under way.
    fn hand_down(&mut self) {
        let is_quiet = !self.unflushed && self.unsent.is_empty() && self.writing == Writing::Open;
        if !(self.wants_plane && is_quiet && matches!(self.reading, Reading::Open)) {
            return;
        }
        match self.records.hand_down(&mut self.conn) {
            Ok(handed) => self.wants_plane = handed == Handed::NotYet,
            Err(error) => {
                self.wants_plane = false;
                self.reading = Reading::failed(error);
                self.writing = Writing::Aborted;
                self.conn.abort();
            }
        }
    }

    /// Shows the reader what it left, and keeps what it leaves now.
    fn show<R>(&mut self, f: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        let (used, result) = f(&self.unread);
        self.unread_used(used);
        result
    }

    fn unread_used(&mut self, used: usize) {
        self.unread.advance(used.min(self.unread.len()));
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
    }

    /// Waits until the send buffer has room.
    fn poll_room(&mut self, cx: &mut Context<'_>, wish: usize) -> Poll<io::Result<()>> {
        while !self.unsent.make_room(wish) {
            ready!(self.poll_seal(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Seals what waits, as much as the connection below has room for.
    fn poll_seal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { conn, records, unsent, .. } = self;
        let Some(session) = records.session() else { return Poll::Ready(Ok(())) };
        let wish = (unsent.bytes().len() + RECORD_OVERHEAD_BYTES_MAX).min(ROOM_BYTES_MAX);
        let (written, sealed) = ready!(conn.poll_write_with(cx, wish, |room| {
            let mut plain = unsent.bytes();
            match session.seal(&mut plain, room) {
                Ok(written) => (written, (written, Ok(unsent.bytes().len() - plain.len()))),
                Err(error) => (0, (0, Err(error))),
            }
        }))?;
        let sealed = sealed.map_err(|e| io::Error::new(io::ErrorKind::BrokenPipe, e))?;
        self.unsent.advance(sealed);
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_seal_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() || self.records.session().is_some_and(|session| session.has_output()) {
            ready!(self.poll_seal(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Seals what waits, and `close_notify` behind it, once.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tickets = Tickets::Gone;
        ready!(self.poll_seal_all(cx))?;
        if self.writing == Writing::Open {
            self.writing = Writing::Ended;
            if let Some(session) = self.records.session() {
                session.close_notify();
            }
        }
        self.poll_seal_all(cx)
    }

    fn check_aborted(&self) -> io::Result<()> {
        if self.writing == Writing::Aborted { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn check_writing(&self) -> io::Result<()> {
        match self.writing {
            Writing::Open => Ok(()),
            Writing::Ended => Err(io::ErrorKind::BrokenPipe.into()),
            Writing::Aborted => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl<C: Conn> Conn for TlsConn<C> {
    fn poll_read_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        known: usize,
        f: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        self.check_aborted()?;
        if let Some(conn) = self.bare() {
            return conn.poll_read_with(cx, known, f);
        }
        if self.unread.len() > known {
            return Poll::Ready(Ok(self.show(f)));
        }
        let mut scratch = Scratch::take();
        loop {
            let opened = ready!(self.poll_open(cx, &mut scratch))?;
            if self.unread.is_empty() && opened > known {
                let (used, result) = f(&scratch[..opened]);
                self.unread.extend_from_slice(&scratch[used.min(opened)..opened]);
                return Poll::Ready(Ok(result));
            }
            self.unread.extend_from_slice(&scratch[..opened]);
            if opened == 0 || self.unread.len() > known {
                return Poll::Ready(Ok(self.show(f)));
            }
        }
    }

    fn poll_write_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        wish: usize,
        f: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Poll<io::Result<R>> {
        self.check_writing()?;
        if self.records.are_planes() {
            return self.conn.poll_write_with(cx, wish, f);
        }
        ready!(self.poll_room(cx, wish.min(ROOM_BYTES_MAX)))?;
        Poll::Ready(Ok(self.unsent.fill(f)))
    }

    fn poll_relay(&mut self, to: &mut Self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        match (self.bare(), to.bare()) {
            (Some(from), Some(to)) => from.poll_relay(to, cx, limit),
            _ => self.poll_relay_to(to, cx, limit),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_aborted()?;
        self.tickets = Tickets::Gone;
        ready!(self.poll_seal_all(cx))?;
        ready!(self.conn.poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_flush_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.records.are_planes() {
            // It says `close_notify` with its end, which has to be waited for.
            return self.poll_shutdown(cx);
        }
        self.check_aborted()?;
        ready!(self.poll_end(cx))?;
        ready!(self.conn.poll_flush_last(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_aborted()?;
        ready!(self.poll_end(cx))?;
        self.conn.poll_shutdown(cx)
    }

    fn peer_addr(&self) -> &Address {
        self.conn.peer_addr()
    }

    fn local_addr(&self) -> &Address {
        self.conn.local_addr()
    }

    fn original_dst(&self) -> Option<Address> {
        self.conn.original_dst()
    }

    fn abort(&mut self) {
        self.writing = Writing::Aborted;
        self.unread = BytesMut::new();
        self.unsent.clear();
        self.conn.abort();
    }
}

impl<C: Conn> Drop for TlsConn<C> {
    /// Says `close_notify` if the plane takes it at once. Not with plaintext unsent: the peer would take what it got for all there is.
    fn drop(&mut self) {
        if self.writing != Writing::Open || !self.unsent.is_empty() {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match &mut self.records {
            Records::Ours(session) => {
                session.close_notify();
                let _ = drain_output(&mut self.conn, session, &mut cx);
            }
            Records::Planes(_) => {
                if let Poll::Ready(Ok(())) = self.conn.poll_flush(&mut cx) {
                    let _ = self.conn.poll_shutdown(&mut cx);
                }
            }
        }
    }
}

/// Hands what the session wants to say by itself to the plane.
pub(super) fn drain_output<C: Conn>(conn: &mut C, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while session.has_output() {
        ready!(conn.poll_write_with(cx, RECORD_OVERHEAD_BYTES_MAX, |mut room| {
            let before = room.len();
            session.drain(&mut room);
            (before - room.len(), ())
        }))?;
    }
    conn.poll_flush(cx)
}

/// Opens what is readable. `known` bytes of it were seen before.
fn look(session: &mut Session, wire: &[u8], known: usize, plain: &mut [u8]) -> (usize, Look) {
    if wire.len() <= known {
        return (0, Look { step: None, opened: 0, left: wire.len() });
    }
    let room_bytes = plain.len();
    let (mut rest, mut room) = (wire, plain);
    let step = session.open(&mut rest, &mut room);
    (wire.len() - rest.len(), Look { step: Some(step), opened: room_bytes - room.len(), left: rest.len() })
}

/// Copies what a connection has to read, as much as there is room for. 0 is the end.
fn poll_copy<C: Conn>(conn: &mut C, cx: &mut Context<'_>, plain: &mut [u8]) -> Poll<io::Result<usize>> {
    conn.poll_read_with(cx, 0, |bytes| {
        let len = bytes.len().min(plain.len());
        plain[..len].copy_from_slice(&bytes[..len]);
        (len, len)
    })
}

/// Copies up to `limit` bytes to a connection.
fn poll_put<D: Conn>(to: &mut D, cx: &mut Context<'_>, bytes: &[u8], limit: usize) -> Poll<io::Result<usize>> {
    let bytes = &bytes[..bytes.len().min(limit)];
    to.poll_write_with(cx, bytes.len().min(ROOM_BYTES_MAX), |room| {
        let moved = bytes.len().min(room.len());
        room[..moved].copy_from_slice(&bytes[..moved]);
        (moved, moved)
    })
}

fn read_error(error: TlsError) -> io::Error {
    let kind = match error {
        TlsError::Alert(_) => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

/// What one look at the wire gave.
struct Look {
    /// None: the peer ended its stream.
    step: Option<Result<Step, TlsError>>,
    opened: usize,
    left: usize,
}

/// Where the tickets are that a server's session has made at the end of its handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tickets {
    /// In the session: the client's first request may have come with the end of its handshake.
    Fresh,
    /// They wait for what is written next. Once only: what a session says later never waits, or a peer could let it pile up.
    Kept,
    /// On their way, with all that the session says by itself.
    Gone,
}

impl Tickets {
    /// What becomes of them when this was found on the wire.
    fn after(self, look: &Look) -> Self {
        let goes_on = matches!(look.step, Some(Ok(Step::NeedsWire | Step::NeedsRoom | Step::Done)));
        match self {
            Self::Fresh if goes_on && look.opened == 0 => Self::Fresh,
            Self::Fresh if goes_on => Self::Kept,
            _ => Self::Gone,
        }
    }
}

/// Where our reading stands.
enum Reading {
    Open,
    /// The peer said `close_notify`.
    Ended,
    /// The error is told once in full, then by its kind.
    Failed {
        kind: io::ErrorKind,
        error: Option<io::Error>,
    },
}

impl Reading {
    fn failed(error: io::Error) -> Self {
        Self::Failed { kind: error.kind(), error: Some(error) }
    }
}

/// Where our writing stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    Ended,
    Aborted,
}

/// The peer ended the connection without `close_notify`.
#[derive(Debug)]
struct Truncated;

impl std::fmt::Display for Truncated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the peer closed the connection without ending its TLS session")
    }
}

impl std::error::Error for Truncated {}
