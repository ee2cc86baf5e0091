//! The protocols of RPC: each is one [`RpcCodec`], registered in [`codec_of`]. How to write one: docs/writing-a-codec.md.
//!
//! A frame is taken whole: it carries one request or one answer, and nothing else may come between its bytes. The codec says how long a frame
//! is from its first bytes, so that whoever reads can bound it, and gather it where its connection can't hold it.
//!
//! **Invariant:** never does I/O, and gives the same frames however its input is split; a length is believed only below `frame_bytes_max`.

mod bolt;
mod dubbo;
mod dubbo_thrift;
pub mod gather;
pub mod hessian2;
mod named;
#[cfg(test)]
mod parcel;
#[doc(hidden)]
pub mod selfcheck;
mod tars;
mod tars_values;

use std::fmt;

use bytes::Bytes;

use crate::config::Limits;
use crate::config::schema::RpcProtocol;
use crate::message::RpcHead;
pub use bolt::{BoltParts, Pairs, bolt_request, bolt_response, bolt_status};
pub use dubbo::{Call, DUBBO_OK, dubbo_parts, dubbo_request, dubbo_response, dubbo_status};

/// What a protocol of RPC is: a machine without I/O and without a state, the same for every connection.
///
/// It is called through a table, once or twice for each frame: the set of protocols is open, and a call costs little beside a frame.
pub trait RpcCodec: Sync {
    /// The first frame of `src`, or how many bytes it takes to say more.
    ///
    /// # Errors
    /// When `src` is no start of a frame, or of one that is longer than it may be.
    fn decode(&self, src: &[u8], limits: RpcLimits) -> Result<Step, Fault>;

    /// Takes what an origin sent for an answer, where only the side tells it from a request.
    fn of_origin(&self, _: &mut RpcHead) {}

    /// Writes a frame under another number: as it was received where nothing was changed, else anew.
    ///
    /// # Errors
    /// When the protocol can't express what the frame has become; nothing is written then.
    fn encode(&self, head: &RpcHead, id: u64, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable>;

    /// Writes the gateway's own answer to a request: `status` is one of HTTP's, or of MOSN's.
    fn reply(&self, to: &RpcHead, status: u16, out: &mut Vec<u8>);

    /// Writes the answer to bytes that are no frame, where it can be told which request they were to be.
    fn reply_to_fault(&self, src: &[u8], out: &mut Vec<u8>);

    /// Writes a question whether the peer lives; says whether the protocol has one.
    fn heartbeat(&self, id: u64, out: &mut Vec<u8>) -> bool;

    /// Writes the answer to such a question.
    fn heartbeat_ack(&self, to: &RpcHead, out: &mut Vec<u8>);

    /// Writes that the peer is to send no more requests on this connection; says whether the protocol has that.
    fn go_away(&self, id: u64, out: &mut Vec<u8>) -> bool;

    /// Whether every peer understands that; else it is only said where the configuration has it so.
    fn knows_go_away(&self) -> bool;

    /// The largest number that a frame can have.
    fn id_max(&self) -> u64;

    /// Whether a connection that starts with these bytes speaks this protocol; None: more are needed.
    fn begins(&self, src: &[u8]) -> Option<bool>;
}

/// The codec of a protocol: the place where one is registered.
#[must_use]
pub fn codec_of(protocol: RpcProtocol) -> &'static dyn RpcCodec {
    match protocol {
        RpcProtocol::Bolt => &bolt::Bolt { version: 1 },
        RpcProtocol::BoltV2 => &bolt::Bolt { version: 2 },
        RpcProtocol::Dubbo => &dubbo::Dubbo,
        RpcProtocol::Tars => &tars::Tars,
        RpcProtocol::DubboThrift => &dubbo_thrift::DubboThrift,
        #[cfg(test)]
        RpcProtocol::Parcel => &parcel::Parcel,
    }
}

/// A wire unit.
#[derive(Clone, Debug)]
pub struct RpcFrame {
    /// What it says of itself.
    pub head: RpcHead,
    /// What it carries.
    pub content: Bytes,
}

/// What the start of some bytes is.
#[derive(Debug)]
pub enum Step {
    /// A frame, and the bytes that it took.
    Frame(RpcFrame, usize),
    /// The start of one. So many bytes, counted from its first, say more: those of its fixed part, or all.
    Needs(usize),
}

/// What frames may be.
#[derive(Clone, Copy, Debug)]
pub struct RpcLimits {
    /// Bytes of a frame, at most.
    pub frame_bytes_max: usize,
    /// Headers of a frame, at most.
    pub fields_max: usize,
}

impl From<&Limits> for RpcLimits {
    fn from(limits: &Limits) -> Self {
        Self { frame_bytes_max: limits.rpc_frame_bytes_max, fields_max: limits.head_fields_max }
    }
}

/// Why bytes are no frame: the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its first bytes are not those of the protocol.
    Protocol,
    /// The protocol has no such kind of frame.
    Kind,
    /// It says that it is longer than `rpc_frame_bytes_max`.
    TooLong,
    /// It has more than `head_fields_max` headers.
    TooManyFields,
    /// A length in it passes the end of what it is in.
    Overrun,
    /// Its checksum is wrong.
    Checksum,
    /// A part of it is missing, or is not what the protocol has there.
    Malformed,
    /// Values in it nest deeper than is passed over.
    TooDeep,
}

/// Why a frame can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// Its headers have become longer than the protocol can say.
    Headers,
    /// So has its content.
    Content,
    /// Its headers are to change, but are of a kind that is not read, or have become no text.
    Unread,
    /// The protocol has a service and a method, and no other headers.
    NoHeaders,
    /// It is of another protocol.
    Foreign,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "the bytes are not those of the protocol",
            Self::Kind => "the frame is of a kind that the protocol does not have",
            Self::TooLong => "the frame says that it is longer than rpc_frame_bytes_max",
            Self::TooManyFields => "the frame has more headers than head_fields_max",
            Self::Overrun => "a length inside the frame passes its end",
            Self::Checksum => "the frame's checksum is wrong",
            Self::Malformed => "a part of the frame is missing, or is not what the protocol has there",
            Self::TooDeep => "values in the frame nest too deep",
        })
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Headers => "its headers are longer than a frame of this protocol can say",
            Self::Content => "its content is longer than a frame of this protocol can say",
            Self::Unread => "its headers were not read, or have become no text, and can't be written anew",
            Self::NoHeaders => {
                "the protocol has a service and a method and no other headers: its route can't add any, or remove those"
            }
            Self::Foreign => "it is of another protocol, into which it is not converted (docs/reference/conversion.md): change upstream_protocol of its route",
        })
    }
}

impl std::error::Error for Unwritable {}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tutorial_quotes_what_is_compiled() {
        let (page, file) = (include_str!("../../../../docs/writing-a-codec.md"), include_str!("parcel.rs"));
        let blocks: Vec<&str> =
            page.split("```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
        let without_empty =
            |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        assert!(blocks.len() > 5, "{} blocks", blocks.len());
        assert_eq!(without_empty(&blocks.join("\n")), without_empty(file));
    }
}
