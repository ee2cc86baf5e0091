//! Fields that cross from one protocol to another, and what becomes of a name, a value, a path.
//!
//! **Invariant:** only a token is written as a name of HTTP, and only what no reader trims or splits as a value; a field that says how its
//! own message or connection is framed never crosses.

use crate::message::{FieldId, HttpHead, Method, is_token, is_value};

use super::Refused;

/// The method of a request, where it is not that of HTTP that stands in its start line.
pub(super) const METHOD: &str = "x-mosn-method";
/// Its path, without the query.
pub(super) const PATH: &str = "x-mosn-path";
/// Its query.
pub(super) const QUERY: &str = "x-mosn-querystring";
/// Its host.
pub(super) const HOST: &str = "x-mosn-host";
/// The status of an answer.
pub(super) const STATUS: &str = "x-mosn-status";
/// Whether a request has no answer.
pub(super) const ONE_WAY: &str = "x-rpc-oneway";
/// The class of Bolt's content.
pub(super) const BOLT_CLASS: &str = "x-bolt-class";
/// What Bolt's content is written in.
pub(super) const BOLT_CODEC: &str = "x-bolt-codec";
/// The status of Bolt.
pub(super) const BOLT_STATUS: &str = "x-bolt-status";
/// How long a client waits, in milliseconds.
pub(super) const TIMEOUT: &str = "x-mosn-global-timeout";

/// Names that say what no field of a message does: each is read where it belongs, and crosses nowhere else.
const RESERVED: [&str; 9] = [METHOD, PATH, QUERY, HOST, STATUS, ONE_WAY, BOLT_CLASS, BOLT_CODEC, BOLT_STATUS];

/// Whether a field ends here: it is of the message's framing or its connection, or one of our own words.
pub(super) fn ends_here(id: FieldId, name: &[u8]) -> bool {
    match id {
        FieldId::ContentLength
        | FieldId::TransferEncoding
        | FieldId::Connection
        | FieldId::KeepAlive
        | FieldId::ProxyConnection
        | FieldId::Te
        | FieldId::Trailer
        | FieldId::Upgrade
        | FieldId::Expect
        | FieldId::Http2Settings
        | FieldId::Nominated => true,
        FieldId::Other => name.len() <= LONGEST && RESERVED.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes())),
        _ => false,
    }
}

/// The longest of [`RESERVED`].
const LONGEST: usize = QUERY.len();

/// The one value of a field; None: it is not there.
pub(super) fn once<'h>(head: &'h HttpHead, name: &'static str) -> Result<Option<&'h [u8]>, Refused> {
    let mut found = head.fields().filter(|(_, own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some((.., value)), None) => Ok(Some(value)),
        _ => Err(Refused::Twice(name)),
    }
}

/// The value of a field that may be there more than once, if it says the same each time.
pub(super) fn same<'h>(head: &'h HttpHead, name: &'static str) -> Result<Option<&'h [u8]>, Refused> {
    let mut found = head.fields().filter(|(_, own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
    let first = found.next().map(|(.., value)| value);
    if found.all(|(.., value)| Some(value) == first) { Ok(first) } else { Err(Refused::Twice(name)) }
}

/// Whether the one value of a field says yes.
pub(super) fn flag(head: &HttpHead, name: &'static str) -> Result<bool, Refused> {
    match once(head, name)? {
        None | Some(b"false") => Ok(false),
        Some(b"true") => Ok(true),
        Some(_) => Err(Refused::Field(name)),
    }
}

/// The one value of a field as a number.
pub(super) fn number<N: std::str::FromStr>(head: &HttpHead, name: &'static str) -> Result<Option<N>, Refused> {
    let Some(value) = once(head, name)? else { return Ok(None) };
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).map(Some).ok_or(Refused::Field(name))
}

/// Puts a field into a head of HTTP.
pub(super) fn put(to: &mut HttpHead, name: &[u8], value: &[u8]) -> Result<(), Refused> {
    let name = std::str::from_utf8(name).ok().filter(|name| is_token(name.as_bytes())).ok_or(Refused::Name)?;
    let is_trimmed = !value.first().is_some_and(is_space) && !value.last().is_some_and(is_space);
    if !is_trimmed || !is_value(value) || !to.append(name, value) {
        return Err(Refused::Value);
    }
    Ok(())
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Puts the fields of a frame that don't end here into a head of HTTP; what they say of their length must be so.
pub(super) fn put_fields(
    from: &HttpHead,
    content_len: usize,
    to: &mut HttpHead,
    crosses: impl Fn(FieldId, &[u8]) -> bool,
) -> Result<(), Refused> {
    if let Some(says) = number::<usize>(from, "content-length").map_err(|_| Refused::Length)?
        && says != content_len
    {
        return Err(Refused::Length);
    }
    for (id, name, value) in from.fields() {
        if !ends_here(id, name) && crosses(id, name) {
            put(to, name, value)?;
        }
    }
    Ok(())
}

/// That a head is no longer than it may be.
pub(super) fn check_len(head: &HttpHead, bytes_max: usize) -> Result<(), Refused> {
    if head.raw().len() > bytes_max { Err(Refused::HeadTooLong) } else { Ok(()) }
}

/// The method that a request is asked by, where it can be.
pub(super) fn method(text: &[u8]) -> Result<&str, Refused> {
    let is_possible = is_token(text) && !matches!(Method::of(text), Method::Connect | Method::Trace);
    std::str::from_utf8(text).ok().filter(|_| is_possible).ok_or(Refused::Method)
}

/// Whether these bytes may be a path: of one that begins with a slash, what a target of HTTP may hold before its query.
pub(super) fn is_path(text: &[u8]) -> bool {
    text.first() == Some(&b'/') && text.iter().all(|byte| is_target_byte(*byte) && *byte != b'?')
}

/// Whether these bytes may be a query.
pub(super) fn is_query(text: &[u8]) -> bool {
    text.iter().all(|byte| is_target_byte(*byte))
}

/// Printable, but for what begins a fragment and what browsers read as a slash.
fn is_target_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E) && !matches!(byte, b'#' | b'\\')
}

/// Whether these bytes may be one part of a path, as they are: nothing in them needs an escape, or is one, and they don't lead elsewhere.
pub(super) fn is_segment(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(byte);
    !text.is_empty() && !matches!(text, b"." | b"..") && text.iter().all(is_plain)
}

/// Whether these bytes may be the name of a class of Java, maybe with the version of a service behind it.
pub(super) fn is_class(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._$-".contains(byte))
}

/// Whether these bytes may be the name of a method of Java. What begins with a dollar is Dubbo's own, and not called by name.
pub(super) fn is_java_method(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    text.first().is_some_and(|first| *first != b'$' && !first.is_ascii_digit()) && text.iter().all(is_plain)
}

/// Whether a head says that its body is JSON; one that says nothing may be.
pub(super) fn is_json(head: &HttpHead) -> bool {
    let Some(kind) = head.get("content-type") else { return true };
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/json")
        || kind.len() > 5 && kind[kind.len() - 5..].eq_ignore_ascii_case(b"+json")
}
