//! Heads that are taken, as text, and heads that are not.
//!
//! **Invariant:** what is expected here is what the RFCs print, not what the code does.

use super::super::hpack::put_field;
use super::super::{HeadEncoder, RequestTerms};
use super::*;
use crate::codec::Codec;
use crate::codec::http1::{CodecLimits, Frame, RequestDecoder};
use crate::message::BodyLength;

const LIMITS: HeadLimits = HeadLimits { request_line_bytes_max: 64, head_bytes_max: 1000, head_fields_max: 8 };

fn decoded_by(mut decoder: HeadDecoder, kind: HeadKind, fields: &[(&str, &str)]) -> Result<Decoded, HeadError> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // Written out: the encoder would put the names in lower case.
        block.extend_from_slice(&[0, u8::try_from(name.len()).unwrap()]);
        block.extend_from_slice(name.as_bytes());
        let mut rest = Vec::new();
        put_field(&mut rest, b"x", value.as_bytes());
        block.extend_from_slice(&rest[3..]);
    }
    decoder.decode(kind, &block).unwrap()
}

fn decoded(kind: HeadKind, fields: &[(&str, &str)]) -> Result<Decoded, HeadError> {
    decoded_by(HeadDecoder::new(4096, LIMITS), kind, fields)
}

/// As by one that was told of extended CONNECT.
fn extended(fields: &[(&str, &str)]) -> Result<Decoded, HeadError> {
    let mut decoder = HeadDecoder::new(4096, LIMITS);
    decoder.allow_extended_connect();
    decoded_by(decoder, HeadKind::Request, fields)
}

fn text(kind: HeadKind, fields: &[(&str, &str)]) -> String {
    String::from_utf8(decoded(kind, fields).unwrap().head.raw().to_vec()).unwrap()
}

const TERMS: RequestTerms<'_> = RequestTerms { scheme: "http", te_trailers: false, websocket: false };

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "a.example:8443"), (":path", "/x?y")];

fn get(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&GET[..], more].concat()
}

#[test]
fn a_request_becomes_its_http1_text() {
    let fields = get(&[
        ("cookie", "a=1"),
        ("accept", "*/*"),
        ("host", "A.EXAMPLE:8443"),
        ("content-length", "5"),
        ("cookie", "b=2"),
        ("te", "Trailers"),
        ("x-empty", ""),
        ("x-odd", "caf\u{e9} \t!"),
    ]);
    let head = decoded(HeadKind::Request, &fields).unwrap();
    let want = "GET /x?y HTTP/1.1\r\nHost: a.example:8443\r\naccept: */*\r\ncontent-length: 5\r\nte: Trailers\r\nx-empty: \r\n\
        x-odd: caf\u{e9} \t!\r\ncookie: a=1; b=2\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(head.head.raw()), want);
    assert_eq!((head.content_length, head.te_trailers), (Some(5), true));
    let head = head.head;
    assert_eq!((head.method(), head.target(), head.version()), (Method::Get, &b"/x?y"[..], Version::Http2));
    assert_eq!((head.authority(), head.get("cookie")), (Some(&b"a.example:8443"[..]), Some(&b"a=1; b=2"[..])));
    assert_eq!(head.received_target(), b"/x?y");
}

#[test]
fn other_forms_of_requests() {
    let options = [(":method", "OPTIONS"), (":path", "*"), (":scheme", "http"), ("host", "h")];
    assert_eq!(text(HeadKind::Request, &options), "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n");
    let connect = [(":method", "CONNECT"), (":authority", "h:443")];
    assert_eq!(text(HeadKind::Request, &connect), "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
    let empty = [(":method", "PURGE"), (":scheme", "HTTP"), (":path", "/"), (":authority", ""), ("host", "[::1]:8")];
    assert_eq!(text(HeadKind::Request, &empty), "PURGE / HTTP/1.1\r\nhost: [::1]:8\r\n\r\n");
}

#[test]
fn responses_and_trailers() {
    let fields = [(":status", "204"), ("server", "s"), ("cookie", "a"), ("cookie", "b")];
    let response = decoded(HeadKind::Response, &fields).unwrap().head;
    assert_eq!(String::from_utf8_lossy(response.raw()), "HTTP/1.1 204 \r\nserver: s\r\ncookie: a\r\ncookie: b\r\n\r\n");
    assert_eq!((response.status(), response.reason()), (204, &b""[..]));
    let trailers =
        decoded(HeadKind::Trailers, &[("grpc-status", "0"), ("authorization", "x"), ("expect", "x")]).unwrap();
    let names: Vec<_> = trailers.head.fields().map(|(_, name, _)| name.to_vec()).collect();
    assert_eq!(names, [b"grpc-status".to_vec()]);
}

/// RFC 9113, 8.1.1, 8.2 and 8.3: what makes a message malformed.
#[test]
fn malformed_heads_are_refused() {
    use Malformed as M;
    let cases: Vec<(Malformed, Vec<(&str, &str)>)> = vec![
        (M::FieldName, get(&[("X-Upper", "1")])),
        (M::FieldName, get(&[("", "1")])),
        (M::FieldName, get(&[("a b", "1")])),
        (M::FieldName, get(&[("a:b", "1")])),
        (M::FieldName, get(&[("a\r\nb", "1")])),
        (M::FieldName, get(&[("a\0", "1")])),
        (M::FieldName, get(&[("\u{e9}", "1")])),
        (M::FieldValue, get(&[("a", "1\r\nb: 2")])),
        (M::FieldValue, get(&[("a", "1\n")])),
        (M::FieldValue, get(&[("a", "\r")])),
        (M::FieldValue, get(&[("a", "1\0")])),
        (M::FieldValue, get(&[("a", " 1")])),
        (M::FieldValue, get(&[("a", "1\t")])),
        (M::FieldValue, get(&[("a", "1\x7f2")])),
        (M::FieldValue, get(&[("cookie", "a\r\nb")])),
        (M::ConnectionField, get(&[("connection", "keep-alive")])),
        (M::ConnectionField, get(&[("keep-alive", "timeout=5")])),
        (M::ConnectionField, get(&[("proxy-connection", "x")])),
        (M::ConnectionField, get(&[("transfer-encoding", "chunked")])),
        (M::ConnectionField, get(&[("upgrade", "websocket")])),
        (M::Te, get(&[("te", "trailers, deflate")])),
        (M::Te, get(&[("te", "gzip")])),
        (M::PseudoUnknown, get(&[(":protocol", "websocket")])),
        (M::PseudoUnknown, get(&[(":test", "x")])),
        (M::PseudoForbidden, get(&[(":status", "200")])),
        (M::PseudoRepeated, get(&[(":method", "GET")])),
        (M::PseudoRepeated, get(&[(":path", "/x?y")])),
        (M::PseudoRepeated, get(&[(":authority", "a.example:8443")])),
        (M::PseudoLate, get(&[("a", "1"), (":path", "/")])),
        (M::PseudoMissing, vec![]),
        (M::PseudoMissing, GET[1..].to_vec()),
        (M::PseudoMissing, [&GET[..1], &GET[2..]].concat()),
        (M::PseudoMissing, [&GET[..2], &GET[3..]].concat()),
        (M::PseudoMissing, GET[..3].to_vec()),
        (M::Method, [&[(":method", "GET /a HTTP/1.1\r\nx: ")], &GET[1..]].concat()),
        (M::Method, [&[(":method", "")], &GET[1..]].concat()),
        (M::Method, [&[(":method", "G:T")], &GET[1..]].concat()),
        (M::Scheme, [&GET[..1], &[(":scheme", "file")], &GET[2..]].concat()),
        (M::Scheme, [&GET[..1], &[(":scheme", "http\0")], &GET[2..]].concat()),
        (M::Path, [&GET[..3], &[(":path", "")]].concat()),
        (M::Path, [&GET[..3], &[(":path", "*")]].concat()),
        (M::Path, [&GET[..3], &[(":path", "x")]].concat()),
        (M::Path, [&GET[..3], &[(":path", "http://a/")]].concat()),
        (M::Path, [&GET[..3], &[(":path", "/a b")]].concat()),
        (M::Path, [&GET[..3], &[(":path", "/a\r\nb")]].concat()),
        (M::Path, [&GET[..3], &[(":path", "/a\0")]].concat()),
        (M::Path, [&GET[..3], &[(":path", "/a#b")]].concat()),
        (M::Authority, [&GET[..2], &[(":authority", "user@a")], &GET[3..]].concat()),
        (M::Authority, [&GET[..2], &[(":authority", "a/b")], &GET[3..]].concat()),
        (M::Authority, [&GET[..2], &[(":authority", "a\r\nb")], &GET[3..]].concat()),
        (M::Authority, [&GET[..2], &[(":authority", "a:b")], &GET[3..]].concat()),
        (M::Authority, [&GET[..2], &[(":authority", "a, b")], &GET[3..]].concat()),
        (M::HostDiffers, get(&[("host", "b.example")])),
        (M::HostRepeated, get(&[("host", "a.example:8443"), ("host", "a.example:8443")])),
        (M::ContentLength, get(&[("content-length", "+1")])),
        (M::ContentLength, get(&[("content-length", "1, 1")])),
        (M::ContentLength, get(&[("content-length", "")])),
        (M::ContentLengthRepeated, get(&[("content-length", "1"), ("content-length", "1")])),
        (M::PseudoForbidden, [&[(":method", "CONNECT")], &GET[1..]].concat()),
        (M::Authority, vec![(":method", "CONNECT"), (":authority", "h")]),
        (M::PseudoMissing, vec![(":method", "CONNECT")]),
    ];
    for (why, fields) in cases {
        let error = decoded(HeadKind::Request, &fields).err();
        assert_eq!(error, Some(HeadError::Malformed(why)), "{fields:?}");
    }
    for (why, fields) in [
        (M::PseudoMissing, &[("server", "s")][..]),
        (M::Status, &[(":status", "20")]),
        (M::Status, &[(":status", "2000")]),
        (M::Status, &[(":status", "+20")]),
        (M::Status, &[(":status", "020")]),
        (M::Status, &[(":status", "101")]),
        (M::PseudoRepeated, &[(":status", "200"), (":status", "200")]),
        (M::PseudoForbidden, &[(":status", "200"), (":path", "/")]),
        (M::ConnectionField, &[(":status", "200"), ("transfer-encoding", "chunked")]),
        (M::ContentLengthRepeated, &[(":status", "200"), ("content-length", "1"), ("content-length", "2")]),
    ] {
        assert_eq!(decoded(HeadKind::Response, fields).err(), Some(HeadError::Malformed(why)), "{fields:?}");
    }
    for (why, fields) in [
        (M::PseudoForbidden, [("a", "1"), (":method", "GET")].as_slice()),
        (M::PseudoForbidden, &[(":status", "200")]),
        (M::TrailerForbidden, &[("content-length", "1")]),
        (M::TrailerForbidden, &[("host", "a")]),
        (M::ConnectionField, &[("transfer-encoding", "chunked")]),
    ] {
        // Behind a field it is late, whatever it is.
        let why = if fields[0].0 == "a" { M::PseudoLate } else { why };
        assert_eq!(decoded(HeadKind::Trailers, fields).err(), Some(HeadError::Malformed(why)), "{fields:?}");
    }
}

#[test]
fn limits_have_their_status() {
    let long = "v".repeat(120);
    let many: Vec<(&str, &str)> = [&GET[..], &[("a", "1"); 8]].concat();
    let large: Vec<(&str, &str)> = [&GET[..], &[("a", long.as_str()); 7]].concat();
    let path = format!("/{long}");
    let line: Vec<(&str, &str)> = [&GET[..3], &[(":path", path.as_str())]].concat();
    let crumbs: Vec<(&str, &str)> = [&GET[..], &[("cookie", "a"); 25]].concat();
    for (error, status, fields) in [
        (DecodeError::TooManyFields, 431, many),
        (DecodeError::HeadTooLarge, 431, large),
        (DecodeError::HeadTooLarge, 431, crumbs),
        (DecodeError::RequestLineTooLong, 414, line),
        (DecodeError::Expectation, 417, get(&[("expect", "200-ok")])),
    ] {
        assert_eq!(decoded(HeadKind::Request, &fields).err(), Some(HeadError::Refused(error)));
        assert_eq!(error.status(), status);
    }
}

/// What filters and rewrites have made of a request is looked at where it leaves: nothing of it becomes a second field or request.
#[test]
fn a_request_that_would_carry_another_is_not_written() {
    let written = |method: &str, target: &[u8], host: Option<&str>| {
        let mut head = HttpHead::request(method, target);
        if let Some(host) = host {
            assert!(head.append("host", host.as_bytes()));
        }
        let mut out = Vec::new();
        let done = HeadEncoder::default().request(&head, BodyLength::None, TERMS, &mut out);
        done.map(|()| HeadDecoder::new(4096, LIMITS).decode(HeadKind::Request, &out).unwrap())
    };
    let host = Some("a.example");
    for (what, method, target, host) in [
        ("CR LF in the target", "GET", &b"/a\r\nx: y"[..], host),
        ("a space in the target", "GET", b"/a HTTP/1.1", host),
        ("NUL in the target", "GET", b"/a\0", host),
        ("a fragment", "GET", b"/a#b", host),
        ("no target", "GET", b"", host),
        ("a space in the method", "GET /x", b"/", host),
        ("CR LF in the method", "GET\r\n", b"/", host),
        ("a colon in the method", ":method", b"/", host),
        ("no method", "", b"/", host),
        ("CONNECT to no port", "CONNECT", b"a.example", host),
        ("CR LF in where CONNECT goes", "CONNECT", b"a.example:1\r\nx", host),
        ("a path in the host", "GET", b"/", Some("a/b")),
        ("a user in the host", "GET", b"/", Some("me@a")),
        ("two hosts in one", "GET", b"/", Some("a, b")),
        ("no host in the host", "GET", b"/", Some("")),
    ] {
        assert!(written(method, target, host).is_err(), "{what}");
    }
    for (target, path, authority, host) in [
        (&b"/a?b"[..], &b"/a?b"[..], Some("a.example"), host),
        (b"http://b.example/c", b"/c", Some("b.example"), host),
        (b"http://b.example?q", b"/?q", Some("b.example"), host),
        (b"http://b.example", b"/", Some("b.example"), None),
    ] {
        let head = written("GET", target, host).unwrap().unwrap().head;
        let found = head.authority().map(|host| String::from_utf8_lossy(host).into_owned());
        assert_eq!((head.target(), found.as_deref()), (path, authority));
        assert_eq!(head.fields().filter(|(id, ..)| *id == FieldId::Host).count(), 1);
    }
    // HTTP/1.0 may say no host: then none is made up, and whoever reads it judges.
    let error = written("GET", b"/", None).unwrap().err();
    assert_eq!(error, Some(HeadError::Malformed(Malformed::PseudoMissing)));
}

/// What means something to one connection only, and what the framing says anew, is left behind.
#[test]
fn fields_that_end_here() {
    let text = b"POST /a HTTP/1.1\r\nHost: h\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
        Transfer-Encoding: chunked\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nTE: trailers, gzip\r\nX-End: yes\r\n\r\n";
    let mut decoder = RequestDecoder::new(CodecLimits::default());
    let Ok(Some((Frame::Head(head, length, _), _))) = decoder.decode(text) else { panic!("it is a request") };
    let mut out = Vec::new();
    let terms = RequestTerms { scheme: "https", te_trailers: true, ..TERMS };
    HeadEncoder::default().request(&head, length, terms, &mut out).unwrap();
    let again = HeadDecoder::new(4096, LIMITS).decode(HeadKind::Request, &out).unwrap().unwrap();
    let names: Vec<_> = again.head.fields().map(|(_, name, _)| String::from_utf8_lossy(name).to_lowercase()).collect();
    assert_eq!(names, ["host", "x-end", "te"]);
    assert!(again.te_trailers && again.content_length.is_none());
}

const WEBSOCKET_ASK: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "a.example"),
    (":path", "/chat"),
];

/// An extended CONNECT is the GET with Upgrade that it would be, and becomes what it was.
#[test]
fn an_extended_connect_becomes_its_http1_text_and_back() {
    let fields = [&WEBSOCKET_ASK[..], &[("sec-websocket-version", "13"), ("sec-websocket-key", "x")]].concat();
    let asked = extended(&fields).unwrap();
    let want = "GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(asked.head.raw()), want);
    assert!(asked.upgrade && asked.head.method() == Method::Get);
    let mut out = Vec::new();
    let terms = RequestTerms { scheme: "https", websocket: true, ..TERMS };
    HeadEncoder::default().request(&asked.head, BodyLength::None, terms, &mut out).unwrap();
    let mut decoder = HeadDecoder::new(4096, LIMITS);
    decoder.allow_extended_connect();
    let again = decoder.decode(HeadKind::Request, &out).unwrap().unwrap();
    let want = "GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(again.head.raw()), want);
    let shouted = [&WEBSOCKET_ASK[..1], &[(":protocol", "WebSocket")], &WEBSOCKET_ASK[2..]].concat();
    assert_eq!(extended(&shouted).unwrap().head.get("upgrade"), Some(&b"websocket"[..]));
    assert!(!extended(&GET).unwrap().upgrade);
    let mut out = Vec::new();
    HeadEncoder::default().request(&HttpHead::request("CONNECT", b"h:443"), BodyLength::None, TERMS, &mut out).unwrap();
    let connect = extended_block(&out).unwrap();
    assert_eq!(String::from_utf8_lossy(connect.head.raw()), "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
    assert!(!connect.upgrade);
}

fn extended_block(block: &[u8]) -> Result<Decoded, HeadError> {
    let mut decoder = HeadDecoder::new(4096, LIMITS);
    decoder.allow_extended_connect();
    decoder.decode(HeadKind::Request, block).unwrap()
}

/// Nothing comes in by :protocol that HTTP/1 would read in another way (RFC 8441, 4).
#[test]
fn what_is_no_extended_connect_is_refused() {
    use Malformed as M;
    let but = |at: usize, field: (&'static str, &'static str)| {
        let mut fields = WEBSOCKET_ASK.to_vec();
        fields[at] = field;
        fields
    };
    let without = |at: usize| [&WEBSOCKET_ASK[..at], &WEBSOCKET_ASK[at + 1..]].concat();
    let more = |fields: &[(&'static str, &'static str)]| [&WEBSOCKET_ASK[..], fields].concat();
    for (why, fields) in [
        (M::Protocol, but(1, (":protocol", "websocket\r\nx: y"))),
        (M::Protocol, but(1, (":protocol", "web socket"))),
        (M::Protocol, but(1, (":protocol", "websocket, h2c"))),
        (M::Protocol, but(1, (":protocol", "websocket\0"))),
        (M::Protocol, but(1, (":protocol", ""))),
        (M::PseudoForbidden, but(0, (":method", "GET"))),
        (M::PseudoForbidden, but(0, (":method", "POST"))),
        (M::PseudoForbidden, but(0, (":method", "connect"))),
        (M::PseudoRepeated, more(&[(":protocol", "websocket")])),
        (M::PseudoLate, [&GET[..], &[("a", "b"), (":protocol", "websocket")]].concat()),
        (M::PseudoMissing, without(2)),
        (M::PseudoMissing, without(3)),
        (M::PseudoMissing, without(4)),
        (M::PseudoForbidden, without(1)),
        (M::Path, but(4, (":path", "a.example:443"))),
        (M::Path, but(4, (":path", "*"))),
        (M::Path, but(4, (":path", "/ HTTP/1.1\r\nx: y"))),
        (M::Authority, but(3, (":authority", "a\r\nb"))),
        (M::Scheme, but(2, (":scheme", "wss"))),
        (M::ConnectionField, more(&[("upgrade", "websocket")])),
        (M::ConnectionField, more(&[("connection", "upgrade")])),
        (M::HostDiffers, more(&[("host", "b.example")])),
    ] {
        assert_eq!(extended(&fields).err(), Some(HeadError::Malformed(why)), "{fields:?}");
    }
    for protocol in ["connect-udp", "h2c", "tls", "websockets"] {
        let refused = extended(&but(1, (":protocol", protocol))).err();
        assert_eq!(refused, Some(HeadError::Refused(DecodeError::Protocol)), "{protocol}");
    }
    // Who was not told of it must not use it.
    assert_eq!(decoded(HeadKind::Request, &WEBSOCKET_ASK).err(), Some(HeadError::Malformed(M::PseudoUnknown)));
}
