//! Header blocks to heads: the rules of RFC 9113, sections 8.2 and 8.3, and the limits of a head.
//!
//! A head is written as HTTP/1.1 text, its start line made from the pseudo-header fields. Cookies that came in pieces are joined
//! (RFC 9113, 8.2.3). An extended CONNECT (RFC 8441) becomes the GET with Upgrade that it would be.
//!
//! **Invariant:** a request that passes has one method, one target, one host and one body length, and its text reads the same to whoever
//! reads it; what is refused was decoded to its end all the same.

use super::error::Malformed;
use super::hpack::{Decoder, Fields, HpackError};
use super::rules::{check_name, check_value, is_of_connection};
use crate::codec::http1::{DecodeError, check_authority, content_length, is_authority, target_end, thin_out_trailers};
use crate::codec::websocket::WEBSOCKET;
use crate::config::Limits;
use crate::message::{Field, FieldId, HttpHead, Method, Span, StartLine, Version, is_token};

/// What a header block is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// The head of a request.
    Request,
    /// The head of a response.
    Response,
    /// Trailers of either.
    Trailers,
}

/// A head, and what it says of what follows.
#[derive(Debug)]
pub struct Decoded {
    /// The head, as HTTP/1.1 text.
    pub head: HttpHead,
    /// What content-length says.
    pub content_length: Option<u64>,
    /// Whether the sender takes trailers.
    pub te_trailers: bool,
    /// Whether it was an extended CONNECT: its head offers the upgrade of HTTP/1.1.
    pub upgrade: bool,
}

/// Why a head is not taken. The connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// It breaks the protocol: the stream is reset.
    Malformed(Malformed),
    /// It breaks a limit: a request is answered.
    Refused(DecodeError),
}

/// What bounds a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// See [`Limits::request_line_bytes_max`].
    pub request_line_bytes_max: usize,
    /// See [`Limits::head_bytes_max`]; each field counts for 32 bytes more than it has (RFC 9113, 10.5.1).
    pub head_bytes_max: usize,
    /// See [`Limits::head_fields_max`].
    pub head_fields_max: usize,
}

/// Reads the header blocks of one connection.
#[derive(Debug)]
pub struct HeadDecoder {
    hpack: Decoder,
    limits: HeadLimits,
    extended_connect: bool,
    scratch: Scratch,
}

/// What a head is put together in.
#[derive(Debug, Default)]
struct Scratch {
    text: Vec<u8>,
    pseudo: Vec<u8>,
    cookies: Vec<u8>,
}

impl From<&Limits> for HeadLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            request_line_bytes_max: limits.request_line_bytes_max,
            head_bytes_max: limits.head_bytes_max,
            head_fields_max: limits.head_fields_max,
        }
    }
}

impl From<Malformed> for HeadError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl HeadDecoder {
    /// A decoder at the start of a connection whose peer was told of a compression table of this size.
    #[must_use]
    pub fn new(table_bytes_max: usize, limits: HeadLimits) -> Self {
        Self { hpack: Decoder::new(table_bytes_max), limits, extended_connect: false, scratch: Scratch::default() }
    }

    /// From now on the peer may ask by extended CONNECT: it was told so (RFC 8441, 3).
    pub fn allow_extended_connect(&mut self) {
        self.extended_connect = true;
    }

    /// Decodes a block, which is whole.
    ///
    /// # Errors
    /// When it breaks the compression: the connection is lost. Inside, when the head is not taken.
    pub fn decode(&mut self, kind: HeadKind, block: &[u8]) -> Result<Result<Decoded, HeadError>, HpackError> {
        let mut builder = Builder::new((kind, self.extended_connect), self.limits, &mut self.scratch);
        self.hpack.decode(block, &mut builder)?;
        Ok(builder.finish())
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let Scratch { text, pseudo, cookies } = &self.scratch;
        self.hpack.held_bytes() + text.capacity() + pseudo.capacity() + cookies.capacity()
    }

    /// Gives back what is not needed between two heads.
    pub fn release(&mut self) {
        self.hpack.release();
        self.scratch = Scratch::default();
    }
}

/// A head in the making.
struct Builder<'s> {
    kind: HeadKind,
    extended_connect: bool,
    limits: HeadLimits,
    scratch: &'s mut Scratch,
    head: HttpHead,
    line: StartLine,
    /// By [`Pseudo`], the places of their values; none for those that have not come.
    pseudo: [Option<Span>; PSEUDO_COUNT],
    /// A field has come: no pseudo-header field may follow.
    begun: bool,
    size: usize,
    content_length: Option<u64>,
    te_trailers: bool,
    has_host: bool,
    error: Option<HeadError>,
}

/// The pseudo-header fields (RFC 9113, 8.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Protocol,
}

const PSEUDO_COUNT: usize = 6;

impl Fields for Builder<'_> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.error.is_none()
            && let Err(error) = self.take(name, value)
        {
            self.error = Some(error);
        }
    }
}

impl<'s> Builder<'s> {
    fn new((kind, extended_connect): (HeadKind, bool), limits: HeadLimits, scratch: &'s mut Scratch) -> Self {
        scratch.text.clear();
        scratch.pseudo.clear();
        scratch.cookies.clear();
        Self {
            kind,
            extended_connect,
            limits,
            scratch,
            head: HttpHead::empty(),
            line: StartLine::None,
            pseudo: [None; PSEUDO_COUNT],
            begun: false,
            size: 0,
            content_length: None,
            te_trailers: false,
            has_host: false,
            error: None,
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        self.size += name.len() + value.len() + FIELD_OVERHEAD_BYTES;
        if self.size > self.limits.head_bytes_max {
            return Err(HeadError::Refused(DecodeError::HeadTooLarge));
        }
        if name.first() == Some(&b':') {
            return Ok(self.take_pseudo(name, value)?);
        }
        if !self.begun {
            self.begin()?;
        }
        check_name(name)?;
        check_value(value)?;
        if self.kind == HeadKind::Request && name == b"cookie" {
            let cookies = &mut self.scratch.cookies;
            if !cookies.is_empty() {
                cookies.extend_from_slice(b"; ");
            }
            cookies.extend_from_slice(value);
            return Ok(());
        }
        let id = FieldId::of(name);
        if id == FieldId::Other || self.judge(id, value)? {
            self.put(id, name, value)?;
        }
        Ok(())
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if self.begun {
            return Err(Malformed::PseudoLate);
        }
        let pseudo = match name {
            b":method" => Pseudo::Method,
            b":scheme" => Pseudo::Scheme,
            b":authority" => Pseudo::Authority,
            b":path" => Pseudo::Path,
            b":status" => Pseudo::Status,
            b":protocol" if self.extended_connect => Pseudo::Protocol,
            _ => return Err(Malformed::PseudoUnknown),
        };
        let of_kind = match self.kind {
            HeadKind::Request => pseudo != Pseudo::Status,
            HeadKind::Response => pseudo == Pseudo::Status,
            HeadKind::Trailers => false,
        };
        if !of_kind {
            return Err(Malformed::PseudoForbidden);
        }
        let place = &mut self.pseudo[pseudo as usize];
        if place.is_some() {
            return Err(Malformed::PseudoRepeated);
        }
        let bytes = &mut self.scratch.pseudo;
        let start = bytes.len();
        bytes.extend_from_slice(value);
        *place = Some(Span::new(start, bytes.len()));
        Ok(())
    }

    fn value(&self, pseudo: Pseudo) -> Option<&[u8]> {
        self.pseudo[pseudo as usize].map(|span| span.of(&self.scratch.pseudo))
    }

    /// All pseudo-header fields are there: writes the start line, and the Host.
    fn begin(&mut self) -> Result<(), HeadError> {
        self.begun = true;
        match self.kind {
            HeadKind::Request => {
                let mut text = std::mem::take(&mut self.scratch.text);
                let (line, fields) = self.put_request_line(&mut text)?;
                (self.scratch.text, self.line) = (text, line);
                fields.into_iter().flatten().for_each(|field| self.head.push(field));
                Ok(())
            }
            HeadKind::Response => Ok(self.begin_response()?),
            HeadKind::Trailers => Ok(()),
        }
    }

    /// The start line, and the fields that follow from the pseudo-header fields.
    fn put_request_line(&self, text: &mut Vec<u8>) -> Result<(StartLine, [Option<Field>; 2]), HeadError> {
        let name = self.value(Pseudo::Method).ok_or(Malformed::PseudoMissing)?;
        if !is_token(name) {
            return Err(Malformed::Method.into());
        }
        let extended = self.check_protocol(name)?;
        // RFC 6455, 4.1: what asks for a WebSocket is a GET.
        let name = if extended { b"GET" } else { name };
        let method = Method::of(name);
        let authority = self.authority();
        let target = self.check_target(method, authority)?;
        if name.len() + target.len() + LINE_OVERHEAD_BYTES > self.limits.request_line_bytes_max {
            return Err(HeadError::Refused(DecodeError::RequestLineTooLong));
        }
        for part in [name, b" ", target, b" HTTP/1.1\r\n"] {
            text.extend_from_slice(part);
        }
        let method_end = name.len();
        let line = StartLine::Request {
            method,
            method_span: Span::new(0, method_end),
            target: Span::new(method_end + 1, method_end + 1 + target.len()),
            version: Version::Http2,
        };
        let host = authority.map(|authority| put_line(text, FieldId::Host, b"Host", authority));
        Ok((line, [host, extended.then(|| put_line(text, FieldId::Upgrade, b"Upgrade", WEBSOCKET))]))
    }

    /// Whether this is an extended CONNECT, and for a protocol that is passed on (RFC 8441, 4).
    fn check_protocol(&self, method: &[u8]) -> Result<bool, HeadError> {
        match self.value(Pseudo::Protocol) {
            None => Ok(false),
            Some(_) if Method::of(method) != Method::Connect => Err(Malformed::PseudoForbidden.into()),
            Some(protocol) if !is_token(protocol) => Err(Malformed::Protocol.into()),
            Some(protocol) if protocol.eq_ignore_ascii_case(WEBSOCKET) => Ok(true),
            Some(_) => Err(HeadError::Refused(DecodeError::Protocol)),
        }
    }

    /// An empty authority is as good as none: the Host may say it.
    fn authority(&self) -> Option<&[u8]> {
        self.value(Pseudo::Authority).filter(|authority| !authority.is_empty())
    }

    /// The request target, if the pseudo-header fields are those that the method asks for (RFC 9113, 8.3.1 and 8.5).
    fn check_target<'t>(&'t self, method: Method, authority: Option<&'t [u8]>) -> Result<&'t [u8], Malformed> {
        let (scheme, path) = (self.value(Pseudo::Scheme), self.value(Pseudo::Path));
        if method == Method::Connect {
            return match (scheme, path, authority) {
                (None, None, Some(authority)) if check_authority(authority, true).is_ok() => Ok(authority),
                (None, None, Some(_)) => Err(Malformed::Authority),
                (None, None, None) => Err(Malformed::PseudoMissing),
                _ => Err(Malformed::PseudoForbidden),
            };
        }
        let (Some(scheme), Some(path)) = (scheme, path) else { return Err(Malformed::PseudoMissing) };
        if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
            return Err(Malformed::Scheme);
        }
        if authority.is_some_and(|authority| !is_authority(authority)) {
            return Err(Malformed::Authority);
        }
        match path {
            b"*" if method == Method::Options => Ok(path),
            [b'/', ..] if target_end(path, 0) == path.len() => Ok(path),
            _ => Err(Malformed::Path),
        }
    }

    fn begin_response(&mut self) -> Result<(), Malformed> {
        let status = match self.value(Pseudo::Status).ok_or(Malformed::PseudoMissing)? {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(**digit - b'0'))
            }
            _ => return Err(Malformed::Status),
        };
        // RFC 9113, 8.6: there is no upgrade in HTTP/2.
        if status == 101 {
            return Err(Malformed::Status);
        }
        let text = &mut self.scratch.text;
        text.extend_from_slice(b"HTTP/1.1 ");
        text.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        text.extend_from_slice(b" \r\n");
        let end = text.len() - 2;
        self.line = StartLine::Response { status, reason: Span::new(end, end), version: Version::Http2 };
        Ok(())
    }

    /// What a field that the gateway knows means; whether it becomes a line.
    fn judge(&mut self, id: FieldId, value: &[u8]) -> Result<bool, HeadError> {
        if is_of_connection(id) {
            return Err(Malformed::ConnectionField.into());
        }
        match (id, self.kind) {
            (FieldId::ContentLength | FieldId::Host, HeadKind::Trailers) => {
                return Err(Malformed::TrailerForbidden.into());
            }
            (FieldId::Host, HeadKind::Request) => return Ok(self.take_host(value)?),
            (FieldId::ContentLength, _) => {
                if self.content_length.is_some() {
                    return Err(Malformed::ContentLengthRepeated.into());
                }
                self.content_length = Some(content_length(value).map_err(|_| Malformed::ContentLength)?);
            }
            (FieldId::Te, _) => {
                if !value.eq_ignore_ascii_case(b"trailers") {
                    return Err(Malformed::Te.into());
                }
                self.te_trailers = true;
            }
            (FieldId::Expect, HeadKind::Request) if !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(HeadError::Refused(DecodeError::Expectation));
            }
            _ => {}
        }
        Ok(true)
    }

    /// A Host beside an authority must be the same, and is not written again (RFC 9113, 8.3.1).
    fn take_host(&mut self, value: &[u8]) -> Result<bool, Malformed> {
        if self.has_host {
            return Err(Malformed::HostRepeated);
        }
        self.has_host = true;
        match self.authority() {
            Some(authority) if authority.eq_ignore_ascii_case(value) => Ok(false),
            Some(_) => Err(Malformed::HostDiffers),
            None if is_authority(value) => Ok(true),
            None => Err(Malformed::Authority),
        }
    }

    fn put(&mut self, id: FieldId, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if self.head.field_count() == self.limits.head_fields_max {
            return Err(HeadError::Refused(DecodeError::TooManyFields));
        }
        self.head.push(put_line(&mut self.scratch.text, id, name, value));
        Ok(())
    }

    fn finish(mut self) -> Result<Decoded, HeadError> {
        if self.error.is_none() && !self.begun {
            self.error = self.begin().err();
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.kind == HeadKind::Request {
            if self.authority().is_none() && !self.has_host {
                return Err(Malformed::PseudoMissing.into());
            }
            if !self.scratch.cookies.is_empty() {
                let cookies = std::mem::take(&mut self.scratch.cookies);
                let put = self.put(FieldId::Other, b"cookie", &cookies);
                self.scratch.cookies = cookies;
                put?;
            }
        }
        self.scratch.text.extend_from_slice(b"\r\n");
        let upgrade = self.pseudo[Pseudo::Protocol as usize].is_some();
        let Self { mut head, line, content_length, te_trailers, .. } = self;
        head.seal(&self.scratch.text, line);
        if self.kind == HeadKind::Trailers {
            thin_out_trailers(&mut head);
        }
        Ok(Decoded { head, content_length, te_trailers, upgrade })
    }
}

/// Writes a field as a line.
#[inline]
fn put_line(text: &mut Vec<u8>, id: FieldId, name: &[u8], value: &[u8]) -> Field {
    let start = text.len();
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    let middle = text.len();
    text.extend_from_slice(value);
    let end = text.len();
    text.extend_from_slice(b"\r\n");
    Field { name: Span::new(start, middle - 2), value: Span::new(middle, end), id }
}

/// What a field counts for besides its bytes.
const FIELD_OVERHEAD_BYTES: usize = 32;

/// What an HTTP/1 request line has besides its method and its target.
const LINE_OVERHEAD_BYTES: usize = 10;

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
