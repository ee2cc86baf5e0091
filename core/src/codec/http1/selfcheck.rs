//! Checks that the codec keeps its promises on any input: what the fuzzer and the corpus tests call.
//!
//! **Invariant:** panics when a promise is broken, and only then; not used outside of tests.

use super::{
    CodecLimits, ConnectionField, DecodeError, Frame, RequestDecoder, RequestEncoder, ResponseDecoder, ResponseEncoder,
};
use crate::codec::Codec;
use crate::message::{BodyLength, HttpHead, Method};

/// Decodes `input` whole and in pieces and compares; forwards what passes, and decodes that again.
///
/// The first byte says whether the rest is requests or responses, to which method, and under which limits; the second seeds the
/// split.
///
/// # Panics
/// When the codec breaks a promise.
pub fn check(input: &[u8]) {
    let [mode, seed, src @ ..] = input else { return };
    let side = if mode & 1 == 0 { Side::Request } else { Side::Response(METHODS[usize::from(mode >> 1 & 3)]) };
    let limits = if mode & 8 == 0 { CodecLimits::default() } else { SMALL };
    let whole = run(side, limits, src, &mut || usize::MAX);
    let mut state = u32::from(*seed);
    let mut piece = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % (1 + usize::from(*seed))
    };
    let split = run(side, limits, src, &mut piece);
    assert_eq!(whole, split, "the frames depend on the split");
    for event in &whole {
        if let Event::Head { forwarded, body, .. } = event {
            check_forwarded(side, forwarded, *body);
        }
    }
}

/// Which side's bytes are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response(Method),
}

/// What decoding gave; data that came in pieces is joined.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Head {
        forwarded: Vec<u8>,
        body: BodyLength,
        keep_alive: bool,
    },
    Data(Vec<u8>),
    Trailers(Vec<u8>),
    End,
    Refused(DecodeError),
    /// The input ended here; whether it may.
    Ended(Result<(), DecodeError>),
}

/// Either decoder.
enum Decoder {
    Request(RequestDecoder),
    Response(ResponseDecoder),
}

impl Decoder {
    fn decode<'a>(&mut self, src: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        match self {
            Self::Request(decoder) => decoder.decode(src),
            Self::Response(decoder) => decoder.decode(src),
        }
    }

    fn body_length(&self) -> BodyLength {
        match self {
            Self::Request(decoder) => decoder.body_length(),
            Self::Response(decoder) => decoder.body_length(),
        }
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        match self {
            Self::Request(decoder) => decoder.finish(),
            Self::Response(decoder) => decoder.finish(),
        }
    }
}

/// Shows the decoder `src`, each time `piece` bytes more.
fn run(side: Side, limits: CodecLimits, src: &[u8], piece: &mut dyn FnMut() -> usize) -> Vec<Event> {
    let mut decoder = match side {
        Side::Request => Decoder::Request(RequestDecoder::new(limits)),
        Side::Response(_) => Decoder::Response(ResponseDecoder::new(limits)),
    };
    let mut events = Vec::new();
    let (mut at, mut shown) = (0, 0);
    loop {
        if let (Side::Response(method), Decoder::Response(decoder)) = (side, &mut decoder)
            && decoder.is_body_done()
        {
            decoder.expect_response(method);
        }
        let left = decoder.body_length();
        match decoder.decode(&src[at..shown]) {
            Err(error) => {
                assert_eq!(decoder.decode(&src[at..shown]).err(), Some(error), "an error must stay");
                events.push(Event::Refused(error));
                return events;
            }
            Ok(Some((frame, used))) => {
                assert!(used > 0 && used <= shown - at, "a frame took {used} of {} bytes", shown - at);
                record(&mut events, side, &limits, left, frame);
                at += used;
            }
            Ok(None) if shown == src.len() => {
                events.push(Event::Ended(decoder.finish()));
                return events;
            }
            Ok(None) => shown = shown.saturating_add(piece()).min(src.len()),
        }
    }
}

fn record(events: &mut Vec<Event>, side: Side, limits: &CodecLimits, left: BodyLength, frame: Frame<'_>) {
    match frame {
        Frame::Head(head, body, options) => {
            assert!(head.raw().len() <= limits.head_bytes_max && head.field_count() <= limits.head_fields_max);
            let forwarded = forward(side, &head, body);
            events.push(Event::Head { forwarded, body, keep_alive: options.keep_alive });
        }
        Frame::Data(data) => {
            assert!(!data.is_empty(), "an empty piece of data");
            assert!(!matches!(left, BodyLength::Exact(n) if n < data.len() as u64), "data beyond the length");
            match events.last_mut() {
                Some(Event::Data(before)) => before.extend_from_slice(data),
                _ => events.push(Event::Data(data.to_vec())),
            }
        }
        Frame::Trailers(trailers) => {
            let mut out = Vec::new();
            super::put_trailers(&trailers, &mut out).expect("a Vec has room");
            assert_eq!(out.len(), super::trailers_len(&trailers));
            check_lines(&out);
            events.push(Event::Trailers(out));
        }
        Frame::End => events.push(Event::End),
    }
}

/// The head as it would be forwarded.
fn forward(side: Side, head: &HttpHead, body: BodyLength) -> Vec<u8> {
    let mut out = Vec::new();
    let (len, len_max) = match side {
        Side::Request => {
            let encoder = RequestEncoder::new(head, body);
            encoder.encode(&mut out).expect("what was decoded can be encoded");
            (encoder.head_len(), encoder.head_len_max())
        }
        Side::Response(method) => {
            let mut encoder = ResponseEncoder::new(head, body, method);
            encoder.connection = ConnectionField::Omit;
            encoder.encode(&mut out).expect("what was decoded can be encoded");
            (encoder.head_len(), encoder.head_len_max())
        }
    };
    assert_eq!(out.len(), len, "head_len is not what was written");
    assert!(len <= len_max, "head_len_max is less than what was written");
    out
}

/// A forwarded head must mean to the next hop what it meant to us, and forwarding it again must change nothing.
fn check_forwarded(side: Side, forwarded: &[u8], body: BodyLength) {
    check_lines(forwarded);
    let mut decoder = match side {
        Side::Request => Decoder::Request(RequestDecoder::new(ROOMY)),
        Side::Response(method) => {
            let mut decoder = ResponseDecoder::new(ROOMY);
            decoder.expect_response(method);
            Decoder::Response(decoder)
        }
    };
    let (head, again) = match decoder.decode(forwarded) {
        Ok(Some((Frame::Head(head, again, _), used))) if used == forwarded.len() => (head, again),
        // HTTP/1.0 may come without a Host, and is given an empty one here: a gateway that forwards it sets its own.
        Err(DecodeError::Host) if side == Side::Request => return,
        other => panic!("a forwarded head is not accepted: {other:?}\n{}", String::from_utf8_lossy(forwarded)),
    };
    let empty = |length| matches!(length, BodyLength::None | BodyLength::Exact(0));
    assert!(again == body || (empty(again) && empty(body)), "{body:?} became {again:?}");
    assert_eq!(forward(side, &head, again), forwarded, "forwarding is not stable");
}

/// Every line ends with CR LF and holds no other control byte than the tab; one empty line, at the end.
fn check_lines(head: &[u8]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    assert!(!text.windows(4).any(|w| w == b"\r\n\r\n"), "an empty line inside a head");
    let mut rest = text;
    while let Some(&b) = rest.first() {
        let step = if rest.starts_with(b"\r\n") { 2 } else { 1 };
        assert!(step == 2 || b == b'\t' || (b >= b' ' && b != 0x7f), "a control byte inside a head");
        rest = &rest[step..];
    }
}

const METHODS: [Method; 4] = [Method::Get, Method::Head, Method::Connect, Method::Post];

/// Small enough for a fuzzer to reach every limit.
const SMALL: CodecLimits = CodecLimits {
    request_line_bytes_max: 32,
    head_bytes_max: 128,
    head_fields_max: 4,
    chunk_line_bytes_max: 16,
    request_body_bytes_max: 64,
};

/// Room for what forwarding adds to a head that used a limit to its end.
const ROOMY: CodecLimits = CodecLimits {
    request_line_bytes_max: 1 << 20,
    head_bytes_max: 1 << 20,
    head_fields_max: 1 << 10,
    chunk_line_bytes_max: 16,
    request_body_bytes_max: 0,
};
