//! Tars over TCP, and TUP, which is Tars whose content is a map of arguments.
//!
//! ```text
//! length(4), itself included | fields in the order of their tags, each behind a byte of its tag and its type
//! request: 1 version  2 packet  3 message  4 number   5 servant  6 function  7 content  8 timeout  9 context  10 status
//! answer:  1 version  2 packet  3 number   4 message  5 result   6 content   7 status   8 text     9 context
//! ```
//!
//! Of a request the servant is the field `service`, the function `method`; of both each pair of the context is one. A call of `tars_ping`
//! asks whether the peer lives. In TUP (versions 2 and 3) an answer looks like a request whose status says the result: who gets it knows.
//!
//! **Invariant:** what is not shown as a field leaves as the bytes that came, also where nobody here knows its tag; values are passed over
//! with a stack that is bounded.

use std::ops::Range;
use std::time::Duration;

use super::tars_values::{
    BYTES, INT1, MAP, Reader, STRING1, STRING4, ZERO, put_bytes_head, put_len, put_number, put_text,
};
use super::{Fault, RpcCodec, RpcFrame, RpcLimits, Step, Unwritable, named};
use crate::config::limits::RPC_PASSED_DEPTH_MAX;
use crate::config::schema::RpcProtocol;
use crate::message::{FieldId, HttpHead, RpcHead, RpcKind, spare};

/// Tars.
pub(super) struct Tars;

/// What a packet says, and where it lies.
#[derive(Debug, Default)]
struct Packet {
    /// Whether it has the shape of a request; None: it was not read so far.
    is_request: Option<bool>,
    version: i64,
    is_one_way: bool,
    /// Tags 3 and 4: one is the number, the other the kind of message.
    numbers: [Option<(i64, Range<usize>)>; 2],
    servant: Range<usize>,
    function: Range<usize>,
    /// Servant and function with what stands before them.
    names: Range<usize>,
    result: i64,
    text: Range<usize>,
    timeout: i64,
    /// The content with what stands before it.
    content_at: usize,
    content: Option<Range<usize>>,
    content_len: usize,
    status: Range<usize>,
    /// All of the context; where there is none, the place for one.
    context: Option<Range<usize>>,
}

impl RpcCodec for Tars {
    fn decode(&self, src: &[u8], limits: RpcLimits) -> Result<Step, Fault> {
        let Some([len @ .., first]) = src.first_chunk::<OPENING_BYTES>() else { return Ok(Step::Needs(OPENING_BYTES)) };
        let whole = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        if whole > limits.frame_bytes_max {
            return Err(Fault::TooLong);
        }
        if whole <= LENGTH_BYTES || *first != VERSION_HEAD {
            return Err(Fault::Protocol);
        }
        let Some(src) = src.get(..whole) else { return Ok(Step::Needs(whole)) };
        let packet = Packet::of(src, None)?;
        let content = packet.content.clone().ok_or(Fault::Malformed)?;
        let text = named::text([&src[..content.start], &src[content.end..]]);
        let kind = packet.kind(src);
        let (fields, id) = (packet.fields(&text, limits.fields_max, content.start)?, packet.id()?.0);
        let status = if kind == RpcKind::Response { http_status(packet.result) } else { 0 };
        let id = u64::from(id.cast_unsigned());
        let mut head = RpcHead::new((RpcProtocol::Tars, kind, id), fields, (&text, content.start), status);
        let millis = u64::try_from(packet.timeout).ok().filter(|millis| *millis > 0);
        head.timeout = millis.map(Duration::from_millis);
        spare::give(text);
        Ok(Step::Frame(RpcFrame { head, content: spare::copy(&src[content]) }, whole))
    }

    fn of_origin(&self, head: &mut RpcHead) {
        // The version, the first of all values and one byte long, tells what most answers are: then the packet is not read again.
        if head.raw().get(VERSION_AT).is_none_or(|version| !TUP.contains(&i64::from(*version))) {
            return;
        }
        let (text, packet) = received(head);
        if packet.is_request == Some(true) && TUP.contains(&packet.version) {
            let said = pairs(text, packet.status).find_map(|pair| {
                let (name, value) = pair.ok()?;
                (text[name] == *RESULT_CODE).then_some(value)
            });
            // An answer that does not say it is one that went well.
            let result = said.map(|said| std::str::from_utf8(&text[said]).ok().and_then(|said| said.parse().ok()));
            head.answer(http_status(result.map_or(0, |result| result.unwrap_or(RESULT_UNKNOWN))));
        }
    }

    fn encode(&self, head: &RpcHead, id: u64, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        if head.protocol != RpcProtocol::Tars {
            return Err(Unwritable::Foreign);
        }
        let (text, packet) = received(head);
        let (start, is_changed) = (out.len(), !head.is_unchanged());
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        let (_, number) = packet.id().expect("it was decoded");
        out.extend_from_slice(&text[LENGTH_BYTES..number.start]);
        if id == head.id {
            out.extend_from_slice(&text[number.clone()]);
        } else {
            put_number(packet.number_tag(), signed(id), out);
        }
        let mut rest = Fields { head: head.fields(), taken: [None; 2] };
        if is_changed && packet.is_request == Some(true) {
            out.extend_from_slice(&text[number.end..packet.names.start]);
            put_text(TAG_SERVANT, rest.take("service"), out);
            put_text(TAG_FUNCTION, rest.take("method"), out);
            out.extend_from_slice(&text[packet.names.end..packet.content_at]);
        } else {
            out.extend_from_slice(&text[number.end..packet.content_at]);
        }
        let content_start = head.raw().len();
        if content.len() == packet.content_len {
            out.extend_from_slice(&text[packet.content_at..content_start]);
        } else {
            put_bytes_head(packet.content_tag(), content.len(), out);
        }
        out.extend_from_slice(content);
        match packet.context.filter(|_| is_changed) {
            Some(context) => {
                out.extend_from_slice(&text[content_start..context.start]);
                rest.put(out);
                out.extend_from_slice(&text[context.end..]);
            }
            None => out.extend_from_slice(&text[content_start..]),
        }
        let len = u32::try_from(out.len() - start).map_err(|_| {
            out.truncate(start);
            Unwritable::Content
        })?;
        out[start..start + LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }

    fn reply(&self, to: &RpcHead, status: u16, out: &mut Vec<u8>) {
        let (text, packet) = received(to);
        put_reply(&packet, text, signed(to.id), own_result(status), out);
    }

    fn reply_to_fault(&self, src: &[u8], out: &mut Vec<u8>) {
        let mut packet = Packet::default();
        // What is wrong with it may stand behind what is asked here.
        let _ = packet.read(src, None);
        if packet.is_request == Some(true)
            && !packet.is_one_way
            && let Ok((id, _)) = packet.id()
        {
            put_reply(&packet, src, id, (RESULT_DECODE, "codec exception"), out);
        }
    }

    /// A call of `tars_ping`: who has no such servant says so, and lives.
    fn heartbeat(&self, id: u64, out: &mut Vec<u8>) -> bool {
        framed(out, |out| {
            for (tag, number) in [(1, VERSION_TARS), (2, 0), (3, 0), (4, signed(id).into())] {
                put_number(tag, number, out);
            }
            put_text(TAG_SERVANT, b"", out);
            put_text(TAG_FUNCTION, PING, out);
            put_bytes_head(7, 0, out);
            put_number(8, 0, out);
            out.extend_from_slice(&[9 << 4 | MAP, ZERO, 10 << 4 | MAP, ZERO]);
        });
        true
    }

    fn heartbeat_ack(&self, to: &RpcHead, out: &mut Vec<u8>) {
        let (text, packet) = received(to);
        put_reply(&packet, text, signed(to.id), (0, ""), out);
    }

    /// What TarsGo's and TarsCpp's servers send before they close: their clients send no more. Those of others drop it, as it answers nothing.
    fn go_away(&self, _: u64, out: &mut Vec<u8>) -> bool {
        put_answer(0, (&[], 0, RECONNECT), out);
        true
    }

    fn knows_go_away(&self) -> bool {
        true
    }

    fn id_max(&self) -> u64 {
        // It is signed.
        i32::MAX.cast_unsigned().into()
    }

    fn begins(&self, src: &[u8]) -> Option<bool> {
        match src {
            [first, ..] if *first > named::LENGTH_FIRST_MAX => Some(false),
            [_, _, _, _, VERSION_HEAD, version, ..] => Some(matches!(version, 1..=3)),
            [_, _, _, _, other, ..] if *other != VERSION_HEAD => Some(false),
            _ => None,
        }
    }
}

/// The frame of a head without its content, and what it says.
fn received(head: &RpcHead) -> (&[u8], Packet) {
    let text = named::own(head.received());
    (text, Packet::of(text, Some(head.raw().len())).expect("a head holds what was decoded"))
}

impl Packet {
    /// Reads a packet. With `cut` its content was taken out there.
    fn of(src: &[u8], cut: Option<usize>) -> Result<Self, Fault> {
        let mut packet = Self::default();
        packet.read(src, cut)?;
        packet.context.get_or_insert(src.len()..src.len());
        let is_whole =
            packet.content.is_some() && packet.id().is_ok() && (VERSION_TARS..=*TUP.end()).contains(&packet.version);
        if is_whole { Ok(packet) } else { Err(Fault::Malformed) }
    }

    /// Reads as far as the packet is one.
    fn read(&mut self, src: &[u8], cut: Option<usize>) -> Result<(), Fault> {
        let (mut reader, mut last) = (Reader::new(src, LENGTH_BYTES), 0);
        while reader.at() < src.len() {
            let at = reader.at();
            let (tag, kind) = reader.head()?;
            if tag <= last {
                return Err(Fault::Malformed);
            }
            last = tag;
            if tag > TAG_CONTEXT {
                self.context.get_or_insert(at..at);
            }
            self.take((tag, kind), at, &mut reader, cut)?;
        }
        Ok(())
    }

    /// Takes a field that begins at `at`; the reader is behind its first byte.
    fn take(
        &mut self,
        (tag, kind): (u8, u8),
        at: usize,
        reader: &mut Reader<'_>,
        cut: Option<usize>,
    ) -> Result<(), Fault> {
        // tidy: table
        match (tag, self.is_request) {
            (1, _) => self.version = reader.number(kind)?,
            (2, _) => self.is_one_way = reader.number(kind)? == ONE_WAY,
            (3 | 4, _) => self.numbers[usize::from(tag) - 3] = Some((reader.number(kind)?, at..reader.at())),
            (TAG_SERVANT, _) if matches!(kind, STRING1 | STRING4) => {
                self.is_request = Some(true);
                self.servant = reader.text(kind)?;
                self.names = at..reader.at();
            }
            (5, _) => {
                self.is_request = Some(false);
                self.result = reader.number(kind)?;
            }
            (TAG_FUNCTION, Some(true)) => {
                self.function = reader.text(kind)?;
                self.names.end = reader.at();
            }
            (7, Some(true)) | (6, Some(false)) => {
                if kind != BYTES {
                    return Err(Fault::Malformed);
                }
                self.content_at = at;
                self.content_len = reader.bytes_head()?;
                let start = reader.at();
                reader.pass(if cut.is_some() { 0 } else { self.content_len })?;
                self.content = Some(start..reader.at());
            }
            (8, Some(true)) => self.timeout = reader.number(kind)?,
            (8, Some(false)) => self.text = reader.text(kind)?,
            (10, Some(true)) | (7, Some(false)) => {
                reader.skip(kind, RPC_PASSED_DEPTH_MAX)?;
                self.status = at..reader.at();
            }
            (TAG_CONTEXT, Some(_)) => {
                reader.skip(kind, RPC_PASSED_DEPTH_MAX)?;
                self.context = Some(at..reader.at());
            }
            _ => reader.skip(kind, RPC_PASSED_DEPTH_MAX)?,
        }
        Ok(())
    }

    fn number_tag(&self) -> u8 {
        if self.is_request == Some(true) { 4 } else { 3 }
    }

    fn content_tag(&self) -> u8 {
        if self.is_request == Some(true) { 7 } else { 6 }
    }

    /// Its number, and where that stands.
    fn id(&self) -> Result<(i32, Range<usize>), Fault> {
        let (id, at) = self.numbers[usize::from(self.number_tag()) - 3].clone().ok_or(Fault::Malformed)?;
        Ok((i32::try_from(id).map_err(|_| Fault::Malformed)?, at))
    }

    fn kind(&self, src: &[u8]) -> RpcKind {
        let (is_ping, is_push) = (src[self.function.clone()] == *PING, self.id().is_ok_and(|(id, _)| id == 0));
        match (self.is_request == Some(true), self.is_one_way) {
            // It wants no answer, and says nothing else.
            (true, true) if is_ping => RpcKind::HeartbeatAck,
            (true, false) if is_ping => RpcKind::Heartbeat,
            (true, true) => RpcKind::OneWay,
            (true, false) => RpcKind::Request,
            (false, _) if is_push && src[self.text.clone()] == *RECONNECT => RpcKind::GoAway,
            (false, _) => RpcKind::Response,
        }
    }

    /// Its fields, as places in `text`: the frame without its content, which was at `cut`, and the names behind it.
    fn fields(&self, text: &[u8], fields_max: usize, cut: usize) -> Result<HttpHead, Fault> {
        let mut fields = HttpHead::empty();
        if self.is_request == Some(true) {
            named::push_names(&mut fields, text, &self.servant, &self.function);
        }
        let gone = self.content.as_ref().map_or(0, Range::len);
        let context = self.context.clone().unwrap_or(cut..cut);
        let shift = |at: usize| if at >= cut + gone { at - gone } else { at };
        for pair in pairs(named::own(text), shift(context.start)..shift(context.end)) {
            let (name, value) = pair?;
            if fields.field_count() >= fields_max {
                return Err(Fault::TooManyFields);
            }
            named::push(&mut fields, text, name, value);
        }
        Ok(fields)
    }
}

/// The pairs of a map of strings.
fn pairs(src: &[u8], map: Range<usize>) -> impl Iterator<Item = Result<(Range<usize>, Range<usize>), Fault>> {
    let (mut reader, mut left) = (Reader::new(&src[..map.end], map.start), None);
    std::iter::from_fn(move || {
        let count = match left {
            None if reader.at() == map.end => return None,
            None => match reader.map_head() {
                Ok(count) => count,
                Err(fault) => {
                    left = Some(0);
                    return Some(Err(fault));
                }
            },
            Some(count) => count,
        };
        left = Some(count.checked_sub(1)?);
        let pair = reader.string(0).and_then(|name| Ok((name, reader.string(1)?)));
        if pair.is_err() {
            left = Some(0);
        }
        Some(pair)
    })
}

/// The fields of a head that is written anew.
struct Fields<'h> {
    head: &'h HttpHead,
    /// The places of those that are no part of the context.
    taken: [Option<usize>; 2],
}

impl<'h> Fields<'h> {
    /// The first field of a name; empty where it was removed.
    fn take(&mut self, name: &str) -> &'h [u8] {
        let is_it = |(_, found, _): &(FieldId, &[u8], &[u8])| found.eq_ignore_ascii_case(name.as_bytes());
        let at = self.head.fields().position(|field| is_it(&field));
        self.taken[usize::from(self.taken[0].is_some())] = at;
        at.and_then(|at| self.head.fields().nth(at)).map_or(&[], |(_, _, value)| value)
    }

    /// Writes the others as a context.
    fn put(&self, out: &mut Vec<u8>) {
        let taken = self.taken.iter().filter(|taken| taken.is_some()).count();
        out.push(TAG_CONTEXT << 4 | MAP);
        put_len(self.head.field_count() - taken, out);
        for (at, (_, name, value)) in self.head.fields().enumerate() {
            if !self.taken.contains(&Some(at)) {
                put_text(0, name, out);
                put_text(1, value, out);
            }
        }
    }
}

/// Writes a frame behind its length.
fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write(out);
    let len = u32::try_from(out.len() - start).expect("names and a line of text");
    out[start..start + LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
}

/// An answer of the gateway's own to a request that was read as far as its servant.
fn put_reply(packet: &Packet, src: &[u8], id: i32, (result, text): (i64, &str), out: &mut Vec<u8>) {
    if !TUP.contains(&packet.version) {
        // A call that went well has a result: a zero.
        let content: &[u8] = if result == 0 { &[ZERO] } else { &[] };
        return put_answer(id, (content, result, text.as_bytes()), out);
    }
    framed(out, |out| {
        for (tag, number) in [(1, packet.version), (2, 0), (3, 0), (4, id.into())] {
            put_number(tag, number, out);
        }
        put_text(TAG_SERVANT, &src[packet.servant.clone()], out);
        put_text(TAG_FUNCTION, &src[packet.function.clone()], out);
        put_bytes_head(7, NO_ARGUMENTS.len(), out);
        out.extend_from_slice(NO_ARGUMENTS);
        put_number(8, 0, out);
        out.extend_from_slice(&[9 << 4 | MAP, ZERO, 10 << 4 | MAP]);
        put_number(0, 2, out);
        for (name, value) in [(RESULT_CODE, result.to_string().as_str()), (RESULT_TEXT, text)] {
            put_text(0, name, out);
            put_text(1, value.as_bytes(), out);
        }
    });
}

/// An answer in the shape of one.
fn put_answer(id: i32, (content, result, text): (&[u8], i64, &[u8]), out: &mut Vec<u8>) {
    framed(out, |out| {
        for (tag, number) in [(1, VERSION_TARS), (2, 0), (3, id.into()), (4, 0), (5, result)] {
            put_number(tag, number, out);
        }
        put_bytes_head(6, content.len(), out);
        out.extend_from_slice(content);
        out.extend_from_slice(&[7 << 4 | MAP, ZERO]);
        put_text(8, text, out);
        out.extend_from_slice(&[9 << 4 | MAP, ZERO]);
    });
}

fn signed(id: u64) -> i32 {
    u32::try_from(id).expect("numbers are given below id_max, and a client's have four bytes").cast_signed()
}

/// What HTTP would say: what retries, metrics and logs go by.
fn http_status(result: i64) -> u16 {
    match result {
        0 => 200,
        RESULT_DECODE => 400,
        -3 | RESULT_NO_SERVANT => 404,
        -6 | RESULT_TIMEOUT => 504,
        RESULT_CONNECT | -12 | -13 => 502,
        RESULT_OVERLOAD | -10 => 503,
        _ => 500,
    }
}

/// The result and the text that say what a status of HTTP, or a code of MOSN, does.
fn own_result(code: u16) -> (i64, &'static str) {
    match code {
        200 => (0, ""),
        0 | 3 | 400 => (RESULT_DECODE, "codec exception"),
        403 => (RESULT_UNKNOWN, "permission denied"),
        404 => (RESULT_NO_SERVANT, "router unavailable"),
        502 => (RESULT_CONNECT, "no health upstream"),
        503 => (RESULT_OVERLOAD, "upstream overflow"),
        504 => (RESULT_TIMEOUT, "timeout"),
        _ => (RESULT_UNKNOWN, "internal error"),
    }
}

const LENGTH_BYTES: usize = 4;
/// What tells a frame of Tars: its length, and the head of its first field.
const OPENING_BYTES: usize = LENGTH_BYTES + 1;

/// Where the version is, the first field, in a byte.
const VERSION_AT: usize = LENGTH_BYTES + 1;
const VERSION_HEAD: u8 = 1 << 4 | INT1;
const VERSION_TARS: i64 = 1;
/// The versions of TUP.
const TUP: std::ops::RangeInclusive<i64> = 2..=3;
const ONE_WAY: i64 = 1;
const TAG_SERVANT: u8 = 5;
const TAG_FUNCTION: u8 = 6;
const TAG_CONTEXT: u8 = 9;

const PING: &[u8] = b"tars_ping";
const RECONNECT: &[u8] = b"_reconnect_";

/// Results.
const RESULT_DECODE: i64 = -1;
const RESULT_NO_SERVANT: i64 = -4;
const RESULT_TIMEOUT: i64 = -7;
const RESULT_CONNECT: i64 = -8;
const RESULT_OVERLOAD: i64 = -9;
const RESULT_UNKNOWN: i64 = -99;

/// Where the status of an answer in TUP says the result.
const RESULT_CODE: &[u8] = b"STATUS_RESULT_CODE";
const RESULT_TEXT: &[u8] = b"STATUS_RESULT_DESC";

/// The content of TUP: a map without arguments.
const NO_ARGUMENTS: &[u8] = &[MAP, ZERO];

#[cfg(test)]
#[path = "tars_tests.rs"]
mod tests;
