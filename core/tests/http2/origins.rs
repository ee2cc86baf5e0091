//! The client's side: what an origin may do, what it may not, and what a request hears of it.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use ferrogate_core::codec::http1::DecodeError;
use ferrogate_core::codec::http2::{ErrorCode, Malformed};
use ferrogate_core::config::Limits;
use ferrogate_core::message::{Body, BodyError, Chunk, Head, HttpHead, Request, Response};
use ferrogate_core::stream::client::{Answer, SendError, SendOptions};
use ferrogate_core::stream::http2::{Flight, OriginConn, StreamHome};

use crate::peer::{Heard, Peer, data, frame, last, literal, reset, run, settings, window};

struct Pool;

impl StreamHome for Pool {
    fn stream_ended(&self, _: &Rc<OriginConn>) {}
}

fn request(method: &str, body: &'static [u8]) -> Request {
    let mut head = HttpHead::request(method, b"/x?y");
    head.append("Host", b"test.example");
    head.append("Connection", b"close");
    head.append("X-Case", b"Kept");
    let body = if body.is_empty() { Body::Empty } else { Body::Full(body.into()) };
    Request { head: Head::Http(head), body }
}

/// Sends a request, which gets the next stream.
async fn send(conn: &Rc<OriginConn>, method: &str, body: &'static [u8]) -> Flight {
    let lease = conn.lease(Rc::new(Pool)).expect("a stream is left");
    let options = SendOptions { timeout: Some(Duration::from_secs(60)), upgrade: false, te_trailers: true };
    lease.send(&mut request(method, body), options).await.unwrap()
}

async fn get(conn: &Rc<OriginConn>) -> Flight {
    send(conn, "GET", b"").await
}

/// The head of an answer.
fn head(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    frame(1, 4 | u8::from(end), stream, &block)
}

fn ok(stream: u32, end: bool) -> Vec<u8> {
    head(stream, end, &[(":status", "200")])
}

async fn response(flight: &mut Flight) -> Result<Response, SendError> {
    match flight.answer().await? {
        Answer::Response(response) => Ok(response),
        _ => panic!("an answer was expected"),
    }
}

/// The bytes of a body, its trailers, and how it ended.
async fn read(body: Body) -> (Vec<u8>, Option<HttpHead>, Result<(), BodyError>) {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    match body {
        Body::Empty => {}
        Body::Full(all) => bytes.extend(all),
        Body::Streaming(mut source) => loop {
            let chunk = poll_fn(|cx| {
                source.poll_beside(cx);
                source.poll_chunk(cx)
            });
            match chunk.await {
                Ok(Some(Chunk::Data(data))) => bytes.extend(data),
                Ok(Some(Chunk::Trailers(head))) => trailers = Some(head),
                Ok(None) => break,
                Err(error) => return (bytes, trailers, Err(error)),
            }
        },
    }
    (bytes, trailers, Ok(()))
}

#[test]
fn a_request_and_its_answer() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let mut flight = send(&conn, "POST", b"hello").await;
        let answers = async {
            let heard = origin.hear(|heard| matches!(heard, Heard::Data { .. })).await;
            origin.send(&head(1, false, &[(":status", "103"), ("link", "a")])).await;
            heard
        };
        let (answer, heard) = tokio::join!(flight.answer(), answers);
        let answer = answer.unwrap();
        let [.., Heard::Head { stream: 1, fields, end: false }, Heard::Data { stream: 1, data: body, end: true }] =
            &heard[..]
        else {
            panic!("{heard:?}")
        };
        assert_eq!(body, b"hello");
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let want =
            ":authority=test.example :method=POST :path=/x?y :scheme=http content-length=5 te=trailers x-case=Kept";
        assert_eq!(fields.join(" "), want);
        assert!(matches!(answer, Answer::Interim(head) if head.status() == 103));
        origin
            .send(&[head(1, false, &[(":status", "201"), ("x", "y")]), data(1, b"wor"), data(1, b"ld")].concat())
            .await;
        let answer = response(&mut flight).await.unwrap();
        assert_eq!(answer.head.fields().map(HttpHead::status), Some(201));
        origin.send(&head(1, true, &[("grpc-status", "0")])).await;
        let (bytes, trailers, end) = read(answer.body).await;
        assert_eq!((bytes, end), (b"world".to_vec(), Ok(())));
        assert_eq!(trailers.unwrap().get("grpc-status"), Some(&b"0"[..]));
        // The next one is stream 3, and its answer is whole with its head.
        let mut flight = get(&conn).await;
        origin.hear(|heard| matches!(heard, Heard::Head { stream: 3, end: true, .. })).await;
        origin.send(&[ok(3, false), last(3, b"all")].concat()).await;
        tokio::task::yield_now().await;
        let answer = response(&mut flight).await.unwrap();
        assert!(matches!(&answer.body, Body::Full(bytes) if bytes == "all"), "{:?}", answer.body);
        assert!(conn.is_idle());
    });
}

#[test]
fn no_more_streams_than_the_origin_allows() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[(3, 2)]).await;
        let first = get(&conn).await;
        let second = conn.lease(Rc::new(Pool)).expect("two are allowed");
        assert!(conn.lease(Rc::new(Pool)).is_none());
        drop(second);
        assert!(conn.lease(Rc::new(Pool)).is_some(), "one that was never opened is free again");
        drop(first);
        assert_eq!(
            origin.hear(|heard| matches!(heard, Heard::Reset(..))).await.last(),
            Some(&Heard::Reset(1, ErrorCode::Cancel))
        );
        origin.send(&settings(&[(3, 0)])).await;
        origin.hear(|heard| matches!(heard, Heard::SettingsAck)).await;
        assert!(conn.lease(Rc::new(Pool)).is_none() && conn.is_barren());
        origin.send(&settings(&[(3, 1)])).await;
        origin.hear(|heard| matches!(heard, Heard::SettingsAck)).await;
        assert!(conn.lease(Rc::new(Pool)).is_some());
    });
}

#[test]
fn an_origin_that_goes_gives_back_what_it_has_not_seen() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let (mut first, mut second, mut third) = (get(&conn).await, get(&conn).await, get(&conn).await);
        origin.send(&frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])).await;
        assert_eq!(response(&mut third).await.unwrap_err(), SendError::Refused);
        assert!(!conn.is_open() && conn.is_told());
        origin.send(&[ok(1, true), reset_with(3, 7)].concat()).await;
        assert!(response(&mut first).await.is_ok());
        assert_eq!(response(&mut second).await.unwrap_err(), SendError::Refused);
        drop((first, second, third));
        let heard = origin.hear(|heard| *heard == Heard::Closed).await;
        assert!(heard.contains(&Heard::GoAway(0, ErrorCode::NoError)), "{heard:?}");
    });
}

fn reset_with(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

#[test]
fn resets_both_ways() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let mut flight = get(&conn).await;
        origin.send(&reset_with(1, 2)).await;
        assert_eq!(response(&mut flight).await.unwrap_err(), SendError::Reset(ErrorCode::InternalError));
        let mut flight = get(&conn).await;
        origin.send(&[ok(3, false), data(3, b"part"), reset(3)].concat()).await;
        let (bytes, _, end) = read(response(&mut flight).await.unwrap().body).await;
        assert_eq!((bytes, end), (b"part".to_vec(), Err(BodyError::Truncated)));
        // The answer is whole; what is left of the request is not wanted (RFC 9113, 8.1).
        let mut flight = send(&conn, "POST", &[7; 200_000]).await;
        let answers = async {
            origin.hear(|heard| matches!(heard, Heard::Data { stream: 5, .. })).await;
            origin.send(&[ok(5, false), last(5, b"enough"), reset_with(5, 0)].concat()).await;
        };
        let (answer, ()) = tokio::join!(response(&mut flight), answers);
        let (bytes, _, end) = read(answer.unwrap().body).await;
        assert_eq!((bytes, end), (b"enough".to_vec(), Ok(())));
        // Given up by its client.
        let mut flight = get(&conn).await;
        origin.send(&[ok(7, false), data(7, b"part")].concat()).await;
        drop(response(&mut flight).await.unwrap());
        let heard = origin.hear(|heard| matches!(heard, Heard::Reset(7, _))).await;
        assert_eq!(heard.last(), Some(&Heard::Reset(7, ErrorCode::Cancel)));
        // What was on its way is no fault.
        origin.send(&[data(7, b"late"), head(7, true, &[("x", "y")])].concat()).await;
        let mut flight = get(&conn).await;
        origin.send(&ok(9, true)).await;
        assert!(response(&mut flight).await.is_ok());
    });
}

/// RFC 9113, 8.1 to 8.3: an answer that could be read in two ways is none. The other streams go on.
#[test]
fn malformed_answers_cost_their_stream() {
    use SendError::{Broken, MalformedHead};
    let status = (":status", "200");
    let rows: Vec<(&str, Vec<u8>, SendError)> = vec![
        ("a name in upper case", head(1, true, &[status, ("X-A", "b")]), MalformedHead(Malformed::FieldName)),
        ("CR LF in a name", head(1, true, &[status, ("a\r\nb", "c")]), MalformedHead(Malformed::FieldName)),
        ("CR LF in a value", head(1, true, &[status, ("a", "b\r\nc: d")]), MalformedHead(Malformed::FieldValue)),
        ("NUL in a value", head(1, true, &[status, ("a", "b\0")]), MalformedHead(Malformed::FieldValue)),
        ("a colon in a name", head(1, true, &[status, ("a:b", "c")]), MalformedHead(Malformed::FieldName)),
        ("no status", head(1, true, &[("a", "b")]), MalformedHead(Malformed::PseudoMissing)),
        ("a status that is none", head(1, true, &[(":status", "2 0")]), MalformedHead(Malformed::Status)),
        ("a status of two lines", head(1, true, &[(":status", "200\r\n")]), MalformedHead(Malformed::Status)),
        ("101", head(1, false, &[(":status", "101")]), MalformedHead(Malformed::Status)),
        ("an interim answer that ends", head(1, true, &[(":status", "100")]), MalformedHead(Malformed::Status)),
        ("a path", head(1, true, &[status, (":path", "/")]), MalformedHead(Malformed::PseudoForbidden)),
        ("Connection", head(1, true, &[status, ("connection", "x")]), MalformedHead(Malformed::ConnectionField)),
        (
            "a coding",
            head(1, true, &[status, ("transfer-encoding", "chunked")]),
            MalformedHead(Malformed::ConnectionField),
        ),
        (
            "two lengths",
            head(1, false, &[status, ("content-length", "1"), ("content-length", "1")]),
            MalformedHead(Malformed::ContentLengthRepeated),
        ),
        (
            "a length and no body",
            head(1, true, &[status, ("content-length", "1")]),
            MalformedHead(Malformed::BodyLength),
        ),
        ("data before a head", data(1, b"x"), Broken(ErrorCode::ProtocolError)),
        (
            "too many fields",
            head(1, true, &[status; 1].iter().copied().chain([("a", "b"); 200]).collect::<Vec<_>>()),
            SendError::Malformed(DecodeError::TooManyFields),
        ),
        ("too many interim answers", head(1, false, &[(":status", "103")]).repeat(17), SendError::Unexpected),
    ];
    for (what, bytes, error) in rows {
        run(async {
            let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
            let (mut flight, mut other) = (get(&conn).await, get(&conn).await);
            origin.send(&bytes).await;
            let found = loop {
                match flight.answer().await {
                    Ok(Answer::Interim(_)) => {}
                    Ok(_) => panic!("{what} was taken"),
                    Err(error) => break error,
                }
            };
            assert_eq!(found, error, "{what}");
            let heard = origin.hear(|heard| matches!(heard, Heard::Reset(1, _))).await;
            assert!(matches!(heard.last(), Some(Heard::Reset(1, _))), "{what}: {heard:?}");
            origin.send(&ok(3, true)).await;
            assert!(response(&mut other).await.is_ok(), "{what}");
        });
    }
}

/// Content-length against DATA, and bodies where none may be.
#[test]
fn bodies_are_as_long_as_they_say() {
    let sized = |n: &str| head(1, false, &[(":status", "200"), ("content-length", n)]);
    for (what, method, bytes, whole) in [
        ("exact", "GET", [sized("4"), last(1, b"four")].concat(), true),
        ("short", "GET", [sized("5"), last(1, b"four")].concat(), false),
        ("long", "GET", [sized("3"), last(1, b"four")].concat(), false),
        ("trailers too early", "GET", [sized("5"), data(1, b"four"), head(1, true, &[("a", "b")])].concat(), false),
        ("a second head", "GET", [sized("4"), head(1, false, &[("a", "b")])].concat(), false),
        (
            "a pseudo-header among trailers",
            "GET",
            [sized("4"), data(1, b"four"), head(1, true, &[(":status", "200")])].concat(),
            false,
        ),
        ("to HEAD", "HEAD", sized("4"), true),
        ("204", "GET", head(1, false, &[(":status", "204")]), true),
    ] {
        run(async {
            let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
            let mut flight = send(&conn, method, b"").await;
            origin.send(&bytes).await;
            let (_, _, end) = read(response(&mut flight).await.unwrap().body).await;
            assert_eq!(end.is_ok(), whole, "{what}: {end:?}");
        });
    }
}

/// What an origin must not do costs its connection, and every request on it.
#[test]
fn an_origin_that_breaks_the_protocol_is_left() {
    let rows: [(&str, Vec<u8>, ErrorCode); 9] = [
        ("a push", frame(5, 4, 1, &[0, 0, 0, 2, 0x82]), ErrorCode::ProtocolError),
        ("pushes allowed", settings(&[(2, 1)]), ErrorCode::ProtocolError),
        ("a stream of its own", ok(2, true), ErrorCode::ProtocolError),
        ("a stream that we have not opened", ok(5, true), ErrorCode::ProtocolError),
        ("data on it", data(5, b"x"), ErrorCode::ProtocolError),
        ("compression that is none", frame(1, 5, 1, &[0xff; 20]), ErrorCode::CompressionError),
        ("a frame too long", frame(0, 0, 1, &[0; 20_000]), ErrorCode::FrameSizeError),
        ("PINGs without end", frame(6, 0, 0, b"12345678").repeat(3000), ErrorCode::EnhanceYourCalm),
        ("empty data without end", [ok(1, false), data(1, b"").repeat(300)].concat(), ErrorCode::EnhanceYourCalm),
    ];
    for (what, bytes, code) in rows {
        run(async {
            let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
            let mut other = get(&conn).await;
            let mut second = get(&conn).await;
            origin.send(&bytes).await;
            let heard = origin.hear(|heard| matches!(heard, Heard::GoAway(..))).await;
            assert_eq!(heard.last(), Some(&Heard::GoAway(0, code)), "{what}");
            assert!(matches!(response(&mut second).await, Err(SendError::Closed { .. })), "{what}");
            drop(response(&mut other).await);
            assert!(!conn.is_open(), "{what}");
        });
    }
}

/// One client that takes nothing of its answer does not stop the answers of others, and what is held for it is bounded.
#[test]
fn a_slow_receiver_stops_its_own_stream_only() {
    run(async {
        let limits = Limits { h2_stream_window_bytes: 50_000, h2_conn_window_bytes: 65_535, ..Limits::default() };
        let (mut origin, conn) = Peer::origin(limits, &[]).await;
        let mut slow = Vec::new();
        for n in 0..4 {
            let mut flight = get(&conn).await;
            origin.send(&ok(2 * n + 1, false)).await;
            slow.push(response(&mut flight).await.unwrap());
            for _ in 0..5 {
                origin.send(&data(2 * n + 1, &[0; 10_000])).await;
                origin.ping().await;
            }
        }
        let mut fast = get(&conn).await;
        origin.send(&[ok(9, false), data(9, &[1; 10_000]), last(9, b"")].concat()).await;
        assert_eq!(read(response(&mut fast).await.unwrap().body).await.0.len(), 10_000);
        // One byte more than the window of a stream.
        origin.send(&data(1, b"x")).await;
        let heard = origin.hear(|heard| matches!(heard, Heard::Reset(..))).await;
        assert_eq!(heard.last(), Some(&Heard::Reset(1, ErrorCode::FlowControlError)));
        // Whoever takes gets all.
        let body = slow.swap_remove(1).body;
        origin.send(&last(3, b"")).await;
        assert_eq!(read(body).await.0.len(), 50_000);
    });
}

/// No more is sent than the origin has windows for.
#[test]
fn the_windows_of_the_origin_are_kept() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[(4, 10)]).await;
        let mut flight = send(&conn, "POST", b"0123456789abcdef").await;
        let answer = tokio::task::spawn_local(async move { response(&mut flight).await.map(|answer| answer.body) });
        let heard = origin.hear(|heard| matches!(heard, Heard::Data { .. })).await;
        assert!(matches!(heard.last(), Some(Heard::Data { data, end: false, .. }) if data == b"0123456789"));
        assert!(origin.ping().await.len() == 1, "nothing more came");
        origin.send(&window(1, 4)).await;
        assert_eq!(origin.next().await, Heard::Data { stream: 1, data: b"abcd".to_vec(), end: false });
        origin.send(&settings(&[(4, 20)])).await;
        let heard = origin.hear(|heard| matches!(heard, Heard::Data { .. })).await;
        assert_eq!(heard.last(), Some(&Heard::Data { stream: 1, data: b"ef".to_vec(), end: true }));
        origin.send(&ok(1, true)).await;
        assert!(answer.await.unwrap().is_ok());
    });
}

/// An origin that leaves a request unanswered is asked whether it lives, and given no others until it says so.
#[test]
fn a_silent_origin_is_asked_and_then_left() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let mut flight = get(&conn).await;
        assert_eq!(response(&mut flight).await.unwrap_err(), SendError::Timeout);
        let heard = origin.hear(|heard| matches!(heard, Heard::Ping(_))).await;
        let Some(Heard::Ping(ping)) = heard.last().cloned() else { panic!("{heard:?}") };
        assert!(!conn.is_open());
        origin.send(&frame(6, 1, 0, &ping)).await;
        origin.ping().await;
        assert!(conn.is_open(), "it lives");
        let mut flight = get(&conn).await;
        let mut other = send(&conn, "POST", &[7; 100_000]).await;
        assert_eq!(response(&mut flight).await.unwrap_err(), SendError::Timeout);
        assert_eq!(response(&mut other).await.unwrap_err(), SendError::Closed { reused: true });
        let heard = origin.hear(|heard| matches!(heard, Heard::GoAway(..))).await;
        assert_eq!(heard.last(), Some(&Heard::GoAway(0, ErrorCode::NoError)));
    });
}
