//! The software backend: rustls through its unbuffered interface.
//!
//! Unbuffered, because the buffered one keeps 4 to 18 KiB of input buffer for the life of every connection and copies each record once more.
//!
//! **Invariant:** rustls is given one whole record at a time, and what waits for an accelerator is on a fibre with all that it works on.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::rustls::client::UnbufferedClientConnection;
use ::rustls::server::UnbufferedServerConnection;
use ::rustls::unbuffered::EncryptError;
use ::rustls::{CipherSuite, ClientConfig, CommonState, Error, HandshakeKind, ProtocolVersion, ServerConfig};
use bytes::{Buf, BufMut};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::certificates::take_asked_name;
use crate::error::{Cause, TlsError};
use crate::export::{Agreed, Renewals, SessionKeys, SessionState, Suite, Unsupported};
use crate::openssl::{Fibre, Fibres};
use crate::options::{Alpn, Version};
use crate::record::{Frame, HEADER_BYTES, PlainRoom, frame, payload_len, take};
use crate::session::{SessionInfo, Step};

mod pump;

use pump::{Core, Input, Record, Side, State, Work, no_plain};

/// A rustls session.
pub struct RustlsSession {
    core: Core,
    /// While it works on a record that wants a signature of an accelerator's: with it is the core.
    fibre: Option<Fibre<Fed>>,
    /// A server's whose keys are an accelerator's.
    fibres: Option<Fibres>,
    /// Times that the handshake paused for an accelerator.
    pauses: u32,
    /// We said `close_notify`, or meant to.
    closing: bool,
    /// The name the client asked for.
    sni: Option<Box<str>>,
    /// Its keys may leave.
    may_export: bool,
    /// A client sent a record without data, and none was sealed since: rustls may hold back its answer to a key update, and shows it to nobody.
    may_owe: bool,
}

impl RustlsSession {
    /// A server's session. `fibres`: its key may be an accelerator's.
    pub(crate) fn server(config: Arc<ServerConfig>, fibres: Option<Fibres>) -> Self {
        let may_export = config.enable_secret_extraction;
        let conn = UnbufferedServerConnection::new(config).expect("fails only for a fragment size, and none is set");
        Self { fibres, may_export, ..Self::new(Side::Server(conn), None) }
    }

    /// A client's session; with `alpn` it offers these protocols in place of the configuration's.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        alpn: Option<&Alpn>,
    ) -> Result<Self, Error> {
        let sni = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase().into_boxed_str()),
            _ => None,
        };
        let may_export = config.enable_secret_extraction;
        let conn = match alpn {
            Some(alpn) => UnbufferedClientConnection::new_with_alpn(config, name, alpn.clone().into_protocols())?,
            None => UnbufferedClientConnection::new(config, name)?,
        };
        Ok(Self { may_export, ..Self::new(Side::Client(conn), sni) })
    }

    fn new(side: Side, sni: Option<Box<str>>) -> Self {
        Self {
            core: Core::new(side),
            fibre: None,
            fibres: None,
            pauses: 0,
            closing: false,
            sni,
            may_export: false,
            may_owe: false,
        }
    }

    pub(crate) fn handshake(
        &mut self,
        cx: &Context<'_>,
        wire_in: &mut &[u8],
        out: &mut impl BufMut,
    ) -> Poll<Result<Step, TlsError>> {
        let step = self.advance_handshake(cx, wire_in);
        self.drain(out);
        step
    }

    /// Times that the handshake paused for an accelerator.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn pauses(&self) -> u32 {
        self.pauses
    }

    pub(crate) fn open(&mut self, wire_in: &mut &[u8], plain: &mut impl BufMut) -> Result<Step, TlsError> {
        match self.core.state {
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
                Frame::Bad => return Err(self.refuse(wire_in)),
            };
            if !plain.has_room_for_record(len) {
                return Ok(Step::NeedsRoom);
            }
            let room = plain.remaining_mut();
            self.feed(take(wire_in, len), plain)?;
            self.may_owe |= plain.remaining_mut() == room && matches!(self.core.side, Side::Server(_));
            if self.core.state == State::PeerClosed {
                *wire_in = &[];
                return Ok(Step::Closed);
            }
        }
    }

    pub(crate) fn seal(&mut self, plain: &mut &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        let may_send = matches!(self.core.state, State::Open | State::PeerClosed) && !self.closing;
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
            let mut record = Record { plain: &plain[..len], out: &mut out[written..], result: None };
            self.core.pump(Input::Pieces, &mut no_plain(), Work::Seal(&mut record))?;
            match record.result {
                Some(Ok(n)) => {
                    self.may_owe = false;
                    written += n;
                    plain.advance(len);
                }
                // A key update was put in front: it is in the queue now.
                Some(Err(EncryptError::InsufficientSize(_))) if self.has_output() => {}
                Some(Err(EncryptError::InsufficientSize(_))) => return Ok(written),
                Some(Err(EncryptError::EncryptExhausted)) => {
                    self.core.state = State::Dead;
                    return Err(TlsError::Exhausted);
                }
                // rustls had something else to do, which can't be: it has used up its input.
                None => return Err(TlsError::NotReady),
            }
        }
    }

    pub(crate) fn close_notify(&mut self) {
        if matches!(self.core.state, State::Open | State::PeerClosed) && !self.closing {
            self.closing = true;
            // This queues the alert inside rustls; the second call moves it to our queue. Nothing is read: there is nothing to fail.
            let _ = self.core.pump(Input::Pieces, &mut no_plain(), Work::Close);
            let _ = self.core.pump(Input::Pieces, &mut no_plain(), Work::Read);
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        self.core.queue_start < self.core.queue.len()
    }

    pub(crate) fn drain(&mut self, out: &mut impl BufMut) {
        self.core.drain(out);
    }

    pub(crate) fn peer_awaits_output(&self) -> bool {
        let tls13 = self.core.common().and_then(|c| c.protocol_version()) == Some(ProtocolVersion::TLSv1_3);
        !(tls13 && matches!(self.core.side, Side::Server(_)))
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.core.pieces.capacity() + self.core.queue.capacity()
    }

    pub(crate) fn info(&self) -> SessionInfo<'_> {
        let common = self.core.common();
        SessionInfo {
            alpn: common.and_then(|c| c.alpn_protocol()),
            sni: self.sni.as_deref(),
            version: match common.and_then(|c| c.protocol_version()) {
                Some(ProtocolVersion::TLSv1_2) => Some(Version::Tls12),
                Some(ProtocolVersion::TLSv1_3) => Some(Version::Tls13),
                _ => None,
            },
            cipher: common.and_then(|c| c.negotiated_cipher_suite()).and_then(|suite| cipher_name(suite.suite())),
            resumed: common.and_then(|c| c.handshake_kind()) == Some(HandshakeKind::Resumed),
        }
    }

    /// See [`Session::exportable`](crate::Session::exportable).
    pub(crate) fn exportable(&self) -> Result<Suite, Unsupported> {
        if !self.may_export {
            return Err(Unsupported::Forbidden);
        }
        let is_quiet = self.core.state == State::Open && !self.closing && self.core.pieces.is_empty();
        if !is_quiet || self.may_owe || self.has_output() {
            return Err(Unsupported::NotNow);
        }
        let suite = self.core.common().and_then(CommonState::negotiated_cipher_suite);
        suite.and_then(Suite::of).ok_or(Unsupported::Suite)
    }

    /// See [`Session::export`](crate::Session::export).
    pub(crate) fn export(self) -> Result<SessionState, Unsupported> {
        let suite = self.exportable()?;
        let agreed = Agreed {
            alpn: self.info().alpn.map(Into::into),
            version: Some(suite.version),
            cipher: self.info().cipher,
            resumed: self.info().resumed,
            peer: self.peer_chain(),
            sni: self.sni,
        };
        // What rustls refuses beyond what was asked above is what it has to send still.
        let (secrets, renewals) = match self.core.side {
            Side::Server(conn) => {
                let (secrets, conn) = conn.dangerous_into_kernel_connection().map_err(|_| Unsupported::NotNow)?;
                (secrets, Renewals::Server(conn))
            }
            Side::Client(conn) => {
                let (secrets, conn) = conn.dangerous_into_kernel_connection().map_err(|_| Unsupported::NotNow)?;
                (secrets, Renewals::Client(conn))
            }
            Side::Away => return Err(Unsupported::NotNow),
        };
        Ok(SessionState { keys: SessionKeys::new(suite.version, secrets, renewals)?, agreed })
    }

    /// What the peer has shown, its own first.
    pub(crate) fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        self.core.common().and_then(CommonState::peer_certificates).unwrap_or_default().to_vec()
    }

    /// Pending: it waits for an accelerator.
    fn advance_handshake(&mut self, cx: &Context<'_>, wire_in: &mut &[u8]) -> Poll<Result<Step, TlsError>> {
        if self.fibre.is_some() {
            ready!(self.go_on(cx))?;
        }
        match self.core.state {
            State::Fresh => {
                self.core.state = State::Handshake;
                self.core.pump(Input::Pieces, &mut no_plain(), Work::Read)?;
            }
            State::Handshake => {}
            State::Open | State::PeerClosed => return Poll::Ready(Ok(Step::Done)),
            State::Dead => return Poll::Ready(Err(TlsError::NotReady)),
        }
        while self.core.is_handshaking() {
            match frame(wire_in) {
                Frame::Incomplete => return Poll::Ready(Ok(Step::NeedsWire)),
                Frame::Whole(len) => ready!(self.shake(cx, take(wire_in, len)))?,
                Frame::Bad => {
                    self.refuse(wire_in);
                    return Poll::Ready(Err(TlsError::NotTls));
                }
            }
        }
        self.core.state = State::Open;
        Poll::Ready(Ok(Step::Done))
    }

    /// Gives rustls one record of the handshake.
    fn shake(&mut self, cx: &Context<'_>, record: &[u8]) -> Poll<Result<(), TlsError>> {
        let Some(fibres) = self.fibres else { return Poll::Ready(self.feed(record, &mut no_plain())) };
        // What a fibre is given, and gives back, goes over its small stack.
        let (mut core, record) = (Box::new(self.core.take()), record.to_vec());
        let fibre = Fibre::new(fibres, move || {
            let result = core.feed(&record, &mut no_plain());
            (core, result)
        });
        match fibre {
            Ok(fibre) => self.fibre = Some(fibre),
            // The session went with what was to run.
            Err(error) => {
                self.core.state = State::Dead;
                let error = Error::General(format!("there is no stack for a handshake: {error}"));
                return Poll::Ready(Err(TlsError::Local(Cause::new(error))));
            }
        }
        self.go_on(cx)
    }

    /// Goes on with a record that wants a signature.
    fn go_on(&mut self, cx: &Context<'_>) -> Poll<Result<(), TlsError>> {
        let Some(fibre) = &mut self.fibre else { return Poll::Ready(Ok(())) };
        let polled = fibre.poll(cx);
        let pauses = fibre.pauses();
        self.note_name();
        let (core, result) = ready!(polled);
        self.pauses += pauses;
        self.core = *core;
        self.fibre = None;
        Poll::Ready(result)
    }

    /// Lets rustls see a header that is none, for the alert and the error it makes of it. The session is dead then.
    fn refuse(&mut self, wire_in: &mut &[u8]) -> TlsError {
        let error = self.feed(take(wire_in, HEADER_BYTES), &mut no_plain()).err();
        self.core.state = State::Dead;
        error.unwrap_or(TlsError::NotTls)
    }

    /// Gives rustls one record that wants no accelerator.
    fn feed(&mut self, record: &[u8], plain: &mut impl BufMut) -> Result<(), TlsError> {
        let result = self.core.feed(record, plain);
        self.note_name();
        result
    }

    /// Takes the name that the client asked for, whatever came of it, or the next session on this thread would take it for its own.
    fn note_name(&mut self) {
        if let Some(name) = take_asked_name() {
            self.sni = Some(name);
        }
    }
}

/// A core, and what became of the record that it was given.
type Fed = (Box<Core>, Result<(), TlsError>);

/// The IANA name; rustls names the TLS 1.3 suites its own way.
fn cipher_name(suite: CipherSuite) -> Option<&'static str> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some("TLS_AES_128_GCM_SHA256"),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some("TLS_AES_256_GCM_SHA384"),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some("TLS_CHACHA20_POLY1305_SHA256"),
        other => other.as_str(),
    }
}
