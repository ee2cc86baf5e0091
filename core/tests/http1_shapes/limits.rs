//! Where each limit bites, to the byte, and that what fits passes.

use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http1::{CodecLimits, DecodeError, Frame, RequestDecoder, ResponseDecoder};
use ferrogate_core::message::Method;

/// The first refusal of these bytes, if there is one, however they are split.
fn refusal(limits: CodecLimits, src: &[u8]) -> Option<DecodeError> {
    let refused = |piece: usize| {
        let mut decoder = RequestDecoder::new(limits);
        let (mut at, mut shown) = (0, piece.min(src.len()));
        loop {
            match decoder.decode(&src[at..shown]) {
                Ok(Some((_, used))) => at += used,
                Ok(None) if shown == src.len() => return None,
                Ok(None) => shown = shown.saturating_add(piece).min(src.len()),
                Err(error) => return Some(error),
            }
        }
    };
    let whole = refused(usize::MAX);
    for piece in [1, 2, 5, 13] {
        assert_eq!(refused(piece), whole, "pieces of {piece}");
    }
    whole
}

#[test]
fn a_request_line_of_just_the_limit_passes() {
    let limits = CodecLimits { request_line_bytes_max: 20, ..CodecLimits::default() };
    let line = |path: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(path));
    assert_eq!("GET /xxxxxx HTTP/1.1".len(), 20);
    assert_eq!(refusal(limits, line(6).as_bytes()), None);
    assert_eq!(refusal(limits, line(7).as_bytes()), Some(DecodeError::RequestLineTooLong));
    assert_eq!(refusal(limits, b"AMETHODWITHOUTANENDTHATGOESON"), Some(DecodeError::RequestLineTooLong));
    assert_eq!(DecodeError::RequestLineTooLong.status(), 414);
}

#[test]
fn a_head_of_just_the_limit_passes() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: 0123456789\r\n\r\n";
    let limits = |head_bytes_max| CodecLimits { head_bytes_max, ..CodecLimits::default() };
    assert_eq!(refusal(limits(head.len()), head), None);
    for less in 1..head.len() {
        assert_eq!(refusal(limits(head.len() - less), head), Some(DecodeError::HeadTooLarge), "{less} less");
    }
    assert_eq!(DecodeError::HeadTooLarge.status(), 431);
}

#[test]
fn as_many_fields_as_the_limit_pass() {
    let limits = |head_fields_max| CodecLimits { head_fields_max, ..CodecLimits::default() };
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n";
    assert_eq!(refusal(limits(3), head), None);
    assert_eq!(refusal(limits(2), head), Some(DecodeError::TooManyFields));
    assert_eq!(DecodeError::TooManyFields.status(), 431);
}

#[test]
fn connection_names_as_many_fields_as_the_limit() {
    let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close{}\r\n\r\n", ",x".repeat(n));
    assert_eq!(refusal(CodecLimits::default(), head(32).as_bytes()), None);
    assert_eq!(refusal(CodecLimits::default(), head(33).as_bytes()), Some(DecodeError::ConnectionOptions));
    let lines = "Connection: x\r\n".repeat(33);
    let lines = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    assert_eq!(refusal(CodecLimits::default(), lines.as_bytes()), Some(DecodeError::ConnectionOptions));
}

#[test]
fn a_body_beyond_the_limit_is_413_by_length_and_by_chunks() {
    let limits = CodecLimits { request_body_bytes_max: 10, ..CodecLimits::default() };
    let sized = |n: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n");
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refusal(limits, sized(10).as_bytes()), None);
    assert_eq!(refusal(limits, sized(11).as_bytes()), Some(DecodeError::BodyTooLarge));
    let chunks = |chunks: &str| refusal(limits, format!("{chunked}{chunks}").as_bytes());
    assert_eq!(chunks("5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"), None);
    assert_eq!(chunks("5\r\nhello\r\n6\r\n"), Some(DecodeError::BodyTooLarge));
    assert_eq!(chunks("7fffffffffffffff\r\n"), Some(DecodeError::BodyTooLarge));
    assert_eq!(DecodeError::BodyTooLarge.status(), 413);
}

#[test]
fn chunk_lines_and_trailers_are_bounded() {
    let limits =
        CodecLimits { chunk_line_bytes_max: 8, head_bytes_max: 64, head_fields_max: 3, ..CodecLimits::default() };
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = |chunks: &str| refusal(limits, format!("{chunked}{chunks}").as_bytes());
    assert_eq!(chunks("1;abcd\r\nx\r\n0\r\n\r\n"), None);
    assert_eq!(chunks("1;abcde\r\nx\r\n0\r\n\r\n"), Some(DecodeError::ChunkLineTooLong));
    assert_eq!(chunks("1;abcdefghijklmnop"), Some(DecodeError::ChunkLineTooLong));
    assert_eq!(chunks("00000000000001"), Some(DecodeError::ChunkLineTooLong));
    assert_eq!(chunks("0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n"), None);
    assert_eq!(chunks("0\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n\r\n"), Some(DecodeError::TooManyFields));
    assert_eq!(chunks(&format!("0\r\na: {}\r\n\r\n", "x".repeat(64))), Some(DecodeError::HeadTooLarge));
}

#[test]
fn the_end_of_the_input_is_an_error_inside_a_message_only() {
    let finish = |src: &[u8]| {
        let mut decoder = RequestDecoder::new(CodecLimits::default());
        let mut at = 0;
        while let Some((_, used)) = decoder.decode(&src[at..]).expect("valid so far") {
            at += used;
        }
        decoder.finish()
    };
    assert_eq!(finish(b""), Ok(()));
    assert_eq!(finish(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()));
    for cut in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        assert_eq!(finish(cut), Err(DecodeError::Truncated), "{}", cut.escape_ascii());
    }
}

#[test]
fn the_end_of_the_input_ends_a_response_only_where_it_may() {
    let finish = |src: &[u8]| {
        let mut decoder = ResponseDecoder::new(CodecLimits::default());
        decoder.expect_response(Method::Get);
        let mut at = 0;
        while at < src.len()
            && let Some((_, used)) = decoder.decode(&src[at..]).expect("valid so far")
        {
            at += used;
        }
        decoder.finish()
    };
    assert_eq!(finish(b"HTTP/1.1 200 OK\r\n\r\nhello"), Ok(()));
    assert_eq!(finish(b"HTTP/1.1 204 Done\r\n\r\n"), Ok(()));
    for cut in [
        &b""[..],
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        assert_eq!(finish(cut), Err(DecodeError::Truncated), "{}", cut.escape_ascii());
    }
}

#[test]
fn a_sized_body_can_be_moved_past_the_decoder() {
    let mut decoder = RequestDecoder::new(CodecLimits::default());
    let src = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    decoder.decode(src).expect("valid");
    assert_eq!((decoder.body_left(), decoder.is_body_done()), (Some(10), false));
    decoder.advance_body(4);
    let (frame, used) = decoder.decode(b"45").expect("valid").expect("data");
    assert!(matches!(frame, Frame::Data(b"45")) && used == 2);
    decoder.advance_body(4);
    assert_eq!((decoder.body_left(), decoder.is_body_done()), (None, true));
    assert!(matches!(decoder.decode(src), Ok(Some((Frame::Head(..), _)))));
}
