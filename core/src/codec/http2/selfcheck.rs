//! Checks that the codec keeps its promises on any input: what the fuzzer and the corpus tests call.
//!
//! **Invariant:** panics when a promise is broken, and only then; not used outside of tests.

use super::{
    Decoded, FRAME_HEAD_BYTES, Fault, Frame, FrameCodec, HeadDecoder, HeadEncoder, HeadKind, HeadLimits, RequestTerms,
    Scope,
};
use crate::codec::Codec;
use crate::codec::http1::{ConnectionField, RequestDecoder, RequestEncoder, ResponseEncoder};
use crate::message::{BodyLength, Method};

/// The first byte says what the rest is: frames, or the header blocks of requests, responses or trailers, each with its length in a byte
/// before it.
///
/// # Panics
/// When the codec breaks a promise.
pub fn check(input: &[u8]) {
    let [mode, src @ ..] = input else { return };
    match mode & 3 {
        0 => check_frames(src),
        1 => check_blocks(HeadKind::Request, src),
        2 => check_blocks(HeadKind::Response, src),
        _ => check_blocks(HeadKind::Trailers, src),
    }
}

/// What is decoded can be written, and is then the same; what is cut short is not decoded.
fn check_frames(mut src: &[u8]) {
    let mut codec = FrameCodec { frame_bytes_max: 64 };
    loop {
        match codec.decode(src) {
            Ok(None) => return,
            Ok(Some((frame, used))) => {
                assert!((FRAME_HEAD_BYTES..=FRAME_HEAD_BYTES + 64).contains(&used));
                for cut in 0..used {
                    assert!(matches!(codec.decode(&src[..cut]), Ok(None)), "a frame of {used} bytes in {cut}");
                }
                check_written(&mut codec, frame);
                src = &src[used..];
            }
            Err(Fault { scope: Scope::Stream(id), .. }) => {
                assert!(id > 0);
                let len = FRAME_HEAD_BYTES + usize::from(src[2]);
                src = &src[len..];
            }
            Err(_) => return,
        }
    }
}

fn check_written(codec: &mut FrameCodec, frame: Frame<'_>) {
    let mut out = Vec::new();
    if codec.encode(&frame, &mut out).is_err() {
        let silent = matches!(frame, Frame::Priority { .. } | Frame::PushPromise { .. } | Frame::Unknown { .. });
        assert!(silent, "{frame:?} can't be written");
        return;
    }
    let (again, used) = codec.decode(&out).expect("what was written can be read").expect("it is whole");
    assert_eq!(used, out.len());
    match (frame, again) {
        (
            Frame::Data { data, flow_bytes, end_stream, .. },
            Frame::Data { data: data_again, flow_bytes: less, end_stream: end_again, .. },
        ) => {
            // The padding is gone.
            assert_eq!((data, end_stream), (data_again, end_again));
            assert!(less <= flow_bytes && less as usize == data.len());
        }
        (frame, again) => assert_eq!(frame, again),
    }
}

/// A head that passes is read by HTTP/1 as the same head, and comes back as itself when it is written as HTTP/2.
fn check_blocks(kind: HeadKind, mut src: &[u8]) {
    let mut decoder = HeadDecoder::new(128, LIMITS);
    decoder.allow_extended_connect();
    while let [len, rest @ ..] = src {
        let (block, after) = rest.split_at(rest.len().min(usize::from(*len)));
        src = after;
        let Ok(head) = decoder.decode(kind, block) else { return };
        assert!(decoder.held_bytes() < 16 * 1024, "{} bytes are held", decoder.held_bytes());
        let Ok(head) = head else { continue };
        assert!(
            head.head.field_count() <= LIMITS.head_fields_max + 1 && head.head.raw().len() <= 2 * LIMITS.head_bytes_max
        );
        match kind {
            HeadKind::Request => check_request(&head),
            HeadKind::Response => check_again(kind, &head, |encoder, out| {
                let length = head.content_length.map_or(BodyLength::Chunked, BodyLength::Exact);
                let mut text = Vec::new();
                // A status that can have no body is no place for the length that the origin may have said.
                let _ = ResponseEncoder::new(&head.head, length, Method::Get).encode(&mut text);
                encoder.response(&head.head, length, Method::Get, out).expect("what was decoded can be encoded");
            }),
            HeadKind::Trailers => check_again(kind, &head, |encoder, out| encoder.trailers(&head.head, out)),
        }
    }
}

fn check_request(head: &Decoded) {
    let length = head.content_length.map_or(BodyLength::Chunked, BodyLength::Exact);
    let connect = head.head.method() == Method::Connect;
    let length = if connect { BodyLength::None } else { length };
    let mut encoder = RequestEncoder::new(&head.head, length);
    encoder.connection = ConnectionField::Omit;
    let mut text = Vec::new();
    encoder.encode(&mut text).expect("what was decoded can be encoded");
    let mut decoder = RequestDecoder::new(crate::codec::http1::CodecLimits::default());
    match decoder.decode(&text) {
        Ok(Some((crate::codec::http1::Frame::Head(again, body, _), used))) => {
            assert_eq!(used, text.len(), "HTTP/1 sees a second message in it");
            assert_eq!((again.method_bytes(), again.target()), (head.head.method_bytes(), head.head.target()));
            assert_eq!(again.authority(), head.head.authority());
            assert!(body == length || head.head.method() == Method::Trace, "{body:?} {length:?}");
        }
        // CONNECT and TRACE have no body; whoever takes the head sees to that.
        Err(crate::codec::http1::DecodeError::BodyForbidden) => {}
        other => panic!("HTTP/1 does not take it: {other:?}\n{}", String::from_utf8_lossy(&text)),
    }
    check_again(HeadKind::Request, head, |encoder, out| {
        let terms = RequestTerms { scheme: "http", te_trailers: head.te_trailers, websocket: head.upgrade };
        encoder.request(&head.head, length, terms, out).expect("it can be encoded");
    });
}

/// Encodes a head, and compares what that decodes to.
fn check_again(kind: HeadKind, head: &Decoded, put: impl FnOnce(&mut HeadEncoder, &mut Vec<u8>)) {
    let mut block = Vec::new();
    put(&mut HeadEncoder::default(), &mut block);
    let mut decoder = HeadDecoder::new(4096, ROOMY);
    decoder.allow_extended_connect();
    let again = decoder.decode(kind, &block).expect("it can be decoded").expect("it is taken");
    let fields = |decoded: &Decoded| -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields: Vec<_> = decoded
            .head
            .fields()
            .map(|(_, n, v)| (n.to_ascii_lowercase(), v.to_vec()))
            .filter(|(n, _)| n != b"content-length" && n != b"te" && n != b"http2-settings")
            .filter(|(n, _)| !decoded.upgrade || n != crate::codec::websocket::KEY.as_bytes())
            .collect();
        // Host moves, and the rest stays in order.
        fields.sort_by_key(|(name, _)| name != b"host");
        fields
    };
    assert_eq!(fields(head), fields(&again));
    assert_eq!(head.upgrade, again.upgrade);
    assert_eq!((head.head.target(), head.head.status()), (again.head.target(), again.head.status()));
}

/// Small enough for a fuzzer to reach every limit.
const LIMITS: HeadLimits = HeadLimits { request_line_bytes_max: 64, head_bytes_max: 512, head_fields_max: 6 };

/// Room for what forwarding adds to a head that used a limit to its end.
const ROOMY: HeadLimits =
    HeadLimits { request_line_bytes_max: 1 << 20, head_bytes_max: 1 << 20, head_fields_max: 1 << 10 };
