//! Streams that become tunnels: CONNECT (RFC 9113, 8.5) and WebSockets by extended CONNECT (RFC 8441), on both sides of the gateway.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use ferrogate_core::codec::http2::ErrorCode;
use ferrogate_core::config::Limits;
use ferrogate_core::message::{Body, Head, HttpHead, Request, Response};
use ferrogate_core::net::Conn;
use ferrogate_core::stream::client::{Answer, SendError, SendOptions};
use ferrogate_core::stream::http2::{Flight, OriginConn, StreamHome, StreamMouth};
use ferrogate_core::stream::tunnel::{TunnelEnd, tunnel};
use test_support::memory_conn::{MemoryConn, pair};
use tokio::task::{spawn_local, yield_now};

use crate::peer::{Heard, Peer, data, frame, get, last, literal, reset, run, window};

const ASK: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/chat"),
    (":authority", "test.example"),
    ("sec-websocket-version", "13"),
];

fn head(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    frame(1, 4 | u8::from(end), stream, &block)
}

fn connect(stream: u32) -> Vec<u8> {
    head(stream, false, &[(":method", "CONNECT"), (":authority", "a.example:443")])
}

async fn write(conn: &mut MemoryConn, bytes: &[u8]) {
    for piece in bytes.chunks(8 * 1024) {
        let put = |room: &mut [u8]| {
            room[..piece.len()].copy_from_slice(piece);
            (piece.len(), ())
        };
        poll_fn(|cx| conn.poll_write_with(cx, piece.len(), put)).await.unwrap();
        poll_fn(|cx| conn.poll_flush(cx)).await.unwrap();
    }
}

/// What comes next; nothing is the end.
async fn read(conn: &mut MemoryConn) -> std::io::Result<Vec<u8>> {
    poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.to_vec()))).await
}

/// A client whose stream 1 has become a tunnel, and the far end of that.
async fn opened(limits: Limits, ask: &[u8]) -> (Peer, MemoryConn) {
    let mut peer = Peer::new(limits).await;
    peer.send(ask).await;
    let Heard::Head { stream: 1, fields, end: false } = peer.next().await else { panic!("a head") };
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(fields, [":status=200", "sec-websocket-protocol=chat"], "no length and no handshake of HTTP/1.1");
    let far = peer.service.tunnels.borrow_mut().pop().expect("the tunnel is open");
    (peer, far)
}

#[test]
fn an_extended_connect_becomes_a_tunnel_beside_other_streams() {
    run(async {
        // Sent ahead of the answer: kept for the tunnel.
        let (mut peer, mut far) = opened(Limits::default(), &[head(1, false, &ASK), data(1, b"ahead")].concat()).await;
        let seen = peer.service.heads.borrow()[0].clone();
        let (fields, key) = seen.rsplit_once("sec-websocket-key: ").expect("a key is made for HTTP/1.1");
        assert_eq!(fields, "Host: test.example\nUpgrade: websocket\nsec-websocket-version: 13\n");
        assert!(key.len() == 24 && key.ends_with("=="), "{key}");
        assert_eq!(read(&mut far).await.unwrap(), b"ahead");
        write(&mut far, b"back").await;
        assert_eq!(peer.next().await, Heard::Data { stream: 1, data: b"back".to_vec(), end: false });
        peer.send(&get(3, "/")).await;
        assert_eq!(peer.answer(3).await.1, b"hello");
        // Each direction ends by itself.
        peer.send(&last(1, b"bye")).await;
        assert_eq!(read(&mut far).await.unwrap(), b"bye");
        assert_eq!(read(&mut far).await.unwrap(), b"");
        write(&mut far, b"more").await;
        poll_fn(|cx| far.poll_shutdown(cx)).await.unwrap();
        assert_eq!(peer.next().await, Heard::Data { stream: 1, data: b"more".to_vec(), end: false });
        assert_eq!(peer.next().await, Heard::Data { stream: 1, data: vec![], end: true });
        assert!(peer.ping().await.len() == 1, "the stream has ended in order");
    });
}

#[test]
fn a_plain_connect_too() {
    run(async {
        let (mut peer, mut far) = opened(Limits::default(), &connect(1)).await;
        peer.send(&data(1, b"there")).await;
        assert_eq!(read(&mut far).await.unwrap(), b"there");
        poll_fn(|cx| far.poll_shutdown(cx)).await.unwrap();
        assert_eq!(peer.next().await, Heard::Data { stream: 1, data: vec![], end: true });
        peer.send(&data(1, b"still")).await;
        assert_eq!(read(&mut far).await.unwrap(), b"still");
        peer.send(&last(1, b"")).await;
        assert_eq!(read(&mut far).await.unwrap(), b"");
    });
}

/// A side that breaks breaks the other (RFC 9113, 8.5).
#[test]
fn what_breaks_on_one_side_breaks_on_the_other() {
    run(async {
        let (mut peer, mut far) = opened(Limits::default(), &connect(1)).await;
        peer.send(&reset(1)).await;
        assert!(read(&mut far).await.is_err(), "a reset goes on as a reset");
        let (mut peer, mut far) = opened(Limits::default(), &connect(1)).await;
        far.abort();
        assert_eq!(peer.next().await, Heard::Reset(1, ErrorCode::ConnectError));
        peer.ping().await;
        // The client is gone.
        let (mut peer, mut far) = opened(Limits::default(), &connect(1)).await;
        peer.shut().await;
        assert!(read(&mut far).await.is_err());
        // It breaks the protocol on it: after CONNECT there is DATA alone.
        let (mut peer, mut far) = opened(Limits::default(), &connect(1)).await;
        peer.send(&head(1, true, &[("a", "b")])).await;
        assert_eq!(peer.next().await, Heard::Reset(1, ErrorCode::ProtocolError));
        assert!(read(&mut far).await.is_err());
        peer.ping().await;
    });
}

#[test]
fn a_tunnel_is_idle_for_so_long_and_no_body() {
    run(async {
        let limits = Limits {
            tunnel_idle_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(5),
            request_body_bytes_max: 10,
            ..Limits::default()
        };
        let (mut peer, mut far) = opened(limits, &head(1, false, &ASK)).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            peer.send(&data(1, b"tick tock ")).await;
            assert_eq!(read(&mut far).await.unwrap(), b"tick tock ");
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(peer.next().await, Heard::Reset(1, ErrorCode::ConnectError));
        // Up to a quarter longer.
        assert!((29..39).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert!(read(&mut far).await.is_err());
    });
}

/// Windows are the tunnel's backpressure, both ways.
#[test]
fn a_side_that_takes_nothing_stops_the_other() {
    run(async {
        let (mut peer, mut far) = opened(Limits::default(), &connect(1)).await;
        peer.send(&data(1, &[7; 16_000]).repeat(4)).await;
        // The far wire takes 64 KiB, of which the window is opened again; what comes then stays in the window.
        let mut sent = 64_000;
        let mut window = 65_535 - sent;
        loop {
            let opened = peer.ping().await;
            window += opened.iter().map(|h| if let Heard::Window(1, n) = h { *n as usize } else { 0 }).sum::<usize>();
            let piece = window.min(16_000);
            if piece == 0 {
                break;
            }
            peer.send(&data(1, &vec![7; piece])).await;
            (window, sent) = (window - piece, sent + piece);
        }
        assert!(sent < 64 * 1024 + (3 << 16), "{sent} bytes were taken by nobody");
        let mut taken = 0;
        while taken < sent {
            taken += read(&mut far).await.unwrap().len();
        }
        assert_eq!(taken, sent);
        // And back: no more than the client has a window for.
        let flood = spawn_local(async move {
            write(&mut far, &[1; 200_000]).await;
            far
        });
        let mut got = 0;
        while got < 65_535 {
            match peer.next().await {
                Heard::Data { data, .. } => got += data.len(),
                Heard::Window(..) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(peer.ping().await.iter().all(|h| !matches!(h, Heard::Data { .. })), "the window is shut");
        peer.send(&[self::window(1, 200_000), self::window(0, 200_000)].concat()).await;
        while got < 200_000 {
            if let Heard::Data { data, .. } = peer.next().await {
                got += data.len();
            }
        }
        drop(flood.await);
    });
}

#[test]
fn what_is_no_tunnel_is_refused_and_reaches_nobody() {
    run(async {
        let with = |more: &[(&'static str, &'static str)]| [&ASK[..], more].concat();
        for (what, bytes) in [
            ("a length", head(1, false, &with(&[("content-length", "5")]))),
            ("a length of nothing", head(1, false, &with(&[("content-length", "0")]))),
            (
                "a length with CONNECT",
                head(1, false, &[(":method", "CONNECT"), (":authority", "a:1"), ("content-length", "1")]),
            ),
            ("another method", head(1, false, &[&[(":method", "GET")], &ASK[1..]].concat())),
            ("a coding", head(1, false, &with(&[("transfer-encoding", "chunked")]))),
            ("an upgrade", head(1, false, &with(&[("upgrade", "h2c")]))),
        ] {
            let mut peer = Peer::new(Limits::default()).await;
            peer.send(&bytes).await;
            assert_eq!(peer.next().await, Heard::Reset(1, ErrorCode::ProtocolError), "{what}");
            assert!(peer.service.heads.borrow().is_empty(), "{what}");
        }
        let mut peer = Peer::new(Limits::default()).await;
        peer.send(&head(1, false, &[&[ASK[0], (":protocol", "connect-udp")], &ASK[2..]].concat())).await;
        assert_eq!(peer.answer(1).await.0, "501");
        // One that is answered is no tunnel: what was sent ahead is nobody's.
        let early = [&ASK[..3], &[(":path", "/early")], &ASK[4..]].concat();
        peer.send(&[head(3, false, &early), data(3, b"GET / HTTP/1.1\r\n\r\n")].concat()).await;
        assert_eq!(peer.answer(3).await, ("200".into(), b"early".to_vec(), true));
        assert_eq!(peer.service.heads.borrow().len(), 1);
        peer.ping().await;
    });
}

/// A stream that is over for its origin, which wants no more of it either (RFC 9113, 8.1), ends in order.
#[test]
fn an_origin_that_has_said_all_and_wants_no_more() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[(8, 1)]).await;
        let mut flight = send(&conn, upgrade()).await.unwrap();
        origin.send(&head(1, false, &[(":status", "200")])).await;
        let Answer::Upgraded(_, tunnelled) = flight.answer().await.unwrap() else { panic!("it is a tunnel") };
        let mut mouth = tunnelled.conn.downcast::<StreamMouth>().expect("a stream");
        let (mut near, mut client) = pair(1 << 16);
        let joined = spawn_local(async move { tunnel(&mut near, &mut *mouth, Duration::from_secs(60), |_| {}).await });
        origin.send(&[last(1, b"bye"), frame(3, 0, 1, &[0; 4])].concat()).await;
        assert_eq!(read(&mut client).await.unwrap(), b"bye");
        assert_eq!(read(&mut client).await.unwrap(), b"", "an end, no reset");
        joined.await.unwrap();
        assert!(conn.is_idle() && conn.is_open());
    });
}

struct Pool;

impl StreamHome for Pool {
    fn stream_ended(&self, _: &Rc<OriginConn>) {}
}

const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// What a client of HTTP/1.1 asks for a WebSocket with.
fn upgrade() -> Request {
    let mut head = HttpHead::request("GET", b"/chat");
    for (name, value) in [
        ("Host", &b"test.example"[..]),
        ("Upgrade", b"websocket"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", b"13"),
    ] {
        assert!(head.append(name, value));
    }
    Request { head: Head::Http(head), body: Body::Empty }
}

async fn send(conn: &Rc<OriginConn>, mut request: Request) -> Result<Flight, SendError> {
    let lease = conn.lease(Rc::new(Pool)).expect("a stream is left");
    let options = SendOptions { timeout: Some(Duration::from_secs(60)), upgrade: true, te_trailers: false };
    lease.send(&mut request, options).await
}

fn text(fields: &std::collections::BTreeMap<String, String>) -> String {
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_websocket_goes_to_an_origin_that_takes_it() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[(8, 1)]).await;
        let mut flight = send(&conn, upgrade()).await.unwrap();
        let Heard::Head { stream: 1, fields, end: false } = origin.next().await else { panic!("a head") };
        assert_eq!(
            text(&fields),
            ":authority=test.example :method=CONNECT :path=/chat :protocol=websocket :scheme=http sec-websocket-version=13"
        );
        let answer = [(":status", "200"), ("sec-websocket-protocol", "chat"), ("content-length", "7")];
        origin.send(&[head(1, false, &answer), data(1, b"first")].concat()).await;
        let Answer::Upgraded(Response { head: Head::Http(said), .. }, tunnelled) = flight.answer().await.unwrap()
        else {
            panic!("it is a tunnel")
        };
        assert_eq!((said.status(), said.get("upgrade")), (101, Some(&b"websocket"[..])));
        assert_eq!(said.get("sec-websocket-accept"), Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
        assert_eq!((said.get("sec-websocket-protocol"), said.get("content-length")), (Some(&b"chat"[..]), None));
        let mut mouth = tunnelled.conn.downcast::<StreamMouth>().expect("a stream");
        let (mut near, mut client) = pair(1 << 16);
        let joined = spawn_local(async move { tunnel(&mut near, &mut *mouth, Duration::from_secs(60), |_| {}).await });
        assert_eq!(read(&mut client).await.unwrap(), b"first");
        write(&mut client, b"and back").await;
        assert_eq!(origin.next().await, Heard::Data { stream: 1, data: b"and back".to_vec(), end: false });
        origin.send(&last(1, b"")).await;
        assert_eq!(read(&mut client).await.unwrap(), b"");
        poll_fn(|cx| client.poll_shutdown(cx)).await.unwrap();
        assert_eq!(origin.next().await, Heard::Data { stream: 1, data: vec![], end: true });
        let (moved, end) = joined.await.unwrap();
        assert_eq!((moved.forth, moved.back, end), (8, 5, TunnelEnd::Closed));
        assert!(conn.is_idle(), "its stream is free");
    });
}

#[test]
fn an_origin_that_takes_none_is_not_asked() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[]).await;
        assert_eq!(send(&conn, upgrade()).await.err(), Some(SendError::NoWebSocket));
        assert!(origin.ping().await.len() == 1 && conn.is_idle());
        // What offers something else besides is asked without it, as ever.
        let mut other = upgrade();
        other.head.fields_mut().unwrap().set("upgrade", b"chat/2");
        let mut flight = send(&conn, other).await.unwrap();
        let Heard::Head { fields, end: true, .. } = origin.next().await else { panic!("a head") };
        assert_eq!(fields[":method"], "GET");
        origin.send(&head(1, true, &[(":status", "200")])).await;
        assert!(matches!(flight.answer().await, Ok(Answer::Response(_))));
    });
}

#[test]
fn an_origin_may_refuse_or_break_a_tunnel() {
    run(async {
        let (mut origin, conn) = Peer::origin(Limits::default(), &[(8, 1)]).await;
        let mut flight = send(&conn, upgrade()).await.unwrap();
        origin.send(&[head(1, false, &[(":status", "403"), ("content-length", "2")]), last(1, b"no")].concat()).await;
        let Answer::Response(response) = flight.answer().await.unwrap() else { panic!("it is refused") };
        assert_eq!(response.head.fields().map(HttpHead::status), Some(403));
        drop((flight, response));
        let request = Request { head: Head::Http(HttpHead::request("CONNECT", b"a.example:443")), body: Body::Empty };
        let mut flight = send(&conn, request).await.unwrap();
        let heard = origin.hear(|h| matches!(h, Heard::Head { stream: 3, .. })).await;
        let Some(Heard::Head { stream: 3, fields, end: false }) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(text(fields), ":authority=a.example:443 :method=CONNECT");
        origin.send(&head(3, false, &[(":status", "200")])).await;
        let Answer::Upgraded(_, tunnelled) = flight.answer().await.unwrap() else { panic!("it is a tunnel") };
        let mut mouth = tunnelled.conn.downcast::<StreamMouth>().expect("a stream");
        let (mut near, mut client) = pair(1 << 16);
        let joined = spawn_local(async move { tunnel(&mut near, &mut *mouth, Duration::from_secs(60), |_| {}).await });
        // Trailers end messages; this is none.
        origin.send(&head(3, true, &[("a", "b")])).await;
        assert_eq!(origin.next().await, Heard::Reset(3, ErrorCode::ProtocolError));
        assert!(read(&mut client).await.is_err());
        assert_eq!(joined.await.unwrap().1, TunnelEnd::Broken);
        // A client that breaks is told to the origin.
        let mut flight = send(&conn, upgrade()).await.unwrap();
        origin.send(&head(5, false, &[(":status", "200")])).await;
        let Answer::Upgraded(_, tunnelled) = flight.answer().await.unwrap() else { panic!("it is a tunnel") };
        let mut mouth = tunnelled.conn.downcast::<StreamMouth>().expect("a stream");
        let (mut near, mut client) = pair(1 << 16);
        client.abort();
        spawn_local(async move { tunnel(&mut near, &mut *mouth, Duration::from_secs(60), |_| {}).await });
        let heard = origin.hear(|h| matches!(h, Heard::Reset(..))).await;
        assert_eq!(heard.last(), Some(&Heard::Reset(5, ErrorCode::Cancel)));
        yield_now().await;
        assert!(conn.is_idle() && conn.is_open());
    });
}
