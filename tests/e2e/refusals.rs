//! Bytes that are no clean message: refused with the right status, the connection closed, and nothing of them passed on.

use test_support::origin::raw_target;
use test_support::{Config, Origin};

use crate::stage::{Plane, on_both_planes};

on_both_planes! {
    ambiguous_requests_are_refused,
    statuses_name_the_cause,
    ambiguous_answers_are_not_passed_on,
    surplus_answer_bytes_are_nobodys_answer,
    garbage_closes_its_own_connection_only,
}

/// Requests with more than one reading. The second request behind each must never be seen by the origin.
fn ambiguous_requests_are_refused(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    for (what, head) in AMBIGUOUS {
        let request =
            format!("POST /echo HTTP/1.1\r\n{head}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut client = stage.client();
        client.send(request.as_bytes()).unwrap();
        let answer = client.answer_to("POST");
        assert!(matches!(answer.status, 400 | 501), "{what}: {}", answer.head.start);
        assert!(client.is_closed(), "{what}: the connection stays open");
        assert!(origin.received().is_empty(), "{what}: passed on: {:?}", origin.received());
    }
    assert_eq!(stage.client().get("/").text(), "one");
}

/// What is ambiguous, and the fields that make it so.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("both lengths", "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"),
    ("both lengths, the other way", "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"),
    ("two different lengths", "Host: a\r\nContent-Length: 5\r\nContent-Length: 6"),
    ("a list of lengths", "Host: a\r\nContent-Length: 5, 6"),
    ("a signed length", "Host: a\r\nContent-Length: +5"),
    ("a negative length", "Host: a\r\nContent-Length: -1"),
    ("a hex length", "Host: a\r\nContent-Length: 0x5"),
    ("a length with a blank", "Host: a\r\nContent-Length: 1 0"),
    ("an empty length", "Host: a\r\nContent-Length: "),
    ("a length beyond 64 bits", "Host: a\r\nContent-Length: 18446744073709551621"),
    ("chunked not last", "Host: a\r\nTransfer-Encoding: chunked, gzip"),
    ("chunked twice", "Host: a\r\nTransfer-Encoding: chunked, chunked"),
    ("chunked in two fields", "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("an unknown coding", "Host: a\r\nTransfer-Encoding: xchunked"),
    ("identity", "Host: a\r\nTransfer-Encoding: identity"),
    ("a coding with a tab", "Host: a\r\nTransfer-Encoding:\x0bchunked"),
    ("a space before the colon", "Host: a\r\nTransfer-Encoding : chunked"),
    ("a folded line", "Host: a\r\nX-A: b\r\n Transfer-Encoding: chunked"),
    ("a fold first", " X-A: b\r\nHost: a"),
    ("a bare CR", "Host: a\r\nX-A: b\rTransfer-Encoding: chunked"),
    ("a NUL", "Host: a\r\nX-A: b\0c"),
    ("a name with a control byte", "Host: a\r\nX\x01A: b"),
    ("an empty name", "Host: a\r\n: b"),
    ("a line without a colon", "Host: a\r\nnonsense"),
    ("two hosts", "Host: a\r\nHost: b"),
    ("no host", "X-A: b"),
    ("a host that is none", "Host: a b"),
];

fn statuses_name_the_cause(plane: Plane) {
    let origin = Origin::start("one");
    let config = Config::proxy_to(&[origin.address()])
        .limit("request_line_bytes_max", "1000")
        .limit("head_bytes_max", "4000")
        .limit("request_body_bytes_max", "1000")
        .limit("head_timeout", "500ms");
    let Some(stage) = plane.start(config) else { return };
    let long = |n: usize| "x".repeat(n);
    let rows = [
        (414, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1000))),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", long(5000))),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(500))),
        (413, format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n{}", long(1001))),
        (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned()),
        (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned()),
        (505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n".to_owned()),
        (417, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: miracles\r\n\r\nx".to_owned()),
        (408, "GET / HTTP/1.1\r\nHost: a\r\n".to_owned()),
        (400, "GET\r\n\r\n".to_owned()),
        (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned()),
        (400, "G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (400, "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\nHost: a\n\n".to_owned()),
    ];
    for (status, request) in rows {
        let mut client = stage.client();
        // A refusal may close while the rest is on its way.
        let _ = client.send(request.as_bytes());
        let answer =
            client.try_answer_to("GET").unwrap_or_else(|e| panic!("{e} instead of {status} to {request:.60?}"));
        assert_eq!(answer.status, status, "{request:.60?}");
        assert_eq!(answer.head.get("connection").map(str::to_lowercase).as_deref(), Some("close"), "{request:.60?}");
        assert!(client.is_closed(), "{request:.60?}: the connection stays open");
    }
    assert!(origin.received().is_empty(), "{:?}", origin.received());
}

/// Bad chunks come after the head was passed on: the origin must see a broken body, and never a whole one.
#[test]
fn bad_chunks_break_the_request() {
    let origin = Origin::start("one");
    let stage = Plane::Kernel.front_of(&origin).expect("always there");
    let bodies = [
        "g\r\nx\r\n",
        "-1\r\nx\r\n",
        "0x1\r\nx\r\n",
        "1\nx\r\n",
        "1\r\nxy\r\n",
        "ffffffffffffffff1\r\nx\r\n",
        "1 \r\nx\r\n0\r\nA : b\r\n\r\n",
    ];
    for body in bodies {
        let mut client = stage.client();
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
        match client.try_answer_to("POST") {
            Ok(answer) => assert_eq!(answer.status, 400, "{body:?}: {answer:?}"),
            Err(_) => continue,
        }
        assert!(client.is_closed(), "{body:?}");
    }
    assert_eq!(stage.client().get("/").text(), "one");
}

fn ambiguous_answers_are_not_passed_on(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let answers = [
        (
            "both lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        ("a bad length", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok"),
        ("chunked not last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("a fold", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok"),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
        ("a bare CR", "HTTP/1.1 200 OK\r\nX-A: b\rc: d\r\nContent-Length: 2\r\n\r\nok"),
        ("a NUL", "HTTP/1.1 200 OK\r\nX-A: b\0\r\nContent-Length: 2\r\n\r\nok"),
        ("no status", "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok"),
        ("a short status", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("another protocol", "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("an unasked switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
        ("no head at all", "<html>garbage</html>\r\n\r\n"),
    ];
    for (what, bytes) in answers {
        let mut client = stage.client();
        let answer = client.get(&raw_target(bytes.as_bytes(), "keep"));
        assert_eq!(answer.status, 502, "{what}: {answer:?}");
        assert!(!answer.text().contains("ok") || answer.text().len() > 4, "{what}: the origin's bytes came through");
        assert_eq!(
            client.get("/").text(),
            "one",
            "{what}: the client's connection is of use still, the origin's is not"
        );
    }
}

/// What an origin sends beyond its answer must not become the answer to the next request, whoever asks it.
fn surplus_answer_bytes_are_nobodys_answer(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    ] {
        let target = raw_target(format!("{first}{poison}").as_bytes(), "keep");
        let mut client = stage.client();
        client.get(&target);
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "one", "after {first:?}");
        }
        assert_eq!(stage.client().get("/").text(), "one", "after {first:?}");
    }
}

fn garbage_closes_its_own_connection_only(plane: Plane) {
    let origin = Origin::start("one");
    let Some(stage) = plane.front_of(&origin) else { return };
    let mut good = stage.client();
    assert_eq!(good.get("/").text(), "one");
    let pieces: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\r\n\r\n \r\n\r\n",
        &[0xff; 3000],
    ];
    for piece in pieces {
        let mut client = stage.client();
        let _ = client.send(piece);
        client.half_close();
        // Whatever it is told: it is told at once, and then the connection ends.
        let _ = client.rest();
        assert_eq!(good.get("/").text(), "one", "the other connection lives");
    }
    assert_eq!(origin.conns(), 1);
    assert!(origin.received().iter().all(|r| r.head.start == "GET / HTTP/1.1"));
}
