//! Frames of Bolt that no peer has sent: made of what a message of another protocol says.
//!
//! **Invariant:** what is made is what [`decode`](super::RpcCodec::decode) reads: a frame that does not fit is not made.

use std::time::Duration;

use super::{
    Bolt, CMD_REQUEST, CMD_RESPONSE, CODEC_HESSIAN2, CRC_BYTES, Layout, crc, own_status, put_request, put_response,
    u16_at,
};
use crate::codec::xprotocol::{RpcCodec, RpcLimits, Step, Unwritable};
use crate::config::schema::RpcProtocol;
use crate::message::{RpcHead, RpcKind};

/// What a frame says besides its fields and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoltParts<'a> {
    /// The class of its content.
    pub class: &'a [u8],
    /// What its content is written in: 1 is Hessian 2. None: what is usual; in an answer, what the request was written in.
    pub codec: Option<u8>,
    /// The status of an answer.
    pub status: u16,
}

impl<'a> BoltParts<'a> {
    /// Those of a frame; None: it is of another protocol.
    #[must_use]
    pub fn of(head: &'a RpcHead) -> Option<Self> {
        if !is_bolt(head.protocol) {
            return None;
        }
        let raw = head.raw();
        let layout = Layout::of(raw).ok()?;
        let class = &raw[layout.fixed_len()..][..layout.lengths(raw).class];
        let status = if layout.is_response { u16_at(raw, layout.varies_at()) } else { 0 };
        Some(Self { class, codec: Some(raw[9 + layout.shift]), status })
    }
}

/// Fields by name and value, in order.
pub type Pairs<'p> = &'p [(&'p [u8], &'p [u8])];

/// The head of a request, in Bolt of this version; without a checksum. `timeout` is how long its sender waits.
///
/// # Errors
/// When the fields or the class are longer than a frame can say.
pub fn bolt_request(
    (protocol, kind): (RpcProtocol, RpcKind),
    timeout: Option<Duration>,
    parts: BoltParts<'_>,
    fields: Pairs<'_>,
) -> Result<RpcHead, Unwritable> {
    let version = if protocol == RpcProtocol::BoltV2 { 2 } else { 1 };
    let millis = timeout.map_or(-1, |wait| i32::try_from(wait.as_millis().max(1)).unwrap_or(i32::MAX));
    let mut out = Vec::new();
    put_request(version, CMD_REQUEST, 0, millis, &mut out);
    let layout = Layout::of(&out).map_err(|_| Unwritable::Foreign)?;
    if kind == RpcKind::OneWay {
        out[1 + layout.shift] = 2;
    }
    out[9 + layout.shift] = parts.codec.unwrap_or(CODEC_HESSIAN2);
    finish(out, layout, parts.class, fields)
}

/// The head of an answer to `to`, in its version, with a checksum where it has one.
///
/// # Errors
/// When the fields or the class are longer than a frame can say, or `to` is no frame of Bolt.
pub fn bolt_response(to: &RpcHead, parts: BoltParts<'_>, fields: Pairs<'_>) -> Result<RpcHead, Unwritable> {
    if !is_bolt(to.protocol) {
        return Err(Unwritable::Foreign);
    }
    let asked = Layout::of(to.raw()).map_err(|_| Unwritable::Foreign)?;
    let mut out = Vec::new();
    put_response(to.raw(), asked, CMD_RESPONSE, parts.status, &mut out);
    // The checksum is of what is not there yet.
    out.truncate(out.len() - asked.crc_len());
    if let Some(codec) = parts.codec {
        out[9 + asked.shift] = codec;
    }
    let layout = Layout::of(&out).map_err(|_| Unwritable::Foreign)?;
    finish(out, layout, parts.class, fields)
}

/// The status of Bolt, in the version of `protocol`, that says what one of HTTP, or a code of MOSN, does.
#[must_use]
pub fn bolt_status(code: u16, protocol: RpcProtocol) -> u16 {
    own_status(code, if protocol == RpcProtocol::BoltV2 { 2 } else { 1 })
}

fn finish(mut out: Vec<u8>, layout: Layout, class: &[u8], fields: Pairs<'_>) -> Result<RpcHead, Unwritable> {
    out.extend_from_slice(class);
    let headers_at = out.len();
    for part in fields.iter().flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(&u32::try_from(part.len()).map_err(|_| Unwritable::Headers)?.to_be_bytes());
        out.extend_from_slice(part);
    }
    let (class_len, headers_len) = (u16::try_from(class.len()), u16::try_from(out.len() - headers_at));
    let (Ok(class_len), Ok(headers_len)) = (class_len, headers_len) else { return Err(Unwritable::Headers) };
    let at = layout.lengths_at();
    out[at..at + 2].copy_from_slice(&class_len.to_be_bytes());
    out[at + 2..at + 4].copy_from_slice(&headers_len.to_be_bytes());
    if layout.has_crc {
        let crc: [u8; CRC_BYTES] = crc(&out).to_be_bytes();
        out.extend_from_slice(&crc);
    }
    let any = RpcLimits { frame_bytes_max: usize::MAX, fields_max: usize::MAX };
    match (Bolt { version: layout.version }).decode(&out, any) {
        Ok(Step::Frame(frame, _)) => Ok(frame.head),
        _ => Err(Unwritable::Headers),
    }
}

fn is_bolt(protocol: RpcProtocol) -> bool {
    matches!(protocol, RpcProtocol::Bolt | RpcProtocol::BoltV2)
}
