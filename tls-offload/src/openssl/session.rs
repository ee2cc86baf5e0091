//! A session of libssl, over the bytes that the caller lends.
//!
//! **Invariant:** libssl is given one whole record at a time, so that between two calls nothing undecoded lies in it; what it wants sent and
//! found no room is bounded.

use std::fmt;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use rustls_pki_types::CertificateDer;

use super::client::Client;
use super::error::{OpenSslError, clear, constant};
use super::ffi;
use super::job::{Job, Wait};
use super::own::Resumable;
use super::rescue::{Doubt, Rescue};
use super::server::Server;
use super::ssl::{Of, Outcome, Ssl, TicketPlace};
use crate::error::{Cause, TlsError};
use crate::options::Version;
use crate::record::{Frame, HEADER_BYTES, PlainRoom, frame, payload_len, take};
use crate::session::{SessionInfo, Step};

/// An OpenSSL session. It stays on the thread that made it.
pub struct OpenSslSession {
    ssl: Ssl,
    /// While the key has not been used, where software can take its accelerator's place.
    rescue: Option<Box<Rescue>>,
    state: State,
    is_server: bool,
    /// We said `close_notify`, or meant to.
    closing: bool,
    /// Records that may still be sealed with the present key.
    records_left: u32,
    /// The name the client asked for.
    sni: Option<Box<str>>,
    /// Times that the handshake paused for an accelerator, when it is over.
    pauses: u32,
}

impl OpenSslSession {
    pub(super) fn server(server: Arc<Server>) -> Self {
        let mut ssl = Ssl::accepting(&server);
        let Some(accelerator) = server.accelerator() else { return Self::new(ssl, true, None) };
        let job = Job::new(Arc::clone(accelerator));
        // SAFETY: the SSL is new, and has the job.
        unsafe { job.attach_to(ssl.as_ptr()) };
        ssl.job = Some(job);
        let rescue = server.software().map(|software| Rescue::new(Arc::clone(software), Arc::clone(accelerator)));
        let mut session = Self::new(ssl, true, None);
        session.rescue = rescue.map(Box::new);
        session
    }

    /// A client's; `prepare` is given the new SSL.
    pub(super) fn client(
        client: Arc<Client>,
        place: TicketPlace,
        sni: Option<Box<str>>,
        prepare: impl FnOnce(*mut ffi::SSL) -> Result<(), OpenSslError>,
    ) -> Result<Self, OpenSslError> {
        let mut ssl = Ssl::new(client.config(), Of::Client(Arc::clone(&client)));
        ssl.keep_tickets(place);
        clear();
        // SAFETY: the SSL is new.
        unsafe { ffi::SSL_set_connect_state(ssl.as_ptr()) };
        prepare(ssl.as_ptr())?;
        Ok(Self::new(ssl, false, sni))
    }

    fn new(ssl: Ssl, is_server: bool, sni: Option<Box<str>>) -> Self {
        Self {
            ssl,
            rescue: None,
            state: State::Fresh,
            is_server,
            closing: false,
            records_left: KEY_RECORDS_MAX,
            sni,
            pauses: 0,
        }
    }

    pub(crate) fn handshake(
        &mut self,
        cx: &Context<'_>,
        wire_in: &mut &[u8],
        out: &mut impl BufMut,
    ) -> Poll<Result<Step, TlsError>> {
        let step = self.step(cx, wire_in);
        if let Some(job) = &mut self.ssl.job {
            job.pass_on();
        }
        self.drain(out);
        match step {
            Ok(None) => Poll::Pending,
            Ok(Some(step)) => Poll::Ready(Ok(step)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// None: it waits for an accelerator, or for software's turn in its place.
    fn step(&mut self, cx: &Context<'_>, wire_in: &mut &[u8]) -> Result<Option<Step>, TlsError> {
        if !matches!(self.state, State::Fresh | State::Handshake) {
            return self.advance_handshake(wire_in);
        }
        let has_record = matches!(frame(wire_in), Frame::Whole(_));
        if has_record && self.ssl.job.as_mut().is_some_and(|job| !job.is_admitted()) {
            self.do_without(None, "it is left alone, for it failed too often")?;
        }
        if let Some(job) = &mut self.ssl.job {
            match job.must_wait(cx, has_record) {
                Wait::No => {}
                Wait::Yes => return Ok(None),
                Wait::TooLong => {
                    let failure = job.too_late();
                    self.do_without(None, failure)?;
                }
            }
        }
        if let Some(rescue) = self.rescue.as_mut().filter(|rescue| rescue.is_due(has_record)) {
            if rescue.must_wait(cx) {
                return Ok(None);
            }
            self.replay()?;
        }
        match self.advance_handshake(wire_in) {
            Err(TlsError::Local(cause)) => {
                let doubt = self.ssl.job.as_mut().map(Job::fault);
                let Some(doubt) = doubt.filter(|_| self.rescue.is_some()) else { return Err(TlsError::Local(cause)) };
                self.do_without(doubt, "")?;
                self.step(cx, wire_in)
            }
            result => result,
        }
    }

    /// Goes on in software, where it can; else `why` is told.
    fn do_without(&mut self, doubt: Option<Doubt>, why: impl fmt::Display) -> Result<(), TlsError> {
        let Some(rescue) = &mut self.rescue else {
            self.state = State::Dead;
            let name = self.ssl.job.as_ref().map_or("", |job| job.accelerator().name());
            let text = format!("the accelerator {name}: {why}");
            return Err(TlsError::Local(Cause::openssl(OpenSslError::with_text(text))));
        };
        // The one before goes, or into the graveyard.
        self.ssl = Ssl::accepting(rescue.begin(doubt));
        self.state = State::Fresh;
        Ok(())
    }

    /// Tells the new SSL what the peer has said before.
    fn replay(&mut self) -> Result<(), TlsError> {
        let Some(rescue) = self.rescue.take() else { return Ok(()) };
        let (mut input, sent) = rescue.said();
        self.state = State::Handshake;
        while let Frame::Whole(len) = frame(input) {
            self.shake(take(&mut input, len))?;
        }
        let wire = self.ssl.wire_mut();
        if !wire.queued().starts_with(sent) {
            self.state = State::Dead;
            let cause = OpenSslError::with_text("software would answer otherwise than the accelerator has");
            return Err(TlsError::Local(Cause::openssl(cause)));
        }
        if !sent.is_empty() {
            wire.dequeue(sent.len());
        }
        rescue.settle();
        Ok(())
    }

    /// Times that the handshake paused for an accelerator.
    pub(crate) fn pauses(&self) -> u32 {
        self.ssl.job.as_ref().map_or(self.pauses, Job::pauses)
    }

    pub(crate) fn open(&mut self, wire_in: &mut &[u8], plain: &mut impl BufMut) -> Result<Step, TlsError> {
        match self.state {
            State::Open => {}
            State::PeerClosed => {
                // RFC 8446 section 6.1: what comes after a closure alert is ignored.
                *wire_in = &[];
                return Ok(Step::Closed);
            }
            State::Fresh | State::Handshake | State::Dead => return Err(TlsError::NotReady),
        }
        loop {
            let len = match frame(wire_in) {
                Frame::Incomplete => return Ok(Step::NeedsWire),
                Frame::Whole(len) => len,
                Frame::Bad => HEADER_BYTES,
            };
            if !plain.has_room_for_record(len) {
                return Ok(Step::NeedsRoom);
            }
            self.open_record(take(wire_in, len), plain)?;
            if self.state == State::PeerClosed {
                *wire_in = &[];
                return Ok(Step::Closed);
            }
        }
    }

    pub(crate) fn seal(&mut self, plain: &mut &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        let may_send = matches!(self.state, State::Open | State::PeerClosed) && !self.closing;
        if !may_send && !plain.is_empty() {
            return Err(TlsError::NotReady);
        }
        let mut written = 0;
        loop {
            let mut room = &mut out[written..];
            let before = room.len();
            self.drain(&mut room);
            written += before - room.len();
            let len = payload_len(plain.len(), room.len(), written);
            if len == 0 || self.has_output() {
                return Ok(written);
            }
            self.renew_key()?;
            let (sealed, took) = self.seal_record(&plain[..len], &mut out[written..])?;
            plain.advance(sealed);
            written += took;
        }
    }

    pub(crate) fn close_notify(&mut self) {
        if matches!(self.state, State::Open | State::PeerClosed) && !self.closing {
            self.closing = true;
            let call = self.ssl.lend(&[], &mut []);
            // SAFETY: the SSL is alive. That the peer's alert has not come is no failure; nothing else can go wrong in memory.
            let _ = call.run(|ssl| unsafe { ffi::SSL_shutdown(ssl) });
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.is_held_back() && !self.ssl.wire().queued().is_empty()
    }

    pub(crate) fn drain(&mut self, out: &mut impl BufMut) {
        if self.is_held_back() {
            return;
        }
        let pauses = self.pauses();
        let wire = self.ssl.wire_mut();
        let len = wire.queued().len().min(out.remaining_mut());
        if len > 0 {
            // With the key used, or with more than can be the same again, there is no way back.
            if self.rescue.as_mut().is_some_and(|r| pauses > 0 || !r.note_sent(&wire.queued()[..len])) {
                self.rescue = None;
            }
            out.put_slice(&wire.queued()[..len]);
            wire.dequeue(len);
        }
    }

    /// What an answer that is not complete would give away could not be taken back.
    fn is_held_back(&self) -> bool {
        self.rescue.is_some() && self.ssl.is_paused()
    }

    pub(crate) fn peer_awaits_output(&self) -> bool {
        !(self.is_server && self.version() == Some(Version::Tls13))
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.ssl.wire().held_bytes() + self.rescue.as_ref().map_or(0, |rescue| rescue.held_bytes())
    }

    pub(crate) fn info(&self) -> SessionInfo<'_> {
        let ssl = self.ssl.as_ptr();
        // SAFETY: the SSL is alive; the names are constants of libssl.
        let (cipher, resumed) = unsafe {
            let cipher = ffi::SSL_get_current_cipher(ssl);
            let name = if cipher.is_null() { ptr::null() } else { ffi::SSL_CIPHER_standard_name(cipher) };
            (constant(name), ffi::SSL_session_reused(ssl) == 1)
        };
        SessionInfo { alpn: self.alpn(), sni: self.sni.as_deref(), version: self.version(), cipher, resumed }
    }

    /// What the peer has shown, its own first.
    pub(crate) fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        self.ssl.peer_chain()
    }

    fn version(&self) -> Option<Version> {
        // SAFETY: the SSL is alive. Before a suite is agreed the version is only a wish.
        let (agreed, version) = unsafe {
            let ssl = self.ssl.as_ptr();
            (!ffi::SSL_get_current_cipher(ssl).is_null(), ffi::SSL_version(ssl))
        };
        match version {
            ffi::TLS1_2_VERSION if agreed => Some(Version::Tls12),
            ffi::TLS1_3_VERSION if agreed => Some(Version::Tls13),
            _ => None,
        }
    }

    fn alpn(&self) -> Option<&[u8]> {
        let (mut name, mut len) = (ptr::null(), 0);
        // SAFETY: the SSL is alive, and the name it points at as long as it is: as long as the borrow of `self`.
        unsafe {
            ffi::SSL_get0_alpn_selected(self.ssl.as_ptr(), &raw mut name, &raw mut len);
            (len > 0).then(|| slice::from_raw_parts(name, len as usize))
        }
    }

    /// None: it waits for an accelerator.
    fn advance_handshake(&mut self, wire_in: &mut &[u8]) -> Result<Option<Step>, TlsError> {
        match self.state {
            State::Fresh => {
                self.state = State::Handshake;
                self.shake(&[])?;
            }
            State::Handshake if self.ssl.is_paused() => self.shake(&[])?,
            State::Handshake => {}
            State::Open | State::PeerClosed => return Ok(Some(Step::Done)),
            State::Dead => return Err(TlsError::NotReady),
        }
        while self.state == State::Handshake {
            if self.ssl.is_paused() {
                return Ok(None);
            }
            match frame(wire_in) {
                Frame::Incomplete => return Ok(Some(Step::NeedsWire)),
                Frame::Whole(len) => self.shake(take(wire_in, len))?,
                Frame::Bad => {
                    // For the alert that libssl makes of it.
                    let _ = self.shake(take(wire_in, HEADER_BYTES));
                    self.state = State::Dead;
                    return Err(TlsError::NotTls);
                }
            }
        }
        Ok(Some(Step::Done))
    }

    /// Takes the handshake on with one record, or with the end of an operation.
    fn shake(&mut self, record: &[u8]) -> Result<(), TlsError> {
        if self.rescue.as_mut().is_some_and(|rescue| !rescue.note_input(record)) {
            self.rescue = None;
        }
        let outcome = self.ssl.shake(record);
        if self.is_server && self.sni.is_none() {
            self.sni = self.ssl.asked_name();
        }
        match outcome {
            Outcome::Done => {
                self.state = State::Open;
                self.rescue = None;
                self.pauses = self.ssl.end_job();
                self.keep_renewed_ticket();
            }
            Outcome::WantsWire | Outcome::Paused => {}
            Outcome::Closed | Outcome::Failed(_) => return Err(self.die(outcome)),
        }
        self.check_queue()
    }

    /// A server of TLS 1.2 may give a resumed session a new ticket: libssl spoils the old one then, and does not call back for the new one.
    fn keep_renewed_ticket(&self) {
        let ssl = self.ssl.as_ptr();
        // SAFETY: the SSL is alive; it has its place if it is a client's, and the session that is taken is a reference of our own.
        unsafe {
            let Some(place) = TicketPlace::of(ssl) else { return };
            if ffi::SSL_session_reused(ssl) == 1 && ffi::SSL_version(ssl) == ffi::TLS1_2_VERSION {
                place.tickets.keep_renewed(&place.name, Resumable::from_raw(ffi::SSL_get1_session(ssl)));
            }
        }
    }

    fn open_record(&mut self, record: &[u8], plain: &mut impl BufMut) -> Result<(), TlsError> {
        let call = self.ssl.lend(record, &mut []);
        let outcome = loop {
            let chunk = plain.chunk_mut();
            let mut read = 0;
            let outcome = call.run(|ssl| {
                // SAFETY: the SSL is alive and writes at most the chunk's length into it.
                unsafe { ffi::SSL_read_ex(ssl, chunk.as_mut_ptr().cast(), chunk.len(), &raw mut read) }
            });
            match outcome {
                // SAFETY: `read` bytes of the chunk were written.
                Outcome::Done => unsafe { plain.advance_mut(read) },
                outcome => break outcome,
            }
        };
        drop(call);
        match outcome {
            Outcome::WantsWire => self.check_queue(),
            Outcome::Closed => {
                self.state = State::PeerClosed;
                Ok(())
            }
            outcome => Err(self.die(outcome)),
        }
    }

    /// Says how much plaintext was sealed and how many bytes were written.
    fn seal_record(&mut self, plain: &[u8], room: &mut [u8]) -> Result<(usize, usize), TlsError> {
        let mut sealed = 0;
        let call = self.ssl.lend(&[], room);
        let outcome = call.run(|ssl| {
            // SAFETY: the SSL is alive and reads what `plain` has; it keeps no pointer to it, for it writes without waiting.
            unsafe { ffi::SSL_write_ex(ssl, plain.as_ptr().cast(), plain.len(), &raw mut sealed) }
        });
        let written = call.end();
        match outcome {
            Outcome::Done => Ok((sealed, written)),
            outcome => Err(self.die(outcome)),
        }
    }

    /// Counts a record, and before the present key has sealed too many takes the next one (RFC 8446 section 5.5).
    fn renew_key(&mut self) -> Result<(), TlsError> {
        if self.records_left > 0 {
            self.records_left -= 1;
            return Ok(());
        }
        if self.version() != Some(Version::Tls13) {
            self.state = State::Dead;
            return Err(TlsError::Exhausted);
        }
        clear();
        // SAFETY: the SSL is alive and its handshake complete. The message goes out in front of the next record.
        let renewed = unsafe { ffi::SSL_key_update(self.ssl.as_ptr(), ffi::SSL_KEY_UPDATE_NOT_REQUESTED) } == 1;
        self.records_left = KEY_RECORDS_MAX;
        if renewed { Ok(()) } else { Err(OpenSslError::take().into()) }
    }

    fn die(&mut self, outcome: Outcome) -> TlsError {
        self.state = State::Dead;
        match outcome {
            Outcome::Failed(error) => error,
            Outcome::Closed => TlsError::Alert(Cause::openssl(OpenSslError::with_text("close notify"))),
            Outcome::Done | Outcome::WantsWire | Outcome::Paused => TlsError::NotReady,
        }
    }

    fn check_queue(&mut self) -> Result<(), TlsError> {
        if self.ssl.wire().held_bytes() > QUEUE_BYTES_MAX {
            self.state = State::Dead;
            let cause = OpenSslError::with_text("more to be answered than the peer takes");
            return Err(TlsError::Protocol(Cause::openssl(cause)));
        }
        Ok(())
    }
}

impl fmt::Debug for OpenSslSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSslSession").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drop for OpenSslSession {
    fn drop(&mut self) {
        if matches!(self.state, State::Open | State::PeerClosed) {
            self.ssl.keep_resumable();
        }
        if let Some(job) = self.ssl.job.as_ref().filter(|job| job.is_paused()) {
            job.cancelled();
        }
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Handshake,
    Open,
    PeerClosed,
    Dead,
}

/// Records sealed with one key, at most: less than half of what AES-GCM allows (RFC 8446 section 5.5).
const KEY_RECORDS_MAX: u32 = 1 << 23;
/// Output that nobody takes. A handshake's flight with a long chain has some ten KiB.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
