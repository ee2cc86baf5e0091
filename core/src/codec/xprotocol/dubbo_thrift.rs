//! Dubbo's Thrift: a message of Thrift's binary protocol, framed, behind a header of Dubbo's.
//!
//! ```text
//! length(4), of what follows | 0xDABC  length(4), the same  length of the header(2), from 0xDABC on  version(1)  service  maybe more  id(8)
//!                            | 0x8001  0  type(1)  name  sequence(4)  | the arguments, or the result
//! older messages:            |                     name  type(1)  sequence(4)
//! ```
//!
//! A string is its length in four bytes and its text. `service` and `method`, the message's name, are fields; there are no others, and no
//! heartbeats, farewells or timeouts.
//!
//! **Invariant:** arguments and results are never read, but for the kind of an exception that says that a call was not made.

use std::ops::Range;

use super::{Fault, RpcCodec, RpcFrame, RpcLimits, Step, Unwritable, named};
use crate::config::schema::RpcProtocol;
use crate::message::{HttpHead, RpcHead, RpcKind, spare};

/// Dubbo's Thrift.
pub(super) struct DubboThrift;

/// Where the parts of a frame lie.
#[derive(Clone, Debug)]
struct Layout {
    /// The text of the service.
    service: Range<usize>,
    id_at: usize,
    /// The text of the message's name.
    name: Range<usize>,
    message_type: u8,
    type_at: usize,
    content_at: usize,
}

impl Layout {
    /// From a frame, or from its part up to the content.
    fn of(src: &[u8]) -> Result<Self, Fault> {
        let (service, id_at) = header(src)?;
        let message_at = id_at + ID_BYTES;
        let first = array::<4>(src, message_at)?;
        let is_strict = first[0] & 0x80 != 0;
        if is_strict && first[..2] != STRICT {
            return Err(Fault::Malformed);
        }
        let name = string(src, if is_strict { message_at + 4 } else { message_at })?;
        // In older messages it stands behind the name.
        let type_at = if is_strict { message_at + 3 } else { name.end };
        let content_at = name.end + usize::from(!is_strict) + SEQUENCE_BYTES;
        if src.len() < content_at {
            return Err(Fault::Overrun);
        }
        Ok(Self { service, id_at, name, message_type: src[type_at], type_at, content_at })
    }

    fn kind(&self) -> Result<RpcKind, Fault> {
        match self.message_type {
            CALL => Ok(RpcKind::Request),
            ONE_WAY => Ok(RpcKind::OneWay),
            REPLY | EXCEPTION => Ok(RpcKind::Response),
            _ => Err(Fault::Kind),
        }
    }
}

impl RpcCodec for DubboThrift {
    fn decode(&self, src: &[u8], limits: RpcLimits) -> Result<Step, Fault> {
        let Some([len @ .., high, low]) = src.first_chunk::<LENGTH_AT>() else { return Ok(Step::Needs(LENGTH_AT)) };
        let len = usize::try_from(u32::from_be_bytes(*len)).ok().and_then(|len| len.checked_add(LENGTH_BYTES));
        let whole = len.filter(|len| *len <= limits.frame_bytes_max).ok_or(Fault::TooLong)?;
        if [*high, *low] != MAGIC {
            return Err(Fault::Protocol);
        }
        let Some(src) = src.get(..whole) else { return Ok(Step::Needs(whole)) };
        if array::<LENGTH_BYTES>(src, LENGTH_AT)? != src[..LENGTH_BYTES] {
            return Err(Fault::Malformed);
        }
        let layout = Layout::of(src)?;
        let (kind, content) = (layout.kind()?, &src[layout.content_at..]);
        let mut fields = HttpHead::empty();
        let text = named::text([&src[..layout.content_at], &[]]);
        named::push_names(&mut fields, &text, &layout.service, &layout.name);
        if fields.field_count() > limits.fields_max {
            return Err(Fault::TooManyFields);
        }
        let status = match layout.message_type {
            REPLY => 200,
            EXCEPTION => http_status(exception(content)),
            _ => 0,
        };
        let id = u64::from_be_bytes(array(src, layout.id_at)?);
        let place = (&text[..], layout.content_at);
        let head = RpcHead::new((RpcProtocol::DubboThrift, kind, id), fields, place, status);
        spare::give(text);
        Ok(Step::Frame(RpcFrame { head, content: spare::copy(content) }, whole))
    }

    fn encode(&self, head: &RpcHead, id: u64, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        if head.protocol != RpcProtocol::DubboThrift {
            return Err(Unwritable::Foreign);
        }
        let (raw, start) = (head.raw(), out.len());
        let layout = Layout::of(raw).expect("a head holds what was decoded");
        let (service, name) = if head.is_unchanged() {
            (&raw[layout.service.clone()], &raw[layout.name.clone()])
        } else {
            let fields = head.fields();
            let named = fields.get("service").zip(fields.get("method"));
            named.filter(|_| fields.field_count() == 2).ok_or(Unwritable::NoHeaders)?
        };
        // From the magic on.
        let header_len = layout.id_at + ID_BYTES - LENGTH_BYTES - layout.service.len() + service.len();
        let header_len = u16::try_from(header_len).map_err(|_| Unwritable::Headers)?;
        let texts = [service.len(), name.len(), content.len()];
        let rest = raw.len() - LENGTH_BYTES - layout.service.len() - layout.name.len();
        let len = texts.iter().try_fold(rest, |sum, len| sum.checked_add(*len)).and_then(|len| u32::try_from(len).ok());
        let len = len.ok_or(Unwritable::Content)?.to_be_bytes();
        out.extend_from_slice(&len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&len);
        out.extend_from_slice(&header_len.to_be_bytes());
        out.push(raw[VERSION_AT]);
        put_string(service, out);
        out.extend_from_slice(&raw[layout.service.end..layout.id_at]);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&raw[layout.id_at + ID_BYTES..layout.name.start - STRING_BYTES]);
        put_string(name, out);
        out.extend_from_slice(&raw[layout.name.end..]);
        out.extend_from_slice(content);
        debug_assert_eq!(out.len() - start, u32::from_be_bytes(len) as usize + LENGTH_BYTES);
        Ok(())
    }

    fn reply(&self, to: &RpcHead, status: u16, out: &mut Vec<u8>) {
        let layout = Layout::of(to.raw()).expect("a head holds what was decoded");
        put_reply(to.raw(), &layout, status, out);
    }

    fn reply_to_fault(&self, src: &[u8], out: &mut Vec<u8>) {
        let is_ours = src.get(LENGTH_BYTES..LENGTH_BYTES + MAGIC.len()).is_some_and(|magic| *magic == MAGIC);
        if is_ours
            && let Ok(layout) = Layout::of(src)
            && layout.message_type == CALL
        {
            put_reply(src, &layout, 0, out);
        }
    }

    fn heartbeat(&self, _: u64, _: &mut Vec<u8>) -> bool {
        false
    }

    fn heartbeat_ack(&self, _: &RpcHead, _: &mut Vec<u8>) {}

    fn go_away(&self, _: u64, _: &mut Vec<u8>) -> bool {
        false
    }

    fn knows_go_away(&self) -> bool {
        false
    }

    fn id_max(&self) -> u64 {
        // It is signed.
        i64::MAX.cast_unsigned()
    }

    fn begins(&self, src: &[u8]) -> Option<bool> {
        match src {
            [first, ..] if *first > named::LENGTH_FIRST_MAX => Some(false),
            [_, _, _, _, first, second, ..] => Some([*first, *second] == MAGIC),
            [_, _, _, _, first] if *first != MAGIC[0] => Some(false),
            _ => None,
        }
    }
}

/// The service, and where the number is: the last of the header, whatever stands between them.
fn header(src: &[u8]) -> Result<(Range<usize>, usize), Fault> {
    let header_len = usize::from(u16::from_be_bytes(array(src, HEADER_LEN_AT)?));
    let service = string(src, VERSION_AT + 1)?;
    let id_at =
        (LENGTH_BYTES + header_len).checked_sub(ID_BYTES).filter(|at| *at >= service.end).ok_or(Fault::Overrun)?;
    Ok((service, id_at))
}

/// So many bytes at a place.
fn array<const LEN: usize>(src: &[u8], at: usize) -> Result<[u8; LEN], Fault> {
    src.get(at..).and_then(|src| src.first_chunk()).copied().ok_or(Fault::Overrun)
}

/// The text of a string.
fn string(src: &[u8], at: usize) -> Result<Range<usize>, Fault> {
    let len = usize::try_from(u32::from_be_bytes(array(src, at)?)).map_err(|_| Fault::Overrun)?;
    let start = at + STRING_BYTES;
    let end = start.checked_add(len).filter(|end| *end <= src.len()).ok_or(Fault::Overrun)?;
    Ok(start..end)
}

/// The kind that an exception of Thrift's own says: the second of its fields, in whatever order they come. None: it says none.
fn exception(content: &[u8]) -> Option<i32> {
    let mut at = 0;
    loop {
        let [kind, id @ ..] = array::<3>(content, at).ok()?;
        at += 3;
        match (kind, u16::from_be_bytes(id)) {
            (TYPE_I32, EXCEPTION_KIND) => return array(content, at).ok().map(i32::from_be_bytes),
            (TYPE_I32, _) => at += 4,
            (TYPE_STRING, _) => at = string(content, at).ok()?.end,
            _ => return None,
        }
    }
}

/// An answer of the gateway's own to the frame that begins with `to`: an exception, or for 200 nothing at all.
fn put_reply(to: &[u8], layout: &Layout, code: u16, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&to[..layout.content_at]);
    out[start + layout.type_at] = if code == 200 { REPLY } else { EXCEPTION };
    if code != 200 {
        let (kind, text) = own_exception(code);
        out.extend_from_slice(&[TYPE_STRING, 0, EXCEPTION_TEXT]);
        put_string(text.as_bytes(), out);
        let [high, low] = EXCEPTION_KIND.to_be_bytes();
        out.extend_from_slice(&[TYPE_I32, high, low]);
        out.extend_from_slice(&kind.to_be_bytes());
    }
    out.push(TYPE_STOP);
    let len = u32::try_from(out.len() - start - LENGTH_BYTES).expect("the head of a frame and a line of text");
    for at in [start, start + LENGTH_AT] {
        out[at..at + LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
    }
}

fn put_string(text: &[u8], out: &mut Vec<u8>) {
    // What is too long is found by the length of the frame.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text);
}

/// What HTTP would say of an exception: what retries, metrics and logs go by.
fn http_status(kind: Option<i32>) -> u16 {
    match kind {
        Some(UNKNOWN_METHOD) => 404,
        Some(PROTOCOL_ERROR) => 400,
        _ => 500,
    }
}

/// The exception that says what a status of HTTP, or a code of MOSN, does.
fn own_exception(code: u16) -> (i32, &'static str) {
    match code {
        0 | 3 | 400 => (PROTOCOL_ERROR, "codec exception"),
        403 => (INTERNAL_ERROR, "permission denied"),
        404 => (UNKNOWN_METHOD, "router unavailable"),
        502 => (INTERNAL_ERROR, "no health upstream"),
        503 => (INTERNAL_ERROR, "upstream overflow"),
        504 => (INTERNAL_ERROR, "timeout"),
        _ => (INTERNAL_ERROR, "internal error"),
    }
}

const MAGIC: [u8; 2] = [0xDA, 0xBC];
const LENGTH_BYTES: usize = 4;
/// Where the second length is.
const LENGTH_AT: usize = 6;
const HEADER_LEN_AT: usize = 10;
const VERSION_AT: usize = 12;
const ID_BYTES: usize = 8;
const STRING_BYTES: usize = 4;
const SEQUENCE_BYTES: usize = 4;

/// How a message begins that says its version.
const STRICT: [u8; 2] = [0x80, 0x01];
const CALL: u8 = 1;
const REPLY: u8 = 2;
const EXCEPTION: u8 = 3;
const ONE_WAY: u8 = 4;

/// Types of fields.
const TYPE_STOP: u8 = 0;
const TYPE_I32: u8 = 8;
const TYPE_STRING: u8 = 11;

/// The fields of an exception of Thrift's own, and its kinds.
const EXCEPTION_TEXT: u8 = 1;
const EXCEPTION_KIND: u16 = 2;
const UNKNOWN_METHOD: i32 = 1;
const INTERNAL_ERROR: i32 = 6;
const PROTOCOL_ERROR: i32 = 7;

#[cfg(test)]
#[path = "dubbo_thrift_tests.rs"]
mod tests;
