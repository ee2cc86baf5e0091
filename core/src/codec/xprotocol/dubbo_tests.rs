//! **Invariant:** every golden frame is read as what it is, and is what we write.

use super::super::{codec_of, selfcheck};
use super::*;

const HEARTBEAT_ACK: &str = "dabb22140000000000000001000000024e4e";
const REQUEST_HI: &str =
    "dabbc20000000000000000030000002005322e302e3207636f6d2e466f6f03312e3002686900480567726f757001675a";
const NO_ROUTE: &str = "dabb023c000000000000000300000017163430347c726f7574657220756e617661696c61626c65";

const LIMITS: RpcLimits = RpcLimits { frame_bytes_max: 1 << 20, fields_max: 16 };

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn frame(src: &[u8]) -> RpcFrame {
    match Dubbo.decode(src, LIMITS) {
        Ok(Step::Frame(frame, used)) if used == src.len() => frame,
        other => panic!("{other:?}"),
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A request of this flag: five strings, arguments, attachments.
fn request(flag: u8, types: &str, arguments: &[u8], attachments: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in ["2.0.2", "com.Foo", "1.0", "hi", types] {
        hessian2::put_string(text.as_bytes(), &mut body).unwrap();
    }
    body.extend_from_slice(arguments);
    body.extend_from_slice(attachments);
    written(|out| put(flag, 0, 7, &body, out))
}

fn fields(frame: &RpcFrame) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    frame.head.fields().fields().map(|(_, name, value)| (text(name), text(value))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const FIXED: [(&str, &str); 4] = [("dubbo", "2.0.2"), ("service", "com.Foo"), ("version", "1.0"), ("method", "hi")];

#[test]
fn golden_frames() {
    let hi = frame(&bytes(REQUEST_HI));
    assert_eq!((hi.head.kind, hi.head.id), (RpcKind::Request, 3));
    assert_eq!(fields(&hi), pairs(&[&FIXED[..], &[("group", "g")]].concat()));
    assert_eq!(frame(&bytes(HEARTBEAT_ACK)).head.kind, RpcKind::HeartbeatAck);
    assert_eq!(written(|out| Dubbo.reply(&hi.head, 404, out)), bytes(NO_ROUTE));
    let no_route = frame(&bytes(NO_ROUTE));
    assert_eq!((no_route.head.kind, no_route.head.fields().status()), (RpcKind::Response, 404));
    let beat = frame(&written(|out| assert!(Dubbo.heartbeat(1, out))));
    assert_eq!(beat.head.kind, RpcKind::Heartbeat);
    assert_eq!(written(|out| Dubbo.heartbeat_ack(&beat.head, out)), bytes(HEARTBEAT_ACK));
    for hex in [HEARTBEAT_ACK, REQUEST_HI, NO_ROUTE] {
        selfcheck::check(&[&[2], &bytes(hex)[..]].concat());
    }
}

#[test]
fn what_frames_are() {
    for (flag, body, kind) in [
        (0xC2, &b""[..], RpcKind::Request),
        (0x82, b"", RpcKind::OneWay),
        (0xE2, b"N", RpcKind::Heartbeat),
        (0xA2, b"N", RpcKind::HeartbeatAck),
        (0xA2, READONLY, RpcKind::GoAway),
        (0xE2, READONLY, RpcKind::GoAway),
        (0xA6, b"\"R\"", RpcKind::GoAway),
        (0x22, b"N", RpcKind::HeartbeatAck),
        (0x02, b"", RpcKind::Response),
    ] {
        assert_eq!(frame(&written(|out| put(flag, 20, 1, body, out))).head.kind, kind, "{flag:x} {body:?}");
    }
    assert_eq!(frame(&written(|out| assert!(Dubbo.go_away(1, out)))).head.kind, RpcKind::GoAway);
}

#[test]
fn every_serialization_passes_as_it_came() {
    for id in 0..32 {
        let src = written(|out| put(0xC0 | id, 0, 9, b"\xAC\xED whatever this is", out));
        let frame = frame(&src);
        assert_eq!((frame.head.kind, frame.head.fields().field_count()), (RpcKind::Request, 0), "{id}");
        let out = written(|out| Dubbo.encode(&frame.head, 9, &frame.content, out).unwrap());
        assert_eq!(out, src);
    }
}

#[test]
fn attachments_are_found_behind_any_arguments() {
    let object = b"C\x05a.Foo\x92\x01x\x01y\x60\x90\x71\x02[I\x91";
    let more = [("group", "g"), ("timeout", "300")];
    for (types, arguments) in
        [("", &b""[..]), ("I", b"\x90"), ("[ILjava/lang/Object;J", &[&b"\x71\x02[I\x91"[..], object, b"\xE0"].concat())]
    {
        let src = request(0xC2, types, arguments, b"H\x05group\x01g\x01n\x90\x07timeout\x03300\x01z\x01bZ");
        let frame = frame(&src);
        assert_eq!(fields(&frame), pairs(&[&FIXED[..], &more, &[("z", "b")]].concat()), "{types}");
        assert_eq!(frame.head.timeout, Some(Duration::from_millis(300)));
        selfcheck::check(&[&[2], &src[..]].concat());
    }
    let by_number = frame(&request(0xC2, "", b"", b"H\x07timeout\xC9\x2CZ"));
    assert_eq!((by_number.head.timeout, by_number.head.fields().field_count()), (Some(Duration::from_millis(300)), 4));
    let longest = frame(&request(0xC2, "", b"", b"H\x07timeoutL\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFFZ"));
    assert_eq!(longest.head.timeout, Some(Duration::from_millis(TIMEOUT_MILLIS_MAX)));
    for twice in [&b"H\x07timeout\xC9\x2C\x07timeout\x02\x31\x30Z"[..], b"H\x07timeout\x02\x31\x30\x07timeout\xC9\x2CZ"]
    {
        let src = request(0xC2, "", b"", twice);
        assert_eq!(frame(&src).head.timeout, Some(Duration::from_millis(10)));
        selfcheck::check(&[&[2], &src[..]].concat());
    }
    // What can't be passed over hides them, and nothing else.
    assert_eq!(fields(&frame(&request(0xC2, "I", b"@", b"H\x01a\x01bZ"))), pairs(&FIXED));
    assert_eq!(fields(&frame(&request(0xC2, "", b"", b"H\x01a\x01b"))), pairs(&FIXED));
    assert_eq!(fields(&frame(&request(0xC2, "", b"", b"N"))), pairs(&FIXED));
}

#[test]
fn the_interface_goes_before_the_path() {
    let mut changed = frame(&request(0xC2, "", b"", b"H\x09interface\x07com.Bar\x04path\x07com.FooZ"));
    assert_eq!(changed.head.fields().get("service"), Some(&b"com.Bar"[..]));
    changed.head.fields_mut().append("x", b"y");
    let again = frame(&written(|out| Dubbo.encode(&changed.head, 1, &changed.content, out).unwrap()));
    assert_eq!((fields(&again), path(&again.content)), (fields(&changed), Some(b"com.Foo".to_vec())));
    changed.head.fields_mut().set("service", b"com.Other");
    let again = frame(&written(|out| Dubbo.encode(&changed.head, 1, &changed.content, out).unwrap()));
    let other = Some(&b"com.Other"[..]);
    let (fields, path) = (again.head.fields(), path(&again.content));
    assert_eq!(
        (fields.get("service"), fields.get("path"), fields.get("interface"), path.as_deref()),
        (other, other, other, other)
    );
}

#[test]
fn changed_fields_leave_arguments_alone() {
    let mut changed = frame(&request(0x82, "I", b"\x90", b"H\x01n\x90\x05group\x01g\x01z\x01bZ"));
    let fields = changed.head.fields_mut();
    assert!(fields.set("method", b"ho") && fields.remove("group") && fields.append("added", "ä".as_bytes()));
    let out = written(|out| Dubbo.encode(&changed.head, 5, &changed.content, out).unwrap());
    let body = b"\x052.0.2\x07com.Foo\x031.0\x02ho\x01I\x90H\x01n\x90\x01z\x01b\x05added\x01\xC3\xA4Z";
    assert_eq!(out, written(|out| put(0x82, 0, 5, body, out)));
    // The map keeps its type, which a later value may name by its number.
    let mut typed = frame(&request(0xC2, "", b"", b"M\x01t\x01a\x01b\x01nM\x90ZZ"));
    assert!(typed.head.fields_mut().append("x", b"y"));
    let again = frame(&written(|out| Dubbo.encode(&typed.head, 5, &typed.content, out).unwrap()));
    assert!(again.content.ends_with(b"M\x01t\x01nM\x90Z\x01a\x01b\x01x\x01yZ"), "{:?}", again.content);
    // What can't be written anew is refused.
    let mut answer = frame(&bytes(NO_ROUTE));
    answer.head.fields_mut().append("x", b"y");
    let mut out = vec![1];
    assert_eq!(Dubbo.encode(&answer.head, 5, &answer.content, &mut out), Err(Unwritable::Unread));
    assert_eq!(out, [1]);
}

#[test]
fn a_frame_of_another_protocol_is_refused() {
    let bolt = "0101000101000000020100000bb8000100100000000243000000077365727669636500000001616869";
    let bolt = match codec_of(RpcProtocol::Bolt).decode(&bytes(bolt), LIMITS) {
        Ok(Step::Frame(frame, _)) => frame,
        other => panic!("{other:?}"),
    };
    let (hi, mut out) = (frame(&bytes(REQUEST_HI)), Vec::new());
    for (codec, frame) in [(RpcProtocol::Dubbo, &bolt), (RpcProtocol::Bolt, &hi), (RpcProtocol::BoltV2, &hi)] {
        let written = codec_of(codec).encode(&frame.head, 1, &frame.content, &mut out);
        assert_eq!((written, out.len()), (Err(Unwritable::Foreign), 0), "{codec:?}");
    }
}

#[test]
fn hostile_frames() {
    let hi = bytes(REQUEST_HI);
    let change = |at: usize, with: &[u8]| {
        let mut src = hi.clone();
        src[at..at + with.len()].copy_from_slice(with);
        src
    };
    for (what, src, wrong) in [
        ("4 GiB", change(12, &[0xFF; 4]), Fault::TooLong),
        ("another protocol", change(0, b"GE"), Fault::Protocol),
        ("half the magic", change(1, b"E"), Fault::Protocol),
    ] {
        assert_eq!(Dubbo.decode(&src, LIMITS).expect_err(what), wrong, "{what}");
        selfcheck::check(&[&[2], &src[..]].concat());
    }
    let answer = written(|out| Dubbo.reply_to_fault(&change(12, &[0xFF; 4]), out));
    assert_eq!((frame(&answer).head.id, frame(&answer).head.fields().status()), (3, 500));
    let few = RpcLimits { fields_max: 4, ..LIMITS };
    assert_eq!(Dubbo.decode(&hi, few).expect_err("five"), Fault::TooManyFields);
    let numbers = request(0xC2, "", b"", &[&b"H"[..], &b"\x90\x90".repeat(13), b"Z"].concat());
    assert_eq!(Dubbo.decode(&numbers, LIMITS).expect_err("seventeen"), Fault::TooManyFields);
    let nested = request(0xC2, "I", &[0x79; 100_000], b"H\x01a\x01bZ");
    assert_eq!((fields(&frame(&nested)), frame(&nested).head.is_hiding), (pairs(&FIXED), true));
    assert!(frame(&request(0xC2, "", b"", b"H\x01a\x01b")).head.is_hiding && !frame(&hi).head.is_hiding);
    // A body that is not what Dubbo writes is nobody's business here.
    let odd = written(|out| put(0xC2, 0, 1, b"\x90\x90", out));
    assert_eq!((frame(&odd).head.fields().field_count(), frame(&odd).head.is_hiding), (0, true));
}

#[test]
fn a_connection_is_known_by_its_first_bytes() {
    let dubbo = codec_of(RpcProtocol::Dubbo);
    for (bytes, begins) in
        [(&b""[..], None), (b"\xDA", None), (b"\xDA\xBB", Some(true)), (b"\xDA\xBC", Some(false)), (b"G", Some(false))]
    {
        assert_eq!(dubbo.begins(bytes), begins, "{bytes:?}");
    }
}
