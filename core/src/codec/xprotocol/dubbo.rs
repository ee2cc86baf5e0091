//! Dubbo 2, over TCP.
//!
//! ```text
//! 0xDABB  flag: request 0x80, two-way 0x40, event 0x20, serialization 0x1F  status  id(8)  length(4)  | the body
//! ```
//!
//! Of a request in Hessian 2 the strings before its arguments and the attachments behind them are shown as fields: `dubbo`, `service`, `version`,
//! `method`, then each attachment that is a pair of strings. The arguments are passed over, never read. Bodies in any other serialization,
//! and those of answers, pass as they are and have no fields.
//!
//! **Invariant:** arguments, and attachments that are no strings, leave as the bytes that came, whatever is changed around them.

mod made;

use std::ops::Range;
use std::time::Duration;

use super::hessian2::{self, Broken, Reader};
use super::{Fault, RpcCodec, RpcFrame, RpcLimits, Step, Unwritable};
use crate::config::schema::RpcProtocol;
use crate::message::{Field, FieldId, HttpHead, RpcHead, RpcKind, Span, spare};

pub use made::{Call, DUBBO_OK, dubbo_parts, dubbo_request, dubbo_response, dubbo_status};

/// Dubbo.
pub(super) struct Dubbo;

/// Where the parts of a request's body in Hessian 2 lie.
struct Layout {
    /// Whether each of `dubbo`, `service`, `version` and `method` is there, in the order of [`NAMES`].
    has: [bool; 4],
    /// The types of the arguments and the arguments.
    arguments: Range<usize>,
    /// The start of the map of attachments, up to its first name; empty where there is no map.
    map: Range<usize>,
    /// Attachments that are no pairs of strings.
    others: Vec<Range<usize>>,
    /// Whether the attachments could be read.
    is_whole: bool,
    /// Whether there are some that could not be.
    is_hiding: bool,
    timeout: Option<Duration>,
}

/// Fields, and the text that they point into: behind the fixed part of the frame.
struct Shown {
    fields: HttpHead,
    text: Vec<u8>,
    fields_max: usize,
}

impl RpcCodec for Dubbo {
    fn decode(&self, src: &[u8], limits: RpcLimits) -> Result<Step, Fault> {
        if src.iter().zip(MAGIC).any(|(byte, magic)| *byte != magic) {
            return Err(Fault::Protocol);
        }
        if src.len() < MAGIC.len() {
            return Ok(Step::Needs(MAGIC.len()));
        }
        let Some(fixed) = src.first_chunk::<FIXED_BYTES>() else { return Ok(Step::Needs(FIXED_BYTES)) };
        let len = usize::try_from(u32::from_be_bytes([fixed[12], fixed[13], fixed[14], fixed[15]])).ok();
        let whole = len.and_then(|len| len.checked_add(FIXED_BYTES)).filter(|len| *len <= limits.frame_bytes_max);
        let whole = whole.ok_or(Fault::TooLong)?;
        if src.len() < whole {
            return Ok(Step::Needs(whole));
        }
        let body = &src[FIXED_BYTES..whole];
        let kind = kind(fixed[2], body);
        let mut shown = Shown { fields: HttpHead::empty(), text: fixed.to_vec(), fields_max: limits.fields_max };
        let is_read = matches!(kind, RpcKind::Request | RpcKind::OneWay) && fixed[2] & SERIALIZATION == HESSIAN2;
        let layout = if is_read { read(body, &mut shown)? } else { None };
        let status = if kind == RpcKind::Response { http_status(fixed[3]) } else { 0 };
        let place = (&shown.text[..], FIXED_BYTES);
        let mut head = RpcHead::new((RpcProtocol::Dubbo, kind, id_of(fixed)), shown.fields, place, status);
        head.is_hiding = is_read && layout.as_ref().is_none_or(|layout| layout.is_hiding);
        head.timeout = layout.and_then(|layout| layout.timeout);
        Ok(Step::Frame(RpcFrame { head, content: spare::copy(body) }, whole))
    }

    fn encode(&self, head: &RpcHead, id: u64, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
        if head.protocol != RpcProtocol::Dubbo {
            return Err(Unwritable::Foreign);
        }
        let start = out.len();
        out.extend_from_slice(&head.raw()[..4]);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        let written = if head.is_unchanged() {
            out.extend_from_slice(content);
            Ok(())
        } else {
            change(head, content, out).map_err(|Broken| Unwritable::Unread)
        };
        let len = u32::try_from(out.len() - start - FIXED_BYTES).map_err(|_| Unwritable::Content);
        match written.and(len) {
            Ok(len) => out[start + 12..start + FIXED_BYTES].copy_from_slice(&len.to_be_bytes()),
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    fn reply(&self, to: &RpcHead, status: u16, out: &mut Vec<u8>) {
        put_reply(to.id, status, out);
    }

    fn reply_to_fault(&self, src: &[u8], out: &mut Vec<u8>) {
        if let Some(fixed) = src.first_chunk::<FIXED_BYTES>()
            && fixed[..2] == MAGIC
            && kind(fixed[2], &[]) == RpcKind::Request
        {
            put_reply(id_of(fixed), 0, out);
        }
    }

    fn heartbeat(&self, id: u64, out: &mut Vec<u8>) -> bool {
        put(REQUEST | TWO_WAY | EVENT | HESSIAN2, 0, id, b"N", out);
        true
    }

    fn heartbeat_ack(&self, to: &RpcHead, out: &mut Vec<u8>) {
        put(EVENT | HESSIAN2, STATUS_OK, to.id, b"NN", out);
    }

    /// The readonly event: whoever gets it asks somebody else.
    fn go_away(&self, id: u64, out: &mut Vec<u8>) -> bool {
        put(REQUEST | EVENT | HESSIAN2, 0, id, READONLY, out);
        true
    }

    fn knows_go_away(&self) -> bool {
        true
    }

    fn id_max(&self) -> u64 {
        // It is signed in Java; no client is given a number that it would print as a negative one.
        i64::MAX.cast_unsigned()
    }

    fn begins(&self, src: &[u8]) -> Option<bool> {
        match src {
            [] => None,
            [first] => (*first != MAGIC[0]).then_some(false),
            [first, second, ..] => Some([*first, *second] == MAGIC),
        }
    }
}

fn kind(flag: u8, body: &[u8]) -> RpcKind {
    match (flag & REQUEST != 0, flag & EVENT != 0, flag & TWO_WAY != 0) {
        (true, true, _) if body == READONLY || body == b"\"R\"" => RpcKind::GoAway,
        (true, true, true) => RpcKind::Heartbeat,
        // An event that wants no answer and is not known says nothing to us, as does the answer to one.
        (true, true, false) | (false, true, _) => RpcKind::HeartbeatAck,
        (true, false, true) => RpcKind::Request,
        (true, false, false) => RpcKind::OneWay,
        (false, false, _) => RpcKind::Response,
    }
}

/// Shows what a request's body says. None: it is not what Dubbo writes, and passes without fields.
fn read(body: &[u8], shown: &mut Shown) -> Result<Option<Layout>, Fault> {
    match layout(body, shown) {
        Ok(layout) => Ok(Some(layout)),
        Err(Unread::Broken) => {
            (shown.fields, shown.text) = (HttpHead::empty(), shown.text[..FIXED_BYTES].to_vec());
            Ok(None)
        }
        Err(Unread::TooMany) => Err(Fault::TooManyFields),
    }
}

enum Unread {
    Broken,
    TooMany,
}

impl From<Broken> for Unread {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

fn layout(body: &[u8], shown: &mut Shown) -> Result<Layout, Unread> {
    let mut reader = Reader::new(body);
    let mut has = [false; 4];
    for (name, has) in NAMES.iter().zip(&mut has) {
        *has = shown.read(name, &mut reader)?;
    }
    let arguments_at = reader.at();
    let mut types = Vec::new();
    reader.string(&mut types)?;
    // What can't be passed over hides the attachments, and nothing else.
    let passed = (0..count(&types)).try_for_each(|_| reader.skip());
    let arguments = arguments_at..reader.at();
    let mut layout =
        Layout { has, arguments, map: 0..0, others: Vec::new(), is_whole: false, is_hiding: false, timeout: None };
    if passed.is_err() {
        layout.is_hiding = true;
        return Ok(layout);
    }
    let kept = (shown.fields.field_count(), shown.text.len());
    match attachments(&mut reader, shown, &mut layout) {
        Ok(()) => layout.is_whole = reader.at() == body.len(),
        Err(Unread::TooMany) => return Err(Unread::TooMany),
        Err(Unread::Broken) => {
            shown.forget(kept);
            (layout.timeout, layout.is_hiding) = (None, true);
        }
    }
    Ok(layout)
}

fn attachments(reader: &mut Reader<'_>, shown: &mut Shown, layout: &mut Layout) -> Result<(), Unread> {
    let map_at = reader.at();
    match reader.peek() {
        None => return Ok(()),
        Some(b'N') => {
            reader.step();
            return Ok(());
        }
        Some(b'H') => reader.step(),
        Some(b'M') => {
            reader.step();
            reader.skip_type()?;
        }
        Some(_) => return Err(Unread::Broken),
    }
    layout.map = map_at..reader.at();
    while reader.peek() != Some(hessian2::END) {
        attachment(reader, shown, layout)?;
    }
    reader.step();
    shown.prefer_interface();
    Ok(())
}

/// Shows an attachment that is a pair of strings; passes over another one, which counts as well: what is kept of it is longer than it may be.
fn attachment(reader: &mut Reader<'_>, shown: &mut Shown, layout: &mut Layout) -> Result<(), Unread> {
    if shown.fields.field_count().saturating_add(layout.others.len()) >= shown.fields_max {
        return Err(Unread::TooMany);
    }
    let (pair_at, name_at) = (reader.at(), shown.text.len());
    let name = if reader.is_string() {
        reader.string(&mut shown.text)?;
        Some(shown.span(name_at))
    } else {
        reader.skip()?;
        None
    };
    let is_timeout = name.is_some_and(|name| name.of(&shown.text) == b"timeout");
    let value_at = shown.text.len();
    if let Some(name) = name.filter(|_| reader.is_string()) {
        reader.string(&mut shown.text)?;
        let value = shown.span(value_at);
        if is_timeout {
            let text = std::str::from_utf8(value.of(&shown.text)).ok();
            layout.wait(text.and_then(|text| text.parse().ok()));
        }
        return shown.push(name, value);
    }
    match reader.number() {
        Some(number) if is_timeout => layout.wait(Some(number)),
        Some(_) => {}
        None => reader.skip()?,
    }
    shown.text.truncate(name_at);
    layout.others.push(pair_at..reader.at());
    Ok(())
}

impl Layout {
    /// Takes a `timeout` in milliseconds, where that is one; of several the shortest, in whatever order they come.
    fn wait(&mut self, millis: Option<i64>) {
        let millis = millis.and_then(|millis| u64::try_from(millis).ok()).filter(|millis| *millis > 0);
        let said = millis.map(|millis| Duration::from_millis(millis.min(TIMEOUT_MILLIS_MAX)));
        self.timeout = said.into_iter().chain(self.timeout).min();
    }
}

impl Shown {
    fn span(&self, start: usize) -> Span {
        Span::within(start, self.text.len())
    }

    /// Reads a string as a field; says whether there is one.
    fn read(&mut self, name: &str, reader: &mut Reader<'_>) -> Result<bool, Unread> {
        let name_at = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        let (name, value_at) = (self.span(name_at), self.text.len());
        if reader.string(&mut self.text)?.is_none() {
            self.text.truncate(name_at);
            return Ok(false);
        }
        let value = self.span(value_at);
        self.push(name, value)?;
        Ok(true)
    }

    fn push(&mut self, name: Span, value: Span) -> Result<(), Unread> {
        if self.fields.field_count() >= self.fields_max {
            return Err(Unread::TooMany);
        }
        let id = FieldId::of(name.of(&self.text));
        self.fields.push(Field { name, value, id });
        Ok(())
    }

    /// The attachment `interface` goes before the path.
    fn prefer_interface(&mut self) {
        let text = &self.text;
        let (_, fields) = self.fields.spans_mut();
        let named = |fields: &[Field], name: &[u8]| fields.iter().position(|field| field.name.of(text) == name);
        if let (Some(interface), Some(service)) = (named(fields, b"interface"), named(fields, b"service")) {
            fields[service].value = fields[interface].value;
        }
    }

    /// Takes back what was shown since there were so many fields and so much text.
    fn forget(&mut self, (fields, text): (usize, usize)) {
        self.fields.spans_mut().1.truncate(fields);
        self.text.truncate(text);
    }

    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let mut fields = self.fields.spans().iter();
        fields.find(|field| field.name.of(&self.text) == name).map(|field| field.value.of(&self.text))
    }
}

/// Writes the body of a request anew, as its fields say.
fn change(head: &RpcHead, content: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let is_request = matches!(head.kind, RpcKind::Request | RpcKind::OneWay);
    if !is_request || head.raw()[2] & SERIALIZATION != HESSIAN2 {
        return Err(Broken);
    }
    let mut before = Shown { fields: HttpHead::empty(), text: Vec::new(), fields_max: usize::MAX };
    let layout = layout(content, &mut before).map_err(|_| Broken)?;
    if !layout.is_whole {
        return Err(Broken);
    }
    let mut fields: Vec<(&[u8], &[u8])> = head.fields().fields().map(|(_, name, value)| (name, value)).collect();
    let (old_service, path) = (before.value(b"service"), path(content));
    let mut new_service = None;
    for (name, has) in NAMES.iter().zip(layout.has) {
        let at = fields.iter().position(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).filter(|_| has);
        let Some((_, value)) = at.map(|at| fields.remove(at)) else {
            out.push(b'N');
            continue;
        };
        let is_service = *name == "service";
        if is_service && Some(value) != old_service {
            new_service = Some(value);
        }
        // Where an attachment names the service the path may be another.
        let own_path = path.as_deref().filter(|_| is_service && new_service.is_none());
        hessian2::put_string(own_path.unwrap_or(value), out)?;
    }
    out.extend_from_slice(&content[layout.arguments]);
    // As it was: what others refer to by number may be its type.
    out.extend_from_slice(if layout.map.is_empty() { b"H" } else { &content[layout.map] });
    for pair in layout.others {
        out.extend_from_slice(&content[pair]);
    }
    for (name, value) in fields {
        let value = new_service.filter(|_| matches!(name, b"path" | b"interface")).unwrap_or(value);
        hessian2::put_string(name, out)?;
        hessian2::put_string(value, out)?;
    }
    out.push(hessian2::END);
    Ok(())
}

/// The path that a request's body says itself.
fn path(content: &[u8]) -> Option<Vec<u8>> {
    let (mut reader, mut text) = (Reader::new(content), Vec::new());
    reader.string(&mut text).ok()?;
    text.clear();
    reader.string(&mut text).ok()?.map(|()| text)
}

/// How many arguments types say, as the JVM writes them: `I`, `[J`, `Ljava/lang/String;`.
fn count(types: &[u8]) -> usize {
    let (mut count, mut rest) = (0, types);
    while let [first, after @ ..] = rest {
        rest = match first {
            b'L' => &after[memchr::memchr(b';', after).map_or(after.len(), |end| end + 1)..],
            _ => after,
        };
        count += usize::from(*first != b'[');
    }
    count
}

/// An answer of the gateway's own: what it says is a string.
fn put_reply(id: u64, code: u16, out: &mut Vec<u8>) {
    // tidy: table
    let (status, text) = match code {
        0 => (70, "codec exception"),
        2 => (70, "unknown"),
        3 => (70, "deserial exception"),
        500 => (70, "internal error"),
        200 => (STATUS_OK, "success"),
        403 => (80, "permission denied"),
        404 => (60, "router unavailable"),
        502 => (60, "no health upstream"),
        503 => (40, "upstream overflow"),
        504 => (30, "timeout"),
        509 => (40, "limit exceeded"),
        _ => (70, ""),
    };
    let text = if text.is_empty() { format!("{code} status not define") } else { format!("{code}|{text}") };
    let mut body = Vec::new();
    hessian2::put_string(text.as_bytes(), &mut body).expect("it is text");
    put(HESSIAN2, status, id, &body, out);
}

fn put(flag: u8, status: u8, id: u64, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[MAGIC[0], MAGIC[1], flag, status]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).expect("a line of text").to_be_bytes());
    out.extend_from_slice(body);
}

fn id_of(fixed: &[u8; FIXED_BYTES]) -> u64 {
    u64::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7], fixed[8], fixed[9], fixed[10], fixed[11]])
}

/// What HTTP would say: what retries, metrics and logs go by.
fn http_status(status: u8) -> u16 {
    match status {
        STATUS_OK => 200,
        30 | 31 => 504,
        35 | 50 => 502,
        40 => 400,
        60 => 404,
        100 => 503,
        _ => 500,
    }
}

const MAGIC: [u8; 2] = [0xDA, 0xBB];
const FIXED_BYTES: usize = 16;
const REQUEST: u8 = 0x80;
const TWO_WAY: u8 = 0x40;
const EVENT: u8 = 0x20;
const SERIALIZATION: u8 = 0x1F;
const HESSIAN2: u8 = 2;
const STATUS_OK: u8 = 20;

/// The longest time that an `int` of Java can say, in milliseconds.
const TIMEOUT_MILLIS_MAX: u64 = 0x7FFF_FFFF;

/// The string `R`.
const READONLY: &[u8] = b"\x01R";

/// The strings that a request begins with, by the names of their fields.
const NAMES: [&str; 4] = ["dubbo", "service", "version", "method"];

#[cfg(test)]
#[path = "dubbo_tests.rs"]
mod tests;
