//! What RFC 9113 and RFC 7541 ask of a server, case by case: frames in, and what has to come of them.

use ferrogate_core::codec::http2::{ErrorCode, PREFACE};
use ferrogate_core::config::Limits;

use crate::peer::{Heard, Peer, block, data, frame, get, last, literal, post, reset, run, settings, window};

/// What has to come of the frames of a case.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The connection goes on as if nothing had been.
    Nothing,
    /// The request on this stream is answered so.
    Status(u32, &'static str),
    /// The stream is reset, and the connection goes on.
    Reset(u32, ErrorCode),
    /// The connection is given up.
    Away(ErrorCode),
}

use ErrorCode::{CompressionError, FlowControlError, FrameSizeError, ProtocolError, RefusedStream, StreamClosed};
use Then::{Away, Nothing, Reset, Status};

type Case = (&'static str, Vec<u8>, Then);

/// A request whose head is this block.
fn request(block: &[u8]) -> Vec<u8> {
    frame(1, 5, 1, block)
}

/// A request with these fields besides the usual ones.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    request(&block("GET", "/", more))
}

/// A request of these fields alone.
fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    request(&fields.iter().flat_map(|(n, v)| literal(n, v)).collect::<Vec<_>>())
}

fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

/// A request with a body of this much data behind a head that says this length.
fn body(length: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let mut all = frame(1, 4, 1, &block("POST", "/count", &[("content-length", length)]));
    for (at, piece) in pieces.iter().enumerate() {
        all.extend(if at + 1 == pieces.len() { last(1, piece) } else { data(1, piece) });
    }
    all
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

fn without(name: &str) -> Vec<u8> {
    only(&GET.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>())
}

fn instead(name: &'static str, value: &'static str) -> Vec<u8> {
    only(&GET.map(|(n, v)| if n == name { (n, value) } else { (n, v) }))
}

/// RFC 9113, 4: frames as such.
fn framing() -> Vec<Case> {
    let head = block("GET", "/", &[]);
    let (first, rest) = head.split_at(10);
    vec![
        ("a frame of an unknown kind is ignored", frame(0x16, 0xff, 0, b"12345678"), Nothing),
        ("also on a stream", join(&[post(1, "/count"), frame(0xf0, 0, 1, b"x"), last(1, b"")]), Status(1, "200")),
        ("unknown flags are ignored", frame(6, 0x16, 0, b"12345678"), Nothing),
        ("the reserved bit of a stream is ignored", frame(6, 0, 1 << 31, b"12345678"), Nothing),
        ("DATA of the largest size is taken", join(&[post(1, "/count"), last(1, &[0; 16_384])]), Status(1, "200")),
        ("DATA that is larger is not", join(&[post(1, "/count"), data(1, &[0; 16_385])]), Away(FrameSizeError)),
        ("nor HEADERS", frame(1, 5, 1, &[0; 16_385]), Away(FrameSizeError)),
        ("nor what is unknown", frame(0x77, 0, 0, &[0; 16_385]), Away(FrameSizeError)),
        ("a block that is no HPACK", request(&[0x80]), Away(CompressionError)),
        (
            "PRIORITY between the parts of a block",
            join(&[frame(1, 1, 1, first), frame(2, 0, 1, &[0, 0, 0, 0, 1]), frame(9, 4, 1, rest)]),
            Away(ProtocolError),
        ),
        (
            "HEADERS of another stream between them",
            join(&[frame(1, 1, 1, first), frame(1, 5, 3, &head)]),
            Away(ProtocolError),
        ),
        ("an unknown frame between them", join(&[frame(1, 1, 1, first), frame(0x16, 0, 0, b"")]), Away(ProtocolError)),
        ("DATA between them", join(&[frame(1, 0, 1, first), data(1, b"")]), Away(ProtocolError)),
        ("a broken PRIORITY between them", join(&[frame(1, 1, 1, first), frame(2, 0, 1, b"")]), Away(ProtocolError)),
        ("no frame is taken for a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Away(FrameSizeError)),
    ]
}

/// RFC 9113, 5.1: the states of a stream.
fn states() -> Vec<Case> {
    let gone = join(&[get(1, "/hang"), reset(1)]);
    let done = |more: Vec<u8>| join(&[get(1, "/hang"), reset(1), more]);
    vec![
        ("DATA on an idle stream", data(1, b"x"), Away(ProtocolError)),
        ("RST_STREAM on an idle stream", reset(1), Away(ProtocolError)),
        ("WINDOW_UPDATE on an idle stream", window(1, 100), Away(ProtocolError)),
        ("CONTINUATION on an idle stream", frame(9, 4, 1, &block("GET", "/", &[])), Away(ProtocolError)),
        ("PRIORITY on an idle stream", frame(2, 0, 1, &[0, 0, 0, 0, 1]), Nothing),
        ("DATA on a half-closed stream", join(&[get(1, "/hang"), data(1, b"x")]), Reset(1, StreamClosed)),
        (
            "HEADERS on a half-closed stream",
            join(&[get(1, "/hang"), frame(1, 5, 1, &literal("a", "b"))]),
            Reset(1, StreamClosed),
        ),
        ("CONTINUATION on a half-closed stream", join(&[get(1, "/hang"), frame(9, 4, 1, b"")]), Away(ProtocolError)),
        ("WINDOW_UPDATE on a half-closed stream", join(&[get(1, "/"), window(1, 1000)]), Status(1, "200")),
        ("PRIORITY on a half-closed stream", join(&[get(1, "/"), frame(2, 0, 1, &[0, 0, 0, 0, 1])]), Status(1, "200")),
        ("DATA on a stream that was reset", done(data(1, b"x")), Reset(1, StreamClosed)),
        ("HEADERS on a stream that was reset", done(get(1, "/")), Away(StreamClosed)),
        ("CONTINUATION on a stream that was reset", done(frame(9, 4, 1, b"")), Away(ProtocolError)),
        ("RST_STREAM on a stream that was reset", join(&[gone.clone(), reset(1)]), Nothing),
        ("WINDOW_UPDATE on a stream that was reset", join(&[gone.clone(), window(1, 100)]), Nothing),
        ("PRIORITY on a stream that was reset", join(&[gone, frame(2, 0, 1, &[0, 0, 0, 0, 1])]), Nothing),
        ("an even stream", get(2, "/"), Away(ProtocolError)),
        ("WINDOW_UPDATE on an even stream", join(&[get(3, "/hang"), window(2, 1)]), Away(ProtocolError)),
        ("RST_STREAM on an even stream", join(&[get(3, "/hang"), reset(2)]), Away(ProtocolError)),
        ("DATA on an even stream", join(&[get(3, "/hang"), data(2, b"x")]), Away(ProtocolError)),
        ("the connection as a stream", get(0, "/"), Away(ProtocolError)),
        ("a stream below one that was opened", join(&[get(5, "/hang"), get(3, "/")]), Away(ProtocolError)),
        ("streams may be left out", get(7, "/"), Status(7, "200")),
        ("a stream that was left out is closed", join(&[get(5, "/hang"), data(3, b"x")]), Reset(3, StreamClosed)),
        ("the highest stream", get((1 << 31) - 1, "/"), Status((1 << 31) - 1, "200")),
        (
            "a stream that depends on itself",
            frame(1, 0x25, 1, &[&[0, 0, 0, 1, 9], &block("GET", "/", &[])[..]].concat()),
            Away(ProtocolError),
        ),
        ("PRIORITY that depends on itself", frame(2, 0, 1, &[0, 0, 0, 1, 9]), Away(ProtocolError)),
        (
            "HEADERS with a priority",
            frame(1, 0x25, 3, &[&[0x80, 0, 0, 1, 255], &block("GET", "/", &[])[..]].concat()),
            Status(3, "200"),
        ),
    ]
}

/// RFC 9113, 6.1 to 6.4: DATA, HEADERS, PRIORITY, RST_STREAM.
fn messages() -> Vec<Case> {
    let head = block("GET", "/", &[]);
    let padded = |padding: u8, zeros: usize| [&[padding], &head[..], &vec![0; zeros]].concat();
    vec![
        ("DATA on the connection", data(0, b"x"), Away(ProtocolError)),
        (
            "padding as long as the payload",
            join(&[post(1, "/count"), frame(0, 9, 1, b"\x05abcd")]),
            Away(ProtocolError),
        ),
        (
            "padding that fills the payload",
            join(&[post(1, "/count"), frame(0, 9, 1, b"\x04\0\0\0\0")]),
            Status(1, "200"),
        ),
        ("padded DATA", join(&[post(1, "/count"), frame(0, 9, 1, b"\x02ab\0\0")]), Status(1, "200")),
        ("padded DATA without a length", join(&[post(1, "/count"), frame(0, 9, 1, b"")]), Away(FrameSizeError)),
        ("HEADERS on the connection", frame(1, 5, 0, &head), Away(ProtocolError)),
        ("padded HEADERS", frame(1, 0x0d, 1, &padded(4, 4)), Status(1, "200")),
        ("padding longer than the block", frame(1, 0x0d, 1, &padded(255, 4)), Away(ProtocolError)),
        ("HEADERS too short for a priority", frame(1, 0x25, 1, &[0, 0, 0]), Away(FrameSizeError)),
        ("HEADERS too short for their padding", frame(1, 0x0d, 1, b""), Away(FrameSizeError)),
        ("an empty block", request(b""), Reset(1, ProtocolError)),
        ("PRIORITY on the connection", frame(2, 0, 0, &[0, 0, 0, 1, 1]), Away(ProtocolError)),
        ("PRIORITY of a wrong size", join(&[get(1, "/hang"), frame(2, 0, 1, &[0; 4])]), Reset(1, FrameSizeError)),
        ("RST_STREAM on the connection", reset(0), Away(ProtocolError)),
        ("RST_STREAM of a wrong size", join(&[get(1, "/hang"), frame(3, 0, 1, &[0; 3])]), Away(FrameSizeError)),
        ("RST_STREAM with an unknown code", join(&[get(1, "/hang"), frame(3, 0, 1, &[0xff; 4])]), Nothing),
    ]
}

/// RFC 9113, 6.5 to 6.8: SETTINGS, PUSH_PROMISE, PING, GOAWAY.
fn connection() -> Vec<Case> {
    vec![
        ("SETTINGS on a stream", frame(4, 0, 1, &[]), Away(ProtocolError)),
        ("SETTINGS of a wrong size", frame(4, 0, 0, &[0; 5]), Away(FrameSizeError)),
        ("an acknowledgement with a payload", frame(4, 1, 0, &[0; 6]), Away(FrameSizeError)),
        ("ENABLE_PUSH that is no flag", settings(&[(2, 2)]), Away(ProtocolError)),
        ("INITIAL_WINDOW_SIZE too large", settings(&[(4, 1 << 31)]), Away(FlowControlError)),
        ("MAX_FRAME_SIZE too small", settings(&[(5, 16_383)]), Away(ProtocolError)),
        ("MAX_FRAME_SIZE too large", settings(&[(5, 1 << 24)]), Away(ProtocolError)),
        ("unknown settings are ignored", settings(&[(0xffff, 1), (7, 1)]), Nothing),
        (
            "the last of a setting counts",
            join(&[settings(&[(4, 5), (4, 1)]), settings(&[(4, 100)]), get(1, "/")]),
            Status(1, "200"),
        ),
        (
            "a table of no size",
            join(&[settings(&[(1, 0)]), get(1, "/"), settings(&[(1, 100)]), get(3, "/")]),
            Status(3, "200"),
        ),
        ("PUSH_PROMISE from a client", join(&[get(1, "/hang"), frame(5, 4, 1, &[0, 0, 0, 2])]), Away(ProtocolError)),
        ("PING on a stream", frame(6, 0, 1, b"12345678"), Away(ProtocolError)),
        ("PING of a wrong size", frame(6, 0, 0, b"1234567"), Away(FrameSizeError)),
        ("an answer to a PING that nobody sent", frame(6, 1, 0, b"12345678"), Nothing),
        ("GOAWAY on a stream", frame(7, 0, 1, &[0; 8]), Away(ProtocolError)),
        ("GOAWAY of a wrong size", frame(7, 0, 0, &[0; 7]), Away(FrameSizeError)),
        ("requests go on after GOAWAY", join(&[frame(7, 0, 0, &[0; 8]), get(1, "/")]), Status(1, "200")),
    ]
}

/// RFC 9113, 6.9 and 6.10: windows and CONTINUATION.
fn windows() -> Vec<Case> {
    let head = block("GET", "/", &[]);
    let (first, rest) = head.split_at(10);
    let (second, third) = rest.split_at(3);
    vec![
        ("a window of nothing on the connection", window(0, 0), Away(ProtocolError)),
        ("a window of nothing on a stream", join(&[get(1, "/hang"), window(1, 0)]), Reset(1, ProtocolError)),
        ("WINDOW_UPDATE of a wrong size", frame(8, 0, 0, &[0; 3]), Away(FrameSizeError)),
        ("the connection's window beyond the largest", window(0, (1 << 31) - 1), Away(FlowControlError)),
        (
            "a stream's window beyond the largest",
            join(&[get(1, "/hang"), window(1, (1 << 31) - 1)]),
            Reset(1, FlowControlError),
        ),
        (
            "a window that SETTINGS make too large",
            join(&[get(1, "/hang"), window(1, 1 << 30), settings(&[(4, (1 << 31) - 1)])]),
            Away(FlowControlError),
        ),
        ("the reserved bit of an increment is ignored", window(0, (1 << 31) + 1000), Nothing),
        (
            "more than a stream's window",
            join(&[post(1, "/hang"), data(1, &[0; 16_384]).repeat(3), data(1, &[0; 16_384])]),
            Reset(1, FlowControlError),
        ),
        (
            "CONTINUATION frames make a head",
            join(&[frame(1, 1, 1, first), frame(9, 0, 1, second), frame(9, 4, 1, third)]),
            Status(1, "200"),
        ),
        (
            "of empty ones too",
            join(&[frame(1, 1, 1, b""), frame(9, 0, 1, b""), frame(9, 4, 1, &head)]),
            Status(1, "200"),
        ),
        ("CONTINUATION on the connection", join(&[frame(1, 1, 1, first), frame(9, 4, 0, rest)]), Away(ProtocolError)),
        ("CONTINUATION on another stream", join(&[frame(1, 1, 1, first), frame(9, 4, 3, rest)]), Away(ProtocolError)),
        ("CONTINUATION behind a whole head", join(&[get(1, "/hang"), frame(9, 4, 1, b"")]), Away(ProtocolError)),
        (
            "CONTINUATION behind the last one",
            join(&[frame(1, 1, 1, first), frame(9, 4, 1, rest), frame(9, 4, 1, b"")]),
            Away(ProtocolError),
        ),
        (
            "CONTINUATION behind DATA",
            join(&[post(1, "/hang"), data(1, b"x"), frame(9, 4, 1, b"")]),
            Away(ProtocolError),
        ),
    ]
}

/// RFC 9113, 8.1: requests and their bodies.
fn requests() -> Vec<Case> {
    let trailers = |fields: &[u8], flags: u8| join(&[post(1, "/count"), data(1, b"x"), frame(1, flags, 1, fields)]);
    let refused = Reset(1, ProtocolError);
    vec![
        ("a request", get(1, "/"), Status(1, "200")),
        ("a request with a body", join(&[post(1, "/count"), last(1, b"x")]), Status(1, "200")),
        ("trailers", trailers(&literal("a", "b"), 5), Status(1, "200")),
        ("trailers that do not end the stream", trailers(&literal("a", "b"), 4), refused),
        ("trailers with a pseudo-header field", trailers(&literal(":path", "/"), 5), refused),
        ("trailers with a length", trailers(&literal("content-length", "1"), 5), refused),
        ("trailers with an upper-case name", trailers(&literal("A", "b"), 5), refused),
        ("less data than content-length", body("5", &[b"1234"]), refused),
        ("more data than content-length", body("5", &[b"123", b"456"]), refused),
        ("no data at all", frame(1, 5, 1, &block("POST", "/", &[("content-length", "5")])), refused),
        ("trailers before all data", join(&[body("5", &[b"12", b""])[..].to_vec()]), refused),
        ("as much data as content-length", body("5", &[b"123", b"45"]), Status(1, "200")),
        ("an empty body that says so", body("0", &[b""]), Status(1, "200")),
        ("a body of TRACE", join(&[frame(1, 4, 1, &block("TRACE", "/", &[])), last(1, b"x")]), refused),
    ]
}

/// RFC 9113, 8.2 and 8.3: what a head may say.
fn heads() -> Vec<Case> {
    let refused = Reset(1, ProtocolError);
    vec![
        ("an upper-case name", with(&[("X-Test", "a")]), refused),
        ("an empty name", with(&[("", "a")]), refused),
        ("a name with a space", with(&[("a b", "a")]), refused),
        ("a name with a colon", with(&[("a:", "a")]), refused),
        ("a name with a line end", with(&[("a\r\nb", "a")]), refused),
        ("a value with a line end", with(&[("a", "b\r\nc: d")]), refused),
        ("a value with a line feed", with(&[("a", "b\nc")]), refused),
        ("a value with a NUL", with(&[("a", "b\0")]), refused),
        ("a value that starts with a space", with(&[("a", " b")]), refused),
        ("an unknown pseudo-header field", with(&[(":test", "a")]), refused),
        ("a response's pseudo-header field", with(&[(":status", "200")]), refused),
        (
            "a pseudo-header field behind a field",
            only(&[GET[0], GET[1], GET[2], GET[3], ("a", "b"), (":path", "/")]),
            refused,
        ),
        ("a pseudo-header field twice", with(&[(":path", "/")]), refused),
        ("two methods", with(&[(":method", "GET")]), refused),
        ("two schemes", with(&[(":scheme", "http")]), refused),
        ("two authorities", with(&[(":authority", "test.example")]), refused),
        ("no method", without(":method"), refused),
        ("no scheme", without(":scheme"), refused),
        ("no path", without(":path"), refused),
        ("no authority", without(":authority"), refused),
        ("an empty path", instead(":path", ""), refused),
        ("a path that is none", instead(":path", "x"), refused),
        ("a path with a space", instead(":path", "/a b"), refused),
        ("a path with a line end", instead(":path", "/ HTTP/1.1\r\nx: y"), refused),
        ("a path with a NUL", instead(":path", "/\0"), refused),
        ("a method with a space", instead(":method", "GET /x"), refused),
        ("a method with a line end", instead(":method", "GET\r\n"), refused),
        ("an authority with a line end", instead(":authority", "a\r\nx: y"), refused),
        ("an authority with a user", instead(":authority", "me@a"), refused),
        ("a scheme with a line end", instead(":scheme", "http\r\n"), refused),
        ("a Host that is not the authority", with(&[("host", "other.example")]), refused),
        ("a Host that is", with(&[("host", "test.example")]), Status(1, "200")),
        ("two Hosts", with(&[("host", "test.example"), ("host", "test.example")]), refused),
        ("connection", with(&[("connection", "close")]), refused),
        ("keep-alive", with(&[("keep-alive", "timeout=1")]), refused),
        ("proxy-connection", with(&[("proxy-connection", "close")]), refused),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), refused),
        ("upgrade", with(&[("upgrade", "h2c")]), refused),
        ("TE of something else than trailers", with(&[("te", "trailers, deflate")]), refused),
        ("TE of trailers", with(&[("te", "trailers")]), Status(1, "200")),
        ("a length that is none", with(&[("content-length", "-1")]), refused),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "0")]), refused),
        ("an expectation that is unknown", with(&[("expect", "the best")]), Status(1, "417")),
        ("an unknown method", only(&[(":method", "BREW"), GET[1], GET[2], GET[3]]), Status(1, "200")),
        ("OPTIONS for all", only(&[(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]]), Status(1, "200")),
        ("CONNECT with a path", only(&[(":method", "CONNECT"), GET[1], GET[2], GET[3]]), refused),
        ("CONNECT without an authority", only(&[(":method", "CONNECT")]), refused),
        (
            "extended CONNECT (RFC 8441, 4)",
            only(&[(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]]),
            Status(1, "200"),
        ),
        (
            "extended CONNECT without a path",
            only(&[(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[3]]),
            refused,
        ),
        ("a protocol without CONNECT", with(&[(":protocol", "websocket")]), refused),
    ]
}

/// RFC 7541: what a peer may write.
fn compression() -> Vec<Case> {
    let pseudo = [0x82, 0x86, 0x84];
    let authority = [&[0x41, 1], &b"a"[..]].concat();
    let with = |more: &[u8]| request(&[&pseudo, &authority[..], more].concat());
    vec![
        ("indexed fields of the static table", with(&[0x90]), Status(1, "200")),
        ("a literal with indexing", with(&[0x40, 1, b'a', 1, b'b', 0xbe]), Status(1, "200")),
        ("a literal without indexing", with(&[0x00, 1, b'a', 1, b'b']), Status(1, "200")),
        ("a literal that is never to be indexed", with(&[0x10, 1, b'a', 1, b'b']), Status(1, "200")),
        ("a Huffman string", with(&[0x00, 1, b'a', 0x81, 0x1f]), Status(1, "200")),
        (
            "a change of the table's size",
            request(&[&[0x20, 0x3f, 0xe1, 0x1f], &pseudo[..], &authority[..]].concat()),
            Status(1, "200"),
        ),
        ("an index beyond the tables", with(&[0xff, 0x00]), Away(CompressionError)),
        ("the index 0", with(&[0x80]), Away(CompressionError)),
        ("a name's index beyond the tables", with(&[0x7f, 0x10, 1, b'a']), Away(CompressionError)),
        ("a change of size behind a field", with(&[0x20]), Away(CompressionError)),
        (
            "a table larger than was allowed",
            request(&[&[0x3f, 0xe2, 0x1f], &pseudo[..]].concat()),
            Away(CompressionError),
        ),
        ("padding of a whole byte", with(&[0x00, 1, b'a', 0x82, 0x1f, 0xff]), Away(CompressionError)),
        ("padding of zeros", with(&[0x00, 1, b'a', 0x81, 0x18]), Away(CompressionError)),
        ("EOS in a string", with(&[0x00, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]), Away(CompressionError)),
        ("a string that is cut off", with(&[0x00, 1, b'a', 9, b'b']), Away(CompressionError)),
        ("a number that does not end", with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Away(CompressionError)),
        (
            "the table lives on when a stream is refused",
            join(&[
                request(&[&pseudo, &authority[..], &[0x40, 1, b'X', 1, b'b']].concat()),
                frame(1, 5, 3, &[&pseudo[..], &[0xbf]].concat()),
            ]),
            Status(3, "200"),
        ),
    ]
}

#[test]
fn every_case() {
    let cases = [framing(), states(), messages(), connection(), windows(), requests(), heads(), compression()].concat();
    assert!(cases.len() >= 146, "only {} cases", cases.len());
    let failed: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// Runs a case twice: its frames in one piece, and byte by byte.
fn check((what, frames, then): &Case) -> Result<(), String> {
    for piece in [usize::MAX, 1] {
        let mut failure = None;
        run(async {
            let mut peer = Peer::new(Limits { h2_conn_window_bytes: 1 << 20, ..Limits::default() }).await;
            for part in frames.chunks(piece.min(frames.len().max(1))) {
                peer.send(part).await;
                if piece == 1 {
                    tokio::task::yield_now().await;
                }
            }
            failure = come_true(&mut peer, *then).await.err();
        });
        if let Some(failure) = failure {
            return Err(format!("{what}: {then:?} expected, but {failure}"));
        }
    }
    Ok(())
}

async fn come_true(peer: &mut Peer, then: Then) -> Result<(), String> {
    peer.send(&frame(6, 0, 0, b"the end.")).await;
    let over = |h: &Heard| matches!(h, Heard::GoAway(..)) || *h == Heard::Pong(*b"the end.");
    let mut heard = peer.hear(over).await;
    let pong = heard.last() == Some(&Heard::Pong(*b"the end."));
    match then {
        Away(code) => {
            let said = matches!(heard.last(), Some(Heard::GoAway(_, said)) if *said == code);
            let closed = said && peer.hear(|h| *h == Heard::Closed).await.last() == Some(&Heard::Closed);
            return if closed { Ok(()) } else { Err(format!("{heard:?}")) };
        }
        _ if !pong => return Err(format!("{heard:?}")),
        Reset(stream, code) if heard.contains(&Heard::Reset(stream, code)) => {}
        Reset(..) => return Err(format!("{heard:?}")),
        Nothing if heard.iter().any(|h| matches!(h, Heard::Reset(..))) => return Err(format!("{heard:?}")),
        Nothing => {}
        Status(stream, status) => {
            let is_head = |h: &Heard| matches!(h, Heard::Head { stream: s, .. } if *s == stream);
            if !heard.iter().any(is_head) {
                heard.extend(peer.hear(is_head).await);
            }
            let found = heard.iter().find_map(|h| match h {
                Heard::Head { stream: s, fields, .. } if *s == stream => fields.get(":status").cloned(),
                _ => None,
            });
            if found.as_deref() != Some(status) {
                return Err(format!("{heard:?}"));
            }
        }
    }
    // The connection goes on.
    let next = (1 << 31) - 3;
    if !matches!(then, Status(stream, _) if stream > next) {
        peer.send(&get(next, "/")).await;
        if peer.answer(next).await.0 != "200" {
            return Err("the connection does not go on".into());
        }
    }
    Ok(())
}

#[test]
fn the_preface_comes_first() {
    run(async {
        let whole = [&PREFACE[..], &settings(&[])].concat();
        for (what, bytes, code) in [
            ("another preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(), Some(ProtocolError)),
            ("HTTP/1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Some(ProtocolError)),
            ("a request before SETTINGS", [&PREFACE[..], &get(1, "/")].concat(), Some(ProtocolError)),
            ("an acknowledgement before SETTINGS", [&PREFACE[..], &frame(4, 1, 0, &[])].concat(), Some(ProtocolError)),
            ("PING before SETTINGS", [&PREFACE[..], &frame(6, 0, 0, &[0; 8])].concat(), Some(ProtocolError)),
            ("as it should be", whole, None),
        ] {
            let mut peer = Peer::silent(Limits::default());
            peer.send(&bytes).await;
            let heard = peer.hear(|h| matches!(h, Heard::GoAway(..) | Heard::SettingsAck)).await;
            let said = match heard.last() {
                Some(Heard::GoAway(0, code)) => Some(*code),
                Some(Heard::SettingsAck) => None,
                other => panic!("{what}: {other:?}"),
            };
            assert_eq!(said, code, "{what}");
        }
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_and_may_be_tried_again() {
    run(async {
        let mut peer = Peer::new(Limits { h2_streams_max: 2, ..Limits::default() }).await;
        peer.send(&[get(1, "/hang"), get(3, "/hang"), get(5, "/")].concat()).await;
        assert_eq!(peer.next().await, Heard::Reset(5, RefusedStream));
        peer.send(&reset(1)).await;
        peer.ping().await;
        peer.send(&get(7, "/")).await;
        assert_eq!(peer.answer(7).await.1, b"hello");
    });
}

#[test]
fn more_than_the_connections_window_is_an_error_of_the_connection() {
    run(async {
        let limits = Limits { h2_conn_window_bytes: 65_535, h2_stream_window_bytes: 1 << 20, ..Limits::default() };
        let mut peer = Peer::new(limits).await;
        peer.send(&[post(1, "/hang"), data(1, &[0; 16_384]).repeat(3), data(1, &[0; 16_384])].concat()).await;
        let heard = peer.hear(|h| matches!(h, Heard::GoAway(..))).await;
        assert_eq!(heard.last(), Some(&Heard::GoAway(1, FlowControlError)));
    });
}

#[test]
fn any_order_of_frames_ends_well() {
    // Every pair of these, in turn: no panic, and the connection either lives or says why not.
    let pieces: Vec<Vec<u8>> = vec![
        get(1, "/"),
        get(3, "/hang"),
        post(5, "/count"),
        data(1, b"x"),
        last(5, b"x"),
        reset(1),
        reset(3),
        window(0, 1000),
        window(3, 1000),
        settings(&[(4, 0)]),
        frame(7, 0, 0, &[0; 8]),
        frame(1, 4, 5, &literal("a", "b")),
        frame(1, 5, 5, &literal("a", "b")),
    ];
    for a in &pieces {
        for b in &pieces {
            for c in &pieces {
                run(async {
                    let mut peer = Peer::new(Limits::default()).await;
                    peer.send(&[&a[..], b, c].concat()).await;
                    peer.send(&frame(6, 0, 0, b"the end.")).await;
                    let over = |h: &Heard| matches!(h, Heard::GoAway(..)) || *h == Heard::Pong(*b"the end.");
                    assert_ne!(peer.hear(over).await.last(), Some(&Heard::Closed));
                });
            }
        }
    }
}
