//! What a head says about its body and its connection, gathered while its fields are parsed.
//!
//! RFC 9112, section 6.3, leaves a recipient choices where a head is ambiguous. This gateway makes none: what can be read in two ways is
//! refused, on requests and on responses, because the next hop might read it the other way.
//!
//! **Invariant:** a head that passes has exactly one body length, and no field that it forwards can say another.

use super::scan::{host_end, list};
use super::{ConnectionOptions, DecodeError};
use crate::message::{BodyLength, FieldId, HttpHead, Method, Version};

/// Which side sent a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    Trailers,
}

/// What the fields seen so far say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    length: Option<u64>,
    coding: Coding,
    said: u16,
    /// How many fields Connection names.
    nominated: usize,
}

/// The transfer codings named so far, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Chunked,
    Unknown,
    Misplaced,
}

impl Facts {
    /// Takes in one field.
    #[inline]
    pub(super) fn note(&mut self, kind: Kind, id: FieldId, value: &[u8]) -> Result<(), DecodeError> {
        if matches!(id, FieldId::Other | FieldId::Date | FieldId::Server) {
            return Ok(());
        }
        if kind == Kind::Trailers { note_trailer(id) } else { self.note_known(kind, id, value) }
    }

    fn note_known(&mut self, kind: Kind, id: FieldId, value: &[u8]) -> Result<(), DecodeError> {
        match id {
            FieldId::Host if kind == Kind::Request => {
                if self.has(HOST) {
                    return Err(DecodeError::HostRepeated);
                }
                self.said |= HOST;
                check_authority(value, false)?;
            }
            FieldId::ContentLength => {
                if self.length.is_some() {
                    return Err(DecodeError::ContentLengthRepeated);
                }
                self.length = Some(content_length(value)?);
            }
            FieldId::TransferEncoding => self.note_coding(value)?,
            FieldId::Connection => self.note_connection(value)?,
            FieldId::Upgrade => self.note_upgrade(value),
            FieldId::Te if list(value).any(|e| e.eq_ignore_ascii_case(b"trailers")) => self.said |= TE_TRAILERS,
            FieldId::Expect if kind == Kind::Request => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(DecodeError::Expectation);
                }
                self.said |= EXPECT;
            }
            _ => {}
        }
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), DecodeError> {
        if self.coding == Coding::None && value.eq_ignore_ascii_case(b"chunked") {
            self.coding = Coding::Chunked;
            return Ok(());
        }
        let mut empty = true;
        for element in value.split(|&b| b == b',').map(super::scan::trim) {
            // "chunked," and ",chunked" are lists that other parsers read in other ways: not the one form that is accepted.
            if element.is_empty() {
                return Err(DecodeError::Coding);
            }
            empty = false;
            self.coding = match (self.coding, element.eq_ignore_ascii_case(b"chunked")) {
                (Coding::None, true) => Coding::Chunked,
                (Coding::None | Coding::Unknown, _) => Coding::Unknown,
                (Coding::Chunked | Coding::Misplaced, _) => Coding::Misplaced,
            };
        }
        if empty { Err(DecodeError::Coding) } else { Ok(()) }
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), DecodeError> {
        for option in list(value) {
            self.said |= match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => CLOSE,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => KEEP_ALIVE,
                7 if option.eq_ignore_ascii_case(b"upgrade") => UPGRADE_OPTION,
                2 if option.eq_ignore_ascii_case(b"te") => 0,
                _ => {
                    self.nominated += 1;
                    0
                }
            };
        }
        // Each is looked for in every field: a head full of them would hold the worker.
        if self.nominated > NOMINATED_FIELDS_MAX { Err(DecodeError::ConnectionOptions) } else { Ok(()) }
    }

    /// An upgrade to HTTP/2 or to TLS would carry requests past every filter, so that such an offer is not heard (a server may ignore
    /// an Upgrade: RFC 9110, 7.8). What is offered beside it is not heard either.
    fn note_upgrade(&mut self, value: &[u8]) {
        let hides = |e: &[u8]| {
            let name = e.split(|&b| b == b'/').next().unwrap_or(e);
            [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
        };
        self.said |= UPGRADE_FIELD;
        if list(value).any(hides) {
            self.said |= UPGRADE_REFUSED;
        }
        if list(value).any(|e| e.eq_ignore_ascii_case(b"h2c")) {
            self.said |= H2C;
        }
    }

    /// The length of a request's body.
    pub(super) fn request_length(&self, method: Method, version: Version) -> Result<BodyLength, DecodeError> {
        if version == Version::Http11 && !self.has(HOST) {
            return Err(DecodeError::HostMissing);
        }
        let length = self.length(version)?;
        // CONNECT has no content, and a client must not send any with TRACE (RFC 9110, 9.3.6 and 9.3.8).
        if matches!(method, Method::Connect | Method::Trace) {
            return if has_content(length) { Err(DecodeError::BodyForbidden) } else { Ok(BodyLength::None) };
        }
        Ok(length)
    }

    /// The length of a response's body, given the method that it answers (RFC 9112, 6.3).
    pub(super) fn response_length(
        &self,
        method: Method,
        status: u16,
        version: Version,
    ) -> Result<BodyLength, DecodeError> {
        let length = self.length(version)?;
        let tunnel = method == Method::Connect && (200..300).contains(&status);
        if tunnel || status < 200 || status == 204 {
            return if has_content(length) { Err(DecodeError::BodyForbidden) } else { Ok(BodyLength::None) };
        }
        if method == Method::Head || status == 304 {
            return Ok(BodyLength::None);
        }
        Ok(if length == BodyLength::None { BodyLength::UntilClose } else { length })
    }

    /// Length by Content-Length or Transfer-Encoding; `None` when the head has neither.
    fn length(&self, version: Version) -> Result<BodyLength, DecodeError> {
        match (self.coding, self.length) {
            (Coding::None, None) => Ok(BodyLength::None),
            (Coding::None, Some(n)) => Ok(BodyLength::Exact(n)),
            (_, Some(_)) => Err(DecodeError::LengthAndCoding),
            (_, None) if version == Version::Http10 => Err(DecodeError::CodingInHttp10),
            (Coding::Chunked, None) => Ok(BodyLength::Chunked),
            (Coding::Unknown, None) => Err(DecodeError::CodingUnknown),
            (Coding::Misplaced, None) => Err(DecodeError::Coding),
        }
    }

    /// What the head says about its connection.
    pub(super) fn options(&self, version: Version) -> ConnectionOptions {
        let modern = version == Version::Http11;
        ConnectionOptions {
            // RFC 9112, 9.3: close wins, else HTTP/1.1 stays open and HTTP/1.0 when it asks for it.
            keep_alive: !self.has(CLOSE) && (modern || self.has(KEEP_ALIVE)),
            upgrade: modern && self.has(UPGRADE_OPTION) && self.has(UPGRADE_FIELD) && !self.has(UPGRADE_REFUSED),
            h2c: modern && self.has(UPGRADE_OPTION) && self.has(H2C),
            te_trailers: modern && self.has(TE_TRAILERS),
            // RFC 9110, 10.1.1: ignored in HTTP/1.0.
            expect_continue: modern && self.has(EXPECT),
        }
    }

    /// Marks the fields that Connection names, so that they are not forwarded. Fields that the gateway knows, and those that are meant
    /// for the far end whatever Connection says, keep their id: else a sender could strip what the origin trusts.
    pub(super) fn mark_nominated(&self, head: &mut HttpHead) {
        if self.nominated == 0 {
            return;
        }
        let (raw, fields) = head.spans_mut();
        for at in 0..fields.len() {
            let name = fields[at].name.of(raw);
            if fields[at].id != FieldId::Other || is_end_to_end(name) {
                continue;
            }
            let named = fields
                .iter()
                .filter(|f| f.id == FieldId::Connection)
                .flat_map(|f| list(f.value.of(raw)))
                .any(|option| option.eq_ignore_ascii_case(name));
            if named {
                fields[at].id = FieldId::Nominated;
            }
        }
    }

    fn has(&self, what: u16) -> bool {
        self.said & what != 0
    }
}

/// Removes what no trailer may be (RFC 9110, 6.5.1): fields about routing, framing, credentials or how to read the content. The ones
/// that could change framing have been refused before.
pub(in crate::codec) fn thin_out_trailers(head: &mut HttpHead) {
    let (raw, fields) = head.spans_mut();
    fields
        .retain(|f| matches!(f.id, FieldId::Other | FieldId::Date | FieldId::Server) && !is_end_to_end(f.name.of(raw)));
}

/// Checks `host [":" port]` (RFC 9110, 7.2; RFC 3986, 3.2.2). No userinfo, no empty host.
pub(in crate::codec) fn check_authority(text: &[u8], port_required: bool) -> Result<(), DecodeError> {
    let mut end = if text.first() == Some(&b'[') { literal_end(text)? } else { host_end(text, 0) };
    while let [b'%', a, b, ..] = text[end..] {
        if !a.is_ascii_hexdigit() || !b.is_ascii_hexdigit() {
            return Err(DecodeError::Host);
        }
        end = host_end(text, end + 3);
    }
    match &text[end..] {
        _ if end == 0 => Err(DecodeError::Host),
        [] | [b':'] if port_required => Err(DecodeError::Host),
        [] => Ok(()),
        [b':', port @ ..] => check_port(port),
        _ => Err(DecodeError::Host),
    }
}

/// Whether these bytes may be a Host or the authority of a target: `host [":" port]`.
#[must_use]
pub fn is_authority(bytes: &[u8]) -> bool {
    check_authority(bytes, false).is_ok()
}

/// Where an IP literal in brackets ends. What could be one is good enough: nothing else has brackets.
fn literal_end(text: &[u8]) -> Result<usize, DecodeError> {
    let close = memchr::memchr(b']', text).ok_or(DecodeError::Host)?;
    let good = |&b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'v' | b'V');
    // Behind it only a port may follow: what a percent sign there would begin is no part of a literal.
    if close > 1 && text[1..close].iter().all(good) && text.get(close + 1).is_none_or(|&b| b == b':') {
        Ok(close + 1)
    } else {
        Err(DecodeError::Host)
    }
}

/// The empty port of `host:` is valid (RFC 3986, 3.2.3).
fn check_port(port: &[u8]) -> Result<(), DecodeError> {
    let mut number = 0u32;
    for &b in port {
        if !b.is_ascii_digit() || number > 0xffff {
            return Err(DecodeError::Host);
        }
        number = number * 10 + u32::from(b - b'0');
    }
    if number > 0xffff { Err(DecodeError::Host) } else { Ok(()) }
}

/// Digits only (RFC 9110, 8.6). A number that a signed parser would read as negative is refused too, and one with so many leading zeros
/// that its digits outnumber those of any 64-bit number.
pub(in crate::codec) fn content_length(value: &[u8]) -> Result<u64, DecodeError> {
    if value.is_empty() || value.len() > 20 {
        return Err(DecodeError::ContentLength);
    }
    let mut n = 0u64;
    for &b in value {
        if !b.is_ascii_digit() {
            return Err(DecodeError::ContentLength);
        }
        n = n.checked_mul(10).and_then(|n| n.checked_add(u64::from(b - b'0'))).ok_or(DecodeError::ContentLength)?;
    }
    if n > i64::MAX.unsigned_abs() { Err(DecodeError::ContentLength) } else { Ok(n) }
}

/// A trailer that says where the message ends or where it goes is an attack, not a mistake.
fn note_trailer(id: FieldId) -> Result<(), DecodeError> {
    match id {
        FieldId::ContentLength | FieldId::TransferEncoding | FieldId::Host => Err(DecodeError::TrailerForbidden),
        _ => Ok(()),
    }
}

fn has_content(length: BodyLength) -> bool {
    !matches!(length, BodyLength::None | BodyLength::Exact(0))
}

/// Fields that Connection can't take away and trailers can't bring.
fn is_end_to_end(name: &[u8]) -> bool {
    let starts = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
    END_TO_END_PREFIXES.iter().any(|p| starts(p)) || END_TO_END.iter().any(|known| name.eq_ignore_ascii_case(known))
}

const END_TO_END_PREFIXES: [&[u8]; 5] = [b"content-", b"x-forwarded-", b"if-", b"access-control-", b"sec-"];

const END_TO_END: [&[u8]; 19] = [
    b"authorization",
    b"proxy-authorization",
    b"proxy-authenticate",
    b"www-authenticate",
    b"cookie",
    b"set-cookie",
    b"cache-control",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-request-id",
    b"location",
    b"origin",
    b"range",
    b"vary",
    b"age",
    b"expires",
    b"max-forwards",
    b"strict-transport-security",
];

/// Fields that Connection may name, at most.
const NOMINATED_FIELDS_MAX: usize = 32;

const HOST: u16 = 1;
const CLOSE: u16 = 1 << 1;
const KEEP_ALIVE: u16 = 1 << 2;
const UPGRADE_OPTION: u16 = 1 << 3;
const UPGRADE_FIELD: u16 = 1 << 4;
const UPGRADE_REFUSED: u16 = 1 << 5;
const TE_TRAILERS: u16 = 1 << 6;
const EXPECT: u16 = 1 << 7;
const H2C: u16 = 1 << 8;
