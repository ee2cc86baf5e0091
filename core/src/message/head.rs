//! An HTTP head as it was received: the raw bytes and where its parts lie in them.
//!
//! A head that nothing changed is forwarded from the raw bytes, so that case, order and percent-encoding stay as the sender wrote them.
//! What a filter or a rewrite adds is written behind the raw bytes and pointed at. Buffers come from a per-worker free list.
//!
//! **Invariant:** every span lies within `raw`; names are tokens and values hold no CR, LF or NUL (the codec and [`HttpHead::append`] see
//! to it), so that no head can smuggle a second one. Only the headers of an RPC frame may hold any bytes, and they are never written as HTTP.

use std::fmt;

use super::known::{FieldId, Method};
use super::parts::{OwnedParts, Parts};
use super::rpc::RpcSaid;

/// A request's or a response's head, or trailers (a head without a start line).
#[derive(Default)]
pub struct HttpHead(OwnedParts);

/// One field line, as places in the raw bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name, case as received.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// The name, if it is one that the gateway acts on.
    pub id: FieldId,
}

/// A place in a head's raw bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// The start line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartLine {
    /// Trailers have none.
    #[default]
    None,
    /// A request line.
    Request {
        /// The method, if it is one that the gateway acts on.
        method: Method,
        /// The method's bytes.
        method_span: Span,
        /// The request target, in whatever form it came.
        target: Span,
        /// The protocol version.
        version: Version,
    },
    /// A status line.
    Response {
        /// The status code, 100 to 999.
        status: u16,
        /// The reason phrase, maybe empty.
        reason: Span,
        /// The protocol version.
        version: Version,
    },
}

/// The version that a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2. The text of the head is that of HTTP/1.1.
    Http2,
}

impl Span {
    /// A span from `start` (inclusive) to `end` (exclusive).
    ///
    /// # Panics
    /// When a head passes 4 GiB, which `head_bytes_max` excludes.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        let fit = |n: usize| u32::try_from(n).expect("a head is bounded by head_bytes_max");
        Self { start: fit(start), len: fit(end - start) }
    }

    /// A span that lies below 4 GiB, as the caller has made sure.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the caller's bound")]
    pub(crate) const fn within(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self { start: start as u32, len: (end - start) as u32 }
    }

    /// The place behind its last byte.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// The bytes it points at.
    #[must_use]
    pub fn of(self, raw: &[u8]) -> &[u8] {
        &raw[self.start as usize..][..self.len as usize]
    }
}

impl HttpHead {
    /// An empty head over a recycled buffer, for the codec to fill.
    #[must_use]
    pub fn empty() -> Self {
        Self(OwnedParts::take())
    }

    /// A request to build on: `GET /x`.
    #[must_use]
    pub fn request(method: &str, target: &[u8]) -> Self {
        let mut head = Self::empty();
        let method_span = head.put(method.as_bytes());
        let target = head.put(target);
        head.0.line =
            StartLine::Request { method: Method::of(method.as_bytes()), method_span, target, version: Version::Http11 };
        head
    }

    /// A response to build on, with an empty reason phrase; the codec writes the standard one.
    #[must_use]
    pub fn response(status: u16) -> Self {
        let mut head = Self::empty();
        head.0.line = StartLine::Response { status, reason: Span::default(), version: Version::Http11 };
        head
    }

    /// Adds a field; in a head that is being decoded its spans point into the bytes that [`seal`](Self::seal) brings.
    pub(crate) fn push(&mut self, field: Field) {
        let parts = &mut *self.0;
        parts.ids.add(field.id);
        parts.fields.push(field);
    }

    /// Ends decoding: `raw` is the head as received, of which the codec has checked every byte.
    pub(crate) fn seal(&mut self, raw: &[u8], line: StartLine) {
        self.0.raw.clear();
        self.0.raw.extend_from_slice(raw);
        self.0.received = raw.len();
        self.0.line = line;
    }

    /// Gives a head another start line, whose spans are those of this head.
    pub(crate) fn set_line(&mut self, line: StartLine) {
        self.0.line = line;
    }

    /// What the frame says of itself that this is the head of.
    #[inline]
    pub(super) fn said(&self) -> &RpcSaid {
        &self.0.said
    }

    /// The same, to be set.
    #[inline]
    pub(super) fn said_mut(&mut self) -> &mut RpcSaid {
        &mut self.0.said
    }

    /// Makes a request of one version one of another: what its connection has changed to.
    pub(crate) fn set_version(&mut self, new: Version) {
        if let StartLine::Request { version, .. } = &mut self.0.line {
            *version = new;
        }
    }

    /// The fields as places, for the codec.
    pub(crate) fn spans(&self) -> &[Field] {
        &self.0.fields
    }

    /// The fields as places, to be marked or thinned out by the codec.
    pub(crate) fn spans_mut(&mut self) -> (&[u8], &mut Vec<Field>) {
        let parts = &mut *self.0;
        (&parts.raw, &mut parts.fields)
    }

    /// All bytes that the spans point into.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.0.raw
    }

    /// Whether the bytes of `span` stand as the peer sent them, between the bytes that the peer sent around them.
    pub(crate) fn is_received(&self, span: Span) -> bool {
        span.end() <= self.0.received
    }

    /// Whether this field of the head stands in the raw bytes as a line that may be copied: as the peer sent it or [`append`](Self::append)
    /// wrote it, with nothing behind its value but the line's end.
    #[inline]
    pub(crate) fn is_line(&self, field: &Field) -> bool {
        let end = field.value.end();
        let appended = || !self.is_received(field.name) && field.value.start as usize == field.name.end() + 2;
        self.0.raw.get(end) == Some(&b'\r') && (self.is_received(field.value) || appended())
    }

    /// The start line.
    #[must_use]
    pub fn line(&self) -> StartLine {
        self.0.line
    }

    /// The method of a request; `Other` for anything else.
    #[must_use]
    pub fn method(&self) -> Method {
        match self.0.line {
            StartLine::Request { method, .. } => method,
            _ => Method::Other,
        }
    }

    /// The method's bytes; empty for a response.
    #[must_use]
    pub fn method_bytes(&self) -> &[u8] {
        match self.0.line {
            StartLine::Request { method_span, .. } => method_span.of(&self.0.raw),
            _ => &[],
        }
    }

    /// The request target as received; empty for a response.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        match self.0.line {
            StartLine::Request { target, .. } => target.of(&self.0.raw),
            _ => &[],
        }
    }

    /// The request target as the peer sent it, whatever has replaced it since; empty for a response.
    #[must_use]
    pub fn received_target(&self) -> &[u8] {
        let StartLine::Request { method_span, target, .. } = self.0.line else { return &[] };
        let start = method_span.end() + 1;
        if self.0.received == 0 || start > self.0.received {
            return target.of(&self.0.raw);
        }
        let line = &self.0.raw[start..self.0.received];
        &line[..memchr::memchr(b' ', line).unwrap_or(line.len())]
    }

    /// Bytes of the head as the peer sent it; 0 for one that was made here.
    #[must_use]
    pub fn received_len(&self) -> usize {
        self.0.received
    }

    /// Replaces the request target.
    pub fn set_target(&mut self, new: &[u8]) {
        let span = self.put(new);
        if let StartLine::Request { target, .. } = &mut self.0.line {
            *target = span;
        }
    }

    /// The target's path and query: of an absolute-form target what follows the authority, `/` when nothing does. `http://h?q` gives
    /// `?q`: the codec writes the slash that is missing there.
    #[must_use]
    pub fn path_and_query(&self) -> &[u8] {
        let target = self.target();
        if target.first() == Some(&b'/') {
            return target;
        }
        match split_absolute(target) {
            Some((_, [])) => b"/",
            Some((_, rest)) => rest,
            None => target,
        }
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        let all = self.path_and_query();
        match memchr::memchr(b'?', all) {
            Some(0) => b"/",
            Some(end) => &all[..end],
            None => all,
        }
    }

    /// The authority of an absolute-form target, else the Host field (RFC 9112, 3.2.2: the target wins).
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        let target = self.target();
        if target.first() != Some(&b'/') {
            if self.method() == Method::Connect {
                return Some(target);
            }
            if let Some((authority, _)) = split_absolute(target) {
                return Some(authority);
            }
        }
        self.get_id(FieldId::Host)
    }

    /// The status code of a response; 0 for anything else.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.0.line {
            StartLine::Response { status, .. } => status,
            _ => 0,
        }
    }

    /// The reason phrase as received; empty when there was none.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        match self.0.line {
            StartLine::Response { reason, .. } => reason.of(&self.0.raw),
            _ => &[],
        }
    }

    /// The protocol version; HTTP/1.1 for trailers.
    #[must_use]
    pub fn version(&self) -> Version {
        match self.0.line {
            StartLine::Request { version, .. } | StartLine::Response { version, .. } => version,
            StartLine::None => Version::Http11,
        }
    }

    /// Every field in order: its id, name and value.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, &[u8], &[u8])> {
        self.0.fields.iter().map(|f| (f.id, f.name.of(&self.0.raw), f.value.of(&self.0.raw)))
    }

    /// How many fields there are.
    #[must_use]
    pub fn field_count(&self) -> usize {
        self.0.fields.len()
    }

    /// The first value of the field `name`, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let Parts { raw, fields, .. } = &*self.0;
        let has_length = |f: &&Field| f.name.len as usize == name.len();
        let mut alike = fields.iter().filter(has_length);
        alike.find(|f| f.name.of(raw).eq_ignore_ascii_case(name.as_bytes())).map(|f| f.value.of(raw))
    }

    /// The first value of a field that the codec has recognised.
    #[must_use]
    pub fn get_id(&self, id: FieldId) -> Option<&[u8]> {
        if !self.0.ids.has(id) {
            return None;
        }
        self.0.fields.iter().find(|f| f.id == id).map(|f| f.value.of(&self.0.raw))
    }

    /// Adds a field behind the others. Refuses (false) a name that is no token and a value with CR, LF or NUL: nothing can be injected.
    pub fn append(&mut self, name: &str, value: &[u8]) -> bool {
        if !is_token(name.as_bytes()) || !is_value(value) {
            return false;
        }
        let field = put_line(&mut self.0.raw, name, FieldId::of(name.as_bytes()), |raw| raw.extend_from_slice(value));
        self.push(field);
        true
    }

    /// Sets a field of the gateway's own in the place `at` of another, or behind the others. `write` writes the value behind the raw
    /// bytes, which it may read: one that holds no CR, LF or NUL, whatever the peers say.
    pub(crate) fn put_own(
        &mut self,
        at: Option<usize>,
        name: &'static str,
        id: FieldId,
        write: impl FnOnce(&mut Vec<u8>, &[Field]),
    ) {
        debug_assert!(is_token(name.as_bytes()) && FieldId::of(name.as_bytes()) == id);
        let Parts { raw, fields, ids, .. } = &mut *self.0;
        let field = put_line(raw, name, id, |raw| write(raw, fields));
        ids.add(id);
        debug_assert!(is_value(field.value.of(raw)));
        match at {
            Some(at) => fields[at] = field,
            None => fields.push(field),
        }
    }

    /// Removes the fields of each id that `is_single` names, but for the first.
    pub(crate) fn keep_first(&mut self, is_single: impl Fn(FieldId) -> bool) {
        let fields = &mut self.0.fields;
        for index in (0..fields.len()).rev() {
            let id = fields[index].id;
            if is_single(id) && fields[..index].iter().any(|f| f.id == id) {
                fields.remove(index);
            }
        }
    }

    /// Removes every field of an id.
    pub(crate) fn remove_id(&mut self, id: FieldId) {
        self.0.fields.retain(|f| f.id != id);
    }

    /// Replaces every field `name` by one. Refuses as [`append`](Self::append) does, and then changes nothing.
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        if !is_token(name.as_bytes()) || !is_value(value) {
            return false;
        }
        self.remove(name);
        self.append(name, value)
    }

    /// Replaces the value of the first field `name` where it stands and removes the others; adds the field where there is none. Refuses
    /// as [`append`](Self::append) does.
    pub fn replace(&mut self, name: &str, value: &[u8]) -> bool {
        if !is_token(name.as_bytes()) || !is_value(value) {
            return false;
        }
        let Some(first) = self.position(name) else { return self.append(name, value) };
        self.0.fields[first].value = self.put(value);
        let Parts { raw, fields, .. } = &mut *self.0;
        let mut index = 0;
        fields.retain(|f| {
            index += 1;
            index - 1 <= first || !f.name.of(raw).eq_ignore_ascii_case(name.as_bytes())
        });
        true
    }

    /// Adds `value` behind a comma to the last field `name`; adds the field where there is none, or an empty one. Refuses as
    /// [`append`](Self::append) does. Not for fields that are no lists (RFC 9110, 5.3), such as Set-Cookie.
    pub fn join(&mut self, name: &str, value: &[u8]) -> bool {
        if !is_token(name.as_bytes()) || !is_value(value) {
            return false;
        }
        let is_named = |f: &Field| f.name.of(&self.0.raw).eq_ignore_ascii_case(name.as_bytes());
        let Some(last) = self.0.fields.iter().rposition(is_named) else { return self.append(name, value) };
        let old = self.0.fields[last].value;
        let start = self.0.raw.len();
        if old.len > 0 {
            self.0.raw.extend_from_within(old.start as usize..old.end());
            self.0.raw.push(b',');
        }
        self.0.raw.extend_from_slice(value);
        self.0.fields[last].value = Span::new(start, self.0.raw.len());
        true
    }

    /// Removes every field `name`; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let Parts { raw, fields, .. } = &mut *self.0;
        let before = fields.len();
        fields.retain(|f| !f.name.of(raw).eq_ignore_ascii_case(name.as_bytes()));
        fields.len() != before
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.fields.iter().position(|f| f.name.of(&self.0.raw).eq_ignore_ascii_case(name.as_bytes()))
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.0.raw.len();
        self.0.raw.extend_from_slice(bytes);
        Span::new(start, self.0.raw.len())
    }
}

impl Clone for HttpHead {
    fn clone(&self) -> Self {
        let mut copy = Self::empty();
        copy.0.raw.extend_from_slice(&self.0.raw);
        copy.0.fields.extend_from_slice(&self.0.fields);
        (copy.0.line, copy.0.received, copy.0.ids) = (self.0.line, self.0.received, self.0.ids);
        copy.0.said = self.0.said;
        copy
    }
}

impl fmt::Debug for HttpHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.line)?;
        let mut list = f.debug_map();
        for (_, name, value) in self.fields() {
            list.entry(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
        }
        list.finish()
    }
}

/// Whether these bytes are a token (RFC 9110, 5.6.2), at least one byte long.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| TOKEN_BYTES[b as usize])
}

/// Whether this byte may stand in a token.
#[must_use]
pub const fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// [`is_token_byte`] of each byte.
const TOKEN_BYTES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0u8);
    loop {
        table[byte as usize] = is_token_byte(byte);
        match byte.checked_add(1) {
            Some(next) => byte = next,
            None => break table,
        }
    }
};

/// Whether these bytes may be a field value: no control byte but the tab (RFC 9110, 5.5).
#[must_use]
pub fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f))
}

/// Writes a field as the line that it becomes, so that the encoder can copy it.
#[inline]
fn put_line(raw: &mut Vec<u8>, name: &str, id: FieldId, write: impl FnOnce(&mut Vec<u8>)) -> Field {
    let start = raw.len();
    raw.extend_from_slice(name.as_bytes());
    let name = Span::new(start, raw.len());
    raw.extend_from_slice(b": ");
    write(raw);
    let value = Span::new(name.end() + 2, raw.len());
    raw.extend_from_slice(b"\r\n");
    Field { name, value, id }
}

/// Splits `http://authority/path?query` into the authority and the rest.
fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memmem::find(target, b"://")?;
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    Some((&rest[..end], &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_built_read_and_changed() {
        let mut head = HttpHead::request("GET", b"/a/b?c=1");
        assert!(head.append("Host", b"x.example"));
        assert!(head.append("X-A", b"1"));
        assert!(head.append("x-a", b"2"));
        assert_eq!(head.get("X-a"), Some(&b"1"[..]));
        assert_eq!((head.path(), head.target()), (&b"/a/b"[..], &b"/a/b?c=1"[..]));
        assert_eq!(head.authority(), Some(&b"x.example"[..]));
        assert!(head.set("x-A", b"3"));
        assert_eq!(head.field_count(), 2);
        assert!(head.remove("host") && !head.remove("host"));
        head.set_target(b"/new");
        assert_eq!(head.path_and_query(), b"/new");
    }

    #[test]
    fn fields_are_replaced_and_joined_where_they_stand() {
        let mut head = HttpHead::request("GET", b"/a");
        for (name, value) in [("host", "a"), ("x-a", "1"), ("X-B", ""), ("X-A", "2"), ("x-c", "3")] {
            assert!(head.append(name, value.as_bytes()));
        }
        assert!(head.join("x-a", b"9") && head.join("x-b", b"8") && head.join("x-new", b"7"));
        assert!(head.replace("Host", b"b") && !head.replace("host", b"a\r\nb"));
        let copy = head.clone();
        let fields = |head: &HttpHead| -> Vec<String> {
            head.fields().map(|(_, n, v)| String::from_utf8([n, b"=", v].concat()).unwrap()).collect()
        };
        assert_eq!(fields(&head), ["host=b", "x-a=1", "X-B=8", "X-A=2,9", "x-c=3", "x-new=7"]);
        assert!(head.replace("x-a", b"5") && head.replace("x-d", b"6"));
        assert_eq!(fields(&head), ["host=b", "x-a=5", "X-B=8", "x-c=3", "x-new=7", "x-d=6"]);
        head.set_target(b"/b");
        assert_eq!((copy.target(), copy.field_count()), (&b"/a"[..], 6));
    }

    #[test]
    fn nothing_can_be_injected() {
        let mut head = HttpHead::response(200);
        for (name, value) in
            [("a b", &b"x"[..]), ("a:", b"x"), ("", b"x"), ("a", b"x\r\ny: z"), ("a", b"\0"), ("a", b"\n")]
        {
            assert!(!head.append(name, value), "{name:?} {value:?}");
        }
        assert_eq!(head.field_count(), 0);
    }

    #[test]
    fn absolute_targets_give_authority_and_path() {
        for (target, authority, path) in
            [(&b"http://h:1/p?q"[..], &b"h:1"[..], &b"/p"[..]), (b"http://h", b"h", b"/"), (b"http://h?q", b"h", b"/")]
        {
            let head = HttpHead::request("GET", target);
            assert_eq!((head.authority(), head.path()), (Some(authority), path));
        }
    }
}
