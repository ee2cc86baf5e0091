//! What a hostile origin sends, by the sections of RFC 9113: it costs the origin its stream or its connection, and nobody else anything.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ferrogate_core::codec::http2::ErrorCode;
use ferrogate_core::config::Limits;
use ferrogate_core::message::{Body, BodyError, Chunk, Head, HttpHead, Request};
use ferrogate_core::net::Conn;
use ferrogate_core::stream::client::{Answer, SendError, SendOptions};
use ferrogate_core::stream::http2::{Flight, OriginConn, StreamHome, connect};
use test_support::memory_conn::pair;
use tokio::task::{spawn_local, yield_now};

use crate::peer::{Heard, Peer, data, frame, last, literal, run, settings, window};

struct Pool;

impl StreamHome for Pool {
    fn stream_ended(&self, _: &Rc<OriginConn>) {}
}

async fn get(conn: &Rc<OriginConn>) -> Flight {
    let mut head = HttpHead::request("GET", b"/");
    head.append("Host", b"test.example");
    let lease = conn.lease(Rc::new(Pool)).expect("a stream is left");
    let options = SendOptions { timeout: Some(Duration::from_secs(60)), upgrade: false, te_trailers: true };
    lease.send(&mut Request { head: Head::Http(head), body: Body::Empty }, options).await.unwrap()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

fn head(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(1, 4 | u8::from(end), stream, &block(fields))
}

fn ok(stream: u32, end: bool) -> Vec<u8> {
    head(stream, end, &[(":status", "200")])
}

/// What came of an answer, to its end.
async fn outcome(mut flight: Flight) -> Result<(Vec<u8>, bool), String> {
    let response = loop {
        match flight.answer().await {
            Ok(Answer::Interim(_)) => {}
            Ok(Answer::Response(response)) => break response,
            Ok(Answer::Upgraded(..)) => return Err("a tunnel".into()),
            Ok(Answer::None) => return Err("no answer at all".into()),
            Err(error) => return Err(format!("{error:?}")),
        }
    };
    let (mut bytes, mut trailers) = (Vec::new(), false);
    match response.body {
        Body::Empty => {}
        Body::Full(all) => bytes.extend(all),
        Body::Streaming(mut source) => {
            while let Some(chunk) = poll_fn(|cx| source.poll_chunk(cx)).await.map_err(|e| format!("{e:?}"))? {
                match chunk {
                    Chunk::Data(data) => bytes.extend(data),
                    Chunk::Trailers(_) => trailers = true,
                }
            }
        }
    }
    Ok((bytes, trailers))
}

/// A whole answer in every kind of frame that it may have, padded, in parts, and between frames that mean nothing.
fn talkative() -> Vec<u8> {
    let fields = block(&[(":status", "200"), ("content-length", "8"), ("x-long", "value")]);
    let (one, rest) = fields.split_at(5);
    [
        frame(0x42, 0xff, 1, b"of a kind that nobody knows"),
        frame(0x42, 0xff, 0, b""),
        // ALTSVC and ORIGIN, which are not for us.
        frame(10, 0, 0, &[0, 0]),
        frame(12, 0, 0, b""),
        head(1, false, &[(":status", "103"), ("link", "a")]),
        frame(2, 0, 1, &[0, 0, 0, 0, 16]),
        // HEADERS with padding and priority, and two CONTINUATION.
        frame(1, 0x28, 1, &[&[3, 0, 0, 0, 0, 16][..], one, &[0; 3]].concat()),
        frame(9, 0, 1, &rest[..2]),
        frame(9, 4, 1, &rest[2..]),
        frame(0, 8, 1, &[&[2][..], b"four", &[0; 2]].concat()),
        frame(0, 8, 1, &[5, 0, 0, 0, 0, 0]),
        settings(&[(3, 50), (0x99, 7)]),
        window(0, 70_000),
        window(1, 70_000),
        data(1, b"more"),
        head(1, true, &[("x-sum", "8")]),
    ]
    .concat()
}

/// RFC 9113, 4.1, 5.5 and 6: however its bytes are cut, the answer is the same, and one that breaks off is never taken for whole.
#[test]
fn an_answer_cut_anywhere() {
    let all = talkative();
    for cut in 0..=all.len() {
        run(async {
            let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
            let got = spawn_local(outcome(get(&conn).await));
            origin.send(&all[..cut]).await;
            origin.hear(|heard| matches!(heard, Heard::Head { .. })).await;
            if cut % 7 == 0 && cut < all.len() {
                // Broken off, in good order.
                origin.shut().await;
                let got = got.await.unwrap();
                assert!(got.is_err(), "{cut} of {} bytes are taken for {got:?}", all.len());
                return;
            }
            for byte in &all[cut..] {
                origin.send(&[*byte]).await;
                yield_now().await;
            }
            assert_eq!(got.await.unwrap(), Ok((b"fourmore".to_vec(), true)), "cut at {cut}");
            let next = get(&conn).await;
            origin.send(&ok(3, true)).await;
            assert!(outcome(next).await.is_ok(), "cut at {cut}");
        });
    }
}

/// RFC 9113, 3.4: whoever does not begin with SETTINGS speaks something else.
#[test]
fn what_does_not_begin_with_settings_is_no_origin() {
    for (what, bytes) in [
        ("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
        ("an acknowledgement", frame(4, 1, 0, &[])),
        ("a PING", frame(6, 0, 0, b"12345678")),
        ("an answer", ok(1, true)),
        ("SETTINGS on a stream", frame(4, 0, 1, &[])),
        ("SETTINGS of half an entry", frame(4, 0, 0, &[0, 3, 0])),
        ("SETTINGS that are too long", frame(4, 0, 0, &vec![0; 6 * 3000])),
        ("a GOAWAY", frame(7, 0, 0, &[0; 8])),
        ("a window that may not be", settings(&[(4, 1 << 31)])),
        ("nothing", vec![]),
    ] {
        run(async {
            let (client, mut origin) = pair(1 << 16);
            let opened = spawn_local(connect(client, "http", Rc::new(Limits::default())));
            for piece in bytes.chunks(8 * 1024) {
                let put = |room: &mut [u8]| {
                    room[..piece.len()].copy_from_slice(piece);
                    (piece.len(), ())
                };
                poll_fn(|cx| origin.poll_write_with(cx, piece.len(), put)).await.unwrap();
                if poll_fn(|cx| origin.poll_flush(cx)).await.is_err() {
                    break;
                }
            }
            let _ = poll_fn(|cx| origin.poll_shutdown(cx)).await;
            assert!(opened.await.unwrap().is_err(), "{what}");
        });
    }
}

/// What costs the connection. Every request on it hears so, and nothing is answered.
#[test]
fn what_costs_an_origin_its_connection() {
    use ErrorCode::{CompressionError, EnhanceYourCalm, FlowControlError, FrameSizeError, ProtocolError, StreamClosed};
    let rows: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        // 4.2: lengths that lie.
        ("SETTINGS of five bytes", frame(4, 0, 0, &[0; 5]), FrameSizeError),
        ("an acknowledgement that says something", frame(4, 1, 0, &[0; 6]), FrameSizeError),
        ("a PING of seven bytes", frame(6, 0, 0, &[0; 7]), FrameSizeError),
        ("RST_STREAM of three bytes", frame(3, 0, 1, &[0; 3]), FrameSizeError),
        ("WINDOW_UPDATE of five bytes", frame(8, 0, 1, &[0; 5]), FrameSizeError),
        ("GOAWAY of seven bytes", frame(7, 0, 0, &[0; 7]), FrameSizeError),
        ("HEADERS with half a priority", frame(1, 0x24, 1, &[0; 3]), FrameSizeError),
        ("a head of 16385 bytes", frame(1, 4, 1, &vec![0; 16_385]), FrameSizeError),
        // 6.1 and 6.2: padding that is longer than what it pads.
        ("padding of DATA", [ok(1, false), frame(0, 8, 1, &[5, 0, 0])].concat(), ProtocolError),
        ("padding of HEADERS", frame(1, 12, 1, &[200, 0x88]), ProtocolError),
        // 5.1.1 and 6: the wrong stream.
        ("DATA on no stream", data(0, b"x"), ProtocolError),
        ("HEADERS on no stream", ok(0, true), ProtocolError),
        ("RST_STREAM on no stream", frame(3, 0, 0, &[0; 4]), ProtocolError),
        ("PRIORITY on no stream", frame(2, 0, 0, &[0; 5]), ProtocolError),
        ("SETTINGS on a stream", frame(4, 0, 1, &[]), ProtocolError),
        ("a PING on a stream", frame(6, 0, 1, &[0; 8]), ProtocolError),
        ("GOAWAY on a stream", frame(7, 0, 1, &[0; 8]), ProtocolError),
        ("RST_STREAM of a stream that nobody opened", frame(3, 0, 9, &[0; 4]), ProtocolError),
        ("a window of a stream that nobody opened", window(9, 1), ProtocolError),
        ("a window of a stream of the origin", window(2, 1), ProtocolError),
        ("an even answer", ok(4, true), ProtocolError),
        ("PRIORITY that depends on itself", frame(2, 0, 1, &[0, 0, 0, 1, 0]), ProtocolError),
        // 6.10: a head in parts, and something between them.
        ("CONTINUATION of nothing", frame(9, 4, 1, &[0x88]), ProtocolError),
        ("DATA between the parts", [frame(1, 0, 1, &[0x88]), data(1, b"x")].concat(), ProtocolError),
        ("a PING between the parts", [frame(1, 0, 1, &[0x88]), frame(6, 0, 0, &[0; 8])].concat(), ProtocolError),
        (
            "something unknown between the parts",
            [frame(1, 0, 1, &[0x88]), frame(0x42, 0, 1, &[])].concat(),
            ProtocolError,
        ),
        ("CONTINUATION of another stream", [frame(1, 0, 1, &[0x88]), frame(9, 4, 3, &[])].concat(), ProtocolError),
        // 6.5.2: settings that may not be.
        ("a push that is neither", settings(&[(2, 2)]), ProtocolError),
        ("frames of 16383 bytes", settings(&[(5, 16_383)]), ProtocolError),
        ("frames of 2^24 bytes", settings(&[(5, 1 << 24)]), ProtocolError),
        ("a window of 2^31 bytes", settings(&[(4, 1 << 31)]), FlowControlError),
        ("extended CONNECT that is neither", settings(&[(8, 2)]), ProtocolError),
        ("extended CONNECT taken back", [settings(&[(8, 1)]), settings(&[(8, 0)])].concat(), ProtocolError),
        // 6.9: windows.
        ("a window of the connection opened by nothing", window(0, 0), ProtocolError),
        ("a window of the connection beyond the largest", window(0, (1 << 31) - 1), FlowControlError),
        (
            "windows of streams beyond the largest",
            [window(1, (1 << 31) - 1 - 65_535), settings(&[(4, 70_000)])].concat(),
            FlowControlError,
        ),
        // 5.1: after the end.
        ("an answer behind the answer", [ok(1, true), ok(1, true)].concat(), StreamClosed),
        // RFC 7541.
        ("an index of 0", frame(1, 5, 1, &[0x80]), CompressionError),
        ("an index of nothing", frame(1, 5, 1, &[0xff, 0x7f]), CompressionError),
        ("a table larger than was said", frame(1, 5, 1, &[0x3f, 0xe2, 0x1f, 0x88]), CompressionError),
        ("a string that is cut short", frame(1, 5, 1, &[0, 0x7f, b'a']), CompressionError),
        // Floods.
        ("SETTINGS without end", settings(&[(3, 100)]).repeat(3000), EnhanceYourCalm),
        ("frames of unknown kinds without end", frame(0x42, 0, 0, &[]).repeat(3000), EnhanceYourCalm),
        ("PRIORITY without end", frame(2, 0, 1, &[0; 5]).repeat(3000), EnhanceYourCalm),
        ("windows opened by a byte without end", window(1, 1).repeat(3000), EnhanceYourCalm),
        ("GOAWAY without end", frame(7, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).repeat(3000), EnhanceYourCalm),
        ("acknowledgements without end", frame(4, 1, 0, &[]).repeat(3000), EnhanceYourCalm),
        (
            "CONTINUATION without end",
            [frame(1, 0, 1, &[0x88]), frame(9, 0, 1, &[]).repeat(100)].concat(),
            EnhanceYourCalm,
        ),
        (
            "a head without end",
            [frame(1, 0, 1, &[0x88]), frame(9, 0, 1, &[0; 16_000]).repeat(6)].concat(),
            EnhanceYourCalm,
        ),
        // MadeYouReset: what makes us reset the same streams again and again.
        ("a stream that we are to reset without end", window(1, 0).repeat(3000), EnhanceYourCalm),
        (
            "data behind a reset without end",
            [window(1, 0), data(1, b"x").repeat(10), frame(2, 0, 1, &[0; 4]).repeat(3000)].concat(),
            EnhanceYourCalm,
        ),
    ];
    for (what, bytes, code) in rows {
        run(async {
            let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
            let (first, second) = (get(&conn).await, get(&conn).await);
            // They hold their streams until the connection has been given up: an answer that is taken would be forgotten.
            origin.send(&bytes).await;
            let heard = origin.hear(|heard| matches!(heard, Heard::GoAway(..))).await;
            assert_eq!(heard.last(), Some(&Heard::GoAway(0, code)), "{what}");
            let resets = heard.iter().filter(|heard| matches!(heard, Heard::Reset(..))).count();
            // Data that is useful allows for a few more.
            assert!(resets <= 1050, "{what}: {resets} RST_STREAM");
            assert!(!conn.is_open(), "{what}");
            let second = outcome(second).await;
            assert!(second.is_err(), "{what}: {second:?}");
            drop(outcome(first).await);
        });
    }
}

/// What costs a stream, and neither the connection nor the stream beside it.
#[test]
fn what_costs_an_origin_a_stream() {
    use ErrorCode::{EnhanceYourCalm, FlowControlError, FrameSizeError, ProtocolError};
    let sized = |n: &str| head(1, false, &[(":status", "200"), ("content-length", n)]);
    let rows: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("PRIORITY of four bytes", frame(2, 0, 1, &[0; 4]), FrameSizeError),
        ("a window opened by nothing", window(1, 0), ProtocolError),
        ("a window beyond the largest", window(1, (1 << 31) - 1), FlowControlError),
        ("DATA before a head", data(1, b"x"), ProtocolError),
        ("DATA behind an interim head", [head(1, false, &[(":status", "100")]), data(1, b"x")].concat(), ProtocolError),
        ("more DATA than was said", [sized("3"), data(1, b"four")].concat(), ProtocolError),
        ("more DATA than was said, padded", [sized("3"), frame(0, 8, 1, b"\x01four\0")].concat(), ProtocolError),
        ("less DATA than was said", [sized("5"), last(1, b"four")].concat(), ProtocolError),
        ("DATA behind a head of 204", [head(1, false, &[(":status", "204")]), data(1, b"x")].concat(), ProtocolError),
        ("DATA behind a head of 304", [head(1, false, &[(":status", "304")]), data(1, b"x")].concat(), ProtocolError),
        ("trailers that end nothing", [ok(1, false), head(1, false, &[("a", "b")])].concat(), ProtocolError),
        (
            "an interim head behind the answer",
            [ok(1, false), head(1, false, &[(":status", "100")])].concat(),
            ProtocolError,
        ),
        ("a length among trailers", [ok(1, false), head(1, true, &[("content-length", "1")])].concat(), ProtocolError),
        ("interim heads without end", head(1, false, &[(":status", "103")]).repeat(17), EnhanceYourCalm),
        (
            "interim heads of two kinds",
            [head(1, false, &[(":status", "100")]), head(1, false, &[(":status", "103")])].concat().repeat(9),
            EnhanceYourCalm,
        ),
        ("a window that is not kept", [ok(1, false), data(1, &[0; 16_384]).repeat(5)].concat(), FlowControlError),
    ];
    for (what, bytes, code) in rows {
        run(async {
            let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
            let (first, second) = (get(&conn).await, get(&conn).await);
            origin.send(&bytes).await;
            let heard = origin.hear(|heard| matches!(heard, Heard::Reset(..) | Heard::GoAway(..))).await;
            assert_eq!(heard.last(), Some(&Heard::Reset(1, code)), "{what}");
            // An answer that can have no body is whole with its head, whatever comes behind it.
            let is_whole = what.starts_with("DATA behind a head of");
            assert_eq!(outcome(first).await.is_ok(), is_whole, "{what}");
            origin.send(&[ok(3, false), last(3, b"well")].concat()).await;
            assert_eq!(outcome(second).await, Ok((b"well".to_vec(), false)), "{what}");
            // What was on its way on the one that was reset is no fault (RFC 9113, 5.1).
            origin.send(&[data(1, b"late"), head(1, true, &[("x", "y")]), frame(3, 0, 1, &[0; 4])].concat()).await;
            origin.ping().await;
            assert!(conn.is_open() && conn.is_idle(), "{what}");
        });
    }
}

/// RFC 9113, 6.8: what has not been looked at is given back, whatever else is on its way.
#[test]
fn goaway_against_everything_else() {
    let goaway = |last: u32, code: u8| frame(7, 0, 0, &[&last.to_be_bytes()[..], &[0, 0, 0, code]].concat());
    run(async {
        // Twice, the second time with the last stream: those between are given back then.
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let (first, second, third) = (get(&conn).await, get(&conn).await, get(&conn).await);
        let promised = conn.lease(Rc::new(Pool)).expect("a stream is left");
        origin.send(&[goaway((1 << 31) - 1, 0), ok(1, false), data(1, b"ha")].concat()).await;
        origin.ping().await;
        assert!(conn.is_told() && conn.lease(Rc::new(Pool)).is_none());
        let mut head = HttpHead::request("GET", b"/");
        head.append("Host", b"a");
        let options = SendOptions { timeout: None, upgrade: false, te_trailers: false };
        let late = promised.send(&mut Request { head: Head::Http(head), body: Body::Empty }, options).await;
        assert_eq!(late.err(), Some(SendError::Refused), "what was promised and not opened is sent elsewhere");
        origin.send(&goaway(3, 0)).await;
        assert_eq!(outcome(third).await, Err("Refused".into()));
        // The number goes up again, which it must not: what was given back is given back.
        origin.send(&[goaway(9, 0), last(1, b"lf"), ok(3, true)].concat()).await;
        assert_eq!(outcome(first).await, Ok((b"half".to_vec(), false)));
        assert!(outcome(second).await.is_ok());
        let heard = origin.hear(|heard| *heard == Heard::Closed).await;
        assert!(heard.contains(&Heard::GoAway(0, ErrorCode::NoError)), "{heard:?}");
    });
    run(async {
        // It goes in the middle of an answer of which it says that it never looked at it.
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let flight = spawn_local(outcome(get(&conn).await));
        origin.send(&[ok(1, false), data(1, b"part")].concat()).await;
        origin.ping().await;
        origin.send(&goaway(0, 2)).await;
        assert_eq!(
            flight.await.unwrap(),
            Err(format!("{:?}", BodyError::Truncated)),
            "after a head nothing is tried again"
        );
    });
    run(async {
        // It answers what it has said that it never looked at.
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let (first, second) = (get(&conn).await, get(&conn).await);
        origin.send(&[goaway(1, 0), ok(3, true)].concat()).await;
        let heard = origin.hear(|heard| matches!(heard, Heard::GoAway(..))).await;
        assert_eq!(heard.last(), Some(&Heard::GoAway(0, ErrorCode::StreamClosed)));
        assert_eq!(outcome(second).await, Err("Refused".into()));
        assert!(outcome(first).await.is_err());
    });
    run(async {
        // It goes and closes at once: what it has named is lost, the rest given back.
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        let (first, second) = (get(&conn).await, get(&conn).await);
        origin.send(&goaway(1, 0)).await;
        origin.shut().await;
        assert_eq!(outcome(second).await, Err("Refused".into()));
        assert!(outcome(first).await.unwrap_err().starts_with("Closed"));
    });
}

/// RFC 9113, 6.9.1: the streams share the connection's window, and one that takes nothing holds no more than its own.
#[test]
fn what_is_held_of_an_origin_is_bounded() {
    run(async {
        let limits = Limits { h2_streams_max: 8, ..Limits::default() };
        let (mut origin, conn) = Peer::origin(limits, &[]).await;
        let mut flights = Vec::new();
        for n in 0..8 {
            let mut flight = get(&conn).await;
            origin.send(&ok(2 * n + 1, false)).await;
            let Answer::Response(response) = flight.answer().await.unwrap() else { panic!("an answer") };
            flights.push(response);
        }
        // Each is sent all that its window takes, and nobody takes any of it.
        for n in 0..8 {
            for _ in 0..3 {
                origin.send(&data(2 * n + 1, &[7; 16_384])).await;
            }
            origin.send(&data(2 * n + 1, &[7; 16_383])).await;
        }
        let heard = origin.ping().await;
        assert!(
            !heard.iter().any(|h| matches!(h, Heard::Window(n, _) if *n > 0)),
            "no stream's window is opened: {heard:?}"
        );
        assert!(!heard.iter().any(|h| matches!(h, Heard::Reset(..) | Heard::GoAway(..))), "{heard:?}");
        for response in flights {
            let Body::Streaming(mut source) = response.body else { panic!("its body streams") };
            let chunk = poll_fn(|cx| source.poll_chunk(cx)).await;
            assert!(matches!(chunk, Ok(Some(Chunk::Data(data))) if data.len() == 65_535));
            let more = poll_fn(|cx| Poll::Ready(source.poll_chunk(cx).is_pending())).await;
            assert!(more, "that was all");
        }
    });
}
