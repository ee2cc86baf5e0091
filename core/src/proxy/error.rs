//! Why a request failed, whose fault it was, and whether another try is safe.
//!
//! **Invariant:** one error type for the whole proxy; only [`super::reply`] turns it into an answer.

use std::fmt;

use super::convert::Refused;
use crate::message::{BodyError, ResponseFlags};
use crate::router::TargetTooLong;
use crate::stream::client::SendError;
use crate::upstream::{ConnectError, NoHost};

/// A failed request.
#[derive(Debug)]
pub struct Error {
    /// What happened.
    pub kind: ErrorKind,
    /// Whose fault it was.
    pub side: Side,
    /// Whether it may be tried again.
    pub retry: Retry,
}

/// What happened.
#[derive(Debug)]
pub enum ErrorKind {
    /// No virtual host or route takes the request.
    NoRoute,
    /// A rewrite made its target longer than a request line may be.
    Target,
    /// No host of the cluster can take the request.
    NoHost(NoHost),
    /// No connection to a host.
    Connect(ConnectError),
    /// No answer, or a bad one.
    Send(SendError),
    /// It can't be said in the protocol that its origin is asked in.
    Convert(Refused),
    /// Its answer can't be said in the client's protocol.
    ConvertAnswer(Refused),
    /// Bodies that are converted hold `converted_bytes_max`.
    ConvertOverflow,
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The origin's.
    Upstream,
    /// Ours, or of our configuration.
    Local,
}

/// Whether a failed request may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No.
    Never,
    /// Nothing of it has left: on any host.
    Always,
    /// The origin may have seen it: only if doing it twice is doing it once (RFC 9110, 9.2.2), on a fresh connection.
    Idempotent,
}

impl Error {
    /// No route.
    #[must_use]
    pub fn no_route() -> Self {
        Self { kind: ErrorKind::NoRoute, side: Side::Local, retry: Retry::Never }
    }
}

impl From<TargetTooLong> for Error {
    fn from(_: TargetTooLong) -> Self {
        Self { kind: ErrorKind::Target, side: Side::Downstream, retry: Retry::Never }
    }
}

impl From<NoHost> for Error {
    fn from(e: NoHost) -> Self {
        Self { kind: ErrorKind::NoHost(e), side: Side::Local, retry: Retry::Never }
    }
}

impl From<ConnectError> for Error {
    fn from(e: ConnectError) -> Self {
        let (side, retry) = match e {
            // Another host of the cluster may have an idle connection.
            ConnectError::Overflow(_) => (Side::Local, Retry::Always),
            ConnectError::Exhausted(_) => (Side::Local, Retry::Never),
            _ => (Side::Upstream, Retry::Always),
        };
        Self { kind: ErrorKind::Connect(e), side, retry }
    }
}

impl From<SendError> for Error {
    fn from(e: SendError) -> Self {
        let (side, retry) = match e {
            SendError::Closed { reused: true } => (Side::Upstream, Retry::Idempotent),
            SendError::Refused => (Side::Upstream, Retry::Always),
            SendError::RequestBody(_) => (Side::Downstream, Retry::Never),
            _ => (Side::Upstream, Retry::Never),
        };
        Self { kind: ErrorKind::Send(e), side, retry }
    }
}

impl Error {
    /// The status that tells the client (peers: nginx, Envoy; MOSN's table 2.8 for its own codes).
    #[must_use]
    pub fn status(&self) -> u16 {
        match &self.kind {
            ErrorKind::NoRoute => 404,
            ErrorKind::Target => 414,
            ErrorKind::Connect(ConnectError::Timeout) | ErrorKind::Send(SendError::Timeout) => 504,
            ErrorKind::NoHost(_) | ErrorKind::Connect(ConnectError::Overflow(_) | ConnectError::Exhausted(_)) => 503,
            // RFC 9113, 8.7: it may be sent again, later.
            ErrorKind::Send(SendError::Refused) => 503,
            ErrorKind::Send(SendError::RequestBody(e)) => match e {
                BodyError::TooLarge => 413,
                BodyError::Refused(status) => *status,
                BodyError::Timeout | BodyError::TooSlow => 408,
                BodyError::Truncated | BodyError::Malformed | BodyError::Sink => 400,
            },
            ErrorKind::Convert(refused) => refused.status(),
            ErrorKind::ConvertOverflow => 503,
            ErrorKind::Connect(_) | ErrorKind::Send(_) | ErrorKind::ConvertAnswer(_) => 502,
        }
    }
}

impl Error {
    /// What an access log says of it.
    #[must_use]
    pub fn flags(&self) -> ResponseFlags {
        match &self.kind {
            ErrorKind::NoRoute => ResponseFlags::NO_ROUTE,
            ErrorKind::NoHost(_) => ResponseFlags::NO_HEALTHY_UPSTREAM,
            ErrorKind::Connect(ConnectError::Overflow(_)) => ResponseFlags::OVERFLOW,
            ErrorKind::Connect(_) => ResponseFlags::CONNECT_FAILURE,
            ErrorKind::Send(SendError::Timeout) => ResponseFlags::UPSTREAM_TIMEOUT,
            ErrorKind::Send(SendError::Closed { .. } | SendError::Truncated) => ResponseFlags::CONNECTION_TERMINATED,
            ErrorKind::Send(
                SendError::Malformed(_)
                | SendError::Unexpected
                | SendError::Handshake
                | SendError::Refused
                | SendError::Reset(_)
                | SendError::Broken(_)
                | SendError::MalformedHead(_),
            ) => ResponseFlags::REMOTE_RESET,
            ErrorKind::Send(SendError::RequestBody(BodyError::TooLarge | BodyError::Refused(_))) => {
                ResponseFlags::BODY_TOO_LARGE
            }
            ErrorKind::Send(SendError::RequestBody(_)) => ResponseFlags::DOWNSTREAM_TERMINATED,
            ErrorKind::ConvertAnswer(_) => ResponseFlags::REMOTE_RESET,
            ErrorKind::ConvertOverflow => ResponseFlags::OVERFLOW,
            ErrorKind::Target
            | ErrorKind::Convert(_)
            | ErrorKind::Send(SendError::Unwritable(_) | SendError::Unframed(_) | SendError::NoWebSocket) => {
                ResponseFlags::LOCAL_RESET
            }
        }
    }

    /// Why no connection could be opened; empty when that was not it.
    #[must_use]
    pub fn transport_failure(&self) -> String {
        match &self.kind {
            ErrorKind::Connect(e) => e.to_string(),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::NoRoute => f.write_str("no virtual host or route takes the request"),
            ErrorKind::Target => f.write_str("the rewritten target is longer than request_line_bytes_max"),
            ErrorKind::NoHost(e) => e.fmt(f),
            ErrorKind::Connect(e) => e.fmt(f),
            ErrorKind::Send(e) => e.fmt(f),
            ErrorKind::Convert(e) => write!(f, "the request: {e}"),
            ErrorKind::ConvertAnswer(e) => write!(f, "the answer: {e}"),
            ErrorKind::ConvertOverflow => f.write_str("bodies that are converted hold limits.converted_bytes_max"),
        }
    }
}

impl std::error::Error for Error {}
