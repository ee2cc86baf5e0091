//! **Invariant:** every golden frame is read as what it is, and is what we write.

use super::super::{codec_of, selfcheck};
use super::*;

/// By the layout; the messages are what npm's thrift 0.24.0 writes.
const HEADER: &str = "001c0100000007636f6d2e466f6f0000000000000005";
const CALL_HI: &str = "80010001000000046563686f000000090b000100000002686900";
const REPLY_HI: &str = "80010002000000046563686f000000090b000000000002686900";
const UNTOLD: &str = "80010003000000046563686f000000090b000100000012726f7574657220756e617661696c61626c6500";
const NO_ROUTE: &str = "80010003000000046563686f000000090b000100000012726f7574657220756e617661696c61626c6508000200000001\
     00";

const LIMITS: RpcLimits = RpcLimits { frame_bytes_max: 1 << 20, fields_max: 16 };

/// The place of the protocol among all, for the first byte of a check.
const MODE: u8 = 4;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A frame of what stands behind its lengths: the header from its length on, and a message.
fn framed(rest: &[u8]) -> Vec<u8> {
    let len = u32::try_from(rest.len() + 6).unwrap().to_be_bytes();
    [&len[..], &MAGIC, &len, rest].concat()
}

/// A golden frame: the service com.Foo and the number 5 before a message.
fn golden(message: &str) -> Vec<u8> {
    framed(&[bytes(HEADER), bytes(message)].concat())
}

fn frame(src: &[u8]) -> RpcFrame {
    match DubboThrift.decode(src, LIMITS) {
        Ok(Step::Frame(frame, used)) if used == src.len() => frame,
        other => panic!("{other:?}"),
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn fields(frame: &RpcFrame) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    frame.head.fields().fields().map(|(_, name, value)| (text(name), text(value))).collect()
}

fn named(service: &str, method: &str) -> Vec<(String, String)> {
    vec![("service".to_owned(), service.to_owned()), ("method".to_owned(), method.to_owned())]
}

#[test]
fn golden_frames() {
    assert_eq!(usize::from(MODE), RpcProtocol::DubboThrift.index());
    let asked = frame(&golden(CALL_HI));
    assert_eq!((asked.head.kind, asked.head.id), (RpcKind::Request, 5));
    assert_eq!(fields(&asked), named("com.Foo", "echo"));
    assert_eq!(&asked.content[..], bytes("0b000100000002686900"));
    for (message, status) in [(REPLY_HI, 200), (UNTOLD, 500), (NO_ROUTE, 404)] {
        let answer = frame(&golden(message));
        assert_eq!((answer.head.kind, answer.head.id), (RpcKind::Response, 5));
        assert_eq!(answer.head.fields().status(), status);
    }
    assert_eq!(written(|out| DubboThrift.reply(&asked.head, 404, out)), golden(NO_ROUTE));
    for message in [CALL_HI, REPLY_HI, UNTOLD, NO_ROUTE] {
        selfcheck::check(&[&[MODE], &golden(message)[..]].concat());
    }
}

#[test]
fn what_frames_are() {
    let of_type = |kind: u8| golden(&format!("800100{kind:02x}{}", &CALL_HI[8..]));
    for (kind, is) in [(1, RpcKind::Request), (2, RpcKind::Response), (3, RpcKind::Response), (4, RpcKind::OneWay)] {
        assert_eq!(frame(&of_type(kind)).head.kind, is);
    }
    for kind in [0, 5, 255] {
        assert_eq!(DubboThrift.decode(&of_type(kind), LIMITS).expect_err("no such type"), Fault::Kind);
    }
    let mut out = Vec::new();
    assert!(!DubboThrift.heartbeat(1, &mut out) && !DubboThrift.go_away(1, &mut out) && out.is_empty());
}

#[test]
fn an_older_message_and_a_longer_header_are_read() {
    let older = bytes("000000046563686f01000000090b000100000002686900");
    // Newer Dubbo has the path behind the service.
    let header = bytes("00230100000007636f6d2e466f6f00000003612f620000000000000005");
    let src = framed(&[header, older].concat());
    let mut asked = frame(&src);
    assert_eq!((asked.head.kind, asked.head.id, fields(&asked)), (RpcKind::Request, 5, named("com.Foo", "echo")));
    selfcheck::check(&[&[MODE], &src[..]].concat());
    let answer = frame(&written(|out| DubboThrift.reply(&asked.head, 504, out)));
    assert_eq!((answer.head.kind, answer.head.id, answer.head.fields().status()), (RpcKind::Response, 5, 500));
    asked.head.fields_mut().set("method", b"hi");
    let out = written(|out| DubboThrift.encode(&asked.head, 6, &asked.content, out).unwrap());
    let again = bytes(
        "00230100000007636f6d2e466f6f00000003612f620000000000000006000000026869010000000\
                       90b000100000002686900",
    );
    assert_eq!(out, framed(&again));
}

#[test]
fn service_and_method_change_and_nothing_else_can() {
    let mut asked = frame(&golden(CALL_HI));
    asked.head.fields_mut().set("service", b"org.example.Bar");
    asked.head.fields_mut().set("method", b"hi");
    let again = frame(&written(|out| DubboThrift.encode(&asked.head, 7, b"\0", out).unwrap()));
    assert_eq!((fields(&again), &again.content[..]), (named("org.example.Bar", "hi"), &b"\0"[..]));
    let mut out = vec![1];
    for change in [|head: &mut HttpHead| head.append("x", b"y"), |head: &mut HttpHead| head.remove("method")] {
        let mut asked = frame(&golden(CALL_HI));
        assert!(change(asked.head.fields_mut()));
        assert_eq!(DubboThrift.encode(&asked.head, 7, b"", &mut out), Err(Unwritable::NoHeaders));
    }
    asked.head.fields_mut().set("service", &[b'x'; 70_000]);
    assert_eq!(DubboThrift.encode(&asked.head, 7, b"", &mut out), Err(Unwritable::Headers));
    assert_eq!(out, [1]);
}

#[test]
fn a_frame_of_another_protocol_is_refused() {
    let (asked, mut out) = (frame(&golden(CALL_HI)), Vec::new());
    for codec in RpcProtocol::ALL.iter().filter(|protocol| **protocol != RpcProtocol::DubboThrift) {
        let written = codec_of(*codec).encode(&asked.head, 1, &asked.content, &mut out);
        assert_eq!((written, out.len()), (Err(Unwritable::Foreign), 0), "{codec:?}");
    }
}

#[test]
fn hostile_frames() {
    let asked = golden(CALL_HI);
    let change = |at: usize, with: &[u8]| {
        let mut src = asked.clone();
        src[at..at + with.len()].copy_from_slice(with);
        src
    };
    // The header ends at 32, and the message's name begins at 40.
    let rows: &[(&str, Vec<u8>, Fault)] = &[
        ("4 GiB", change(0, &[0xFF; 4]), Fault::TooLong),
        ("another protocol", change(4, b"\xDA\xBB"), Fault::Protocol),
        ("lengths that differ", change(LENGTH_AT, &[0xFF; 4]), Fault::Malformed),
        ("nothing behind the lengths", framed(b""), Fault::Overrun),
        ("nothing behind the header", framed(&bytes(HEADER)), Fault::Overrun),
        ("a header that ends in its service", change(HEADER_LEN_AT, &[0, 20]), Fault::Overrun),
        ("a header of nothing", change(HEADER_LEN_AT, &[0, 0]), Fault::Overrun),
        ("a header that overruns", change(HEADER_LEN_AT, &[0xFF, 0xFF]), Fault::Overrun),
        ("a service that overruns", change(13, &[0xFF; 4]), Fault::Overrun),
        ("a message of another version", change(32, &[0x81]), Fault::Malformed),
        ("a name that overruns", change(36, &[0x7F; 4]), Fault::Overrun),
        ("a type that is none", change(35, &[9]), Fault::Kind),
    ];
    for (what, src, wrong) in rows {
        assert_eq!(DubboThrift.decode(src, LIMITS).expect_err(what), *wrong, "{what}");
        selfcheck::check(&[&[MODE], &src[..]].concat());
    }
    let few = RpcLimits { fields_max: 1, ..LIMITS };
    assert_eq!(DubboThrift.decode(&asked, few).expect_err("two"), Fault::TooManyFields);
    // Who can be told is told.
    let told = |src: &[u8]| written(|out| DubboThrift.reply_to_fault(src, out));
    let answer = frame(&told(&change(0, &[0xFF; 4])));
    assert_eq!((answer.head.id, answer.head.fields().status()), (5, 400));
    for src in [golden(REPLY_HI), change(35, &[ONE_WAY]), asked[..30].to_vec()] {
        assert!(told(&src).is_empty(), "{src:?}");
    }
    // An exception may lie as it likes.
    for content in ["0b000100000001", "0b0001ffffffff", "080002", "0800030000000008000200000007", "0f", ""] {
        let status = frame(&golden(&format!("{}{content}", &UNTOLD[..32]))).head.fields().status();
        assert_eq!(status, if content.ends_with("07") { 400 } else { 500 }, "{content}");
    }
}

#[test]
fn a_connection_is_known_by_its_first_bytes() {
    let thrift = codec_of(RpcProtocol::DubboThrift);
    for (bytes, begins) in [
        (&b""[..], None),
        (b"\0\0\0\x37", None),
        (b"\0\0\0\x37\xDA", None),
        (b"\0\0\0\x37\xDA\xBC", Some(true)),
        (b"\0\0\0\x37\xDA\xBB", Some(false)),
        (b"\0\0\0\x37\x10", Some(false)),
        (b"G", Some(false)),
    ] {
        assert_eq!(thrift.begins(bytes), begins, "{bytes:?}");
    }
}
