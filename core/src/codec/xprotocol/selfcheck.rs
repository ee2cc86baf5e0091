//! Checks that the codecs keep their promises on any input: what the fuzzer and the corpus tests call.
//!
//! **Invariant:** panics when a promise is broken, and only then; not used outside of tests.

use super::gather::Gather;
use super::hessian2::Reader;
use super::hessian2::json::{Budget, FromJson, ToJson, ValueLimits, Wanted};
use super::{Fault, RpcCodec, RpcFrame, RpcLimits, Step, codec_of};
use crate::config::schema::RpcProtocol;
use crate::message::RpcKind;
use serde::de::DeserializeSeed;

/// The first byte says which protocol the rest is in, and where it is cut.
///
/// # Panics
/// When a codec breaks a promise.
pub fn check(input: &[u8]) {
    let [mode, src @ ..] = input else { return };
    let protocols = RpcProtocol::ALL;
    check_in(protocols[usize::from(*mode) % protocols.len()], *mode, src);
}

/// The same for bytes of one protocol; `cut` says where they are cut.
///
/// # Panics
/// When its codec breaks a promise.
pub fn check_in(protocol: RpcProtocol, cut: u8, src: &[u8]) {
    let codec = codec_of(protocol);
    let whole = read(codec, src, usize::MAX);
    for piece in [1, usize::from(cut) % 23 + 2] {
        let pieces = read(codec, src, piece);
        assert_eq!(shown(&whole), shown(&pieces), "in pieces of {piece}");
    }
    check_lengths(codec, src);
    for frame in &whole.0 {
        check_frame(codec, frame);
        check_json(&frame.content);
    }
}

/// What is read as values of Hessian is JSON, and that is values again; neither grows beyond its limits.
fn check_json(content: &[u8]) {
    let limits = ValueLimits { depth_max: 16, values_max: 500, bytes_max: 4096 };
    let mut reader = ToJson::new(content, 0, limits);
    for _ in 0..VALUES_MAX {
        let (at, mut json) = (reader.at(), Vec::new());
        if reader.peek().is_none() || reader.value(&mut json).is_err() {
            return;
        }
        assert!(reader.at() > at && json.len() <= limits.bytes_max + 2 * content.len() * JSON_GROWTH_MAX);
        let (mut values, budget) = (Vec::new(), Budget::new(limits));
        let mut from = serde_json::Deserializer::from_slice(&json);
        let seed = FromJson { out: &mut values, budget: &budget, depth: 0, wanted: Wanted::Any };
        let read = seed.deserialize(&mut from).and_then(|()| from.end());
        // Half a pair is no text of ours.
        let is_half = json.windows(3).any(|three| three.eq_ignore_ascii_case(b"\\ud"));
        assert!(read.is_ok() || is_half || budget.hit().is_some(), "{:?}", String::from_utf8_lossy(&json));
        if read.is_ok() {
            let mut again = Reader::new(&values);
            assert_eq!((again.skip(), again.at()), (Ok(()), values.len()));
        }
    }
}

/// Values of a content that are looked at.
const VALUES_MAX: usize = 20;

/// A byte of text may become an escape.
const JSON_GROWTH_MAX: usize = 6;

type Read = (Vec<RpcFrame>, Option<Fault>);

fn read(codec: &dyn RpcCodec, src: &[u8], piece: usize) -> Read {
    let (mut gather, mut frames) = (Gather::default(), Vec::new());
    for src in src.chunks(piece.min(src.len().max(1))) {
        let fed = gather.feed(codec, LIMITS, src, |frame| frames.push(frame), |src| answer(codec, src));
        assert!(gather.held_bytes() <= LIMITS.frame_bytes_max, "{} bytes are held", gather.held_bytes());
        if let Err(fault) = fed {
            return (frames, Some(fault));
        }
    }
    (frames, None)
}

/// The answer to what is no frame is a frame itself, or nothing.
fn answer(codec: &dyn RpcCodec, src: &[u8]) {
    let mut out = Vec::new();
    codec.reply_to_fault(src, &mut out);
    if !out.is_empty() {
        assert_eq!(only_answer(codec, &out).head.kind, RpcKind::Response);
    }
}

/// What frames say, to be compared.
fn shown((frames, fault): &Read) -> (Vec<String>, Option<Fault>) {
    (frames.iter().map(|frame| format!("{:?} {:?}", frame, frame.head.raw())).collect(), *fault)
}

/// A frame is not read from less than it needs, and never needs more than it may be.
fn check_lengths(codec: &dyn RpcCodec, mut src: &[u8]) {
    while let Ok(step) = codec.decode(src, LIMITS) {
        match step {
            Step::Needs(needed) => {
                assert!(needed > src.len() && needed <= LIMITS.frame_bytes_max.max(FIXED_BYTES_MAX));
                return;
            }
            Step::Frame(_, used) => {
                assert!(used > 0 && used <= LIMITS.frame_bytes_max.min(src.len()));
                for cut in 0..used {
                    assert!(matches!(codec.decode(&src[..cut], LIMITS), Ok(Step::Needs(n)) if n > cut && n <= used));
                }
                src = &src[used..];
            }
        }
    }
}

/// What is written is what was read, with what was changed.
fn check_frame(codec: &dyn RpcCodec, frame: &RpcFrame) {
    let mut out = Vec::new();
    codec.encode(&frame.head, frame.head.id, &frame.content, &mut out).expect("what was read can be written");
    assert_eq!(&out[..frame.head.raw().len()], frame.head.raw(), "nothing was changed");
    let again = only(codec, &out);
    assert_eq!((&again.content, again.head.kind), (&frame.content, frame.head.kind));

    let other = frame.head.id ^ 1;
    out.clear();
    let mut theirs = frame.head.clone();
    codec.of_origin(&mut theirs);
    codec.encode(&theirs, frame.head.id, &frame.content, &mut out).expect("what was read can be written");
    assert_eq!(&out[..theirs.raw().len()], theirs.raw(), "it is the same frame from the other side");
    out.clear();
    codec.encode(&frame.head, other, &frame.content, &mut out).expect("what was read can be written");
    let again = only(codec, &out);
    assert_eq!((again.head.id, fields(&again)), (other, fields(frame)));

    if matches!(frame.head.kind, RpcKind::Request | RpcKind::OneWay | RpcKind::Response) {
        check_change(codec, frame);
    }
    out.clear();
    match frame.head.kind {
        RpcKind::Request => {
            for status in [0, 200, 403, 404, 502, 503, 504, 999] {
                out.clear();
                codec.reply(&frame.head, status, &mut out);
                let reply = only_answer(codec, &out);
                assert_eq!((reply.head.kind, reply.head.id), (RpcKind::Response, frame.head.id));
                assert_eq!(reply.head.fields().status() == 200, status == 200);
            }
        }
        RpcKind::Heartbeat => {
            codec.heartbeat_ack(&frame.head, &mut out);
            let reply = only_answer(codec, &out);
            // That of Tars is an answer like others.
            let kind = if reply.head.protocol == RpcProtocol::Tars { RpcKind::Response } else { RpcKind::HeartbeatAck };
            assert_eq!((reply.head.kind, reply.head.id), (kind, frame.head.id));
        }
        _ => {}
    }
}

fn check_change(codec: &dyn RpcCodec, frame: &RpcFrame) {
    let mut changed = frame.clone();
    let fits = changed.head.fields_mut().append("x-added", b"yes");
    assert!(fits && !changed.head.is_unchanged());
    let mut out = Vec::new();
    if let Err(error) = codec.encode(&changed.head, 7, &changed.content, &mut out) {
        // What is not read can't be written anew, and some have no headers.
        let has_headers = [RpcProtocol::Bolt, RpcProtocol::BoltV2, RpcProtocol::Tars].contains(&frame.head.protocol);
        return assert!(!has_headers && out.is_empty(), "{error:?}: one header more fits");
    }
    let again = only(codec, &out);
    assert_eq!(fields(&again), fields(&changed));
    // Dubbo has its attachments inside of what is the content.
    assert!(again.content == frame.content || frame.head.protocol == RpcProtocol::Dubbo, "{changed:?}");
    assert_eq!((again.head.id, again.head.kind, again.head.timeout), (7, frame.head.kind, frame.head.timeout));
    changed.head.fields_mut().remove("x-added");
    assert!(changed.head.is_unchanged() || fields(frame).iter().any(|(name, _)| name.eq_ignore_ascii_case(b"x-added")));
}

fn fields(frame: &RpcFrame) -> Vec<(Vec<u8>, Vec<u8>)> {
    frame.head.fields().fields().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// The same, as whoever gets an answer takes it.
fn only_answer(codec: &dyn RpcCodec, src: &[u8]) -> RpcFrame {
    let mut frame = only(codec, src);
    codec.of_origin(&mut frame.head);
    frame
}

fn only(codec: &dyn RpcCodec, src: &[u8]) -> RpcFrame {
    match codec.decode(src, ROOMY) {
        Ok(Step::Frame(frame, used)) if used == src.len() => frame,
        other => panic!("{src:?} is not one frame: {other:?}"),
    }
}

/// Small, so that a fuzzer meets them.
const LIMITS: RpcLimits = RpcLimits { frame_bytes_max: 512, fields_max: 6 };

/// Room for what a change adds.
const ROOMY: RpcLimits = RpcLimits { frame_bytes_max: 1 << 20, fields_max: 100 };

/// The fixed part of a frame of any protocol, in bytes, at most.
const FIXED_BYTES_MAX: usize = 64;
