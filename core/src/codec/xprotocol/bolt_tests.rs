//! **Invariant:** every golden frame is read as what it is, and is what we write.

use std::time::Duration;

use super::super::{codec_of, selfcheck};
use super::*;

const HEARTBEAT: &str = "01010000010000000101ffffffff0000000000000000";
const HEARTBEAT_ACK: &str = "0100000001000000010100000000000000000000";
const REQUEST: &str = "0101000101000000020100000bb8000100100000000243000000077365727669636500000001616869";
const TIMED_OUT: &str = "0100000201000000020100070000000000000000";
const GO_AWAY: &str = "01010064010000000501000000000000000000000000";
const REQUEST_V2: &str =
    "02020100010100000002010100000bb80001001000000002430000000773657276696365000000016168697fd4d2c3";
const OK_V2: &str = "02010000020100000002010000000000000000000000";

const LIMITS: RpcLimits = RpcLimits { frame_bytes_max: 1 << 20, fields_max: 16 };
const V1: Bolt = Bolt { version: 1 };
const V2: Bolt = Bolt { version: 2 };

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn frame(src: &[u8]) -> RpcFrame {
    match V1.decode(src, LIMITS) {
        Ok(Step::Frame(frame, used)) if used == src.len() => frame,
        other => panic!("{other:?}"),
    }
}

fn fault(src: &[u8]) -> Fault {
    V1.decode(src, LIMITS).expect_err("no frame")
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn reply(to: &RpcFrame, status: u16) -> Vec<u8> {
    written(|out| V1.reply(&to.head, status, out))
}

#[test]
fn golden_frames_are_read() {
    for (hex, kind, id, protocol, status) in [
        (HEARTBEAT, RpcKind::Heartbeat, 1, RpcProtocol::Bolt, 0),
        (HEARTBEAT_ACK, RpcKind::HeartbeatAck, 1, RpcProtocol::Bolt, 0),
        (REQUEST, RpcKind::Request, 2, RpcProtocol::Bolt, 0),
        (TIMED_OUT, RpcKind::Response, 2, RpcProtocol::Bolt, 504),
        (GO_AWAY, RpcKind::GoAway, 5, RpcProtocol::Bolt, 0),
        (REQUEST_V2, RpcKind::Request, 2, RpcProtocol::BoltV2, 0),
        (OK_V2, RpcKind::Response, 2, RpcProtocol::BoltV2, 200),
    ] {
        let frame = frame(&bytes(hex));
        let head = &frame.head;
        assert_eq!((head.kind, head.id, head.protocol, head.fields().status()), (kind, id, protocol, status), "{hex}");
        selfcheck::check(&[&[0], &bytes(hex)[..]].concat());
    }
    for hex in [REQUEST, REQUEST_V2] {
        let frame = frame(&bytes(hex));
        assert_eq!(frame.head.timeout, Some(Duration::from_secs(3)));
        assert_eq!((frame.head.fields().get("service"), &frame.content[..]), (Some(&b"a"[..]), &b"hi"[..]));
    }
}

#[test]
fn golden_frames_are_written() {
    let (v1, v2) = (codec_of(RpcProtocol::Bolt), codec_of(RpcProtocol::BoltV2));
    assert_eq!(written(|out| assert!(v1.heartbeat(1, out))), bytes(HEARTBEAT));
    assert_eq!(written(|out| v1.heartbeat_ack(&frame(&bytes(HEARTBEAT)).head, out)), bytes(HEARTBEAT_ACK));
    assert_eq!(written(|out| assert!(v1.go_away(5, out))), bytes(GO_AWAY));
    assert_eq!(reply(&frame(&bytes(REQUEST)), 504), bytes(TIMED_OUT));
    let plain_v2 = bytes("020101000101000000020100000003e80000000000000000");
    assert_eq!(reply(&frame(&plain_v2), 200), bytes(OK_V2));
    let beat = written(|out| assert!(v2.heartbeat(9, out)));
    assert_eq!((frame(&beat).head.kind, frame(&beat).head.protocol), (RpcKind::Heartbeat, RpcProtocol::BoltV2));
}

#[test]
fn another_number_changes_four_bytes_and_the_checksum() {
    for (hex, id_at, crc) in [(REQUEST, 5, false), (REQUEST_V2, 6, true)] {
        let before = bytes(hex);
        let frame = frame(&before);
        let after = written(|out| V1.encode(&frame.head, 0xAABB_CCDD, &frame.content, out).unwrap());
        assert_eq!(after[id_at..id_at + 4], [0xAA, 0xBB, 0xCC, 0xDD]);
        let end = before.len() - if crc { 4 } else { 0 };
        assert_eq!((&after[..id_at], &after[id_at + 4..end]), (&before[..id_at], &before[id_at + 4..end]));
        assert_eq!(self::frame(&after).head.id, 0xAABB_CCDD, "the checksum is right");
    }
}

#[test]
fn the_answer_to_a_frame_with_a_checksum_has_one() {
    let answer = reply(&frame(&bytes(REQUEST_V2)), 404);
    assert_eq!((answer.len(), answer[1], answer[11]), (26, 2, 1));
    assert_eq!(frame(&answer).head.fields().status(), 500);
    // Version 1 of version 2 never has one, whatever the switch says.
    let mut without = bytes(REQUEST_V2);
    without[1] = 1;
    without.truncate(43);
    assert_eq!(reply(&frame(&without), 404).len(), 22);
}

#[test]
fn statuses_of_ours_become_those_of_bolt() {
    for (code, v1, v2) in [
        (200, 0, 0),
        (404, 6, 6),
        (502, 6, 6),
        (503, 4, 4),
        (0, 9, 9),
        (3, 18, 18),
        (504, 7, 7),
        (403, 2, 3),
        (413, 3, 3),
    ] {
        assert_eq!((own_status(code, 1), own_status(code, 2)), (v1, v2), "{code}");
    }
    for (status, http) in [(0, 200), (4, 503), (7, 504), (16, 502), (1, 500), (0xFFFF, 500)] {
        assert_eq!(http_status(status), http, "{status}");
    }
}

#[test]
fn changed_headers_are_written_anew() {
    for hex in [REQUEST, REQUEST_V2] {
        let mut changed = frame(&bytes(hex));
        let fields = changed.head.fields_mut();
        assert!(fields.set("service", b"other") && fields.append("x", b""));
        let out = written(|out| V1.encode(&changed.head, 9, b"content", out).unwrap());
        let again = frame(&out);
        let fields: Vec<_> = again.head.fields().fields().map(|(_, n, v)| (n.to_vec(), v.to_vec())).collect();
        assert_eq!(fields, [(b"service".to_vec(), b"other".to_vec()), (b"x".to_vec(), Vec::new())]);
        assert_eq!((again.head.id, &again.content[..]), (9, &b"content"[..]));
        let class = Layout::of(&out).unwrap().fixed_len();
        assert_eq!(out[class], b'C', "the class stays");

        changed.head.fields_mut().append("long", &vec![b'v'; 70_000]);
        let mut out = vec![1, 2];
        assert_eq!(V1.encode(&changed.head, 9, b"", &mut out), Err(Unwritable::Headers));
        assert_eq!(out, [1, 2]);
    }
}

#[test]
fn a_null_is_left_out() {
    let null = [0xFF; 4];
    let block =
        [&null[..], &[0, 0, 0, 1, b'v'], &[0, 0, 0, 1, b'n'], &null, &[0, 0, 0, 1, b'a', 0, 0, 0, 1, b'b']].concat();
    let mut src = bytes(REQUEST);
    src.truncate(22);
    src[14..22].copy_from_slice(&[0, 0, 0, u8::try_from(block.len()).unwrap(), 0, 0, 0, 0]);
    src.extend_from_slice(&block);
    let frame = frame(&src);
    assert_eq!((frame.head.fields().field_count(), frame.head.fields().get("a")), (1, Some(&b"b"[..])));
    let out = written(|out| V1.encode(&frame.head, 2, b"", out).unwrap());
    assert_eq!(out, src, "it leaves as it came");
}

/// What a peer may try: each frame with what is wrong in it, and whether it is told.
#[test]
fn hostile_frames() {
    let change = |at: usize, with: &[u8]| {
        let mut src = bytes(REQUEST);
        src[at..at + with.len()].copy_from_slice(with);
        src
    };
    let change_v2 = |at: usize, with: u8| {
        let mut src = bytes(REQUEST_V2);
        src[at] = with;
        src
    };
    for (what, src, wrong, told) in [
        ("4 GiB of content", change(18, &[0xFF; 4]), Fault::TooLong, true),
        ("one byte too much", change(18, &(1u32 << 20).to_be_bytes()), Fault::TooLong, true),
        ("a header block that ends in a length", change(16, &[0, 3]), Fault::Overrun, true),
        ("a name that passes its block", change(23, &[0, 0, 0, 13]), Fault::Overrun, true),
        ("a name of 4 GiB less two", change(23, &[0xFF, 0xFF, 0xFF, 0xFE]), Fault::Overrun, true),
        ("a value that passes its block", change(34, &[0, 0, 0, 2]), Fault::Overrun, true),
        ("an unknown type", change(1, &[3]), Fault::Kind, false),
        ("an unknown command", change(2, &[0, 7]), Fault::Kind, true),
        ("a one-way request of an unknown command", change(1, &[2, 0, 7]), Fault::Kind, false),
        ("an answer with a request's command", change(1, &[0]), Fault::Kind, false),
        ("another protocol", change(0, b"G"), Fault::Protocol, false),
        ("another version of version 2", change_v2(1, 3), Fault::Protocol, false),
        ("a wrong checksum", change_v2(46, 0), Fault::Checksum, true),
        ("a changed content", change_v2(42, b'o'), Fault::Checksum, true),
    ] {
        assert_eq!(fault(&src), wrong, "{what}");
        let answer = written(|out| V1.reply_to_fault(&src, out));
        assert_eq!(!answer.is_empty(), told, "{what}");
        if told {
            let head = frame(&answer).head;
            assert_eq!((head.kind, head.id, head.fields().status()), (RpcKind::Response, 2, 500), "{what}");
        }
        selfcheck::check(&[&[0], &src[..]].concat());
    }
    let many = RpcLimits { fields_max: 0, ..LIMITS };
    assert_eq!(V2.decode(&bytes(REQUEST), many).expect_err("one header too many"), Fault::TooManyFields);
}

#[test]
fn a_connection_is_known_by_its_first_byte() {
    assert_eq!(
        (V1.begins(&[]), V1.begins(&[1]), V1.begins(&[2]), V2.begins(&[2, 9])),
        (None, Some(true), Some(false), Some(true))
    );
}
