//! What an origin is told about the client and the request: X-Forwarded-For, X-Forwarded-Proto,
//! X-Forwarded-Client-Cert, X-Request-Id, Via. A `traceparent` (W3C
//! Trace Context) passes as any other field does.
//!
//! **Invariant:** what an untrusted client says of its own address, scheme, certificate or request id does not reach the origin as if we had said it.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};

use crate::config::Address;
use crate::config::schema::{ClientCertMode, Forwarded};
use crate::message::{Downstream, Exchange, Field, FieldId, Head, HttpHead, is_value};

/// Sets the fields of a request that is about to be forwarded. Once for each request, however many hosts it tries.
#[inline]
pub(super) fn stamp(x: &mut Exchange, settings: &Forwarded) {
    if let Head::Http(head) = &mut x.request.head {
        stamp_head(head, &x.downstream, settings);
    }
}

/// The same for the head of a request that came over this connection.
pub(super) fn stamp_head(head: &mut HttpHead, downstream: &Downstream, settings: &Forwarded) {
    let scheme: &[u8] = if downstream.is_tls { b"https" } else { b"http" };
    let told = Told::of(head);
    let client = match &downstream.peer {
        Address::Inet(peer) if settings.use_remote_address && !settings.skip_xff_append => Some(*peer),
        // The client's end of a unix socket has no address.
        _ => None,
    };
    let trusted = !settings.use_remote_address || settings.trusted_hops > 0;
    let sets_scheme = told.scheme.is_none() || !trusted;
    let keeps_id = told.request_id.is_some() && (trusted || settings.preserve_request_id);
    let sets_id = settings.generate_request_id && !keeps_id;
    if let Some(peer) = client {
        // In one field: not every origin looks at more.
        head.put_own(told.client, FOR, FieldId::ForwardedFor, |raw, fields| {
            put_clients(raw, &fields[told.client.unwrap_or(fields.len())..]);
            put_ip(raw, peer);
        });
    }
    if sets_scheme {
        head.put_own(told.scheme, PROTO, FieldId::ForwardedProto, |raw, _| raw.extend_from_slice(scheme));
    }
    if sets_id {
        head.put_own(told.request_id, REQUEST_ID, FieldId::RequestId, |raw, _| raw.extend_from_slice(&request_id()));
    }
    put_client_cert(head, told.client_cert, settings.client_cert.mode, downstream.client_cert());
    if told.is_repeated {
        let passes_cert =
            matches!(settings.client_cert.mode, ClientCertMode::ForwardOnly | ClientCertMode::AlwaysForwardOnly);
        head.keep_first(|id| match id {
            FieldId::ForwardedClientCert => !passes_cert,
            FieldId::ForwardedFor => client.is_some(),
            FieldId::ForwardedProto => sets_scheme,
            FieldId::RequestId => sets_id,
            _ => false,
        });
    }
    if let Some(via) = &settings.via {
        // RFC 9110, 7.6.3: one line more is one hop more.
        head.append("via", via.as_bytes());
    }
}

/// Where the fields stand that the request has already.
#[derive(Clone, Copy, Default)]
struct Told {
    client: Option<usize>,
    scheme: Option<usize>,
    request_id: Option<usize>,
    client_cert: Option<usize>,
    /// Whether one of them is there twice.
    is_repeated: bool,
}

impl Told {
    fn of(head: &HttpHead) -> Self {
        let mut told = Self::default();
        for (index, field) in head.spans().iter().enumerate() {
            let place = match field.id {
                FieldId::ForwardedFor => &mut told.client,
                FieldId::ForwardedProto => &mut told.scheme,
                FieldId::RequestId => &mut told.request_id,
                FieldId::ForwardedClientCert => &mut told.client_cert,
                _ => continue,
            };
            told.is_repeated |= place.is_some();
            place.get_or_insert(index);
        }
        told
    }
}

/// Sets, passes or removes what is told of the client's certificate. `known`: what we know of it, where it was verified.
fn put_client_cert(head: &mut HttpHead, told: Option<usize>, mode: ClientCertMode, known: Option<&str>) {
    // A connection that was let in before the settings changed may know of nothing to set.
    let sets = matches!(mode, ClientCertMode::AppendForward | ClientCertMode::SanitizeSet);
    let (known, appends) = match (mode, known.filter(|known| !sets || !known.is_empty())) {
        (ClientCertMode::AlwaysForwardOnly, _) | (ClientCertMode::ForwardOnly, Some(_)) => return,
        (ClientCertMode::AppendForward, Some(known)) => (known, true),
        (ClientCertMode::SanitizeSet, Some(known)) => (known, false),
        (ClientCertMode::Sanitize, _) | (_, None) => {
            if told.is_some() {
                head.remove_id(FieldId::ForwardedClientCert);
            }
            return;
        }
    };
    head.put_own(told, CLIENT_CERT, FieldId::ForwardedClientCert, |raw, fields| {
        for field in fields.iter().filter(|f| appends && f.id == FieldId::ForwardedClientCert) {
            if field.value.len > 0 && is_value(field.value.of(raw)) {
                raw.extend_from_within(field.value.start as usize..field.value.end());
                raw.push(b',');
            }
        }
        raw.extend_from_slice(known.as_bytes());
    });
}

/// Writes the addresses that the request has come by already, each with the comma behind it.
fn put_clients(raw: &mut Vec<u8>, fields: &[Field]) {
    for field in fields.iter().filter(|f| f.id == FieldId::ForwardedFor) {
        let value = field.value;
        if value.len > 0 && is_value(value.of(raw)) {
            raw.extend_from_within(value.start as usize..value.end());
            raw.extend_from_slice(b", ");
        }
    }
}

fn put_ip(out: &mut Vec<u8>, peer: SocketAddr) {
    let v4 = match peer.ip().to_canonical() {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => return out.extend_from_slice(v6.to_string().as_bytes()),
    };
    let (mut text, mut len) = ([b'.'; 16], 0);
    for octet in v4.octets() {
        let (digits, places) = octet_digits(octet);
        text[len..len + 3].copy_from_slice(&digits);
        text[len + places] = b'.';
        len += places + 1;
    }
    out.extend_from_slice(&text[..len - 1]);
}

/// The decimal digits of an octet, and how many there are.
fn octet_digits(octet: u8) -> ([u8; 3], usize) {
    let digit = |n: u8| b'0' + n % 10;
    match octet {
        0..10 => ([digit(octet), 0, 0], 1),
        10..100 => ([digit(octet / 10), digit(octet), 0], 2),
        100.. => ([digit(octet / 100), digit(octet / 10), digit(octet)], 3),
    }
}

/// A random UUID (RFC 9562, version 4), as text.
fn request_id() -> [u8; 36] {
    let (a, b) = (random(), random());
    let high = (a & !0xf000) | 0x4000;
    let low = (b & !(0b11 << 62)) | (0b10 << 62);
    let (high, low) = (hex(high), hex(low));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&high[..8]);
    text[9..13].copy_from_slice(&high[8..12]);
    text[14..18].copy_from_slice(&high[12..]);
    text[19..23].copy_from_slice(&low[..4]);
    text[24..].copy_from_slice(&low[4..]);
    text
}

/// The sixteen hexadecimal digits of a number, eight at a time.
fn hex(n: u64) -> [u8; 16] {
    let mut text = [0; 16];
    let [a, b, c, d, e, f, g, h] = n.to_be_bytes();
    for (half, out) in [[a, b, c, d], [e, f, g, h]].into_iter().zip(text.chunks_exact_mut(8)) {
        // Each of the eight digits into a byte of its own, the first lowest.
        let bytes = u64::from(u32::from_le_bytes(half));
        let spread = (bytes | (bytes << 16)) & 0x0000_ffff_0000_ffff;
        let spread = (spread | (spread << 8)) & 0x00ff_00ff_00ff_00ff;
        let digits = ((spread >> 4) | (spread << 8)) & 0x0f0f_0f0f_0f0f_0f0f;
        // Above nine, on to the letters: 39 lies between '0' + 10 and 'a'.
        let letters = ((digits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        let ascii = digits + 0x3030_3030_3030_3030 + letters * 39;
        out.copy_from_slice(&ascii.to_le_bytes());
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
const CLIENT_CERT: &str = "x-forwarded-client-cert";
const PROTO: &str = "x-forwarded-proto";
const REQUEST_ID: &str = "x-request-id";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::rc::Rc;

    use super::*;
    use crate::message::{Body, Downstream, Head, Request};

    fn stamped(settings: &Forwarded, fields: &[(&str, &str)]) -> Exchange {
        stamped_for(settings, fields, None)
    }

    fn stamped_for(settings: &Forwarded, fields: &[(&str, &str)], client_cert: Option<&str>) -> Exchange {
        let mut head = HttpHead::request("GET", b"/");
        fields.iter().for_each(|(name, value)| assert!(head.append(name, value.as_bytes())));
        let (peer, local) = ("10.1.2.3:4".parse().unwrap(), "[::1]:80".parse().unwrap());
        let mut downstream = Downstream::new(1, peer, local, true);
        downstream.tls_mut().certificate = client_cert.map(Into::into);
        let downstream = Rc::new(downstream);
        let mut x = Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, downstream);
        stamp(&mut x, settings);
        x
    }

    fn field(x: &Exchange, name: &str) -> Option<String> {
        let head = x.request.head.fields().unwrap();
        let values: Vec<_> = head.fields().filter(|(_, n, _)| n.eq_ignore_ascii_case(name.as_bytes())).collect();
        assert!(values.len() <= 1, "{name} {} times", values.len());
        head.get(name).map(|v| String::from_utf8(v.to_vec()).unwrap())
    }

    #[test]
    fn a_client_is_told_by_its_address_and_not_by_what_it_says() {
        let given = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-Proto", "http"),
            ("x-forwarded-for", ""),
            ("x-forwarded-for", "2.2.2.2"),
            ("X-Forwarded-Proto", "ftp"),
            ("accept", "*/*"),
        ];
        let edge = Forwarded::default();
        let x = stamped(&edge, &[]);
        assert_eq!((field(&x, FOR), field(&x, PROTO)), (Some("10.1.2.3".into()), Some("https".into())));
        let x = stamped(&edge, &given);
        assert_eq!(field(&x, FOR).unwrap(), "1.1.1.1, 2.2.2.2, 10.1.2.3");
        assert_eq!(field(&x, PROTO).unwrap(), "https");
        assert_eq!(field(&x, "accept").unwrap(), "*/*");
        let behind = Forwarded { trusted_hops: 1, ..Forwarded::default() };
        assert_eq!(field(&stamped(&behind, &given[..4]), PROTO).unwrap(), "http");
        let inner = Forwarded { use_remote_address: false, ..Forwarded::default() };
        let x = stamped(&inner, &given[..1]);
        assert_eq!((field(&x, FOR).unwrap(), field(&x, PROTO).unwrap()), ("1.1.1.1".into(), "https".into()));
    }

    #[test]
    fn what_is_told_of_a_certificate_is_what_we_know() {
        use ClientCertMode::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
        let forged = [("X-Forwarded-Client-Cert", "Hash=1"), ("a", "b"), ("x-forwarded-client-CERT", "Hash=2;URI=x")];
        // (mode, known of the client, what the client says, what origins are told)
        for (mode, known, said, told) in [
            (Sanitize, None, 3, None),
            (Sanitize, Some("Hash=9"), 3, None),
            (ForwardOnly, None, 3, None),
            (ForwardOnly, Some("Hash=9"), 1, Some("Hash=1")),
            (AppendForward, None, 3, None),
            (AppendForward, Some("Hash=9"), 0, Some("Hash=9")),
            (AppendForward, Some("Hash=9"), 3, Some("Hash=1,Hash=2;URI=x,Hash=9")),
            (SanitizeSet, None, 3, None),
            (SanitizeSet, Some("Hash=9"), 0, Some("Hash=9")),
            (SanitizeSet, Some("Hash=9"), 3, Some("Hash=9")),
            (AlwaysForwardOnly, None, 1, Some("Hash=1")),
        ] {
            let mut settings = Forwarded::default();
            settings.client_cert.mode = mode;
            let x = stamped_for(&settings, &forged[..said], known);
            assert_eq!(field(&x, CLIENT_CERT).as_deref(), told, "{mode:?} {known:?} {said}");
            assert_eq!(field(&x, "a").is_some(), said > 1);
        }
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
    fn numbers_and_addresses_are_written_as_the_library_would() {
        let mut n = 0x0123_4567_89ab_cdef_u64;
        for _ in 0..1000 {
            assert_eq!(hex(n), format!("{n:016x}").as_bytes());
            n = random();
            let [a, b, c, d, ..] = n.to_be_bytes();
            let address = SocketAddr::from(([a, b % 100, c % 10, d], 80));
            let mut text = Vec::new();
            put_ip(&mut text, address);
            assert_eq!(String::from_utf8(text).unwrap(), address.ip().to_string());
        }
    }

    #[test]
    fn via_is_said_when_it_is_wanted() {
        assert_eq!(field(&stamped(&Forwarded::default(), &[]), "via"), None);
        let settings = Forwarded { via: Some("1.1 edge".into()), ..Forwarded::default() };
        assert_eq!(field(&stamped(&settings, &[]), "via").unwrap(), "1.1 edge");
    }
}
