//! What an origin is told about the client and the request: X-Forwarded-For, X-Forwarded-Proto, X-Request-Id, Via. A `traceparent` (W3C
//! Trace Context) passes as any other field does.
//!
//! **Invariant:** what an untrusted client says of its own address, scheme or request id does not reach the origin as if we had said it.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};

use crate::config::Address;
use crate::config::schema::Forwarded;
use crate::message::{Exchange, HttpHead, is_value};

/// Sets the fields of a request that is about to be forwarded. Once for each request, however many hosts it tries.
pub(super) fn stamp(x: &mut Exchange, settings: &Forwarded) {
    let is_tls = x.downstream.is_tls;
    let downstream = &x.downstream;
    let Some(head) = x.request.head.http_mut() else { return };
    let told = Told::of(head);
    if settings.use_remote_address && !settings.skip_xff_append {
        append_client(head, told.client, &downstream.peer);
    }
    let trusted = !settings.use_remote_address || settings.trusted_hops > 0;
    if told.scheme && !trusted {
        head.remove(PROTO);
    }
    if !told.scheme || !trusted {
        head.append(PROTO, if is_tls { b"https" } else { b"http" });
    }
    if settings.generate_request_id {
        let kept = told.request_id && (trusted || settings.preserve_request_id);
        if told.request_id && !kept {
            head.remove(REQUEST_ID);
        }
        if !kept {
            head.append(REQUEST_ID, &request_id());
        }
    }
    if let Some(via) = &settings.via {
        // RFC 9110, 7.6.3: one line more is one hop more.
        head.append("via", via.as_bytes());
    }
}

/// Which of the fields the request has already.
#[derive(Clone, Copy, Default)]
struct Told {
    client: bool,
    scheme: bool,
    request_id: bool,
}

impl Told {
    /// One look over the fields; most names are told apart by their length.
    fn of(head: &HttpHead) -> Self {
        let mut told = Self::default();
        for (_, name, _) in head.fields() {
            match name.len() {
                15 => told.client |= name.eq_ignore_ascii_case(FOR.as_bytes()),
                17 => told.scheme |= name.eq_ignore_ascii_case(PROTO.as_bytes()),
                12 => told.request_id |= name.eq_ignore_ascii_case(REQUEST_ID.as_bytes()),
                _ => {}
            }
        }
        told
    }
}

/// Adds the peer's address behind those that are there, in one field: not every origin looks at more.
fn append_client(head: &mut HttpHead, is_there: bool, peer: &Address) {
    // The client's end of a unix socket has no address.
    let Address::Inet(peer) = peer else { return };
    let mut own = Vec::with_capacity(ADDRESS_BYTES_MAX);
    put_ip(&mut own, *peer);
    if !is_there {
        head.append(FOR, &own);
        return;
    }
    let mut list = Vec::new();
    for (_, name, value) in head.fields() {
        if name.eq_ignore_ascii_case(FOR.as_bytes()) && is_value(value) && !value.is_empty() {
            list.extend_from_slice(value);
            list.extend_from_slice(b", ");
        }
    }
    list.extend_from_slice(&own);
    head.set(FOR, &list);
}

fn put_ip(out: &mut Vec<u8>, peer: SocketAddr) {
    let mut number = itoa::Buffer::new();
    match peer.ip().to_canonical() {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(number.format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// A random UUID (RFC 9562, version 4), as text.
fn request_id() -> [u8; 36] {
    let (a, b) = (random(), random());
    let high = (a & !0xf000) | 0x4000;
    let low = (b & !(0b11 << 62)) | (0b10 << 62);
    let mut text = [b'-'; 36];
    let mut digits = (0..16).rev().map(|n| high >> (4 * n)).chain((0..16).rev().map(|n| low >> (4 * n)));
    for (place, byte) in text.iter_mut().enumerate() {
        if !matches!(place, 8 | 13 | 18 | 23)
            && let Some(digit) = digits.next()
        {
            *byte = HEX[usize::from((digit & 15) as u8)];
        }
    }
    text
}

/// The next number of this worker's generator (splitmix64). Not secret; only not twice.
fn random() -> u64 {
    STATE.with(|state| {
        let next = state.get().unwrap_or_else(|| RandomState::new().hash_one(0)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(Some(next));
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

thread_local! {
    /// None until it is seeded, by the system, once a worker.
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const REQUEST_ID: &str = "x-request-id";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The longest address as text, in bytes.
const ADDRESS_BYTES_MAX: usize = 46;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::rc::Rc;

    use super::*;
    use crate::message::{Body, Downstream, Head, Request};

    fn stamped(settings: &Forwarded, fields: &[(&str, &str)]) -> Exchange {
        let mut head = HttpHead::request("GET", b"/");
        fields.iter().for_each(|(name, value)| assert!(head.append(name, value.as_bytes())));
        let (peer, local) = ("10.1.2.3:4".parse().unwrap(), "[::1]:80".parse().unwrap());
        let downstream = Rc::new(Downstream { id: 1, peer, local, is_tls: true });
        let mut x = Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, downstream);
        stamp(&mut x, settings);
        x
    }

    fn field(x: &Exchange, name: &str) -> Option<String> {
        let head = x.request.head.http().unwrap();
        let values: Vec<_> = head.fields().filter(|(_, n, _)| n.eq_ignore_ascii_case(name.as_bytes())).collect();
        assert!(values.len() <= 1, "{name} {} times", values.len());
        head.get(name).map(|v| String::from_utf8(v.to_vec()).unwrap())
    }

    #[test]
    fn a_client_is_told_by_its_address_and_not_by_what_it_says() {
        let given = [("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"), ("X-Forwarded-Proto", "http")];
        let edge = Forwarded::default();
        let x = stamped(&edge, &[]);
        assert_eq!((field(&x, FOR), field(&x, PROTO)), (Some("10.1.2.3".into()), Some("https".into())));
        let x = stamped(&edge, &given);
        assert_eq!(field(&x, FOR).unwrap(), "1.1.1.1, 2.2.2.2, 10.1.2.3");
        assert_eq!(field(&x, PROTO).unwrap(), "https");
        let behind = Forwarded { trusted_hops: 1, ..Forwarded::default() };
        assert_eq!(field(&stamped(&behind, &given), PROTO).unwrap(), "http");
        let inner = Forwarded { use_remote_address: false, ..Forwarded::default() };
        let x = stamped(&inner, &given[..1]);
        assert_eq!((field(&x, FOR).unwrap(), field(&x, PROTO).unwrap()), ("1.1.1.1".into(), "https".into()));
    }

    #[test]
    fn request_ids_are_made_kept_and_replaced() {
        let own = [("X-Request-Id", "mine")];
        let edge = Forwarded::default();
        let id = field(&stamped(&edge, &own), REQUEST_ID).unwrap();
        assert_ne!(id, "mine");
        let kept = Forwarded { preserve_request_id: true, ..Forwarded::default() };
        assert_eq!(field(&stamped(&kept, &own), REQUEST_ID).unwrap(), "mine");
        let none = Forwarded { generate_request_id: false, ..Forwarded::default() };
        assert_eq!(field(&stamped(&none, &own), REQUEST_ID).unwrap(), "mine");
        assert_eq!(field(&stamped(&none, &[]), REQUEST_ID), None);
        let ids: HashSet<_> = (0..10_000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 10_000);
        let text = String::from_utf8(request_id().to_vec()).unwrap();
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{text}");
        assert!(text.as_bytes()[14] == b'4' && b"89ab".contains(&text.as_bytes()[19]), "{text}");
    }

    #[test]
    fn via_is_said_when_it_is_wanted() {
        assert_eq!(field(&stamped(&Forwarded::default(), &[]), "via"), None);
        let settings = Forwarded { via: Some("1.1 edge".into()), ..Forwarded::default() };
        assert_eq!(field(&stamped(&settings, &[]), "via").unwrap(), "1.1 edge");
    }
}
