//! **Invariant:** every golden frame is read as what it is, and is what we write.

use super::super::{codec_of, selfcheck};
use super::*;

/// What npm's @tars/rpc 2.0.15 writes.
const REQUEST: &str =
    "0000003710012c3c4002560c4170702e4563686f2e4f626a66046563686f7d00000416026869810bb898000106047a6f6e65160161a80c";
const ONE_WAY_CALL: &str =
    "00000031100120013c4200011170560c4170702e4563686f2e4f626a66046563686f7d00000416026869810bb8980ca80c";
const ANSWER: &str = "0000001910012c30024c5c6d00000416026869780c8600980c";
const FAILURE: &str = "0000002010012c31012c4c50fc6d000c780c860a6e6f2073657276616e74980c";
const TUP: &str =
    "0000003810032c3c4005560c4170702e4563686f2e4f626a66046563686f7d0000110800010604746578741d000004060268698c980ca80c";
const TUP_FAILURE: &str = "0000006e10032c3c4005560c4170702e4563686f2e4f626a66046563686f7d0000110800010604746578741d000004060268698c980ca8000206125354415455535f524553554c545f434f444516022d3306125354415455535f524553554c545f4445534316076e6f2066756e63";

/// By the layout.
const PING_CALL: &str = "0000001f10012c3c400756006609746172735f70696e677d000c8c980ca80c";
const PING_ANSWER: &str = "0000001610012c30074c5c6d0000010c780c8600980c";
const NO_ROUTE: &str = "0000002710012c30024c50fc6d000c780c8612726f7574657220756e617661696c61626c65980c";

const LIMITS: RpcLimits = RpcLimits { frame_bytes_max: 1 << 20, fields_max: 16 };

/// The place of Tars among the protocols, for the first byte of a check.
const MODE: u8 = 3;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn frame(src: &[u8]) -> RpcFrame {
    match Tars.decode(src, LIMITS) {
        Ok(Step::Frame(frame, used)) if used == src.len() => frame,
        other => panic!("{other:?}"),
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A frame of these fields.
fn packet(fields: &[&[u8]]) -> Vec<u8> {
    written(|out| framed(out, |out| out.extend(fields.concat())))
}

fn fields(frame: &RpcFrame) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    frame.head.fields().fields().map(|(_, name, value)| (text(name), text(value))).collect()
}

fn pairs_of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const NAMED: [(&str, &str); 2] = [("service", "App.Echo.Obj"), ("method", "echo")];

#[test]
fn golden_frames() {
    assert_eq!(usize::from(MODE), RpcProtocol::Tars.index());
    let asked = frame(&bytes(REQUEST));
    assert_eq!((asked.head.kind, asked.head.id, &asked.content[..]), (RpcKind::Request, 2, &b"\x16\x02hi"[..]));
    assert_eq!(fields(&asked), pairs_of(&[&NAMED[..], &[("zone", "a")]].concat()));
    assert_eq!(asked.head.timeout, Some(Duration::from_millis(3000)));
    let one_way = frame(&bytes(ONE_WAY_CALL));
    assert_eq!((one_way.head.kind, one_way.head.id), (RpcKind::OneWay, 70_000));
    for (hex, id, status) in [(ANSWER, 2, 200), (FAILURE, 300, 404)] {
        let answer = frame(&bytes(hex));
        assert_eq!((answer.head.kind, answer.head.id), (RpcKind::Response, id));
        assert_eq!(answer.head.fields().status(), status);
    }
    assert_eq!(written(|out| Tars.reply(&asked.head, 404, out)), bytes(NO_ROUTE));
    for hex in [REQUEST, ONE_WAY_CALL, ANSWER, FAILURE, TUP, TUP_FAILURE, PING_CALL, PING_ANSWER, NO_ROUTE] {
        selfcheck::check(&[&[MODE], &bytes(hex)[..]].concat());
    }
}

#[test]
fn pings_and_farewells() {
    let ping = frame(&bytes(PING_CALL));
    assert_eq!((ping.head.kind, ping.head.id), (RpcKind::Heartbeat, 7));
    assert_eq!(written(|out| assert!(Tars.heartbeat(7, out))), bytes(PING_CALL));
    assert_eq!(written(|out| Tars.heartbeat_ack(&ping.head, out)), bytes(PING_ANSWER));
    let one_way: &[&[u8]] = &[b"\x10\x01\x20\x01\x3C\x40\x07\x56\0\x66\x09tars_ping\x7D\0\x0C"];
    assert_eq!(frame(&packet(one_way)).head.kind, RpcKind::HeartbeatAck);
    let gone = frame(&written(|out| assert!(Tars.go_away(5, out))));
    assert_eq!((gone.head.kind, gone.head.id), (RpcKind::GoAway, 0));
    // Others that were never asked are answers to nobody.
    let push = frame(&written(|out| put_answer(0, (b"x", 0, b"news"), out)));
    assert_eq!((push.head.kind, push.head.id), (RpcKind::Response, 0));
}

#[test]
fn in_tup_only_the_side_tells_an_answer_from_a_request() {
    let mut asked = frame(&bytes(TUP));
    assert_eq!((asked.head.kind, fields(&asked)), (RpcKind::Request, pairs_of(&NAMED)));
    for (hex, status) in [(TUP, 200), (TUP_FAILURE, 404)] {
        let mut answer = frame(&bytes(hex));
        Tars.of_origin(&mut answer.head);
        assert_eq!((answer.head.kind, answer.head.fields().status()), (RpcKind::Response, status));
        assert_eq!(written(|out| Tars.encode(&answer.head, 5, &answer.content, out).unwrap()), bytes(hex));
    }
    // An answer of our own has that shape, too, and one of Tars stays what it is.
    for (status, result) in [(200, 200), (404, 404), (503, 503), (599, 500)] {
        let mut own = frame(&written(|out| Tars.reply(&asked.head, status, out)));
        assert_eq!((own.head.kind, own.head.id, &own.content[..]), (RpcKind::Request, 5, NO_ARGUMENTS));
        Tars.of_origin(&mut own.head);
        assert_eq!((own.head.kind, own.head.fields().status()), (RpcKind::Response, result));
    }
    Tars.of_origin(&mut asked.head);
    let mut plain = frame(&bytes(REQUEST));
    Tars.of_origin(&mut plain.head);
    assert_eq!(plain.head.kind, RpcKind::Request, "nobody serves origins");
}

#[test]
fn a_number_is_patched_whatever_its_width() {
    let asked = frame(&bytes(REQUEST));
    for id in [0, 2, 127, 128, 40_000, 0x7FFF_FFFF] {
        let again = frame(&written(|out| Tars.encode(&asked.head, id, &asked.content, out).unwrap()));
        assert_eq!((again.head.id, fields(&again), &again.content), (id, fields(&asked), &asked.content));
    }
    // One that is written longer than it has to be stays as it is while it is the same.
    let long: &[&[u8]] = &[b"\x10\x01\x2C\x3C\x42\0\0\0\x02\x56\0\x66\0\x7D\0\0\0\x8C\x98\x0C\xA8\x0C"];
    let long = packet(long);
    assert_eq!(written(|out| Tars.encode(&frame(&long).head, 2, b"", out).unwrap()), long);
    // A client may have any number of four bytes.
    let minus: &[&[u8]] = &[b"\x10\x01\x2C\x3C\x40\xFF\x56\0\x66\0\x7D\0\x0C"];
    let minus = frame(&packet(minus));
    assert_eq!(minus.head.id, 0xFFFF_FFFF);
    assert_eq!(frame(&written(|out| Tars.reply(&minus.head, 504, out))).head.id, 0xFFFF_FFFF);
}

#[test]
fn what_changes_leaves_the_rest_alone() {
    let unknown = b"\xB6\x01z";
    let head = b"\x10\x01\x2C\x3C\x40\x02";
    let before: &[&[u8]] = &[
        head,
        b"\x56\x03Foo\x66\x02hi",
        b"\x7D\0\0\x02\x0C\x0C",
        b"\x81\x01\x2C",
        b"\x98\0\x02\x06\x01a\x16\x01b\x06\x01c\x16\x01d",
        b"\xA8\x0C",
        unknown,
    ];
    let mut asked = frame(&packet(before));
    let changed = asked.head.fields_mut();
    assert!(changed.set("method", b"ho") && changed.remove("a") && changed.append("x", b"y"));
    let after: &[&[u8]] = &[
        head,
        b"\x56\x03Foo\x66\x02ho",
        b"\x7D\0\0\x03abc",
        b"\x81\x01\x2C",
        b"\x98\0\x02\x06\x01c\x16\x01d\x06\x01x\x16\x01y",
        b"\xA8\x0C",
        unknown,
    ];
    assert_eq!(written(|out| Tars.encode(&asked.head, 2, b"abc", out).unwrap()), packet(after));
    // An answer that has no context gets one where it belongs.
    let bare = b"\x10\x01\x2C\x30\x02\x4C\x5C\x6D\0\x0C\x78\x0C\x86\0";
    let mut answer = frame(&packet(&[bare, unknown]));
    answer.head.fields_mut().append("x", b"y");
    let out = written(|out| Tars.encode(&answer.head, 2, b"", out).unwrap());
    assert_eq!(out, packet(&[bare, b"\x98\0\x01\x06\x01x\x16\x01y", unknown]));
}

#[test]
fn a_frame_of_another_protocol_is_refused() {
    let (asked, mut out) = (frame(&bytes(REQUEST)), Vec::new());
    for codec in RpcProtocol::ALL.iter().filter(|protocol| **protocol != RpcProtocol::Tars) {
        let written = codec_of(*codec).encode(&asked.head, 1, &asked.content, &mut out);
        assert_eq!((written, out.len()), (Err(Unwritable::Foreign), 0), "{codec:?}");
    }
}

#[test]
fn hostile_frames() {
    let asked = bytes(REQUEST);
    let change = |at: usize, with: &[u8]| {
        let mut src = asked.clone();
        src[at..at + with.len()].copy_from_slice(with);
        src
    };
    let start = b"\x10\x01\x2C\x3C\x40\x02\x56\0\x66\0";
    let content = b"\x7D\0\x0C";
    let nested = [0x9A; 1].into_iter().chain([0x0A; 100_000]).collect::<Vec<_>>();
    let many = [&b"\x98\0\x11"[..], &b"\x06\0\x16\0".repeat(17)].concat();
    let rows: &[(&str, Vec<u8>, Fault)] = &[
        ("4 GiB", change(0, &[0xFF; 4]), Fault::TooLong),
        ("nothing in it", change(0, &[0, 0, 0, 4]), Fault::Protocol),
        ("shorter than its length", change(0, &[0, 0, 0, 3]), Fault::Protocol),
        ("another protocol", change(4, b"\x20"), Fault::Protocol),
        ("another version", change(5, b"\x09"), Fault::Malformed),
        ("cut short by its length", change(3, &[0x30]), Fault::Overrun),
        ("a name that overruns", change(11, &[0xFF]), Fault::Overrun),
        ("content that overruns", packet(&[start, b"\x7D\0\x02\x7F\xFF\xFF\xFF"]), Fault::Overrun),
        ("content of less than nothing", packet(&[start, b"\x7D\0\0\xFF"]), Fault::Overrun),
        ("content that is no bytes", packet(&[start, b"\x79\x0C"]), Fault::Malformed),
        ("no content", packet(&[start]), Fault::Malformed),
        ("no number", packet(&[b"\x10\x01\x2C\x3C\x56\0\x66\0", content]), Fault::Malformed),
        ("a number of eight bytes", packet(&[b"\x10\x01\x43\x01\0\0\0\0\0\0\0\x56\0", content]), Fault::Malformed),
        ("a tag twice", packet(&[start, content, content]), Fault::Malformed),
        ("tags out of order", packet(&[b"\x10\x01\x40\x02\x2C\x56\0", content]), Fault::Malformed),
        ("a type that is none", packet(&[start, content, b"\x8E"]), Fault::Malformed),
        ("a context that is no map", packet(&[start, content, b"\x9C"]), Fault::Malformed),
        ("a context of numbers", packet(&[start, content, b"\x98\0\x01\x0C\x1C"]), Fault::Malformed),
        ("a context that lies", packet(&[start, content, b"\x98\x02\x7F\xFF\xFF\xFF"]), Fault::Overrun),
        ("a context of seventeen", packet(&[start, content, &many]), Fault::TooManyFields),
        ("nested", packet(&[start, content, &nested]), Fault::TooDeep),
    ];
    for (what, src, wrong) in rows {
        assert_eq!(Tars.decode(src, LIMITS).expect_err(what), *wrong, "{what}");
        selfcheck::check(&[&[MODE], &src[..]].concat());
    }
    // Who can be told is told.
    let told = |src: &[u8]| written(|out| Tars.reply_to_fault(src, out));
    let answer = frame(&told(&change(0, &[0xFF; 4])));
    assert_eq!((answer.head.id, answer.head.fields().status()), (2, 400));
    for src in [&bytes(ONE_WAY_CALL), &bytes(ANSWER), &asked[..9].to_vec()] {
        assert!(told(src).is_empty(), "{src:?}");
    }
}

#[test]
fn a_connection_is_known_by_its_first_bytes() {
    let tars = codec_of(RpcProtocol::Tars);
    for (bytes, begins) in [
        (&b""[..], None),
        (b"\0\0\0\x37", None),
        (b"\0\0\0\x37\x10", None),
        (b"\0\0\0\x37\x10\x01", Some(true)),
        (b"\0\0\0\x37\x10\x03", Some(true)),
        (b"\0\0\0\x37\x10\x05", Some(false)),
        (b"\0\0\0\x37\xDA", Some(false)),
        (b"G", Some(false)),
        (b"\xDA", Some(false)),
    ] {
        assert_eq!(tars.begins(bytes), begins, "{bytes:?}");
    }
}
