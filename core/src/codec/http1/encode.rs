//! Heads to bytes: as received where nothing changed, with hop-by-hop fields left out and the framing written anew.
//!
//! What stands side by side in the received bytes is copied in one piece, the start line too.
//!
//! **Invariant:** exactly one body length is written, the one that the caller gives; whatever the head says about framing or its own
//! connection is never passed on as it is.

use std::ops::Range;

use bytes::BufMut;

use super::EncodeError;
use super::framing::check_authority;
use super::layout::{
    Count, Framing, Length, Out, Sink, Verdict, check_extra, check_room, head_len_max, put_connection, put_extra,
    put_field, put_fields, put_number,
};
use super::reason::default_reason;
use super::scan::target_end;
use crate::message::{BodyLength, FieldId, HttpHead, Method, Span, StartLine, Version, is_token, is_value};

/// What to write about the connection that a message goes out on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionField {
    /// Nothing: an HTTP/1.1 connection stays open.
    #[default]
    Omit,
    /// `Connection: keep-alive`, which an HTTP/1.0 peer needs to hear.
    KeepAlive,
    /// `Connection: close`.
    Close,
    /// `Connection: upgrade`, and the Upgrade field is passed on.
    Upgrade,
}

/// Writes the head of a request that goes to an origin, always as HTTP/1.1.
///
/// An absolute-form target becomes origin-form, and its authority replaces Host (RFC 9112, 3.2.2).
#[derive(Clone, Copy, Debug)]
pub struct RequestEncoder<'a> {
    head: &'a HttpHead,
    body: BodyLength,
    /// What to write about the connection.
    pub connection: ConnectionField,
    /// A Host to write in place of the received one.
    pub host: Option<&'a [u8]>,
    /// Whether to write `TE: trailers`.
    pub te_trailers: bool,
    /// Fields to write behind the head's own: names and values. Not Host, Connection, Content-Length or Transfer-Encoding.
    pub extra: &'a [(&'a str, &'a [u8])],
}

/// Writes the head of a response that goes to a client.
#[derive(Clone, Copy, Debug)]
pub struct ResponseEncoder<'a> {
    head: &'a HttpHead,
    body: BodyLength,
    method: Method,
    /// The version of the status line: 1.1, unless the caller has a reason (RFC 9110, 2.5). With 1.0 nothing is chunked.
    pub version: Version,
    /// What to write about the connection. `Close` in any case when the body lasts until the connection's end.
    pub connection: ConnectionField,
    /// Fields to write behind the head's own: names and values. Not Host, Connection, Content-Length or Transfer-Encoding.
    pub extra: &'a [(&'a str, &'a [u8])],
}

impl<'a> RequestEncoder<'a> {
    /// For this head, with a body of this length.
    #[must_use]
    pub fn new(head: &'a HttpHead, body: BodyLength) -> Self {
        Self { head, body, connection: ConnectionField::Omit, host: None, te_trailers: false, extra: &[] }
    }

    /// How many bytes [`encode`](Self::encode) writes, exactly.
    #[must_use]
    pub fn head_len(&self) -> usize {
        let mut count = Count(0);
        self.lay_out(&mut count);
        count.0
    }

    /// At least as many bytes as [`encode`](Self::encode) writes, without laying the head out.
    #[must_use]
    pub fn head_len_max(&self) -> usize {
        // CONNECT says its target twice: there, and in the Host field.
        let host =
            self.host.unwrap_or_else(|| if self.head.method() == Method::Connect { self.head.target() } else { b"" });
        head_len_max(self.head, host.len(), self.extra)
    }

    /// Writes the head, with the empty line.
    ///
    /// # Errors
    /// `StartLine` for a head that is no request or whose target was set to what is none; `Field` for a host or an extra field that
    /// is none; `Length` for a body that lasts until the connection's end, or a body of CONNECT; `Room`. Nothing has been written then.
    #[inline]
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        self.check()?;
        check_room(out, self.head_len_max(), || self.head_len())?;
        self.lay_out(&mut Out(out));
        Ok(())
    }

    fn check(&self) -> Result<(), EncodeError> {
        let StartLine::Request { method, method_span, target, .. } = self.head.line() else {
            return Err(EncodeError::StartLine);
        };
        let (raw, text) = (self.head.raw(), self.head.target());
        let fits = |span: Span, good: fn(&[u8]) -> bool| self.head.is_received(span) || good(span.of(raw));
        if !fits(method_span, is_token) || !fits(target, |t| !t.is_empty() && target_end(t, 0) == t.len()) {
            return Err(EncodeError::StartLine);
        }
        if self.body == BodyLength::UntilClose || (method == Method::Connect && self.body != BodyLength::None) {
            return Err(EncodeError::Length);
        }
        // A received authority has been checked; one that was set since then has not.
        let authority =
            if self.head.is_received(target) || text.starts_with(b"/") { None } else { self.head.authority() };
        if [self.host, authority].into_iter().flatten().any(|host| check_authority(host, false).is_err()) {
            return Err(EncodeError::Field);
        }
        check_extra(self.extra)
    }

    #[inline]
    fn lay_out(&self, sink: &mut impl Sink) {
        let line = self.start_line(sink);
        let mut framing = self.framing();
        let host = self.host.or_else(|| match self.head.target().first() {
            Some(b'/' | b'*') => None,
            _ => self.head.authority(),
        });
        let mut host_written = false;
        put_fields(sink, self.head, line, |id, value| match id {
            FieldId::Host if host_written => Verdict::Drop,
            FieldId::Host => {
                host_written = true;
                host.map_or(Verdict::Keep, Verdict::Replace)
            }
            FieldId::Upgrade => Verdict::keep_if(self.connection == ConnectionField::Upgrade),
            _ => framing.judge(id, value),
        });
        if !host_written {
            put_field(sink, b"Host", host.unwrap_or_default());
        }
        framing.put(sink);
        put_connection(sink, self.connection, self.te_trailers);
        put_extra(sink, self.extra);
    }

    /// Writes the request line, unless it can be copied: then says from where.
    fn start_line(&self, sink: &mut impl Sink) -> Range<usize> {
        let StartLine::Request { method, method_span, target, .. } = self.head.line() else { return 0..0 };
        let (raw, text) = (self.head.raw(), target.of(self.head.raw()));
        let as_is = text.starts_with(b"/") || method == Method::Connect || text == b"*";
        if as_is && self.head.is_received(target) && raw[target.end()..].starts_with(b" HTTP/1.1\r\n") {
            return method_span.start as usize..target.end() + b" HTTP/1.1\r\n".len();
        }
        sink.put(method_span.of(raw));
        sink.put(b" ");
        if as_is {
            sink.put(text);
        } else {
            let path = self.head.path_and_query();
            if method == Method::Options && !text.ends_with(b"/") && path == b"/" {
                // RFC 9112, 3.2.4: OPTIONS for a server as a whole.
                sink.put(b"*");
            } else {
                if path.starts_with(b"?") {
                    sink.put(b"/");
                }
                sink.put(path);
            }
        }
        sink.put(b" HTTP/1.1\r\n");
        0..0
    }

    fn framing(&self) -> Framing {
        // RFC 9110, 8.6: these methods are expected to have content, so its absence is said.
        let says_none = matches!(self.head.method(), Method::Post | Method::Put | Method::Patch);
        Framing::new(match self.body {
            BodyLength::None if says_none => Length::Exact(0),
            BodyLength::None | BodyLength::UntilClose => Length::Omit,
            BodyLength::Exact(n) => Length::Exact(n),
            BodyLength::Chunked => Length::Chunked,
        })
    }
}

impl<'a> ResponseEncoder<'a> {
    /// For this head, with a body of this length, in answer to a request of this method.
    #[must_use]
    pub fn new(head: &'a HttpHead, body: BodyLength, method: Method) -> Self {
        let (version, connection) = (Version::Http11, ConnectionField::Omit);
        Self { head, body, method, version, connection, extra: &[] }
    }

    /// How many bytes [`encode`](Self::encode) writes, exactly.
    #[must_use]
    pub fn head_len(&self) -> usize {
        let mut count = Count(0);
        self.lay_out(&mut count);
        count.0
    }

    /// At least as many bytes as [`encode`](Self::encode) writes, without laying the head out.
    #[must_use]
    pub fn head_len_max(&self) -> usize {
        head_len_max(self.head, 0, self.extra)
    }

    /// Writes the head, with the empty line. To HEAD the length is written and the caller sends no body.
    ///
    /// # Errors
    /// `StartLine` for a head that is no response; `Field` for an extra field that is none; `Length` for a body that this status, method
    /// or version can't have; `Room`. Nothing has been written then.
    #[inline]
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        self.check()?;
        check_room(out, self.head_len_max(), || self.head_len())?;
        self.lay_out(&mut Out(out));
        Ok(())
    }

    fn check(&self) -> Result<(), EncodeError> {
        let StartLine::Response { status, reason, .. } = self.head.line() else { return Err(EncodeError::StartLine) };
        if !(100..1000).contains(&status) || !(self.head.is_received(reason) || is_value(self.head.reason())) {
            return Err(EncodeError::StartLine);
        }
        let bodiless = self.is_bodiless(status) && !matches!(self.body, BodyLength::None | BodyLength::Exact(0));
        if bodiless || (self.body == BodyLength::Chunked && self.version == Version::Http10) {
            return Err(EncodeError::Length);
        }
        check_extra(self.extra)
    }

    #[inline]
    fn lay_out(&self, sink: &mut impl Sink) {
        let line = self.start_line(sink);
        let mut framing = self.framing();
        put_fields(sink, self.head, line, |id, value| match id {
            FieldId::Host => Verdict::Keep,
            FieldId::Upgrade => Verdict::keep_if(self.connection == ConnectionField::Upgrade),
            _ => framing.judge(id, value),
        });
        framing.put(sink);
        let until_close = self.body == BodyLength::UntilClose && self.method != Method::Head;
        put_connection(sink, if until_close { ConnectionField::Close } else { self.connection }, false);
        put_extra(sink, self.extra);
    }

    /// Writes the status line, unless it can be copied: then says from where.
    fn start_line(&self, sink: &mut impl Sink) -> Range<usize> {
        let StartLine::Response { status, reason, .. } = self.head.line() else { return 0..0 };
        let raw = self.head.raw();
        let version: &[u8] = if self.version == Version::Http11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " };
        if reason.len > 0 && self.head.is_received(reason) && raw.starts_with(version) {
            return 0..reason.end() + 2;
        }
        sink.put(version);
        put_number(sink, u64::from(status));
        sink.put(b" ");
        sink.put(if reason.len > 0 { reason.of(raw) } else { default_reason(status).as_bytes() });
        sink.put(b"\r\n");
        0..0
    }

    fn framing(&self) -> Framing {
        let status = self.head.status();
        Framing::new(match self.body {
            _ if self.is_bodiless(status) => Length::Omit,
            // What the length would be, had there been a body: the origin's word.
            BodyLength::None if self.method == Method::Head || status == 304 => Length::AsReceived,
            BodyLength::None => Length::Exact(0),
            BodyLength::Exact(n) => Length::Exact(n),
            BodyLength::Chunked if self.method == Method::Head || status == 304 => Length::Omit,
            BodyLength::Chunked => Length::Chunked,
            BodyLength::UntilClose => Length::Omit,
        })
    }

    /// RFC 9110, 8.6 and RFC 9112, 6.1: such a response has neither Content-Length nor Transfer-Encoding.
    fn is_bodiless(&self, status: u16) -> bool {
        status < 200 || status == 204 || (self.method == Method::Connect && status < 300)
    }
}
