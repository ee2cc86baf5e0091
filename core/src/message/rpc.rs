//! The head of an RPC frame: what it says of itself, and its headers as fields.
//!
//! The raw bytes are the frame's, up to its content, and the fields point into them, or into what was copied behind them, so that a frame which
//! nothing changed is forwarded as it came but for its number. Names and values may be any bytes here; whoever writes them into a protocol of
//! text checks them first.
//!
//! **Invariant:** what was received is never overwritten: a change lies behind it and shows.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::{Field, HttpHead, StartLine, Version};
use crate::config::schema::RpcProtocol;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcKind {
    /// A request whose sender waits for an answer.
    Request,
    /// A request that has none.
    OneWay,
    /// The answer to a request.
    Response,
    /// A question whether the peer lives.
    Heartbeat,
    /// The answer to that.
    HeartbeatAck,
    /// The peer takes no more requests on this connection.
    GoAway,
}

/// The head of an RPC frame: what it says of itself ([`RpcSaid`]), and its headers.
#[derive(Clone)]
pub struct RpcHead(HttpHead);

/// What an RPC frame says of itself.
#[derive(Clone, Copy, Debug)]
pub struct RpcSaid {
    /// Its protocol.
    pub protocol: RpcProtocol,
    /// What it is.
    pub kind: RpcKind,
    /// The number that its sender gave it.
    pub id: u64,
    /// How long its sender waits for an answer; None: it does not say.
    pub timeout: Option<Duration>,
    /// It has headers that could not be read: they pass, and are hidden.
    pub is_hiding: bool,
    received_fields: usize,
    raw_len: usize,
}

impl RpcHead {
    /// A head of these fields, which point into `text`: that begins with the frame as received, so many bytes of it. `status` is what HTTP
    /// would say of a response.
    pub(crate) fn new(
        (protocol, kind, id): (RpcProtocol, RpcKind, u64),
        mut fields: HttpHead,
        (text, raw_len): (&[u8], usize),
        status: u16,
    ) -> Self {
        let line = match kind {
            RpcKind::Response => response_line(status),
            _ => StartLine::None,
        };
        fields.seal(text, line);
        let received_fields = fields.field_count();
        *fields.said_mut() = RpcSaid { protocol, kind, id, timeout: None, is_hiding: false, received_fields, raw_len };
        Self(fields)
    }

    /// The headers, and for a response its status as HTTP would say it.
    #[must_use]
    pub fn fields(&self) -> &HttpHead {
        &self.0
    }

    /// The same, to be changed.
    pub fn fields_mut(&mut self) -> &mut HttpHead {
        &mut self.0
    }

    /// The frame as received, up to what its content is taken for.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.0.raw()[..self.raw_len]
    }

    /// All that was received of it, and what was copied behind that.
    pub(crate) fn received(&self) -> &[u8] {
        &self.0.raw()[..self.0.received_len()]
    }

    /// Makes it an answer whose status is what HTTP would say, in a protocol whose answers look like requests.
    pub(crate) fn answer(&mut self, status: u16) {
        self.kind = RpcKind::Response;
        self.0.set_line(response_line(status));
    }

    /// Whether the headers are still those that were received.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let received = |field: &Field| self.0.is_received(field.name) && self.0.is_received(field.value);
        self.0.field_count() == self.received_fields && self.0.spans().iter().all(received)
    }
}

impl Deref for RpcHead {
    type Target = RpcSaid;

    #[inline]
    fn deref(&self) -> &RpcSaid {
        self.0.said()
    }
}

impl DerefMut for RpcHead {
    #[inline]
    fn deref_mut(&mut self) -> &mut RpcSaid {
        self.0.said_mut()
    }
}

impl fmt::Debug for RpcHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcHead").field("said", &**self).field("fields", &self.0).finish()
    }
}

impl Default for RpcSaid {
    /// Of what was never received.
    fn default() -> Self {
        let (protocol, kind, received_fields, raw_len) = (RpcProtocol::Bolt, RpcKind::OneWay, 0, 0);
        Self { protocol, kind, id: 0, timeout: None, is_hiding: false, received_fields, raw_len }
    }
}

fn response_line(status: u16) -> StartLine {
    StartLine::Response { status, reason: Default::default(), version: Version::Http11 }
}
