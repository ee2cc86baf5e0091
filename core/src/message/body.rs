//! A message's body: absent, in hand, or pulled from its peer piece by piece.
//!
//! **Invariant:** nothing here buffers a whole body: what streams is read when the other side has room for it.

use std::any::Any;
use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::HttpHead;

/// A body. Trailers, where there are any, are its last chunk.
#[derive(Default)]
pub enum Body {
    /// No body at all.
    #[default]
    Empty,
    /// The whole body, in hand.
    Full(Bytes),
    /// A body that arrives while it is passed on.
    Streaming(Box<dyn BodySource>),
}

/// Where a streaming body comes from. Pulled: an unpolled source reads nothing, so that the sender's window closes.
pub trait BodySource {
    /// How the sender said the body ends, for the part that has not been pulled yet.
    fn length(&self) -> BodyLength;

    /// The next piece, or `None` after the last.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>>;

    /// Drives what has to go on while the body is pulled: beside a response, the rest of its request. Called with no connection
    /// borrowed, before each pull.
    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// Moves bytes straight into `to`, the connection that the body is going to, without lending them to anyone.
    ///
    /// A source that can't (the bytes need looking at, or `to` is another kind of connection) answers `Unsupported` before it has
    /// moved anything; the caller then uses [`poll_chunk`](Self::poll_chunk).
    fn poll_relay(&mut self, cx: &mut Context<'_>, to: &mut dyn Any) -> Poll<Result<Relay, BodyError>> {
        let _ = (cx, to);
        Poll::Ready(Ok(Relay::Unsupported))
    }
}

/// A piece of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes, at least one.
    Data(Bytes),
    /// The trailer fields; nothing follows.
    Trailers(HttpHead),
}

/// How a message says where its body ends (RFC 9112, section 6.3: one interpretation, decided once).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// So many bytes.
    Exact(u64),
    /// Chunks say so themselves.
    Chunked,
    /// The connection's end is the body's end (responses only).
    UntilClose,
}

/// What a relay step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// This source can't relay to that connection.
    Unsupported,
    /// So many bytes went across.
    Moved(u64),
    /// The body is complete.
    Done,
}

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The sender closed or reset before the end.
    Truncated,
    /// The sender broke the framing.
    Malformed,
    /// The body is longer than `request_body_bytes_max`.
    TooLarge,
    /// A filter refuses the rest of the body, with this status.
    Refused(u16),
    /// The sender paused longer than `body_idle_timeout`.
    Timeout,
    /// The sender sends, but slower than `body_bytes_per_second_min`.
    TooSlow,
    /// The receiver is gone (only from [`BodySource::poll_relay`]).
    Sink,
}

impl Body {
    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(b) => b.is_empty(),
            Self::Streaming(_) => false,
        }
    }

    /// How the body ends.
    #[must_use]
    pub fn length(&self) -> BodyLength {
        match self {
            Self::Empty => BodyLength::None,
            Self::Full(b) => BodyLength::Exact(b.len() as u64),
            Self::Streaming(s) => s.length(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(b) => write!(f, "Full({})", b.len()),
            Self::Streaming(s) => write!(f, "Streaming({:?})", s.length()),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the body's sender closed the connection before its end",
            Self::Malformed => "the body's framing is broken",
            Self::TooLarge => "the body is longer than request_body_bytes_max",
            Self::Refused(_) => "a filter refused the rest of the body",
            Self::Timeout => "the body's sender paused longer than body_idle_timeout",
            Self::TooSlow => "the body came slower than body_bytes_per_second_min",
            Self::Sink => "the body's receiver is gone",
        })
    }
}

impl std::error::Error for BodyError {}
