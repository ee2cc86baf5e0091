//! SOFA Bolt, versions 1 and 2: a connection of either carries frames of both.
//!
//! ```text
//! v1: proto=1            type cmd(2) ver2 id(4) codec         | request: timeout(4) | class(2) headers(2) content(4) | the three parts
//! v2: proto=2 ver1(1, 2) type cmd(2) ver2 id(4) codec switch  | answer:  status(2)  |                                | maybe CRC-32(4)
//! ```
//!
//! A frame of version 2 ends with a checksum of all before it where ver1 is 2 and bit 0 of `switch` is set. It is verified, and written anew
//! when the frame goes on under another number.
//!
//! **Invariant:** headers that nobody changed leave as the bytes that came, whatever is in them.

mod made;

use flate2::Crc;

use super::{Fault, RpcCodec, RpcFrame, RpcLimits, Step, Unwritable};
use crate::config::schema::RpcProtocol;
use crate::message::{Field, FieldId, HttpHead, RpcHead, RpcKind, Span, spare};

pub use made::{BoltParts, Pairs, bolt_request, bolt_response, bolt_status};

/// Bolt, and the version in which it speaks where it speaks first.
pub(super) struct Bolt {
    pub(super) version: u8,
}

/// Where the parts of a frame lie.
#[derive(Clone, Copy, Debug)]
struct Layout {
    version: u8,
    /// Bytes that version 2 has more before the number.
    shift: usize,
    is_response: bool,
    is_one_way: bool,
    has_crc: bool,
}

/// The lengths that a frame says.
struct Lengths {
    class: usize,
    headers: usize,
    content: usize,
}

impl Layout {
    /// From at least [`LEAST_BYTES`] of a frame.
    fn of(src: &[u8]) -> Result<Self, Fault> {
        let version = src[0];
        let shift = match version {
            1 => 0,
            2 if matches!(src[1], 1 | 2) => 1,
            _ => return Err(Fault::Protocol),
        };
        let kind = src[1 + shift];
        if kind > 2 {
            return Err(Fault::Kind);
        }
        let has_crc = version == 2 && src[1] == 2 && src[11] & 1 != 0;
        Ok(Self { version, shift, is_response: kind == 0, is_one_way: kind == 2, has_crc })
    }

    fn id_at(self) -> usize {
        5 + self.shift
    }

    fn command(self, src: &[u8]) -> u16 {
        u16_at(src, 2 + self.shift)
    }

    /// Where the timeout, or the status, is: behind `codec`, and in version 2 `switch`.
    fn varies_at(self) -> usize {
        if self.version == 2 { 12 } else { 10 }
    }

    /// Where the lengths are.
    fn lengths_at(self) -> usize {
        self.varies_at() + if self.is_response { 2 } else { 4 }
    }

    fn fixed_len(self) -> usize {
        self.lengths_at() + 8
    }

    fn lengths(self, src: &[u8]) -> Lengths {
        let at = self.lengths_at();
        let content = usize::try_from(u32_at(src, at + 4)).unwrap_or(usize::MAX);
        Lengths { class: u16_at(src, at).into(), headers: u16_at(src, at + 2).into(), content }
    }

    fn crc_len(self) -> usize {
        if self.has_crc { CRC_BYTES } else { 0 }
    }

    fn kind(self, command: u16) -> Result<RpcKind, Fault> {
        match (self.is_response, command) {
            (false, CMD_HEARTBEAT) => Ok(RpcKind::Heartbeat),
            (false, CMD_REQUEST) if self.is_one_way => Ok(RpcKind::OneWay),
            (false, CMD_REQUEST) => Ok(RpcKind::Request),
            (false, CMD_GO_AWAY) => Ok(RpcKind::GoAway),
            (true, CMD_HEARTBEAT) => Ok(RpcKind::HeartbeatAck),
            (true, CMD_RESPONSE) => Ok(RpcKind::Response),
            _ => Err(Fault::Kind),
        }
    }

    fn protocol(self) -> RpcProtocol {
        if self.version == 1 { RpcProtocol::Bolt } else { RpcProtocol::BoltV2 }
    }
}

impl RpcCodec for Bolt {
    fn decode(&self, src: &[u8], limits: RpcLimits) -> Result<Step, Fault> {
        if !matches!(src.first(), None | Some(1 | 2)) {
            return Err(Fault::Protocol);
        }
        if src.len() < LEAST_BYTES {
            return Ok(Step::Needs(LEAST_BYTES));
        }
        let layout = Layout::of(src)?;
        let kind = layout.kind(layout.command(src))?;
        if src.len() < layout.fixed_len() {
            return Ok(Step::Needs(layout.fixed_len()));
        }
        let Lengths { class, headers, content } = layout.lengths(src);
        let content_at = layout.fixed_len() + class + headers;
        let whole = content.checked_add(content_at + layout.crc_len()).filter(|len| *len <= limits.frame_bytes_max);
        let whole = whole.ok_or(Fault::TooLong)?;
        if src.len() < whole {
            return Ok(Step::Needs(whole));
        }
        let crc_at = content_at + content;
        if layout.has_crc && crc(&src[..crc_at]) != u32_at(src, crc_at) {
            return Err(Fault::Checksum);
        }
        let fields = fields(src, layout.fixed_len() + class, content_at, limits.fields_max)?;
        let id = u64::from(u32_at(src, layout.id_at()));
        let varies = layout.varies_at();
        let status = if kind == RpcKind::Response { http_status(u16_at(src, varies)) } else { 0 };
        let mut head = RpcHead::new((layout.protocol(), kind, id), fields, (&src[..content_at], content_at), status);
        if !layout.is_response {
            // -1 is no limit of the client's, and 0 says nothing.
            let millis = u64::try_from(i32_at(src, varies)).ok().filter(|millis| *millis > 0);
            head.timeout = millis.map(std::time::Duration::from_millis);
        }
        let content = spare::copy(&src[content_at..crc_at]);
        Ok(Step::Frame(RpcFrame { head, content }, whole))
    }

    fn encode(&self, head: &RpcHead, id: u64, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        if !matches!(head.protocol, RpcProtocol::Bolt | RpcProtocol::BoltV2) {
            return Err(Unwritable::Foreign);
        }
        let raw = head.raw();
        let layout = Layout::of(raw).expect("a head holds what was decoded");
        let content_len = u32::try_from(content.len()).map_err(|_| Unwritable::Content)?;
        let start = out.len();
        out.reserve(raw.len() + content.len() + layout.crc_len());
        if head.is_unchanged() {
            out.extend_from_slice(raw);
        } else {
            let headers_at = layout.fixed_len() + layout.lengths(raw).class;
            out.extend_from_slice(&raw[..headers_at]);
            put_fields(head.fields(), out);
            let Ok(headers) = u16::try_from(out.len() - start - headers_at) else {
                out.truncate(start);
                return Err(Unwritable::Headers);
            };
            let at = start + layout.lengths_at() + 2;
            out[at..at + 2].copy_from_slice(&headers.to_be_bytes());
        }
        let (id_at, content_at) = (start + layout.id_at(), start + layout.lengths_at() + 4);
        out[id_at..id_at + 4].copy_from_slice(&id_bytes(id));
        out[content_at..content_at + 4].copy_from_slice(&content_len.to_be_bytes());
        out.extend_from_slice(content);
        if layout.has_crc {
            let crc = crc(&out[start..]);
            out.extend_from_slice(&crc.to_be_bytes());
        }
        Ok(())
    }

    fn reply(&self, to: &RpcHead, status: u16, out: &mut Vec<u8>) {
        let layout = Layout::of(to.raw()).expect("a head holds what was decoded");
        put_response(to.raw(), layout, CMD_RESPONSE, own_status(status, layout.version), out);
    }

    fn reply_to_fault(&self, src: &[u8], out: &mut Vec<u8>) {
        if src.len() < LEAST_BYTES {
            return;
        }
        // Its kind may be what is wrong with it; who answers and who waits for none gets nothing.
        if let Ok(layout) = Layout::of(src)
            && !layout.is_response
            && !layout.is_one_way
        {
            put_response(src, layout, CMD_RESPONSE, STATUS_CODEC, out);
        }
    }

    fn heartbeat(&self, id: u64, out: &mut Vec<u8>) -> bool {
        put_request(self.version, CMD_HEARTBEAT, id, -1, out);
        true
    }

    fn heartbeat_ack(&self, to: &RpcHead, out: &mut Vec<u8>) {
        let layout = Layout::of(to.raw()).expect("a head holds what was decoded");
        put_response(to.raw(), layout, CMD_HEARTBEAT, 0, out);
    }

    fn go_away(&self, id: u64, out: &mut Vec<u8>) -> bool {
        put_request(self.version, CMD_GO_AWAY, id, 0, out);
        true
    }

    fn knows_go_away(&self) -> bool {
        // It is MOSN's own.
        false
    }

    fn id_max(&self) -> u64 {
        u32::MAX.into()
    }

    fn begins(&self, src: &[u8]) -> Option<bool> {
        src.first().map(|first| *first == self.version)
    }
}

/// The headers between two places of a frame: name and value by turns, each behind its length. A length of -1 is null in Java; a pair with
/// one is left out.
fn fields(src: &[u8], mut at: usize, end: usize, fields_max: usize) -> Result<HttpHead, Fault> {
    let mut fields = HttpHead::empty();
    let mut count = 0;
    while at < end {
        let name = text(src, &mut at, end)?;
        let value = text(src, &mut at, end)?;
        count += 1;
        if count > fields_max {
            return Err(Fault::TooManyFields);
        }
        if let (Some(name), Some(value)) = (name, value) {
            fields.push(Field { name, value, id: FieldId::of(name.of(src)) });
        }
    }
    Ok(fields)
}

fn text(src: &[u8], at: &mut usize, end: usize) -> Result<Option<Span>, Fault> {
    if end - *at < 4 {
        return Err(Fault::Overrun);
    }
    let len = u32_at(src, *at);
    *at += 4;
    if len == u32::MAX {
        return Ok(None);
    }
    let len = usize::try_from(len).ok().filter(|len| *len <= end - *at).ok_or(Fault::Overrun)?;
    let span = Span::within(*at, *at + len);
    *at += len;
    Ok(Some(span))
}

fn put_fields(fields: &HttpHead, out: &mut Vec<u8>) {
    for (_, name, value) in fields.fields() {
        for part in [name, value] {
            // A head is far shorter than 4 GiB; what is too long for the frame is found by its sum.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
    }
}

/// An answer without headers and content to the request that begins with `to`.
fn put_response(to: &[u8], layout: Layout, command: u16, status: u16, out: &mut Vec<u8>) {
    let start = out.len();
    // As the request had it: the version, what its content is written in, and whether there is a checksum.
    out.extend_from_slice(&to[..layout.varies_at()]);
    let answer = &mut out[start + layout.shift..];
    answer[1] = 0;
    answer[2..4].copy_from_slice(&command.to_be_bytes());
    out.extend_from_slice(&status.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    if layout.has_crc {
        let crc = crc(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }
}

/// A request of the gateway's own: without class, headers and content.
fn put_request(version: u8, command: u16, id: u64, timeout: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(if version == 2 { &[2, 1, 1] } else { &[1, 1] });
    out.extend_from_slice(&command.to_be_bytes());
    out.push(1);
    out.extend_from_slice(&id_bytes(id));
    out.extend_from_slice(if version == 2 { &[CODEC_HESSIAN2, 0] } else { &[CODEC_HESSIAN2] });
    out.extend_from_slice(&timeout.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
}

fn id_bytes(id: u64) -> [u8; 4] {
    u32::try_from(id).expect("numbers are given below id_max").to_be_bytes()
}

/// What HTTP would say: what retries, metrics and logs go by.
fn http_status(status: u16) -> u16 {
    match status {
        0 => 200,
        4 => 503,
        7 => 504,
        0x10 => 502,
        _ => 500,
    }
}

/// The status that says what one of HTTP, or a code of MOSN, does.
fn own_status(code: u16, version: u8) -> u16 {
    match code {
        200 => 0,
        0 => STATUS_CODEC,
        3 => 18,
        404 | 502 => 6,
        503 => 4,
        504 => 7,
        403 if version == 1 => 2,
        _ => 3,
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u16_at(src: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([src[at], src[at + 1]])
}

fn u32_at(src: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([src[at], src[at + 1], src[at + 2], src[at + 3]])
}

fn i32_at(src: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([src[at], src[at + 1], src[at + 2], src[at + 3]])
}

/// The shortest frame: an answer of version 1 without anything in it. Enough to tell where everything is.
const LEAST_BYTES: usize = 20;

const CRC_BYTES: usize = 4;
const CODEC_HESSIAN2: u8 = 1;
const CMD_HEARTBEAT: u16 = 0;
const CMD_REQUEST: u16 = 1;
const CMD_RESPONSE: u16 = 2;
/// MOSN's addition.
const CMD_GO_AWAY: u16 = 100;
/// CODEC_EXCEPTION.
const STATUS_CODEC: u16 = 9;

#[cfg(test)]
#[path = "bolt_tests.rs"]
mod tests;
