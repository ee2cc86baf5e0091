//! Parcel, the protocol of docs/writing-a-codec.md, which quotes this file.
//!
//! ```text
//! 0xE5  kind(1)  status(1)  length of the service(1)  number(4)  length of the content(4)  | service | content
//! ```
//!
//! **Invariant:** a frame that nobody changed leaves as it came, but for its number.

use bytes::Bytes;

use super::{Fault, RpcCodec, RpcFrame, RpcLimits, Step, Unwritable};
use crate::config::schema::RpcProtocol;
use crate::message::{Field, FieldId, HttpHead, RpcHead, RpcKind, Span};

/// Parcel.
pub(super) struct Parcel;

impl RpcCodec for Parcel {
    fn decode(&self, src: &[u8], limits: RpcLimits) -> Result<Step, Fault> {
        if src.first().is_some_and(|first| *first != MAGIC) {
            return Err(Fault::Protocol);
        }
        let Some(fixed) = src.first_chunk::<FIXED_BYTES>() else { return Ok(Step::Needs(FIXED_BYTES)) };
        let [_, kind, status, service_len, id @ ..] = *fixed;
        let kind = KINDS.get(usize::from(kind)).copied().ok_or(Fault::Kind)?;
        let [.., a, b, c, d] = id;
        let content_at = FIXED_BYTES + usize::from(service_len);
        let content_len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let whole = content_at.checked_add(content_len).filter(|len| *len <= limits.frame_bytes_max);
        let whole = whole.ok_or(Fault::TooLong)?;
        if src.len() < whole {
            return Ok(Step::Needs(whole));
        }
        // The fields point into the frame's own bytes; the name of one that is not on the wire stands behind them.
        let text = [&src[..content_at], SERVICE].concat();
        let mut fields = HttpHead::empty();
        if service_len > 0 {
            let (name, value) = (Span::within(content_at, text.len()), Span::within(FIXED_BYTES, content_at));
            fields.push(Field { name, value, id: FieldId::of(SERVICE) });
        }
        let [a, b, c, d, ..] = id;
        let about = (RpcProtocol::Parcel, kind, u64::from(u32::from_be_bytes([a, b, c, d])));
        let head = RpcHead::new(about, fields, (&text, content_at), http_status(status));
        Ok(Step::Frame(RpcFrame { head, content: Bytes::copy_from_slice(&src[content_at..whole]) }, whole))
    }

    fn encode(&self, head: &RpcHead, id: u64, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        if head.protocol != RpcProtocol::Parcel {
            return Err(Unwritable::Foreign);
        }
        let service = head.fields().get("service").unwrap_or_default();
        if head.fields().field_count() > usize::from(!service.is_empty()) {
            return Err(Unwritable::NoHeaders);
        }
        let service_len = u8::try_from(service.len()).map_err(|_| Unwritable::Headers)?;
        let content_len = u32::try_from(content.len()).map_err(|_| Unwritable::Content)?;
        out.extend_from_slice(&head.raw()[..3]);
        out.push(service_len);
        out.extend_from_slice(&number(id));
        out.extend_from_slice(&content_len.to_be_bytes());
        out.extend_from_slice(service);
        out.extend_from_slice(content);
        Ok(())
    }

    fn reply(&self, to: &RpcHead, status: u16, out: &mut Vec<u8>) {
        put(ANSWER, own_status(status), to.id, out);
    }

    fn reply_to_fault(&self, src: &[u8], out: &mut Vec<u8>) {
        // Only who waits for an answer gets one.
        if let [MAGIC, REQUEST, _, _, a, b, c, d, ..] = *src {
            put(ANSWER, own_status(400), u32::from_be_bytes([a, b, c, d]).into(), out);
        }
    }

    fn heartbeat(&self, id: u64, out: &mut Vec<u8>) -> bool {
        put(PING, 0, id, out);
        true
    }

    fn heartbeat_ack(&self, to: &RpcHead, out: &mut Vec<u8>) {
        put(PONG, 0, to.id, out);
    }

    fn go_away(&self, id: u64, out: &mut Vec<u8>) -> bool {
        put(FAREWELL, 0, id, out);
        true
    }

    fn knows_go_away(&self) -> bool {
        true
    }

    fn id_max(&self) -> u64 {
        u32::MAX.into()
    }

    fn begins(&self, src: &[u8]) -> Option<bool> {
        src.first().map(|first| *first == MAGIC)
    }
}

/// A frame without a service and a content.
fn put(kind: u8, status: u8, id: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[MAGIC, kind, status, 0]);
    out.extend_from_slice(&number(id));
    out.extend_from_slice(&[0; 4]);
}

fn number(id: u64) -> [u8; 4] {
    u32::try_from(id).expect("numbers are given up to id_max, and a client's have four bytes").to_be_bytes()
}

/// What HTTP would say: retries, metrics and logs go by it.
fn http_status(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 404,
        2 => 503,
        3 => 504,
        _ => 500,
    }
}

/// The status that says what one of HTTP does.
fn own_status(code: u16) -> u8 {
    match code {
        200 => 0,
        404 => 1,
        502 | 503 => 2,
        504 => 3,
        _ => 4,
    }
}

const MAGIC: u8 = 0xE5;
const FIXED_BYTES: usize = 12;
const SERVICE: &[u8] = b"service";

/// What frames are, by their numbers on the wire.
const KINDS: [RpcKind; 6] =
    [RpcKind::Request, RpcKind::OneWay, RpcKind::Response, RpcKind::Heartbeat, RpcKind::HeartbeatAck, RpcKind::GoAway];
const REQUEST: u8 = 0;
const ANSWER: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;
const FAREWELL: u8 = 5;

#[cfg(test)]
mod tests {
    use super::super::selfcheck;
    use super::*;

    /// `hello` for the service `Echo`, under the number 7.
    const REQUEST: &[u8] = b"\xE5\0\0\x04\0\0\0\x07\0\0\0\x05Echohello";

    const LIMITS: RpcLimits = RpcLimits { frame_bytes_max: 1024, fields_max: 8 };

    fn frame(src: &[u8]) -> RpcFrame {
        match Parcel.decode(src, LIMITS) {
            Ok(Step::Frame(frame, used)) if used == src.len() => frame,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn golden_frames() {
        let mut asked = frame(REQUEST);
        assert_eq!((asked.head.kind, asked.head.id, &asked.content[..]), (RpcKind::Request, 7, &b"hello"[..]));
        assert_eq!(asked.head.fields().get("service"), Some(&b"Echo"[..]));
        asked.head.fields_mut().set("service", b"Other");
        let mut out = Vec::new();
        Parcel.encode(&asked.head, 8, b"", &mut out).unwrap();
        assert_eq!(out, b"\xE5\0\0\x05\0\0\0\x08\0\0\0\0Other");
        out.clear();
        Parcel.reply(&asked.head, 404, &mut out);
        assert_eq!(out, b"\xE5\x02\x01\0\0\0\0\x07\0\0\0\0");
    }

    #[test]
    fn frames_keep_the_promises() {
        for kind in 0..7 {
            let mut src = REQUEST.to_vec();
            src[1] = kind;
            selfcheck::check_in(RpcProtocol::Parcel, 5, &src);
        }
    }

    #[test]
    fn hostile_frames() {
        for (src, fault) in [
            (&b"GET / HTTP/1.1"[..], Fault::Protocol),
            (b"\xE5\x06\0\0\0\0\0\x07\0\0\0\0", Fault::Kind),
            (b"\xE5\0\0\0\0\0\0\x07\xFF\xFF\xFF\xFF", Fault::TooLong),
        ] {
            assert_eq!(Parcel.decode(src, LIMITS).expect_err("it is no frame"), fault);
            selfcheck::check_in(RpcProtocol::Parcel, 5, src);
        }
    }
}
