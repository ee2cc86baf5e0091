//! What each variable of a log's format is for one request.
//!
//! **Invariant:** looks, never computes twice what the request has stored; what is not known is said to be so, never guessed.

use std::time::Duration;

use tokio::time::Instant;

use super::Facts;
use crate::config::log_format::Variable;
use crate::message::{DATAGRAMS, Exchange, HttpHead, RELAYED, ResponseFlags};

/// A value, not yet written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'x> {
    /// Not known, or none.
    None,
    Number(u64),
    /// Chosen by a peer or by the configuration.
    Bytes(&'x [u8]),
    Moment(Instant),
    Span(Duration),
    Flags(ResponseFlags),
}

pub(super) fn value<'x>(variable: &Variable, x: &'x Exchange, facts: &'x Facts, now: Instant) -> Value<'x> {
    let head = x.request.head.fields();
    let notes = x.notes.as_deref();
    // tidy: table
    match variable {
        Variable::StartTime => Value::Moment(x.started),
        Variable::TraceId => head.and_then(|h| trace_id(h.get("traceparent")?)).into(),
        Variable::ConnectionId => Value::Number(x.downstream.id),
        Variable::UpstreamConnectionId if x.upstream_conn == 0 => Value::None,
        Variable::UpstreamConnectionId => Value::Number(x.upstream_conn),
        Variable::RequestReceivedDuration => Value::Span(since(x, x.request_received.unwrap_or(x.started))),
        Variable::RequestFinishedDuration => x.request_sent.map_or(Value::None, |at| Value::Span(since(x, at))),
        Variable::ResponseReceivedDuration => x.response_received.map_or(Value::None, |at| Value::Span(since(x, at))),
        Variable::ProcessTimeDuration => Value::Span(since(x, now).saturating_sub(x.host_time())),
        Variable::Duration => Value::Span(since(x, now)),
        Variable::BytesSent => Value::Number(x.bytes_sent),
        Variable::BytesReceived => Value::Number(x.bytes_received),
        Variable::Protocol => Value::Bytes(x.protocol.as_bytes()),
        Variable::ResponseCode => Value::Number(u64::from(x.status)),
        Variable::ResponseFlags if x.flags.is_empty() => Value::None,
        Variable::ResponseFlags => Value::Flags(x.flags),
        Variable::UpstreamLocalAddress => x.upstream_local.as_ref().map(|text| text.as_bytes()).into(),
        Variable::DownstreamLocalAddress => Some(x.downstream.local_text().as_bytes()).into(),
        Variable::DownstreamRemoteAddress => Some(x.downstream.peer_text().as_bytes()).into(),
        Variable::UpstreamHost => x.upstream_host.as_ref().map(|h| h.as_bytes()).into(),
        Variable::UpstreamCluster => notes.map(|n| n.cluster.as_bytes()).into(),
        Variable::UpstreamTransportFailureReason => notes.map(|n| n.failure.as_bytes()).into(),
        Variable::Attempts => Value::Number(u64::from(x.attempts)),
        Variable::RequestedServerName => x.downstream.server_name().map(str::as_bytes).into(),
        Variable::Unknown(_) => Value::None,
        Variable::RouteName => notes.map(|n| n.route.as_bytes()).into(),
        Variable::ListenerName => Value::Bytes(facts.name.as_bytes()),
        Variable::ListenerPort => Value::Number(u64::from(facts.port)),
        Variable::Scheme if matches!(x.protocol, RELAYED | DATAGRAMS) => Value::None,
        Variable::Scheme => Value::Bytes(if x.downstream.is_tls { b"https" } else { b"http" }),
        Variable::Host => head.and_then(HttpHead::authority).into(),
        Variable::Method => head.map(HttpHead::method_bytes).into(),
        Variable::Uri => head.map(HttpHead::target).into(),
        Variable::Path => head.map(HttpHead::path).into(),
        Variable::PathOriginal => head.map(|h| before_query(h.received_target())).into(),
        Variable::Query => head.and_then(query).into(),
        Variable::RequestLength => Value::Number(head.map_or(0, HttpHead::received_len) as u64 + x.bytes_received),
        Variable::RequestHeader(name) => head.and_then(|h| h.get(name)).into(),
        Variable::ResponseHeader(name) => {
            let field = notes.and_then(|n| n.response_fields.iter().find(|(known, _)| **known == *name.as_bytes()));
            field.map(|(_, value)| &**value).into()
        }
        Variable::Arg(name) => head.and_then(query).and_then(|q| pair(q, b'&', name)).into(),
        Variable::Cookie(name) => head.and_then(|h| cookie(h, name)).into(),
    }
}

impl<'x> From<Option<&'x [u8]>> for Value<'x> {
    #[inline]
    fn from(bytes: Option<&'x [u8]>) -> Self {
        bytes.filter(|b| !b.is_empty()).map_or(Self::None, Self::Bytes)
    }
}

fn since(x: &Exchange, at: Instant) -> Duration {
    at.saturating_duration_since(x.started)
}

/// The trace id of a `traceparent` field (W3C Trace Context, 3.2): version, id, parent and flags in hexadecimal.
fn trace_id(field: &[u8]) -> Option<&[u8]> {
    let id = field.get(3..35)?;
    let is_whole = field.len() >= 55 && field[2] == b'-' && field[35] == b'-';
    (is_whole && id.iter().all(u8::is_ascii_hexdigit)).then_some(id)
}

fn query(head: &HttpHead) -> Option<&[u8]> {
    let all = head.path_and_query();
    memchr::memchr(b'?', all).map(|at| &all[at + 1..])
}

fn before_query(target: &[u8]) -> &[u8] {
    &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
}

/// The value of `name` among `name=value` with a separator between them.
fn pair<'b>(text: &'b [u8], separator: u8, name: &str) -> Option<&'b [u8]> {
    text.split(|b| *b == separator).find_map(|one| one.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

fn cookie<'x>(head: &'x HttpHead, name: &str) -> Option<&'x [u8]> {
    let fields = head.fields().filter(|(_, field, _)| field.eq_ignore_ascii_case(b"cookie"));
    fields.map(|(_, _, value)| value).find_map(|value| pair(value, b';', name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_request_are_found() {
        let mut head = HttpHead::request("GET", b"/a?q=1&r=x=y&s");
        head.append("Cookie", b"a=1; sid=abc");
        assert_eq!(query(&head).and_then(|q| pair(q, b'&', "r")), Some(&b"x=y"[..]));
        assert_eq!(query(&head).and_then(|q| pair(q, b'&', "s")), None);
        assert_eq!(cookie(&head, "sid"), Some(&b"abc"[..]));
        assert_eq!(cookie(&head, "si"), None);
        let id = b"0af7651916cd43dd8448eb211c80319c";
        let field = [b"00-", &id[..], b"-b7ad6b7169203331-01"].concat();
        assert_eq!(trace_id(&field), Some(&id[..]));
        assert_eq!(trace_id(b"00-xyz"), None);
        assert_eq!(trace_id(&field[..54]), None);
    }
}
