//! HTTP to Dubbo and back, by generic invocation: a method and its arguments by name, the arguments as JSON.
//!
//! **Invariant:** what is called a request's fields say, or else its path, and nothing else: no argument and no attachment of a client's can
//! name another service, version or group.

mod arguments;

use bytes::Bytes;

use self::arguments::Arguments;
use super::bolt::put_waits;
use super::text::{ONE_WAY, check_len, flag, is_class, is_java_method, is_json, number, once, put, same};
use super::{Facts, Refused, kind, rpc, value_limits};
use crate::codec::http1::is_authority;
use crate::codec::xprotocol::hessian2::json::{Budget, FromJson, ToJson, ValueError, Wanted};
use crate::codec::xprotocol::hessian2::{END, put_string};
use crate::codec::xprotocol::{Call, DUBBO_OK, dubbo_parts, dubbo_request, dubbo_response, dubbo_status};
use crate::config::Limits;
use crate::message::{Head, HttpHead, Method, RpcHead, is_value};
use serde::de::DeserializeSeed;

/// What a request of HTTP calls.
struct Called<'h> {
    service: &'h [u8],
    method: &'h [u8],
    version: Option<&'h [u8]>,
    group: Option<&'h [u8]>,
}

impl<'h> Called<'h> {
    /// By its fields, else by its path: `/service/method`.
    fn of(head: &'h HttpHead) -> Result<Self, Refused> {
        let mut path = head.path().split(|byte| *byte == b'/').skip(1);
        let (first, second) = (path.next(), path.next());
        // A path that goes on names nothing.
        let by_path = |part: Option<&'h [u8]>, rest: bool| part.filter(|_| !rest);
        let goes_on = path.next().is_some();
        let service = once(head, SERVICE)?.or(by_path(first, goes_on)).filter(|name| is_class(name));
        let method = once(head, METHOD)?.or(by_path(second, goes_on)).filter(|name| is_java_method(name));
        let of_class = |name| match once(head, name)? {
            Some(value) if !is_class(value) => Err(Refused::Field(name)),
            value => Ok(value),
        };
        let (version, group) = (of_class(VERSION)?, of_class(GROUP)?);
        Ok(Self { service: service.ok_or(Refused::Call)?, method: method.ok_or(Refused::Call)?, version, group })
    }
}

/// A request of HTTP in Dubbo: `$invoke`, whose body is written here.
pub(super) fn from_http(head: &HttpHead, body: &Bytes, facts: Facts<'_>) -> Result<(Head, Bytes), Refused> {
    if head.method() == Method::Connect {
        return Err(Refused::Tunnel);
    }
    if !body.is_empty() && !is_json(head) {
        return Err(Refused::Type);
    }
    let called = Called::of(head)?;
    let arguments = Arguments::of(once(head, TYPES)?, body, facts.limits)?;
    let mut out = Vec::new();
    for text in [b"2.0.2", called.service, called.version.unwrap_or(b"0.0.0"), INVOKE, INVOKE_TYPES, called.method] {
        put_text(text, &mut out)?;
    }
    arguments.write(body, value_limits(facts.limits), &mut out)?;
    out.push(b'H');
    let millis = facts.timeout.map(|wait| wait.as_millis().max(1).to_string());
    let own = [
        ("path", Some(called.service)),
        ("interface", Some(called.service)),
        ("version", called.version),
        ("group", called.group),
        ("generic", Some(&b"true"[..])),
        ("timeout", millis.as_ref().map(|text| text.as_bytes())),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            put_text(name.as_bytes(), &mut out)?;
            put_text(value, &mut out)?;
        }
    }
    put_attachments(head, &arguments, &mut out)?;
    out.push(END);
    Ok((rpc(dubbo_request(kind(flag(head, ONE_WAY)?))), out.into()))
}

/// The attachments that a client of HTTP gives: by fields, and by its body.
fn put_attachments(head: &HttpHead, arguments: &Arguments, out: &mut Vec<u8>) -> Result<(), Refused> {
    for (_, name, value) in head.fields() {
        let own = attachment_of(name).unwrap_or(name);
        if own.len() == name.len() && !is_carried(name) {
            continue;
        }
        // What has its own name here is said by that: the gateway sets some of it.
        if is_ours(own) || own.is_empty() || own.len() < name.len() && is_carried(own) {
            return Err(Refused::Name);
        }
        put_text(own, out)?;
        put_text(value, out)?;
    }
    for (name, value) in &arguments.attachments {
        if is_ours(name.as_bytes()) || is_carried(name.as_bytes()) || name.is_empty() {
            return Err(Refused::Name);
        }
        put_text(name.as_bytes(), out)?;
        put_text(value.as_bytes(), out)?;
    }
    Ok(())
}

/// Text of Hessian: what is no UTF-8 is none.
fn put_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
    std::str::from_utf8(text).map_err(|_| Refused::Value)?;
    put_string(text, out).map_err(|_| Refused::Value)
}

/// A request of Dubbo in HTTP: a POST to `/service/method`, the arguments as an array.
pub(super) fn to_http(head: &RpcHead, body: &Bytes, facts: Facts<'_>) -> Result<(Head, Bytes), Refused> {
    let fields = head.fields();
    let shape = Refused::Shape("a call in Hessian 2");
    dubbo_parts(head).ok_or(shape)?;
    let call = Call::of(body).ok_or(shape)?;
    let mut json = ToJson::new(body, call.rest.start, value_limits(facts.limits));
    let (mut method, mut types, mut arguments) = (call.method, Vec::new(), Vec::new());
    if method == INVOKE && call.types == INVOKE_TYPES {
        method = arguments::unwrap(&mut json, &mut types, &mut arguments)?;
    } else {
        arguments::list(&call.types, &mut json, &mut types, &mut arguments)?;
    }
    let service = once(fields, "service")?.filter(|name| is_class(name)).ok_or(Refused::Call)?;
    if !is_java_method(&method) {
        return Err(Refused::Call);
    }
    let mut made = HttpHead::request("POST", &[b"/", service, b"/", &method].concat());
    if !is_authority(facts.host.as_bytes()) {
        return Err(Refused::Host);
    }
    put(&mut made, b"host", facts.host.as_bytes())?;
    put(&mut made, b"content-type", JSON)?;
    put(&mut made, b"accept", JSON)?;
    for (name, own) in [("version", VERSION), ("group", GROUP)] {
        // A client says its version before its arguments and again behind them.
        match same(fields, name)? {
            None | Some(b"" | b"0.0.0") => {}
            Some(value) if is_class(value) => put(&mut made, own.as_bytes(), value)?,
            Some(_) => return Err(Refused::Field(own)),
        }
    }
    if !types.is_empty() {
        put(&mut made, TYPES.as_bytes(), &types)?;
    }
    for (_, name, value) in fields.fields().filter(|(_, name, _)| !is_ours(name)) {
        let prefix = if is_carried(name) { "" } else { ATTACHMENT };
        put(&mut made, &[prefix.as_bytes(), name].concat(), value)?;
    }
    put_waits(head, &mut made)?;
    check_len(&made, facts.limits.head_bytes_max)?;
    Ok((Head::Http(made), arguments.into()))
}

/// An answer of Dubbo in HTTP: its result as JSON.
pub(super) fn answer_to_http(head: &RpcHead, body: &Bytes, limits: &Limits) -> Result<(Head, Bytes), Refused> {
    let status = dubbo_parts(head).ok_or(Refused::Shape("an answer in Hessian 2"))?;
    let mut json = ToJson::new(body, 0, value_limits(limits));
    let mut out = Vec::new();
    if status != DUBBO_OK {
        out.extend_from_slice(b"{\"error\":");
        json.value(&mut out)?;
        out.push(b'}');
        let mut made = HttpHead::response(head.fields().status());
        put(&mut made, STATUS.as_bytes(), itoa::Buffer::new().format(status).as_bytes())?;
        put(&mut made, b"content-type", JSON)?;
        return Ok((Head::Http(made), out.into()));
    }
    let mut marker = Vec::new();
    json.value(&mut marker)?;
    let (is_error, has_value) = match &marker[..] {
        b"0" | b"3" => (true, true),
        b"1" | b"4" => (false, true),
        b"2" | b"5" => (false, false),
        _ => return Err(Refused::Shape("a result of Dubbo")),
    };
    if is_error {
        out.extend_from_slice(b"{\"exception\":");
    }
    if has_value {
        json.value(&mut out)?;
    } else {
        out.extend_from_slice(b"null");
    }
    if is_error {
        out.push(b'}');
    }
    let mut made = HttpHead::response(if is_error { 500 } else { 200 });
    put(&mut made, b"content-type", JSON)?;
    if matches!(&marker[..], b"3" | b"4" | b"5") {
        attachments_to_http(&mut json, &mut made, limits)?;
    }
    check_len(&made, limits.head_bytes_max)?;
    Ok((Head::Http(made), out.into()))
}

/// The attachments of an answer, as fields.
fn attachments_to_http(json: &mut ToJson<'_>, made: &mut HttpHead, limits: &Limits) -> Result<(), Refused> {
    if !json.begin_map()? {
        return Ok(());
    }
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(is_text) = json.text_pair(&mut name, &mut value)? {
        if made.field_count() >= limits.head_fields_max {
            return Err(Refused::HeadTooLong);
        }
        if is_text && !is_ours(&name) {
            put(made, &[ATTACHMENT.as_bytes(), &name].concat(), &value)?;
        }
        name.clear();
        value.clear();
    }
    Ok(())
}

/// An answer of HTTP in Dubbo: a result, or a status with a line of text.
pub(super) fn answer_from_http(head: &HttpHead, body: &Bytes, limits: &Limits) -> Result<(Head, Bytes), Refused> {
    let mut out = Vec::new();
    let code = head.status();
    if !(200..300).contains(&code) {
        let status = number(head, STATUS)?.filter(|status| *status != DUBBO_OK);
        put_error(code, body, &mut out)?;
        return Ok((rpc(dubbo_response(status.unwrap_or_else(|| dubbo_status(code)), code)), out.into()));
    }
    let attachments: Vec<_> =
        head.fields().filter_map(|(_, name, value)| Some((attachment_of(name)?, value))).collect();
    let with = if attachments.is_empty() { 0 } else { 3 };
    if body.is_empty() {
        out.push(0x92 + with);
    } else {
        out.push(0x91 + with);
        put_result(head, body, limits, &mut out)?;
    }
    if with > 0 {
        out.push(b'H');
        for part in attachments.into_iter().flat_map(|(name, value)| [name, value]) {
            put_text(part, &mut out)?;
        }
        out.push(END);
    }
    Ok((rpc(dubbo_response(DUBBO_OK, 200)), out.into()))
}

fn put_result(head: &HttpHead, body: &Bytes, limits: &Limits, out: &mut Vec<u8>) -> Result<(), Refused> {
    if head.get("content-type").is_some_and(|kind| kind.starts_with(b"text/plain")) {
        return put_text(body, out);
    }
    if !is_json(head) {
        return Err(Refused::Type);
    }
    let budget = Budget::new(value_limits(limits));
    let mut from = serde_json::Deserializer::from_slice(body);
    let seed = FromJson { out, budget: &budget, depth: 0, wanted: Wanted::Any };
    let read = seed.deserialize(&mut from).and_then(|()| from.end());
    read.map_err(|_| budget.hit().unwrap_or(ValueError::Broken).into())
}

/// The line of text of an answer that is no result: what the origin says, where that is short and text.
fn put_error(code: u16, body: &Bytes, out: &mut Vec<u8>) -> Result<(), Refused> {
    let says = std::str::from_utf8(body).ok().map(str::trim).filter(|text| text.len() <= ERROR_BYTES_MAX);
    let says = says.filter(|text| !text.is_empty() && is_value(text.as_bytes()));
    put_text(format!("{code}|{}", says.unwrap_or("the origin gave no result")).as_bytes(), out)
}

/// The attachment that a field is, by its name.
fn attachment_of(name: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = name.split_at_checked(ATTACHMENT.len())?;
    prefix.eq_ignore_ascii_case(ATTACHMENT.as_bytes()).then_some(rest)
}

/// Whether an attachment says what is called, or how: that is said by the gateway alone.
fn is_ours(name: &[u8]) -> bool {
    OURS.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

/// Whether a field has the same name on both sides.
fn is_carried(name: &[u8]) -> bool {
    CARRIED.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

const SERVICE: &str = "x-dubbo-service";
const METHOD: &str = "x-dubbo-method";
const VERSION: &str = "x-dubbo-version";
const GROUP: &str = "x-dubbo-group";
const TYPES: &str = "x-dubbo-types";
const STATUS: &str = "x-dubbo-status";
const ATTACHMENT: &str = "x-dubbo-attachment-";

const OURS: [&str; 11] =
    ["dubbo", "service", "method", "path", "interface", "version", "group", "generic", "timeout", "async", "return"];

const CARRIED: [&str; 4] = ["traceparent", "tracestate", "baggage", "x-request-id"];

const INVOKE: &[u8] = b"$invoke";
const INVOKE_TYPES: &[u8] = b"Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;";
const JSON: &[u8] = b"application/json";

/// Of an origin's text in an error, at most.
const ERROR_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
