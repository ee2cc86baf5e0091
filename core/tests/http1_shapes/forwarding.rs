//! What a received head looks like when it leaves, byte by byte.

use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http1::{
    CodecLimits, ConnectionField, EncodeError, Frame, RequestDecoder, RequestEncoder, ResponseDecoder, ResponseEncoder,
};
use ferrogate_core::message::{BodyLength, HttpHead, Method, Version};

/// A name, what came in, how it is forwarded, what goes out.
type RequestRow = (&'static str, &'static str, fn(&mut RequestEncoder<'_>), &'static str);
type ResponseRow = (&'static str, Method, &'static str, fn(&mut ResponseEncoder<'_>), &'static str);

#[rustfmt::skip]
const REQUESTS: &[RequestRow] = &[
    ("order, case and bytes are kept", "GET /A%2f?q HTTP/1.1\r\nx-B: 1\r\nHOST: a\r\nX-b:2\r\nx-b:\t3\r\n\r\n", |_| {}, "GET /A%2f?q HTTP/1.1\r\nx-B: 1\r\nHOST: a\r\nX-b:2\r\nx-b:\t3\r\n\r\n"),
    ("white space behind a value goes", "GET / HTTP/1.1\r\nHost: a \r\nX: 1\t \r\nY: 2\r\n\r\n", |_| {}, "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\n\r\n"),
    ("hop-by-hop fields go", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, TE\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\nX-Hop: 1\r\nX-Stay: 2\r\nHTTP2-Settings: x\r\nUpgrade: foo\r\nTrailer: x\r\n\r\n", |_| {}, "GET / HTTP/1.1\r\nHost: a\r\nX-Stay: 2\r\n\r\n"),
    ("Connection can't take what is meant for the origin", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host, cookie, authorization, content-length, x-forwarded-for, cache-control\r\nCookie: c\r\nAuthorization: b\r\nContent-Length: 0\r\nX-Forwarded-For: f\r\nCache-Control: n\r\n\r\n", |_| {}, "GET / HTTP/1.1\r\nHost: a\r\nCookie: c\r\nAuthorization: b\r\nContent-Length: 0\r\nX-Forwarded-For: f\r\nCache-Control: n\r\n\r\n"),
    ("a length is written anew", "POST / HTTP/1.1\r\nContent-Length: 0005\r\nHost: a\r\n\r\n", |_| {}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"),
    ("a plain length stays in its place", "POST / HTTP/1.1\r\ncontent-length:5\r\nHost: a\r\n\r\n", |_| {}, "POST / HTTP/1.1\r\ncontent-length:5\r\nHost: a\r\n\r\n"),
    ("a coding is written anew", "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nHost: a\r\nTrailer: x\r\n\r\n", |_| {}, "POST / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("no body of POST is said", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", |_| {}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    ("an absolute target becomes a path, its authority the Host", "GET http://B:81/p?q HTTP/1.1\r\nX: 1\r\nHost: evil\r\nY: 2\r\n\r\n", |_| {}, "GET /p?q HTTP/1.1\r\nX: 1\r\nHost: B:81\r\nY: 2\r\n\r\n"),
    ("an absolute target without a path", "GET http://b HTTP/1.0\r\n\r\n", |_| {}, "GET / HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("an absolute target with a query only", "GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", |_| {}, "GET /?q HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("OPTIONS for a whole server", "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", |_| {}, "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("OPTIONS for its root", "OPTIONS http://b/ HTTP/1.1\r\nHost: b\r\n\r\n", |_| {}, "OPTIONS / HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("CONNECT", "CONNECT b:1 HTTP/1.1\r\nHost: other\r\n\r\n", |_| {}, "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n"),
    ("1.0 and later minor versions leave as 1.1", "GET / HTTP/1.7\r\nHost: a\r\n\r\n", |_| {}, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a Host of the caller's", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", |e| e.host = Some(b"c:1"), "GET / HTTP/1.1\r\nhost: c:1\r\n\r\n"),
    ("a Host where there was none", "GET / HTTP/1.0\r\n\r\n", |e| e.host = Some(b"c"), "GET / HTTP/1.1\r\nHost: c\r\n\r\n"),
    ("an Upgrade that is forwarded", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n", |e| e.connection = ConnectionField::Upgrade, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nConnection: upgrade\r\n\r\n"),
    ("TE, close and extra fields", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", |e| { e.te_trailers = true; e.connection = ConnectionField::Close; e.extra = &[("Via", b"1.1 x")]; }, "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\nVia: 1.1 x\r\n\r\n"),
    ("Expect is the origin's business too", "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", |_| {}, "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"),
];

#[rustfmt::skip]
const RESPONSES: &[ResponseRow] = &[
    ("order, case and bytes are kept", Method::Get, "HTTP/1.1 200 Fine by me\r\nset-cookie: a\r\nSet-Cookie:b\r\nContent-Length: 5\r\n\r\n", |_| {}, "HTTP/1.1 200 Fine by me\r\nset-cookie: a\r\nSet-Cookie:b\r\nContent-Length: 5\r\n\r\n"),
    ("hop-by-hop fields go", Method::Get, "HTTP/1.1 200 OK\r\nConnection: close, x-hop, set-cookie\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: c\r\nContent-Length: 5\r\nUpgrade: h2\r\n\r\n", |_| {}, "HTTP/1.1 200 OK\r\nSet-Cookie: c\r\nContent-Length: 5\r\n\r\n"),
    ("a missing reason is the standard one", Method::Get, "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", |_| {}, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    ("until close says so", Method::Get, "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", |e| e.connection = ConnectionField::KeepAlive, "HTTP/1.1 200 OK\r\nX: 1\r\nConnection: close\r\n\r\n"),
    ("chunks", Method::Get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n", |_| {}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n"),
    ("a 1.0 origin", Method::Get, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", |e| e.connection = ConnectionField::KeepAlive, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"),
    ("to a 1.0 client, as 1.0", Method::Get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", |e| { e.version = Version::Http10; e.connection = ConnectionField::KeepAlive; }, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"),
    ("no content has no length", Method::Get, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", |_| {}, "HTTP/1.1 204 No Content\r\n\r\n"),
    ("not modified keeps its length", Method::Get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", |_| {}, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n"),
    ("not modified without one", Method::Get, "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", |_| {}, "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    ("HEAD keeps its length", Method::Head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", |_| {}, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ("HEAD without one", Method::Head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", |_| {}, "HTTP/1.1 200 OK\r\n\r\n"),
    ("continue", Method::Post, "HTTP/1.1 100 Continue\r\n\r\n", |_| {}, "HTTP/1.1 100 Continue\r\n\r\n"),
    ("an upgrade", Method::Get, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\n\r\n", |e| e.connection = ConnectionField::Upgrade, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\nConnection: upgrade\r\n\r\n"),
    ("a tunnel", Method::Connect, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: 1\r\n\r\n", |_| {}, "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"),
    ("extra fields", Method::Get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: o\r\n\r\n", |e| e.extra = &[("Via", b"1.1 x")], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: o\r\nVia: 1.1 x\r\n\r\n"),
];

#[test]
fn requests_leave_as_they_came_but_for_the_hop() {
    for (name, src, set, want) in REQUESTS {
        let (head, body) = request(src);
        let mut encoder = RequestEncoder::new(&head, body);
        set(&mut encoder);
        let mut out = Vec::new();
        encoder.encode(&mut out).expect("it can be written");
        assert_eq!(String::from_utf8_lossy(&out), *want, "{name}");
        assert_eq!(encoder.head_len(), want.len(), "{name}");
        let mut room = vec![0; want.len() - 1];
        assert_eq!(encoder.encode(&mut &mut room[..]), Err(EncodeError::Room), "{name}");
        assert!(room.iter().all(|&b| b == 0), "{name}: written without room");
        let mut room = vec![0; want.len()];
        assert_eq!(encoder.encode(&mut &mut room[..]), Ok(()), "{name}: exactly enough room");
    }
}

#[test]
fn responses_leave_as_they_came_but_for_the_hop() {
    for (name, method, src, set, want) in RESPONSES {
        let mut decoder = ResponseDecoder::new(CodecLimits::default());
        decoder.expect_response(*method);
        let Ok(Some((Frame::Head(head, body, _), _))) = decoder.decode(src.as_bytes()) else { panic!("{name}") };
        let mut encoder = ResponseEncoder::new(&head, body, *method);
        set(&mut encoder);
        let mut out = Vec::new();
        encoder.encode(&mut out).expect("it can be written");
        assert_eq!(String::from_utf8_lossy(&out), *want, "{name}");
        assert_eq!(encoder.head_len(), want.len(), "{name}");
    }
}

#[test]
fn a_head_that_was_changed_is_written_as_changed() {
    let (mut head, body) = request("GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\nZ: 3\r\n\r\n");
    head.set_target(b"/b?c");
    head.remove("y");
    head.append("x-forwarded-for", b"192.0.2.1");
    head.set("Connection", b"x");
    assert_eq!(
        written(&head, body),
        "GET /b?c HTTP/1.1\r\nHost: a\r\nX: 1\r\nZ: 3\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
    );
    head.set("Content-Length", b"7");
    head.set("Transfer-Encoding", b"chunked");
    assert!(!written(&head, body).contains("7") && !written(&head, body).contains("chunked"), "the body decides");
    head.append("content-length", b"7");
    head.append("Host", b"b");
    let written = written(&head, BodyLength::Exact(7));
    assert_eq!(written.to_lowercase().matches("content-length: 7\r\n").count(), 1, "{written}");
    assert_eq!(written.to_lowercase().matches("host:").count(), 1, "{written}");
}

#[test]
fn local_messages_are_written() {
    let mut head = HttpHead::response(503);
    head.append("Content-Type", b"text/plain");
    let mut out = Vec::new();
    ResponseEncoder::new(&head, BodyLength::Exact(3), Method::Get).encode(&mut out).expect("it can be written");
    let want = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), want);
    let mut head = HttpHead::request("GET", b"/health");
    head.append("Host", b"h");
    assert_eq!(written(&head, BodyLength::None), "GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
    let none = HttpHead::response(200);
    let mut out = Vec::new();
    ResponseEncoder::new(&none, BodyLength::None, Method::Get).encode(&mut out).expect("it can be written");
    assert_eq!(String::from_utf8_lossy(&out), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn what_would_break_a_line_is_not_written() {
    let refused = |head: &HttpHead, set: fn(&mut RequestEncoder<'_>)| {
        let mut encoder = RequestEncoder::new(head, BodyLength::None);
        set(&mut encoder);
        let mut out = Vec::new();
        let result = encoder.encode(&mut out);
        assert!(out.is_empty());
        result.expect_err("it must not be written")
    };
    let (mut head, _) = request("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(refused(&head, |e| e.host = Some(b"a\r\nX: y")), EncodeError::Field);
    assert_eq!(refused(&head, |e| e.host = Some(b"")), EncodeError::Field);
    assert_eq!(refused(&head, |e| e.extra = &[("a b", b"c")]), EncodeError::Field);
    assert_eq!(refused(&head, |e| e.extra = &[("a", b"c\r\nd: e")]), EncodeError::Field);
    for extra in
        [[("Content-Length", &b"5"[..])], [("host", b"b")], [("Connection", b"x")], [("transfer-encoding", b"chunked")]]
    {
        let mut encoder = RequestEncoder::new(&head, BodyLength::None);
        encoder.extra = &extra;
        assert_eq!(encoder.encode(&mut Vec::new()), Err(EncodeError::Field), "{extra:?}");
    }
    for target in [&b"/a b"[..], b"/a\r\nX: y", b"", b"/\xc3\xa9", b"/a#b"] {
        head.set_target(target);
        assert_eq!(refused(&head, |_| {}), EncodeError::StartLine, "{}", target.escape_ascii());
    }
    assert_eq!(refused(&HttpHead::request("GE T", b"/"), |_| {}), EncodeError::StartLine);
    assert_eq!(refused(&HttpHead::response(200), |_| {}), EncodeError::StartLine);
}

#[test]
fn what_a_message_cannot_have_is_not_written() {
    let mut out = Vec::new();
    let request = HttpHead::request("GET", b"/");
    assert_eq!(RequestEncoder::new(&request, BodyLength::UntilClose).encode(&mut out), Err(EncodeError::Length));
    let connect = HttpHead::request("CONNECT", b"b:1");
    assert_eq!(RequestEncoder::new(&connect, BodyLength::Exact(1)).encode(&mut out), Err(EncodeError::Length));
    for (status, method) in [(100, Method::Get), (204, Method::Get), (200, Method::Connect)] {
        for body in [BodyLength::Exact(1), BodyLength::Chunked, BodyLength::UntilClose] {
            let head = HttpHead::response(status);
            assert_eq!(ResponseEncoder::new(&head, body, method).encode(&mut out), Err(EncodeError::Length));
        }
    }
    let head = HttpHead::response(200);
    let mut encoder = ResponseEncoder::new(&head, BodyLength::Chunked, Method::Get);
    encoder.version = Version::Http10;
    assert_eq!(encoder.encode(&mut out), Err(EncodeError::Length));
    assert_eq!(
        ResponseEncoder::new(&request, BodyLength::None, Method::Get).encode(&mut out),
        Err(EncodeError::StartLine)
    );
    assert!(out.is_empty());
}

fn request(src: &str) -> (HttpHead, BodyLength) {
    match RequestDecoder::new(CodecLimits::default()).decode(src.as_bytes()) {
        Ok(Some((Frame::Head(head, body, _), used))) if used == src.len() => (head, body),
        other => panic!("{other:?}"),
    }
}

fn written(head: &HttpHead, body: BodyLength) -> String {
    let mut out = Vec::new();
    RequestEncoder::new(head, body).encode(&mut out).expect("it can be written");
    String::from_utf8(out).expect("ASCII")
}
