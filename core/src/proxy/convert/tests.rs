//! What crosses, what comes back, and what is refused.

use std::time::Duration;

use super::*;
use crate::codec::xprotocol::{BoltParts, Pairs, bolt_request, bolt_response, codec_of};
use crate::message::is_value;

const BOLT: RpcProtocol = RpcProtocol::Bolt;

fn limits() -> Limits {
    Limits { head_bytes_max: 4096, ..Limits::default() }
}

fn facts(limits: &Limits) -> Facts<'_> {
    Facts { timeout: Some(Duration::from_millis(1500)), host: "10.0.0.1:80", limits }
}

fn http(method: &str, target: &str, fields: &[(&str, &str)]) -> Head {
    let mut head = HttpHead::request(method, target.as_bytes());
    for (name, value) in fields {
        assert!(head.append(name, value.as_bytes()), "{name}");
    }
    Head::Http(head)
}

fn answer(status: u16, fields: &[(&str, &str)]) -> Head {
    let mut head = HttpHead::response(status);
    for (name, value) in fields {
        assert!(head.append(name, value.as_bytes()), "{name}");
    }
    Head::Http(head)
}

fn class(class: &[u8]) -> BoltParts<'_> {
    BoltParts { class, codec: None, status: 0 }
}

fn bolt(fields: Pairs<'_>) -> Head {
    rpc(bolt_request((BOLT, RpcKind::Request), Some(Duration::from_secs(3)), class(b"C"), fields).unwrap())
}

fn fields(head: &Head) -> Vec<String> {
    let fields = head.fields().unwrap().fields();
    fields
        .map(|(_, name, value)| format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
        .collect()
}

fn line(head: &Head) -> String {
    let Head::Http(head) = head else { panic!("no HTTP") };
    format!("{} {}", String::from_utf8_lossy(head.method_bytes()), String::from_utf8_lossy(head.target()))
}

fn to_http(fields: Pairs<'_>, content: &'static [u8]) -> Result<Request, Refused> {
    Pair::BoltToHttp.request(&bolt(fields), &Bytes::from_static(content), facts(&limits()))
}

fn to_bolt(head: &Head, content: &'static [u8]) -> Result<Request, Refused> {
    Pair::HttpToBolt(BOLT).request(head, &Bytes::from_static(content), facts(&limits()))
}

#[test]
fn a_pair_is_there_where_heads_differ() {
    let (web, frame) = (http("GET", "/", &[]), bolt(&[]));
    let dubbo = rpc(crate::codec::xprotocol::dubbo_request(RpcKind::Request));
    for (head, to, pair) in [
        (&web, Protocol::Http1, None),
        (&web, Protocol::Http2, None),
        (&web, Protocol::Rpc(BOLT), Some(Pair::HttpToBolt(BOLT))),
        (&web, Protocol::Rpc(RpcProtocol::Dubbo), Some(Pair::HttpToDubbo)),
        (&frame, Protocol::Rpc(BOLT), None),
        (&frame, Protocol::Rpc(RpcProtocol::BoltV2), Some(Pair::BoltToBolt(RpcProtocol::BoltV2))),
        (&frame, Protocol::Http2, Some(Pair::BoltToHttp)),
        (&frame, Protocol::Rpc(RpcProtocol::Dubbo), None),
        (&dubbo, Protocol::Http1, Some(Pair::DubboToHttp)),
        (&dubbo, Protocol::Rpc(BOLT), None),
    ] {
        assert_eq!(Pair::of(head, to), pair, "{head:?} {to:?}");
    }
}

#[test]
fn a_request_of_http_becomes_bolt_and_comes_back() {
    let all = [
        ("Service", "com.example.Echo:1.0"),
        ("Host", "a.example"),
        ("Connection", "close, x-gone"),
        ("Content-Length", "2"),
        ("Expect", "100-continue"),
        ("x-bolt-class", "com.example.Request"),
        ("x-bolt-codec", "12"),
        ("X-Mosn-Path", "/evil"),
        ("x-a", ""),
        ("x-a", "2"),
    ];
    let made = to_bolt(&http("PUT", "/a/b?c=%20", &all), b"hi").unwrap();
    let Head::Rpc(head) = &made.head else { panic!("no frame") };
    let parts = BoltParts::of(head).unwrap();
    assert_eq!((parts.class, parts.codec, head.kind), (&b"com.example.Request"[..], Some(12), RpcKind::Request));
    assert_eq!(head.timeout, Some(Duration::from_millis(1500)));
    let expected = [
        "x-mosn-method=PUT",
        "x-mosn-path=/a/b",
        "x-mosn-querystring=c=%20",
        "host=a.example",
        "Service=com.example.Echo:1.0",
        "x-a=",
        "x-a=2",
    ];
    assert_eq!(fields(&made.head), expected);
    // By the bytes that leave, as the host reads them.
    let mut wire = Vec::new();
    codec_of(BOLT).encode(head, 7, b"hi", &mut wire).unwrap();
    assert_eq!(&wire[wire.len() - 2..], b"hi");
    let back = Pair::BoltToHttp.request(&made.head, &Bytes::from_static(b"hi"), facts(&limits())).unwrap();
    assert_eq!(line(&back.head), "PUT /a/b?c=%20");
    let expected = [
        "host=a.example",
        "Service=com.example.Echo:1.0",
        "x-a=",
        "x-a=2",
        "x-bolt-class=com.example.Request",
        "x-bolt-codec=12",
        "x-mosn-global-timeout=1500",
    ];
    assert_eq!(fields(&back.head), expected);
}

#[test]
fn a_request_of_bolt_becomes_http() {
    for (pairs, expected) in [
        (&[][..], "POST /"),
        (&[(&b"service"[..], &b"com.example.Echo:1.0"[..])], "POST /com.example.Echo:1.0"),
        (&[(b"service", b"a.B"), (b"sofa_head_method_name", b"echo")], "POST /a.B/echo"),
        (
            &[(b"x-mosn-method", b"GET"), (b"x-mosn-path", b"/x%20y"), (b"x-mosn-querystring", b"q?=1")],
            "GET /x%20y?q?=1",
        ),
    ] {
        let made = to_http(pairs, b"content").unwrap();
        assert_eq!(line(&made.head), expected);
        assert_eq!(made.head.fields().unwrap().authority(), Some(&b"10.0.0.1:80"[..]));
    }
    let one_way = rpc(bolt_request((BOLT, RpcKind::OneWay), None, class(b""), &[]).unwrap());
    let made = Pair::BoltToHttp.request(&one_way, &Bytes::new(), facts(&limits())).unwrap();
    assert_eq!(fields(&made.head), ["host=10.0.0.1:80", "x-rpc-oneway=true"]);
    let Head::Rpc(back) = to_bolt(&made.head, b"").unwrap().head else { panic!("no frame") };
    assert_eq!(back.kind, RpcKind::OneWay);
}

/// Names, values and what else of a frame could become something else in HTTP. Each by itself in a frame that is good without it.
#[test]
fn nothing_is_injected_from_bolt_into_http() {
    let long = vec![b'a'; 5000];
    let rows: &[(&str, &[u8], &[u8], Refused)] = &[
        ("CR LF in a name", b"x\r\ny", b"1", Refused::Name),
        ("LF in a name", b"x\ny", b"1", Refused::Name),
        ("NUL in a name", b"x\0", b"1", Refused::Name),
        ("a space in a name", b"x y", b"1", Refused::Name),
        ("a space behind a name", b"content-length ", b"1", Refused::Name),
        ("a tab in a name", b"x\t", b"1", Refused::Name),
        ("a colon in a name", b"x:", b"1", Refused::Name),
        ("no name", b"", b"1", Refused::Name),
        ("a name that is no ASCII", "\u{e4}".as_bytes(), b"1", Refused::Name),
        ("a pseudo-header field", b":path", b"/evil", Refused::Name),
        ("another one", b":method", b"GET", Refused::Name),
        ("CR LF in a value", b"x", b"1\r\ny: 2", Refused::Value),
        ("LF in a value", b"x", b"1\ny: 2", Refused::Value),
        ("a bare CR in a value", b"x", b"1\ry: 2", Refused::Value),
        ("NUL in a value", b"x", b"1\0", Refused::Value),
        ("DEL in a value", b"x", b"1\x7f", Refused::Value),
        ("a space before a value", b"x", b" 1", Refused::Value),
        ("a tab behind a value", b"x", b"1\t", Refused::Value),
        ("LF in a service", b"service", b"a.B\nX", Refused::Path),
        ("a space in a service", b"service", b"a.B HTTP/1.1", Refused::Path),
        ("a slash in a service", b"service", b"a/../../admin", Refused::Path),
        ("a query in a service", b"service", b"a.B?x", Refused::Path),
        ("an escape in a service", b"service", b"a%2fb", Refused::Path),
        ("a service that leads up", b"service", b"..", Refused::Path),
        ("NUL in a service", b"service", b"a.B\0", Refused::Path),
        ("CR in a method of a service", b"sofa_head_method_name", b"echo\r", Refused::Path),
        ("a space in a method", b"x-mosn-method", b"GET /evil", Refused::Method),
        ("CR LF in a method", b"x-mosn-method", b"GET\r\n", Refused::Method),
        ("an empty method", b"x-mosn-method", b"", Refused::Method),
        ("CONNECT", b"x-mosn-method", b"CONNECT", Refused::Method),
        ("TRACE", b"x-mosn-method", b"TRACE", Refused::Method),
        ("a space in a path", b"x-mosn-path", b"/a HTTP/1.1", Refused::Path),
        ("CR LF in a path", b"x-mosn-path", b"/a\r\nX: y", Refused::Path),
        ("a query in a path", b"x-mosn-path", b"/a?b", Refused::Path),
        ("a fragment in a path", b"x-mosn-path", b"/a#b", Refused::Path),
        ("a path that is a URI", b"x-mosn-path", b"http://evil/", Refused::Path),
        ("an empty path", b"x-mosn-path", b"", Refused::Path),
        ("LF in a query", b"x-mosn-querystring", b"a\nb", Refused::Path),
        ("a space in a query", b"x-mosn-querystring", b"a b", Refused::Path),
        ("a host that is none", b"host", b"a.example/x", Refused::Host),
        ("CR LF in a host", b"host", b"a\r\nX: y", Refused::Host),
        ("the same in MOSN's", b"x-mosn-host", b"a b", Refused::Host),
        ("a length that is not the frame's", b"content-length", b"3", Refused::Length),
        ("a length with a sign", b"Content-Length", b"+2", Refused::Length),
        ("two lengths in one", b"content-length", b"2, 2", Refused::Length),
        ("a head that is too long", b"x", &long, Refused::HeadTooLong),
    ];
    for (what, name, value, refused) in rows {
        assert_eq!(to_http(&[(name, value)], b"hi").map(|made| fields(&made.head)), Err(*refused), "{what}");
    }
    for name in ["service", "host", "x-mosn-path", "x-mosn-method", "x-mosn-querystring", "content-length"] {
        let twice = to_http(&[(name.as_bytes(), b"2"), (name.as_bytes(), b"2")], b"hi");
        assert!(twice.is_err(), "{name} twice");
    }
    // What is of a connection or of framing ends here.
    for name in
        ["connection", "Transfer-Encoding", "te", "upgrade", "keep-alive", "proxy-connection", "trailer", "expect"]
    {
        let made = to_http(&[(name.as_bytes(), b"chunked")], b"hi").unwrap();
        assert!(made.head.fields().unwrap().get(name).is_none(), "{name}");
    }
    let class = rpc(bolt_request((BOLT, RpcKind::Request), None, class(b"C\r\nx: y"), &[]).unwrap());
    let made = Pair::BoltToHttp.request(&class, &Bytes::new(), facts(&limits()));
    assert_eq!(made.map(|made| fields(&made.head)), Err(Refused::Value), "a class");
}

#[test]
fn nothing_is_injected_from_http_into_bolt() {
    let long = "a".repeat(70_000);
    for (what, fields, refused) in [
        ("a codec that is none", &[("x-bolt-codec", "256")][..], Refused::Field("x-bolt-codec")),
        ("a codec with a sign", &[("x-bolt-codec", "+1")], Refused::Field("x-bolt-codec")),
        ("two classes", &[("x-bolt-class", "A"), ("x-bolt-class", "B")], Refused::Twice("x-bolt-class")),
        ("two services", &[("service", "A"), ("Service", "B")], Refused::Twice("service")),
        ("one-way or not", &[("x-rpc-oneway", "maybe")], Refused::Field("x-rpc-oneway")),
        ("a header block that is too long", &[("x-a", &long)], Refused::HeadTooLong),
        ("a class that is too long", &[("x-bolt-class", &long)], Refused::HeadTooLong),
    ] {
        assert_eq!(
            to_bolt(&http("GET", "/", fields), b"").map(|made| made.head.rpc().is_some()),
            Err(refused),
            "{what}"
        );
    }
    assert_eq!(to_bolt(&http("CONNECT", "a:1", &[]), b"").map(drop), Err(Refused::Tunnel));
}

#[test]
fn answers_of_bolt_become_http_and_come_back() {
    let asked = bolt(&[]);
    let to = asked.rpc().unwrap();
    for (status, shown) in [(0, 200), (1, 500), (4, 503), (7, 504), (16, 502), (18, 500)] {
        let parts = BoltParts { class: b"R", codec: Some(12), status };
        let head = rpc(bolt_response(to, parts, &[(b"a", b"b"), (b"connection", b"close")]).unwrap());
        let response = Response { head, body: Body::Full(Bytes::from_static(b"hi")) };
        let made = Pair::HttpToBolt(BOLT).response(&http("GET", "/", &[]), response, &limits()).unwrap();
        assert_eq!(made.head.fields().unwrap().status(), shown);
        let mut expected = vec!["a=b".to_owned(), "x-bolt-class=R".to_owned(), "x-bolt-codec=12".to_owned()];
        expected.extend((status != 0).then(|| format!("x-bolt-status={status}")));
        assert_eq!(fields(&made.head), expected);
        let back = Pair::BoltToHttp.response(&asked, made, &limits()).unwrap();
        assert_eq!(BoltParts::of(back.head.rpc().unwrap()), Some(parts), "{status}");
    }
    for (status, own) in
        [(200, 0), (204, 0), (302, 3), (400, 3), (403, 2), (404, 6), (500, 3), (502, 6), (503, 4), (504, 7)]
    {
        let response = Response { head: answer(status, &[("x", "y")]), body: Body::Full(Bytes::from_static(b"page")) };
        let made = Pair::BoltToHttp.response(&asked, response, &limits()).unwrap();
        assert_eq!(made.body.is_empty(), status >= 300, "{status}");
        let head = made.head.rpc().unwrap();
        assert_eq!((BoltParts::of(head).unwrap().status, head.kind), (own, RpcKind::Response), "{status}");
        let mut expected = vec!["x=y".to_owned()];
        if status != 200 {
            expected.insert(0, format!("x-mosn-status={status}"));
        }
        assert_eq!(fields(&made.head), expected);
    }
}

#[test]
fn answers_that_could_be_read_in_two_ways_are_refused() {
    let asked = bolt(&[]);
    let to = asked.rpc().unwrap();
    for (what, name, value, refused) in [
        ("CR LF in a name", &b"x\r\ny"[..], &b"1"[..], Refused::Name),
        ("a pseudo-header field", b":status", b"200", Refused::Name),
        ("a space in a name", b"set cookie", b"1", Refused::Name),
        ("LF in a value", b"x", b"1\nset-cookie: a=b", Refused::Value),
        ("NUL in a value", b"x", b"\0", Refused::Value),
        ("another length", b"content-length", b"0", Refused::Length),
        ("a head that is too long", b"x", &[b'a'; 5000], Refused::HeadTooLong),
    ] {
        let head = rpc(bolt_response(to, class(b""), &[(name, value)]).unwrap());
        let response = Response { head, body: Body::Full(Bytes::from_static(b"hi")) };
        let made = Pair::HttpToBolt(BOLT).response(&http("GET", "/", &[]), response, &limits());
        assert_eq!(made.map(|made| fields(&made.head)), Err(refused), "{what}");
    }
    let long = "a".repeat(70_000);
    for (what, fields) in [
        ("a status that is none", &[("x-bolt-status", "70000")][..]),
        ("two statuses", &[("x-bolt-status", "1"), ("x-bolt-status", "0")]),
        ("too long for a frame", &[("x", &long)]),
    ] {
        let response = Response { head: answer(200, fields), body: Body::Empty };
        assert!(Pair::BoltToHttp.response(&asked, response, &limits()).is_err(), "{what}");
    }
}

#[test]
fn versions_of_bolt_become_each_other() {
    let v2 = RpcProtocol::BoltV2;
    let asked = bolt(&[(b"a\0", b"\xFF")]);
    let made = Pair::BoltToBolt(v2).request(&asked, &Bytes::from_static(b"hi"), facts(&limits())).unwrap();
    let head = made.head.rpc().unwrap();
    assert_eq!((head.protocol, head.timeout), (v2, Some(Duration::from_secs(3))), "any bytes cross");
    assert_eq!(fields(&made.head), fields(&asked));
    let parts = BoltParts { class: b"R", codec: Some(1), status: 7 };
    let response = Response { head: rpc(bolt_response(head, parts, &[(b"x", b"y")]).unwrap()), body: Body::Empty };
    let back = Pair::BoltToBolt(v2).response(&asked, response, &limits()).unwrap();
    assert_eq!(back.head.rpc().unwrap().protocol, BOLT);
    assert_eq!(BoltParts::of(back.head.rpc().unwrap()), Some(parts));
    // An answer to a frame with a checksum has one.
    let wire = [
        &b"\x02\x02\x01\x00\x01\x01\x00\x00\x00\x02\x01\x01\x00\x00\x0b\xb8\x00\x01\x00\x10\x00\x00\x00\x02"[..],
        b"C\x00\x00\x00\x07service\x00\x00\x00\x01ahi\x7f\xd4\xd2\xc3",
    ]
    .concat();
    let any = crate::codec::xprotocol::RpcLimits { frame_bytes_max: 1000, fields_max: 10 };
    let Ok(crate::codec::xprotocol::Step::Frame(frame, _)) = codec_of(v2).decode(&wire, any) else {
        panic!("no frame")
    };
    let asked = rpc(frame.head);
    let response = Response { head: answer(200, &[]), body: Body::Empty };
    let made = Pair::BoltToHttp.response(&asked, response, &limits()).unwrap();
    let mut out = Vec::new();
    codec_of(v2).encode(made.head.rpc().unwrap(), 2, b"", &mut out).unwrap();
    assert_eq!((out.len(), out[11]), (22 + 4, 1));
    assert!(matches!(codec_of(v2).decode(&out, any), Ok(crate::codec::xprotocol::Step::Frame(..))));
}

#[test]
fn every_reason_says_what_and_has_a_status() {
    for (refused, status) in [
        (Refused::Name, 400),
        (Refused::HeadTooLong, 431),
        (Refused::TooLong, 413),
        (Refused::Type, 415),
        (Refused::Tunnel, 501),
        (Refused::Content(ValueError::Depth), 400),
        (Refused::Content(ValueError::Values), 413),
    ] {
        assert_eq!(refused.status(), status);
        assert!(refused.to_string().len() > 60 && is_value(refused.to_string().as_bytes()));
    }
}
