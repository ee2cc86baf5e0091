//! Answers that the gateway gives itself.
//!
//! **Invariant:** the only place where an error becomes an answer; the answer says what, never a detail of the inside.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use crate::codec::http1::default_reason;
use crate::message::{Body, Head, HttpHead, Response};

/// An answer with `status`, a `Date`, and a line of text that names the status.
#[must_use]
pub fn local_reply(status: u16) -> Response {
    let text = Bytes::from(format!("{status} {}\n", default_reason(status)));
    with_body(status, "text/plain", text)
}

/// The answer of a worker that has enough to do: the client may try again.
#[must_use]
pub fn busy_reply() -> Response {
    let mut reply = local_reply(503);
    if let Some(head) = reply.head.fields_mut() {
        head.append("retry-after", b"1");
    }
    reply
}

/// The answer of a `direct_response` route.
#[must_use]
pub fn direct_reply(status: u16, body: &Bytes) -> Response {
    with_body(status, "text/plain", body.clone())
}

/// The answer of a `redirect` route.
#[must_use]
pub fn redirect_reply(status: u16, location: &[u8]) -> Response {
    let mut reply = with_body(status, "", Bytes::new());
    if let Some(head) = reply.head.fields_mut() {
        head.append("location", location);
    }
    reply
}

/// The answer that a filter gives instead of an origin's: with its own text, or else the status by name.
#[must_use]
pub fn refusal(status: u16, body: &Bytes) -> Response {
    if body.is_empty() { local_reply(status) } else { with_body(status, "text/plain", body.clone()) }
}

/// An answer with `status`, a `Date` and a body of type `content_type`.
#[must_use]
pub fn with_body(status: u16, content_type: &str, body: Bytes) -> Response {
    let mut head = HttpHead::response(status);
    head.append("server", b"ferrogate");
    with_date(|date| head.append("date", date));
    if !body.is_empty() {
        head.append("content-type", content_type.as_bytes());
    }
    let body = if body.is_empty() { Body::Empty } else { Body::Full(body) };
    Response { head: Head::Http(head), body }
}

/// Shows `f` the time as an HTTP date, written at most once a second.
fn with_date<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    DATE.with(|cache| {
        let now = Instant::now();
        let cached = cache.take().filter(|(at, _)| now.duration_since(*at) < DATE_AGE_MAX);
        let (at, date) = cached.unwrap_or_else(|| (now, httpdate::fmt_http_date(SystemTime::now()).into_bytes()));
        let result = f(&date);
        cache.set(Some((at, date)));
        result
    })
}

thread_local! {
    static DATE: Cell<Option<(Instant, Vec<u8>)>> = const { Cell::new(None) };
}

/// A date is written again after this.
const DATE_AGE_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_its_status_and_nothing_else() {
        let reply = local_reply(502);
        let head = reply.head.fields().unwrap();
        assert_eq!((head.status(), head.get("content-type")), (502, Some(&b"text/plain"[..])));
        assert!(head.get("date").is_some_and(|d| d.ends_with(b"GMT")));
        assert!(matches!(reply.body, Body::Full(b) if b == "502 Bad Gateway\n"));
    }
}
