//! The one session type, whatever computes behind it.
//!
//! **Invariant:** a session never waits for I/O and holds no buffer while it is idle; what it wants to send by itself (handshake
//! messages, alerts, key updates) is queued and taken by [`Session::drain`] or in front of the next [`Session::seal`].

use std::task::{Context, Poll};

use bytes::BufMut;

use crate::error::TlsError;
use crate::export::{SessionState, Suite, Unsupported};
use crate::openssl::OpenSslSession;
use crate::options::Version;
use crate::peer_certificate::PeerCertificate;
use crate::rustls::RustlsSession;

/// The TLS state of one connection. An enum, not a trait object: it is crossed once per record.
#[allow(
    clippy::large_enum_variant,
    reason = "the connection around it is boxed as a whole, and rustls is the usual one"
)]
pub enum Session {
    /// Software: rustls over aws-lc-rs.
    Rustls(RustlsSession),
    /// OpenSSL, in software or with an accelerator.
    OpenSsl(OpenSslSession),
}

/// What a session needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every whole record was used; the rest is the beginning of one. Call again when more has arrived behind it.
    NeedsWire,
    /// The next record holds more plaintext than there is room for. [`PLAIN_ROOM_BYTES_MIN`] is room for any record.
    NeedsRoom,
    /// The handshake is complete.
    Done,
    /// The peer said `close_notify`: there is no plaintext after this, and what came before is complete.
    Closed,
}

/// What the handshake agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInfo<'a> {
    /// The application protocol (RFC 7301), if the two agreed on one.
    pub alpn: Option<&'a [u8]>,
    /// The name the client asked for (RFC 6066), in lower case; on the client's side the name it asked for.
    pub sni: Option<&'a str>,
    /// The protocol version; None before it is agreed.
    pub version: Option<Version>,
    /// The cipher suite by its IANA name; None before it is agreed.
    pub cipher: Option<&'static str>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Session {
    /// Takes the handshake as far as `wire_in` reaches.
    ///
    /// Uses whole records only: `wire_in` is advanced over them and keeps the beginning of an incomplete one, which the caller shows again
    /// with more behind it. What is to be sent goes to `out` as far as it has room; the rest is queued (see [`has_output`](Self::has_output)).
    /// A client is called with no input first. After [`Step::Done`] what is left in `wire_in` belongs to [`open`](Self::open).
    ///
    /// Pending: an accelerator has the private-key operation; `cx` is woken when it is done.
    ///
    /// # Errors
    /// The handshake failed. An alert for the peer may be in `out` or queued.
    pub fn handshake(
        &mut self,
        cx: &mut Context<'_>,
        wire_in: &mut &[u8],
        out: &mut impl BufMut,
    ) -> Poll<Result<Step, TlsError>> {
        match self {
            Self::Rustls(s) => s.handshake(cx, wire_in, out),
            Self::OpenSsl(s) => s.handshake(cx, wire_in, out),
        }
    }

    /// Opens the whole records of `wire_in` into `plain`, as many as it has room for.
    ///
    /// `wire_in` is advanced over what was used. Never answers [`Step::Done`].
    ///
    /// # Errors
    /// The peer broke the protocol or ended it with an alert. What was put into `plain` before is authentic; the session is dead, and an
    /// alert for the peer may be queued.
    pub fn open(&mut self, wire_in: &mut &[u8], plain: &mut impl BufMut) -> Result<Step, TlsError> {
        match self {
            Self::Rustls(s) => s.open(wire_in, plain),
            Self::OpenSsl(s) => s.open(wire_in, plain),
        }
    }

    /// Seals `plain` into records in `out`, behind what is queued. Says how many bytes of `out` it wrote; `plain` is advanced.
    ///
    /// Records are as large as `out` and the protocol (16 KiB) allow. 0 with `plain` left over: `out` is too small; a record of n bytes
    /// needs n + [`RECORD_OVERHEAD_BYTES_MAX`].
    ///
    /// `out` is initialised memory and not a `BufMut`, because ciphers write in place and a connection lends exactly this.
    ///
    /// # Errors
    /// The handshake is not complete, the session is dead, or its keys are used up (TLS 1.2 only; 1.3 renews them).
    pub fn seal(&mut self, plain: &mut &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        match self {
            Self::Rustls(s) => s.seal(plain, out),
            Self::OpenSsl(s) => s.seal(plain, out),
        }
    }

    /// Queues `close_notify`: we send nothing after it. Reading goes on. Does nothing the second time or when an alert was sent.
    pub fn close_notify(&mut self) {
        match self {
            Self::Rustls(s) => s.close_notify(),
            Self::OpenSsl(s) => s.close_notify(),
        }
    }

    /// Whether there is something to send that no `seal` has taken yet.
    #[must_use]
    pub fn has_output(&self) -> bool {
        match self {
            Self::Rustls(s) => s.has_output(),
            Self::OpenSsl(s) => s.has_output(),
        }
    }

    /// Moves queued output to `out`, as much as it has room for.
    pub fn drain(&mut self, out: &mut impl BufMut) {
        match self {
            Self::Rustls(s) => s.drain(out),
            Self::OpenSsl(s) => s.drain(out),
        }
    }

    /// After [`Step::Done`]: whether the peer can't complete its handshake without what is queued here. False on the server's side of TLS 1.3,
    /// which speaks last but one: it has tickets to send, at most.
    #[must_use]
    pub fn peer_awaits_output(&self) -> bool {
        match self {
            Self::Rustls(s) => s.peer_awaits_output(),
            Self::OpenSsl(s) => s.peer_awaits_output(),
        }
    }

    /// Whether [`export`](Self::export) would give the session's keys now, and for what suite they are.
    ///
    /// # Errors
    /// Why not; [`Unsupported::NotNow`] may pass.
    pub fn exportable(&self) -> Result<Suite, Unsupported> {
        match self {
            Self::Rustls(s) => s.exportable(),
            Self::OpenSsl(_) => Err(Unsupported::Backend),
        }
    }

    /// Ends the session here and gives what another one goes on with: between two records, with nothing queued. The caller has used up, or
    /// keeps, the ciphertext that came and the plaintext that was opened.
    ///
    /// # Errors
    /// As [`exportable`](Self::exportable). The session is gone then.
    pub fn export(self) -> Result<SessionState, Unsupported> {
        match self {
            Self::Rustls(s) => s.export(),
            Self::OpenSsl(_) => Err(Unsupported::Backend),
        }
    }

    /// Bytes of memory held for data under way, beside the session's keys and state. 0 when it is idle.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Rustls(s) => s.held_bytes(),
            Self::OpenSsl(s) => s.held_bytes(),
        }
    }

    /// Times that the handshake paused for an accelerator.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn pauses(&self) -> u32 {
        match self {
            Self::Rustls(s) => s.pauses(),
            Self::OpenSsl(s) => s.pauses(),
        }
    }

    /// What was agreed; complete after [`Step::Done`].
    #[must_use]
    pub fn info(&self) -> SessionInfo<'_> {
        match self {
            Self::Rustls(s) => s.info(),
            Self::OpenSsl(s) => s.info(),
        }
    }

    /// The certificate that the peer has shown, in this handshake or in that of the session that was resumed.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        PeerCertificate::new(match self {
            Self::Rustls(s) => s.peer_chain(),
            Self::OpenSsl(s) => s.peer_chain(),
        })
    }
}

/// The longest record on the wire: 5 bytes of header, 2^14 of fragment and 2048 of expansion (RFC 5246 section 6.2.3). A connection must be
/// able to show this much in one piece.
pub const RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;

/// The room in which [`Session::open`] always makes progress: the most plaintext a record carries (RFC 8446 section 5.1).
pub const PLAIN_ROOM_BYTES_MIN: usize = 16 * 1024;

/// What sealing adds to a fragment, at most: header, explicit nonce and tag, and a key update in front of it (RFC 8446 section 4.6.3).
pub const RECORD_OVERHEAD_BYTES_MAX: usize = 64;
