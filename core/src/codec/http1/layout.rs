//! How a head is laid out: which fields stay, in which pieces they are copied, and what is written besides.
//!
//! A head is laid out into a [`Sink`], which counts or writes, so that its size is known from the same code that writes it.
//!
//! **Invariant:** what the head says about framing or its connection is judged anew, never passed on unread.

use std::ops::Range;

use bytes::BufMut;

use super::scan::value_end;
use super::{ConnectionField, EncodeError};
use crate::message::{FieldId, HttpHead, is_token};

/// Where a head is laid out: counted, or written.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// Counts.
pub(super) struct Count(pub(super) usize);

/// Writes.
pub(super) struct Out<'o, B>(pub(super) &'o mut B);

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl<B: BufMut> Sink for Out<'_, B> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'v> {
    Keep,
    Drop,
    /// The name stays, this is the value.
    Replace(&'v [u8]),
}

impl Verdict<'_> {
    pub(super) fn keep_if(keep: bool) -> Self {
        if keep { Self::Keep } else { Self::Drop }
    }
}

/// Writes the fields that `judge` keeps, and before them `run`, a part of the raw bytes.
#[inline]
pub(super) fn put_fields<'v>(
    sink: &mut impl Sink,
    head: &HttpHead,
    mut run: Range<usize>,
    mut judge: impl FnMut(FieldId, &[u8]) -> Verdict<'v>,
) {
    let raw = head.raw();
    for field in head.spans() {
        let verdict = if field.id == FieldId::Other { Verdict::Keep } else { judge(field.id, field.value.of(raw)) };
        let (start, end) = (field.name.start as usize, field.value.end());
        // A line can be copied as it is, unless white space stands behind its value.
        let copied = verdict == Verdict::Keep && head.is_line(field);
        if copied && start == run.end {
            run.end = end + 2;
            continue;
        }
        sink.put(&raw[run]);
        run = if copied { start..end + 2 } else { 0..0 };
        match verdict {
            Verdict::Keep if !copied => put_field(sink, field.name.of(raw), field.value.of(raw)),
            Verdict::Replace(value) => put_field(sink, field.name.of(raw), value),
            _ => {}
        }
    }
    sink.put(&raw[run]);
}

/// The length to write, and whether it has been.
pub(super) struct Framing {
    length: Length,
    written: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Omit,
    AsReceived,
    Exact(u64),
    Chunked,
}

impl Framing {
    pub(super) fn new(length: Length) -> Self {
        Self { length, written: false }
    }

    /// The verdict on a field that has an id, Host and Upgrade aside. A framing field that says the very same stays in its place.
    pub(super) fn judge<'v>(&mut self, id: FieldId, value: &[u8]) -> Verdict<'v> {
        let same = match id {
            FieldId::ContentLength => match self.length {
                Length::Exact(n) => is_decimal_of(value, n),
                Length::AsReceived => !value.is_empty() && value.iter().all(u8::is_ascii_digit),
                _ => false,
            },
            FieldId::TransferEncoding => self.length == Length::Chunked && value == b"chunked",
            FieldId::Trailer => return Verdict::keep_if(self.length == Length::Chunked),
            FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::Te
            | FieldId::Http2Settings
            | FieldId::Nominated => return Verdict::Drop,
            _ => return Verdict::Keep,
        };
        let first = same && !self.written;
        self.written |= same;
        Verdict::keep_if(first)
    }

    /// Writes the length, if no field that stayed says it.
    pub(super) fn put(&self, sink: &mut impl Sink) {
        match self.length {
            _ if self.written => {}
            Length::Exact(n) => {
                sink.put(b"Content-Length: ");
                put_number(sink, n);
                sink.put(b"\r\n");
            }
            Length::Chunked => sink.put(b"Transfer-Encoding: chunked\r\n"),
            Length::Omit | Length::AsReceived => {}
        }
    }
}

pub(super) fn put_connection(sink: &mut impl Sink, connection: ConnectionField, te_trailers: bool) {
    if te_trailers {
        sink.put(b"TE: trailers\r\n");
    }
    sink.put(match (connection, te_trailers) {
        (ConnectionField::Omit, false) => b"",
        (ConnectionField::Omit, true) => b"Connection: TE\r\n",
        (ConnectionField::KeepAlive, false) => b"Connection: keep-alive\r\n",
        (ConnectionField::KeepAlive, true) => b"Connection: keep-alive, TE\r\n",
        (ConnectionField::Close, false) => b"Connection: close\r\n",
        (ConnectionField::Close, true) => b"Connection: close, TE\r\n",
        (ConnectionField::Upgrade, false) => b"Connection: upgrade\r\n",
        (ConnectionField::Upgrade, true) => b"Connection: upgrade, TE\r\n",
    });
}

/// Writes the extra fields and the empty line.
pub(super) fn put_extra(sink: &mut impl Sink, extra: &[(&str, &[u8])]) {
    for (name, value) in extra {
        put_field(sink, name.as_bytes(), value);
    }
    sink.put(b"\r\n");
}

pub(super) fn put_field(sink: &mut impl Sink, name: &[u8], value: &[u8]) {
    sink.put(name);
    sink.put(b": ");
    sink.put(value);
    sink.put(b"\r\n");
}

pub(super) fn put_number(sink: &mut impl Sink, n: u64) {
    let mut text = [0; 20];
    sink.put(decimal(n, &mut text));
}

fn decimal(mut n: u64, text: &mut [u8; 20]) -> &[u8] {
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b"0123456789"[(n % 10) as usize];
        n /= 10;
        if n == 0 {
            return &text[start..];
        }
    }
}

fn is_decimal_of(value: &[u8], n: u64) -> bool {
    decimal(n, &mut [0; 20]) == value
}

/// An extra field is one line, and none that is written by the encoder itself.
pub(super) fn check_extra(extra: &[(&str, &[u8])]) -> Result<(), EncodeError> {
    let fits = |(name, value): &(&str, &[u8])| {
        let ours = matches!(
            FieldId::of(name.as_bytes()),
            FieldId::ContentLength | FieldId::TransferEncoding | FieldId::Connection | FieldId::Host
        );
        is_token(name.as_bytes()) && value_end(value, 0) == value.len() && !ours
    };
    if extra.iter().all(fits) { Ok(()) } else { Err(EncodeError::Field) }
}

/// Refuses when `out` has less room than the head needs; counts only when the most that it can need does not tell.
#[inline]
pub(super) fn check_room(out: &impl BufMut, most: usize, exact: impl FnOnce() -> usize) -> Result<(), EncodeError> {
    let room = out.remaining_mut();
    if room >= most || room >= exact() { Ok(()) } else { Err(EncodeError::Room) }
}

/// The most that a head can come to: all its bytes, a colon and a line's end for each field, and what is added to it.
pub(super) fn head_len_max(head: &HttpHead, added: usize, extra: &[(&str, &[u8])]) -> usize {
    let extra: usize = extra.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    head.raw().len() + head.field_count() * 4 + added + extra + LINES_WE_ADD_BYTES_MAX
}

/// Start line parts, Host, length, TE, Connection: more than all that is ever added.
const LINES_WE_ADD_BYTES_MAX: usize = 256;
