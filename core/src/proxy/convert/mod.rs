//! Conversion: a request that comes in one protocol and goes on in another, and its answer on the way back.
//!
//! Between versions of HTTP there is nothing to do here: both are one form of head. What is here is HTTP to and from Bolt and Dubbo, and one
//! version of Bolt to the other. A message is converted as a whole, since a frame says its length before its content; the request that filters,
//! routes and logs see stays the client's own. docs/reference/conversion.md has a table for each pair.
//!
//! **Invariant:** what one protocol can say and the other would read in another way is refused, never written: no name, value, method, path or
//! length of a message can become another one's.

mod bolt;
mod dubbo;
mod text;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::detect::Protocol;
use crate::codec::xprotocol::Unwritable;
use crate::codec::xprotocol::hessian2::json::{ValueError, ValueLimits};
use crate::config::Limits;
use crate::config::schema::RpcProtocol;
use crate::message::{Body, Head, HttpHead, Request, Response, RpcHead, RpcKind};

/// From what to what a request is converted; its answer goes the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// HTTP to Bolt, of this version.
    HttpToBolt(RpcProtocol),
    /// Bolt to HTTP.
    BoltToHttp,
    /// Bolt to Bolt of this version, which is another than the client's.
    BoltToBolt(RpcProtocol),
    /// HTTP to Dubbo.
    HttpToDubbo,
    /// Dubbo to HTTP.
    DubboToHttp,
}

/// What a request is made of besides the client's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'f> {
    /// How long the origin is waited for.
    pub(super) timeout: Option<Duration>,
    /// The host that was chosen, by its name or its address.
    pub(super) host: &'f str,
    /// The limits.
    pub(super) limits: &'f Limits,
}

/// Why a message can't be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A name is none in the other protocol.
    Name,
    /// A value is none there.
    Value,
    /// This field, which may be there once, is there more often.
    Twice(&'static str),
    /// This field does not say what it is for.
    Field(&'static str),
    /// The method can't be asked in the other protocol.
    Method,
    /// What is to be its path is none.
    Path,
    /// The service, the method or a type that is to be called has no name that could be one.
    Call,
    /// What is to be its host is none.
    Host,
    /// It says another length than it has.
    Length,
    /// Its head would be longer than `head_bytes_max`, or than a frame can say.
    HeadTooLong,
    /// Its body is longer than `rpc_frame_bytes_max`.
    TooLong,
    /// It asks for a tunnel.
    Tunnel,
    /// Its body is of another type than JSON.
    Type,
    /// Its body is not what it is to be: this is.
    Shape(&'static str),
    /// A value in its body can't be converted.
    Content(ValueError),
}

impl Pair {
    /// What it takes to ask in `protocol` what came as `head`; None: nothing, or there is no such conversion, which the codec will say.
    #[inline]
    pub(super) fn of(head: &Head, protocol: Protocol) -> Option<Self> {
        match (head, protocol) {
            (Head::Http(_), Protocol::Http1 | Protocol::Http2) => None,
            (head, protocol) => Self::with_rpc(head, protocol),
        }
    }

    fn with_rpc(head: &Head, protocol: Protocol) -> Option<Self> {
        let is_bolt = |protocol| matches!(protocol, RpcProtocol::Bolt | RpcProtocol::BoltV2);
        match (head.rpc().map(|head| head.protocol), protocol) {
            (None, Protocol::Rpc(to)) if is_bolt(to) => Some(Self::HttpToBolt(to)),
            (None, Protocol::Rpc(RpcProtocol::Dubbo)) => Some(Self::HttpToDubbo),
            (Some(from), Protocol::Rpc(to)) if from != to && is_bolt(from) && is_bolt(to) => Some(Self::BoltToBolt(to)),
            (Some(from), Protocol::Http1 | Protocol::Http2) if is_bolt(from) => Some(Self::BoltToHttp),
            (Some(RpcProtocol::Dubbo), Protocol::Http1 | Protocol::Http2) => Some(Self::DubboToHttp),
            _ => None,
        }
    }

    /// The request that asks in the other protocol what `head` and `body` ask.
    ///
    /// # Errors
    /// When it can't be asked there.
    pub(super) fn request(self, head: &Head, body: &Bytes, facts: Facts<'_>) -> Result<Request, Refused> {
        let (head, body) = match (self, head) {
            (Self::HttpToBolt(to), Head::Http(head)) => (bolt::from_http(head, to, facts)?, body.clone()),
            (Self::HttpToDubbo, Head::Http(head)) => dubbo::from_http(head, body, facts)?,
            (Self::BoltToHttp, Head::Rpc(head)) => (bolt::to_http(head, body.len(), facts)?, body.clone()),
            (Self::BoltToBolt(to), Head::Rpc(head)) => (bolt::to_bolt(head, to, facts)?, body.clone()),
            (Self::DubboToHttp, Head::Rpc(head)) => dubbo::to_http(head, body, facts)?,
            _ => return Err(Refused::Shape("a message of the protocol that it came in")),
        };
        Ok(Request { head, body: full(body) })
    }

    /// Whether an answer's body has to be there as a whole for [`response`](Self::response).
    pub(super) fn wants_whole(self) -> bool {
        matches!(self, Self::BoltToHttp | Self::DubboToHttp)
    }

    /// The answer that says to who has asked `asked` what `response`, whose body is `body`, says.
    ///
    /// # Errors
    /// When it can't be said there.
    pub(super) fn response(self, asked: &Head, response: Response, limits: &Limits) -> Result<Response, Refused> {
        let Response { head, body } = response;
        let body = match body {
            Body::Full(body) => body,
            Body::Empty => Bytes::new(),
            Body::Streaming(_) => return Err(Refused::Shape("a body that is there as a whole")),
        };
        let (head, body) = match (self, head, asked) {
            (Self::HttpToBolt(_), Head::Rpc(head), _) => (bolt::answer_to_http(&head, body.len(), limits)?, body),
            (Self::HttpToDubbo, Head::Rpc(head), _) => dubbo::answer_to_http(&head, &body, limits)?,
            (Self::BoltToHttp, Head::Http(head), Head::Rpc(asked)) => {
                let content = if bolt::has_content(&head) { body } else { Bytes::new() };
                (bolt::answer_from_http(&head, asked)?, content)
            }
            (Self::BoltToBolt(_), Head::Rpc(head), Head::Rpc(asked)) => (bolt::answer_to_bolt(&head, asked)?, body),
            (Self::DubboToHttp, Head::Http(head), _) => dubbo::answer_from_http(&head, &body, limits)?,
            _ => return Err(Refused::Shape("an answer of the protocol that was asked in")),
        };
        Ok(Response { head, body: full(body) })
    }

    /// The answer to a request of HTTP that was sent one-way.
    pub(super) fn accepted() -> Response {
        Response { head: Head::Http(HttpHead::response(202)), body: Body::Empty }
    }
}

impl Refused {
    /// What a client is told whose request it was.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::HeadTooLong => 431,
            Self::TooLong | Self::Content(ValueError::Bytes | ValueError::Values) => 413,
            Self::Type => 415,
            Self::Tunnel | Self::Method => 501,
            _ => 400,
        }
    }
}

impl From<Unwritable> for Refused {
    fn from(_: Unwritable) -> Self {
        Self::HeadTooLong
    }
}

impl From<ValueError> for Refused {
    fn from(error: ValueError) -> Self {
        Self::Content(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it can't be converted (docs/reference/conversion.md): ")?;
        match self {
            Self::Name => f.write_str("a name of a field is empty, or has a byte that none may have"),
            Self::Value => f.write_str("a value of a field has a control byte, or begins or ends with white space"),
            Self::Twice(name) => write!(f, "the field `{name}` is there more than once"),
            Self::Field(name) => write!(f, "the field `{name}` has a value that it can't have"),
            Self::Method => f.write_str("its method is none, or one that can't be asked"),
            Self::Path => f.write_str("what is to be its path is none: it comes from `x-mosn-path` or from `service`"),
            Self::Call => f.write_str("no service, or no method, is named, or a name has a byte that none may have"),
            Self::Host => f.write_str("what is to be its host is none: it comes from `x-mosn-host` or from `host`"),
            Self::Length => f.write_str("`content-length` says another length than its content has"),
            Self::HeadTooLong => f.write_str("its head is longer than limits.head_bytes_max, or than a frame can say"),
            Self::TooLong => f.write_str("its body is longer than limits.rpc_frame_bytes_max"),
            Self::Tunnel => f.write_str("it asks for a tunnel"),
            Self::Type => f.write_str("its body is not of the type application/json"),
            Self::Shape(wanted) => write!(f, "its body is not {wanted}"),
            Self::Content(error) => write!(f, "its content: {error}"),
        }
    }
}

impl std::error::Error for Refused {}

/// What values may take.
fn value_limits(limits: &Limits) -> ValueLimits {
    ValueLimits {
        depth_max: limits.rpc_value_depth_max,
        values_max: limits.rpc_values_max,
        bytes_max: limits.rpc_frame_bytes_max,
    }
}

/// A body of bytes that are there.
pub(super) fn full(body: Bytes) -> Body {
    if body.is_empty() { Body::Empty } else { Body::Full(body) }
}

/// Whether a request waits for an answer.
fn kind(one_way: bool) -> RpcKind {
    if one_way { RpcKind::OneWay } else { RpcKind::Request }
}

fn rpc(head: RpcHead) -> Head {
    Head::Rpc(head)
}

#[cfg(test)]
mod tests;
