//! Properties of the HTTP/1 codec on generated messages: what is written is what is read, however it is split; and no input breaks it.

use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http1::{
    CodecLimits, ConnectionOptions, DecodeError, Frame, RequestDecoder, ResponseDecoder, selfcheck,
};
use ferrogate_core::message::{BodyLength, HttpHead, Method};
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #[test]
    fn requests_are_read_as_they_were_written(messages in prop::collection::vec(request(), 1..4), cuts in cuts()) {
        let mut wire = Vec::new();
        let mut encoder = RequestDecoder::new(CodecLimits::default());
        for message in &messages {
            message.write(|frame, wire| encoder.encode(frame, wire).expect("a generated message can be written"), &mut wire);
        }
        let mut decoder = RequestDecoder::new(CodecLimits::default());
        let read = collect(&wire, &cuts, |src, _| decoder.decode(src)).expect("what was written is accepted");
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn a_response_is_read_as_it_was_written(message in response(), cuts in cuts()) {
        let mut wire = Vec::new();
        let mut encoder = ResponseDecoder::new(CodecLimits::default());
        message.write(|frame, wire| encoder.encode(frame, wire).expect("a generated message can be written"), &mut wire);
        let mut decoder = ResponseDecoder::new(CodecLimits::default());
        decoder.expect_response(Method::Get);
        let read = collect(&wire, &cuts, |src, _| decoder.decode(src)).expect("what was written is accepted");
        prop_assert_eq!(decoder.finish(), Ok(()));
        prop_assert_eq!(read, vec![message]);
    }

    #[test]
    fn any_bytes_keep_the_promises(input in prop::collection::vec(any::<u8>(), 0..200)) {
        selfcheck::check(&input);
    }

    #[test]
    fn damaged_messages_keep_the_promises(
        message in prop_oneof![request(), response()],
        damage in prop::collection::vec(damage(), 1..5),
        (mode, seed) in (any::<u8>(), any::<u8>()),
    ) {
        let mut wire = message.wire();
        for damage in &damage {
            damage.apply(&mut wire);
        }
        selfcheck::check(&[&[mode, seed], &wire[..]].concat());
    }

    #[test]
    fn a_head_that_passes_is_read_alike_by_the_simplest_parser(
        message in request(),
        damage in prop::collection::vec(damage(), 0..3),
    ) {
        let mut wire = message.wire();
        for damage in &damage {
            damage.apply(&mut wire);
        }
        let mut decoder = RequestDecoder::new(CodecLimits::default());
        if let Ok(Some((Frame::Head(head, length, _), used))) = decoder.decode(&wire) {
            let (fields, simple) = read_simply(&wire[..used]);
            let ours: Vec<_> = head.fields().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(ours, fields);
            prop_assert_eq!(length, simple);
        }
    }
}

/// A message as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    line: Line,
    fields: Vec<(String, Vec<u8>)>,
    length: BodyLength,
    keep_alive: bool,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Request { method: String, target: Vec<u8> },
    Response { status: u16 },
}

impl Message {
    fn write(&self, mut encode: impl FnMut(&Frame<'_>, &mut Vec<u8>), wire: &mut Vec<u8>) {
        let mut head = match &self.line {
            Line::Request { method, target } => HttpHead::request(method, target),
            Line::Response { status } => HttpHead::response(*status),
        };
        for (name, value) in &self.fields {
            assert!(head.append(name, value), "{name}");
        }
        let options = ConnectionOptions { keep_alive: self.keep_alive, ..ConnectionOptions::default() };
        encode(&Frame::Head(head, self.length, options), wire);
        for piece in self.body.chunks(7) {
            encode(&Frame::Data(piece), wire);
        }
        if self.length == BodyLength::Chunked && self.trailers.is_empty() {
            encode(&Frame::End, wire);
        } else if self.length == BodyLength::Chunked {
            let mut trailers = HttpHead::empty();
            for (name, value) in &self.trailers {
                assert!(trailers.append(name, value), "{name}");
            }
            encode(&Frame::Trailers(trailers), wire);
        }
    }

    fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        match self.line {
            Line::Request { .. } => {
                let mut encoder = RequestDecoder::new(CodecLimits::default());
                self.write(|frame, wire| encoder.encode(frame, wire).expect("it can be written"), &mut wire);
            }
            Line::Response { .. } => {
                let mut encoder = ResponseDecoder::new(CodecLimits::default());
                self.write(|frame, wire| encoder.encode(frame, wire).expect("it can be written"), &mut wire);
            }
        }
        wire
    }

    fn of(head: &HttpHead, length: BodyLength, options: ConnectionOptions) -> Self {
        let line = match head.status() {
            0 => Line::Request { method: text(head.method_bytes()), target: head.target().to_vec() },
            status => Line::Response { status },
        };
        // What the encoder adds is no part of the generated message.
        let added = ["content-length", "transfer-encoding", "connection"];
        let fields = fields(head).into_iter().filter(|(name, _)| !added.contains(&&*name.to_lowercase())).collect();
        Self { line, fields, length, keep_alive: options.keep_alive, body: Vec::new(), trailers: Vec::new() }
    }
}

/// A change to a byte string.
#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, &'static [u8]),
    Remove(Index),
    Repeat(Index, Index),
    Cut(Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Replace(at, b) => *at.get_mut(bytes) = *b,
            Self::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Self::Repeat(from, to) => {
                let (a, b) = (from.index(bytes.len()), to.index(bytes.len()));
                let part = bytes[a.min(b)..a.max(b)].to_vec();
                bytes.splice(a..a, part);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling: Vec<u8> = b"\r\n\0 \t:;,/#?@%\x7f\x80\xff0a".to_vec();
    let pieces: Vec<&'static [u8]> = vec![
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n ",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b":",
        b",",
        b";a=\"b\"",
        b"\r\nContent-Length: 3",
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nHost: b",
        b"\r\nConnection: close, x-a",
        b"Content-Length : 1\r\n",
        b"\r\nUpgrade: h2c",
        b"\r\nExpect: 100-continue",
        b"0\r\n\r\n",
        b"http://h:1",
    ];
    prop_oneof![
        (any::<Index>(), prop::sample::select(telling)).prop_map(|(at, b)| Damage::Replace(at, b)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, b)| Damage::Replace(at, b)),
        (any::<Index>(), prop::sample::select(pieces)).prop_map(|(at, new)| Damage::Insert(at, new)),
        any::<Index>().prop_map(Damage::Remove),
        any::<(Index, Index)>().prop_map(|(from, to)| Damage::Repeat(from, to)),
        any::<Index>().prop_map(Damage::Cut),
    ]
}

fn request() -> impl Strategy<Value = Message> {
    let target = "/[!-\"$-~]{0,40}".prop_map(String::into_bytes);
    let method = prop_oneof![Just("GET".to_owned()), Just("POST".to_owned()), "[A-Z][A-Z!#$%&'*+.^_`|~0-9-]{0,8}"];
    // CONNECT has a form of its own, TRACE no body, and POST, PUT and PATCH always have a length.
    let method = method.prop_map(|m| if m == "CONNECT" || m == "TRACE" { "X".to_owned() } else { m });
    (method, target, field_list(), body(false), any::<bool>(), "[a-z0-9.-]{1,20}(:[0-9]{1,4})?").prop_map(
        |(method, target, mut fields, (mut length, body, trailers), keep_alive, host)| {
            if length == BodyLength::None && ["POST", "PUT", "PATCH"].contains(&&*method) {
                length = BodyLength::Exact(0);
            }
            fields.insert(fields.len() / 2, ("Host".to_owned(), host.into_bytes()));
            Message { line: Line::Request { method, target }, fields, length, keep_alive, body, trailers }
        },
    )
}

fn response() -> impl Strategy<Value = Message> {
    let status = (200u16..1000).prop_filter("these have no body", |s| ![204, 304].contains(s));
    (status, field_list(), body(true), any::<bool>()).prop_map(|(status, fields, (length, body, trailers), keep)| {
        let length = if length == BodyLength::None { BodyLength::Exact(0) } else { length };
        let keep_alive = keep && length != BodyLength::UntilClose;
        Message { line: Line::Response { status }, fields, length, keep_alive, body, trailers }
    })
}

type Bodied = (BodyLength, Vec<u8>, Vec<(String, Vec<u8>)>);
type RawField = (Vec<u8>, Vec<u8>);

fn body(until_close: bool) -> impl Strategy<Value = Bodied> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let kinds = if until_close { 4 } else { 3 };
    (0..kinds, bytes(), field_list()).prop_map(|(kind, body, trailers)| match kind {
        0 => (BodyLength::None, Vec::new(), Vec::new()),
        1 => (BodyLength::Exact(body.len() as u64), body, Vec::new()),
        2 => (BodyLength::Chunked, body, trailers),
        _ => (BodyLength::UntilClose, body, Vec::new()),
    })
}

/// Fields that mean nothing to a gateway.
fn field_list() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let value = prop_oneof![
        Just(Vec::new()),
        "[!-~]([ -~\t]{0,30}[!-~])?".prop_map(String::into_bytes),
        Just(b"\x80\xff".to_vec())
    ];
    prop::collection::vec(("[xyz]-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,12}", value), 0..6)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..40, 1..10)
}

/// Reads all messages, showing the bytes in pieces of the lengths in `cuts`, over and over.
fn collect(
    wire: &[u8],
    cuts: &[usize],
    mut decode: impl for<'a> FnMut(&'a [u8], usize) -> Result<Option<(Frame<'a>, usize)>, DecodeError>,
) -> Result<Vec<Message>, DecodeError> {
    let mut messages: Vec<Message> = Vec::new();
    let (mut at, mut shown) = (0, 0);
    let mut cuts = cuts.iter().cycle();
    loop {
        let Some((frame, used)) = (if at < shown { decode(&wire[at..shown], shown)? } else { None }) else {
            if shown == wire.len() {
                assert_eq!(at, shown, "bytes were left over");
                return Ok(messages);
            }
            shown = (shown + cuts.next().expect("endless")).min(wire.len());
            continue;
        };
        at += used;
        match frame {
            Frame::Head(head, length, options) => messages.push(Message::of(&head, length, options)),
            Frame::Data(data) => messages.last_mut().expect("a head came first").body.extend_from_slice(data),
            Frame::Trailers(head) => messages.last_mut().expect("a head came first").trailers = fields(&head),
            Frame::End => {}
        }
    }
}

fn fields(head: &HttpHead) -> Vec<(String, Vec<u8>)> {
    head.fields().map(|(_, name, value)| (text(name), value.to_vec())).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("tokens are ASCII")
}

/// Fields and length as the simplest parser reads them: lines by CR LF, names up to the first colon, no rule of precedence.
fn read_simply(head: &[u8]) -> (Vec<RawField>, BodyLength) {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let text: Vec<char> = head.iter().map(|&b| char::from(b)).collect();
    let text: String = text.into_iter().collect();
    let bytes = |s: &str| s.chars().map(|c| u8::try_from(c).expect("one byte each")).collect::<Vec<_>>();
    let mut fields = Vec::new();
    let mut length = BodyLength::None;
    for line in text.strip_suffix("\r\n\r\n").expect("an empty line ends it").split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').expect("every line is a field");
        let value = value.trim_matches([' ', '\t']);
        fields.push((bytes(name), bytes(value)));
        let this = match &*name.to_ascii_lowercase() {
            "content-length" => BodyLength::Exact(value.parse().expect("a number")),
            "transfer-encoding" => {
                assert!(value.eq_ignore_ascii_case("chunked"));
                BodyLength::Chunked
            }
            _ => continue,
        };
        assert_eq!(length, BodyLength::None, "the length is said twice");
        length = this;
    }
    (fields, length)
}
