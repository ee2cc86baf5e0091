//! Properties of the RPC codecs on generated frames: what is written is what is read, however it is split; and no input breaks them.

use ferrogate_core::codec::xprotocol::gather::Gather;
use ferrogate_core::codec::xprotocol::{RpcFrame, RpcLimits, codec_of, selfcheck};
use ferrogate_core::config::schema::RpcProtocol;
use ferrogate_core::message::RpcKind;
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #[test]
    fn bolt_frames_are_read_as_they_were_written(
        frames in prop::collection::vec(bolt(), 1..6),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let wire: Vec<u8> = frames.iter().flat_map(Bolt::wire).collect();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        ends.extend([0, wire.len()]);
        ends.sort_unstable();
        let (mut gather, mut read) = (Gather::default(), Vec::new());
        for piece in ends.windows(2) {
            let codec = codec_of(RpcProtocol::Bolt);
            let fed = gather.feed(codec, LIMITS, &wire[piece[0]..piece[1]], |frame| read.push(frame), |_| ());
            prop_assert_eq!(fed, Ok(()));
        }
        prop_assert_eq!(gather.held_bytes(), 0);
        prop_assert_eq!(read.iter().map(Bolt::of).collect::<Vec<_>>(), frames);
    }

    #[test]
    fn a_frame_under_another_number_is_the_same_frame(frame in bolt(), id in any::<u32>()) {
        let read = only(&frame.wire());
        let mut out = Vec::new();
        codec_of(RpcProtocol::Bolt).encode(&read.head, id.into(), &read.content, &mut out).expect("it fits");
        prop_assert_eq!(&out, &Bolt { id, ..frame }.wire());
    }

    #[test]
    fn damaged_frames_keep_the_promises(
        frames in prop::collection::vec(bolt(), 1..4),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        mode in any::<u8>(),
    ) {
        let mut wire: Vec<u8> = frames.iter().flat_map(Bolt::wire).collect();
        for (at, with) in &damage {
            let at = at.index(wire.len());
            wire[at] = *with;
        }
        selfcheck::check(&[&[mode], &wire[..]].concat());
    }

    #[test]
    fn damaged_requests_of_dubbo_keep_the_promises(
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut body = DUBBO_BODY.to_vec();
        for (at, with) in &damage {
            let at = at.index(body.len());
            body[at] = *with;
        }
        body.truncate(cut.map_or(body.len(), |cut| cut.index(body.len())));
        let mut wire = vec![2, 0xDA, 0xBB, 0xC2, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        wire.extend(u32::try_from(body.len()).expect("it is short").to_be_bytes());
        wire.extend(body);
        selfcheck::check(&wire);
    }

    #[test]
    fn damaged_packets_of_tars_keep_the_promises(
        which in 0..TARS.len(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut body = TARS[which].to_vec();
        for (at, with) in &damage {
            let at = at.index(body.len());
            body[at] = *with;
        }
        body.truncate(cut.map_or(body.len(), |cut| cut.index(body.len())));
        let len = u32::try_from(body.len() + 4).expect("it is short").to_be_bytes();
        selfcheck::check(&[&[RpcProtocol::Tars.index().try_into().expect("few")], &len[..], &body].concat());
    }

    #[test]
    fn damaged_messages_of_dubbo_thrift_keep_the_promises(
        which in 0..DUBBO_THRIFT.len(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut rest = DUBBO_THRIFT[which].to_vec();
        for (at, with) in &damage {
            let at = at.index(rest.len());
            rest[at] = *with;
        }
        rest.truncate(cut.map_or(rest.len(), |cut| cut.index(rest.len())));
        let len = u32::try_from(rest.len() + 6).expect("it is short").to_be_bytes();
        let mode = RpcProtocol::DubboThrift.index().try_into().expect("few");
        selfcheck::check(&[&[mode], &len[..], &[0xDA, 0xBC], &len, &rest].concat());
    }

    #[test]
    fn any_bytes_keep_the_promises(input in prop::collection::vec(any::<u8>(), 0..200)) {
        selfcheck::check(&input);
    }
}

/// What a request of Dubbo says: an object and a number, and attachments of several kinds.
const DUBBO_BODY: &[u8] =
    b"\x052.0.2\x07com.Foo\x031.0\x02hi\x08La/Foo;IC\x05a.Foo\x92\x01x\x01y\x60\x90\x71\x02[I\x91\x90\
    M\x01t\x01n\x90\x09interface\x05a.Foo\x07timeout\xC9\x2CZ";

/// Packets of Tars behind their lengths: a request with a context and a tag that nobody knows, one of TUP, and an answer.
const TARS: &[&[u8]] = &[
    b"\x10\x01\x2C\x3C\x42\0\x01\0\x02\x56\x03Foo\x66\x02hi\x7D\0\0\x02ab\x81\x0B\xB8\x98\0\x01\x06\x01a\x16\x01b\xA8\x0C\xBA\x09\0\x01\x0C\x0B",
    b"\x10\x03\x2C\x3C\x40\x02\x56\x03Foo\x66\x02hi\x7D\0\0\x02\x08\x0C\x8C\x98\x0C\xA8\0\x01\x06\x12STATUS_RESULT_CODE\x16\x02-3",
    b"\x10\x01\x2C\x30\x02\x4C\x50\xFC\x6D\0\x0C\x78\x0C\x86\x02no\x98\x0C",
];

/// Frames of Dubbo's Thrift behind their lengths: a call, an older one with a path behind the service, and an exception.
const DUBBO_THRIFT: &[&[u8]] = &[
    b"\0\x1C\x01\0\0\0\x07com.Foo\0\0\0\0\0\0\0\x05\x80\x01\0\x01\0\0\0\x04echo\0\0\0\x09\x0B\0\x01\0\0\0\x02hi\0",
    b"\0\x23\x01\0\0\0\x07com.Foo\0\0\0\x03a/b\0\0\0\0\0\0\0\x05\0\0\0\x04echo\x01\0\0\0\x09\0",
    b"\0\x1C\x01\0\0\0\x07com.Foo\0\0\0\0\0\0\0\x05\x80\x01\0\x03\0\0\0\x04echo\0\0\0\x09\x0B\0\x01\0\0\0\x02no\x08\0\x02\0\0\0\x01\0",
];

/// A frame of Bolt as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bolt {
    /// 1; or 2, and then whether it has a checksum.
    version: (u8, bool),
    kind: RpcKind,
    id: u32,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    content: Vec<u8>,
}

fn bolt() -> impl Strategy<Value = Bolt> {
    let version = prop_oneof![Just((1, false)), Just((2, false)), Just((2, true))];
    let kind = prop_oneof![
        Just(RpcKind::Request),
        Just(RpcKind::OneWay),
        Just(RpcKind::Response),
        Just(RpcKind::Heartbeat),
        Just(RpcKind::HeartbeatAck),
        Just(RpcKind::GoAway),
    ];
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let headers = prop::collection::vec((bytes(), bytes()), 0..5);
    (version, kind, any::<u32>(), headers, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(version, kind, id, headers, content)| Bolt { version, kind, id, headers, content })
}

impl Bolt {
    fn of(frame: &RpcFrame) -> Self {
        let raw = frame.head.raw();
        let has_checksum = raw[0] == 2 && raw[1] == 2 && raw[11] == 1;
        let headers = frame.head.fields().fields().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
        let id = u32::try_from(frame.head.id).expect("four bytes");
        Self { version: (raw[0], has_checksum), kind: frame.head.kind, id, headers, content: frame.content.to_vec() }
    }

    fn wire(&self) -> Vec<u8> {
        let (kind, command) = match self.kind {
            RpcKind::Request => (1u8, 1u16),
            RpcKind::OneWay => (2, 1),
            RpcKind::Response => (0, 2),
            RpcKind::Heartbeat => (1, 0),
            RpcKind::HeartbeatAck => (0, 0),
            RpcKind::GoAway => (1, 100),
        };
        let block: Vec<u8> = self
            .headers
            .iter()
            .flat_map(|(name, value)| [name, value])
            .flat_map(|part| [&u32::try_from(part.len()).expect("short").to_be_bytes()[..], part].concat())
            .collect();
        let (version, has_checksum) = self.version;
        let mut wire = if version == 1 { vec![1] } else { vec![2, 1 + u8::from(has_checksum)] };
        wire.push(kind);
        wire.extend(command.to_be_bytes());
        wire.push(1);
        wire.extend(self.id.to_be_bytes());
        wire.push(12);
        if version == 2 {
            wire.push(u8::from(has_checksum));
        }
        wire.extend_from_slice(if kind == 0 { &[0, 0] } else { &[0, 0, 1, 0] });
        wire.extend(3u16.to_be_bytes());
        wire.extend(u16::try_from(block.len()).expect("short").to_be_bytes());
        wire.extend(u32::try_from(self.content.len()).expect("short").to_be_bytes());
        wire.extend(b"cls");
        wire.extend(block);
        wire.extend(&self.content);
        if has_checksum {
            let sum = crc32(&wire);
            wire.extend(sum.to_be_bytes());
        }
        wire
    }
}

fn only(wire: &[u8]) -> RpcFrame {
    let mut frames = Vec::new();
    let fed = Gather::default().feed(codec_of(RpcProtocol::Bolt), LIMITS, wire, |frame| frames.push(frame), |_| ());
    assert_eq!((fed, frames.len()), (Ok(()), 1));
    frames.remove(0)
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

const LIMITS: RpcLimits = RpcLimits { frame_bytes_max: 1 << 20, fields_max: 16 };
