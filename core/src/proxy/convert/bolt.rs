//! HTTP to Bolt and back, and one version of Bolt to the other.
//!
//! **Invariant:** content crosses as it is; a class, a codec and a status of Bolt come back from HTTP as they went in.

use super::text::{
    BOLT_CLASS, BOLT_CODEC, BOLT_STATUS, HOST, METHOD, ONE_WAY, PATH, QUERY, STATUS, TIMEOUT, check_len, ends_here,
    flag, is_path, is_query, is_segment, method, number, once, put, put_fields,
};
use super::{Facts, Refused, kind, rpc};
use crate::codec::http1::is_authority;
use crate::codec::xprotocol::{BoltParts, bolt_request, bolt_response, bolt_status};
use crate::config::Limits;
use crate::config::schema::RpcProtocol;
use crate::message::{FieldId, Head, HttpHead, Method, RpcHead, RpcKind};

/// A request of HTTP in Bolt.
pub(super) fn from_http(head: &HttpHead, to: RpcProtocol, facts: Facts<'_>) -> Result<Head, Refused> {
    if head.method() == Method::Connect {
        return Err(Refused::Tunnel);
    }
    // Of two the one that a route goes by need not be the one that a server takes.
    for name in ["service", "sofa_head_target_service", "sofa_head_method_name"] {
        once(head, name)?;
    }
    let parts =
        BoltParts { class: once(head, BOLT_CLASS)?.unwrap_or_default(), codec: number(head, BOLT_CODEC)?, status: 0 };
    let all = head.path_and_query();
    let query = memchr::memchr(b'?', all).map(|at| &all[at + 1..]);
    let mut fields: Vec<(&[u8], &[u8])> =
        vec![(METHOD.as_bytes(), head.method_bytes()), (PATH.as_bytes(), head.path())];
    fields.extend(query.map(|query| (QUERY.as_bytes(), query)));
    fields.extend(head.authority().map(|host| (&b"host"[..], host)));
    let others = head.fields().filter(|(id, name, _)| *id != FieldId::Host && !ends_here(*id, name));
    fields.extend(others.map(|(_, name, value)| (name, value)));
    Ok(rpc(bolt_request((to, kind(flag(head, ONE_WAY)?)), facts.timeout, parts, &fields)?))
}

/// A request of Bolt in HTTP.
pub(super) fn to_http(head: &RpcHead, content_len: usize, facts: Facts<'_>) -> Result<Head, Refused> {
    let fields = head.fields();
    let parts = BoltParts::of(head).ok_or(Refused::Shape("a frame of Bolt"))?;
    let target = target(fields)?;
    let mut made = HttpHead::request(method(once(fields, METHOD)?.unwrap_or(b"POST"))?, &target);
    let host = match (once(fields, HOST)?, once(fields, "host")?) {
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => facts.host.as_bytes(),
    };
    if !is_authority(host) {
        return Err(Refused::Host);
    }
    put(&mut made, b"host", host)?;
    put_fields(fields, content_len, &mut made, |id, _| id != FieldId::Host)?;
    put_parts(parts, &mut made)?;
    put_waits(head, &mut made)?;
    check_len(&made, facts.limits.head_bytes_max)?;
    Ok(Head::Http(made))
}

/// What of a request of RPC stands in no field: whether it waits, and how long.
pub(super) fn put_waits(head: &RpcHead, to: &mut HttpHead) -> Result<(), Refused> {
    if head.kind == RpcKind::OneWay {
        put(to, ONE_WAY.as_bytes(), b"true")?;
    }
    match head.timeout {
        Some(wait) if to.get_id(FieldId::GlobalTimeout).is_none() => {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            put(to, TIMEOUT.as_bytes(), itoa::Buffer::new().format(millis).as_bytes())
        }
        _ => Ok(()),
    }
}

/// What a request of Bolt asks HTTP for: what it says, else its service and its method.
fn target(fields: &HttpHead) -> Result<Vec<u8>, Refused> {
    let mut target = match once(fields, PATH)? {
        Some(path) if is_path(path) => path.to_vec(),
        Some(_) => return Err(Refused::Path),
        None => {
            let service = match once(fields, "service")? {
                Some(service) => Some(service),
                None => once(fields, "sofa_head_target_service")?,
            };
            let called = service.into_iter().chain(once(fields, "sofa_head_method_name")?);
            let mut path = Vec::new();
            for segment in called {
                if !is_segment(segment) {
                    return Err(Refused::Path);
                }
                path.push(b'/');
                path.extend_from_slice(segment);
            }
            if path.is_empty() { b"/".to_vec() } else { path }
        }
    };
    if let Some(query) = once(fields, QUERY)? {
        if !is_query(query) {
            return Err(Refused::Path);
        }
        target.push(b'?');
        target.extend_from_slice(query);
    }
    Ok(target)
}

/// A class and a codec, as fields of HTTP.
fn put_parts(parts: BoltParts<'_>, to: &mut HttpHead) -> Result<(), Refused> {
    if !parts.class.is_empty() {
        put(to, BOLT_CLASS.as_bytes(), parts.class)?;
    }
    match parts.codec {
        Some(codec) if codec != 1 => put(to, BOLT_CODEC.as_bytes(), itoa::Buffer::new().format(codec).as_bytes()),
        _ => Ok(()),
    }
}

/// A request of one version of Bolt in the other.
pub(super) fn to_bolt(head: &RpcHead, to: RpcProtocol, facts: Facts<'_>) -> Result<Head, Refused> {
    let parts = BoltParts::of(head).ok_or(Refused::Shape("a frame of Bolt"))?;
    let fields: Vec<_> = head.fields().fields().map(|(_, name, value)| (name, value)).collect();
    Ok(rpc(bolt_request((to, head.kind), head.timeout.or(facts.timeout), parts, &fields)?))
}

/// An answer of one version of Bolt in that of the request.
pub(super) fn answer_to_bolt(head: &RpcHead, asked: &RpcHead) -> Result<Head, Refused> {
    let parts = BoltParts::of(head).ok_or(Refused::Shape("a frame of Bolt"))?;
    let fields: Vec<_> = head.fields().fields().map(|(_, name, value)| (name, value)).collect();
    Ok(rpc(bolt_response(asked, parts, &fields)?))
}

/// An answer of Bolt in HTTP.
pub(super) fn answer_to_http(head: &RpcHead, content_len: usize, limits: &Limits) -> Result<Head, Refused> {
    let parts = BoltParts::of(head).ok_or(Refused::Shape("a frame of Bolt"))?;
    let mut made = HttpHead::response(head.fields().status());
    put_fields(head.fields(), content_len, &mut made, |_, _| true)?;
    put_parts(parts, &mut made)?;
    if parts.status != 0 {
        put(&mut made, BOLT_STATUS.as_bytes(), itoa::Buffer::new().format(parts.status).as_bytes())?;
    }
    check_len(&made, limits.head_bytes_max)?;
    Ok(Head::Http(made))
}

/// Whether the body of an answer is for a client of Bolt, who reads content by its class: not the page that comes with an error of HTTP.
pub(super) fn has_content(head: &HttpHead) -> bool {
    (200..300).contains(&head.status()) || head.get(BOLT_CLASS).is_some()
}

/// An answer of HTTP in Bolt.
pub(super) fn answer_from_http(head: &HttpHead, asked: &RpcHead) -> Result<Head, Refused> {
    let own = match number(head, BOLT_STATUS)? {
        Some(status) => status,
        None if (200..300).contains(&head.status()) => 0,
        None => bolt_status(head.status(), asked.protocol),
    };
    let parts =
        BoltParts { class: once(head, BOLT_CLASS)?.unwrap_or_default(), codec: number(head, BOLT_CODEC)?, status: own };
    let status = itoa::Buffer::new().format(head.status()).to_owned();
    let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
    if head.status() != 200 {
        fields.push((STATUS.as_bytes(), status.as_bytes()));
    }
    let others = head.fields().filter(|(id, name, _)| !ends_here(*id, name));
    fields.extend(others.map(|(_, name, value)| (name, value)));
    Ok(rpc(bolt_response(asked, parts, &fields)?))
}
