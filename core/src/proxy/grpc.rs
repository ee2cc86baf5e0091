//! gRPC as the proxy sees it: who speaks it, how long they wait, and how they are told that there is no answer.
//!
//! **Invariant:** a client of gRPC reads an answer of the gateway's own as a status of gRPC, never as bytes of a message.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::reply::with_body;
use crate::codec::http1::default_reason;
use crate::message::{Body, BodyError, BodyLength, BodySource, Chunk, Exchange, FieldId, Head, HttpHead, Response};
use crate::stream::timer::Timer;

/// An answer of the gateway's own, as the client of `x` reads it: to gRPC it is the head that is the whole answer ("Trailers-Only").
pub(super) fn for_client(x: &Exchange, response: Response) -> Response {
    let status = response.head.fields().map_or(0, HttpHead::status);
    let Head::Http(asked) = &x.request.head else { return response };
    if status == 200 || !is_grpc(asked) {
        return response;
    }
    let mut reply = with_body(200, "", bytes::Bytes::new());
    if let Some(head) = reply.head.fields_mut() {
        head.append("content-type", b"application/grpc");
        put_status(head, status);
    }
    reply
}

/// How long the client of a request waits from when it has asked.
pub(super) fn deadline(head: &HttpHead) -> Option<Duration> {
    parse(head.get_id(FieldId::GrpcTimeout)?)
}

/// The body of an answer, up to the client's deadline. What is not there by then is given up: gRPC's clients are told by trailers, others by
/// an end that is none.
pub(super) fn until(deadline: Option<Instant>, body: Body, x: &Exchange) -> Body {
    let (source, at) = match (body, deadline) {
        (Body::Streaming(source), Some(at)) => (source, at),
        (body, _) => return body,
    };
    let mut timer = Timer::new();
    timer.set(at.saturating_duration_since(Instant::now()));
    let says = source.length() == BodyLength::Chunked && x.request.head.fields().is_some_and(is_grpc);
    Body::Streaming(Box::new(Until { source: Some(source), timer, says }))
}

/// A body that ends at a deadline.
struct Until {
    /// Gone once the deadline has passed, so that the origin hears of it.
    source: Option<Box<dyn BodySource>>,
    timer: Timer,
    /// Whether it can end with a status of gRPC.
    says: bool,
}

impl BodySource for Until {
    fn length(&self) -> BodyLength {
        self.source.as_ref().map_or(BodyLength::None, |source| source.length())
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        let Some(source) = &mut self.source else { return Poll::Ready(Ok(None)) };
        if self.timer.poll_expired(cx).is_pending() {
            return source.poll_chunk(cx);
        }
        self.source = None;
        if !self.says {
            return Poll::Ready(Err(BodyError::Timeout));
        }
        let mut trailers = HttpHead::empty();
        put_status(&mut trailers, 504);
        Poll::Ready(Ok(Some(Chunk::Trailers(trailers))))
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if let Some(source) = &mut self.source {
            source.poll_beside(cx);
        }
    }
}

/// What a status of ours is to gRPC.
fn put_status(head: &mut HttpHead, status: u16) {
    head.append("grpc-status", itoa::Buffer::new().format(code(status)).as_bytes());
    // No byte of it needs an escape.
    head.append("grpc-message", format!("{status} {}", default_reason(status)).as_bytes());
}

/// Whether this is the head of a request of gRPC: `application/grpc`, maybe with the kind of its messages. Not gRPC-Web, whose clients
/// find the status elsewhere.
fn is_grpc(head: &HttpHead) -> bool {
    let kind = head.get("content-type").unwrap_or_default();
    let Some((kind, rest)) = kind.split_at_checked(GRPC.len()) else { return false };
    kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The code of gRPC for a status of ours. Where gRPC says how clients are to read a status they don't expect, as there; we know better
/// where it was a time or a size.
fn code(status: u16) -> u8 {
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 501 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 414 | 431 => RESOURCE_EXHAUSTED,
        429 | 502 | 503 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// One to eight digits and a unit.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

const GRPC: &[u8] = b"application/grpc";
const DIGITS_MAX: usize = 8;
const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::config::Address;
    use crate::message::{Downstream, Request};
    use crate::proxy::reply::local_reply;

    fn exchange(content_type: &str) -> Exchange {
        let mut head = HttpHead::request("POST", b"/a.B/C");
        head.append("content-type", content_type.as_bytes());
        let address = || "192.0.2.7:4000".parse::<Address>().unwrap();
        let downstream = Downstream::new(1, address(), address(), false);
        Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, Rc::new(downstream))
    }

    #[tokio::test]
    async fn who_speaks_grpc_is_told_by_its_status() {
        for (content_type, status, code) in [
            ("application/grpc", 502, Some("14")),
            ("application/grpc+proto", 404, Some("12")),
            ("Application/gRPC;x=y", 504, Some("4")),
            ("application/grpc", 413, Some("8")),
            ("application/grpc", 400, Some("13")),
            ("application/grpc", 403, Some("7")),
            ("application/grpc", 418, Some("2")),
            ("application/grpc", 200, None),
            ("application/grpc-web", 502, None),
            ("application/json", 502, None),
            ("", 502, None),
        ] {
            let reply = for_client(&exchange(content_type), local_reply(status));
            let head = reply.head.fields().unwrap();
            let found = head.get("grpc-status").map(|v| String::from_utf8_lossy(v).into_owned());
            assert_eq!(found.as_deref(), code, "{content_type} {status}");
            assert_eq!((head.status(), reply.body.is_empty()), code.map_or((status, false), |_| (200, true)));
        }
    }

    #[test]
    fn timeouts() {
        for (text, millis) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3000)),
            ("99999999m", Some(99_999_999)),
            ("5000u", Some(5)),
            ("6000000n", Some(6)),
            ("0S", Some(0)),
            ("100000000m", None),
            ("m", None),
            ("5", None),
            ("-5m", None),
            ("5 m", None),
            ("5x", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), millis.map(Duration::from_millis), "{text}");
        }
    }
}
