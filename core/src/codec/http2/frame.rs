//! Frames (RFC 9113, 4 and 6): bytes to frames and back.
//!
//! **Invariant:** a frame points into the bytes that it was decoded from; a frame that passes has the length and the stream that its kind
//! asks for, whatever its sender said.

use bytes::BufMut;

use super::error::{ErrorCode, Fault};
use super::settings::Setting;
use super::{STREAM_ID_MAX, WINDOW_BYTES_MAX};
use crate::codec::Codec;

/// The nine bytes that each frame starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of its payload.
    pub len: usize,
    /// Its kind; none for those that RFC 9113 does not know.
    pub kind: Option<Kind>,
    /// Its flags, see [`flags`].
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 9113, section 6, speak for themselves")]
#[repr(u8)]
pub enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    Reset = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

/// The flags of frames.
pub mod flags {
    /// DATA, HEADERS: nothing follows on the stream.
    pub const END_STREAM: u8 = 0x1;
    /// SETTINGS, PING: an acknowledgement.
    pub const ACK: u8 = 0x1;
    /// HEADERS, CONTINUATION: the header block ends here.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS: padded.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: with a priority.
    pub const PRIORITY: u8 = 0x20;
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of RFC 9113, section 6")]
pub enum Frame<'a> {
    /// `flow_bytes` is what it counts for in the windows: the data and its padding.
    Data {
        stream: u32,
        data: &'a [u8],
        flow_bytes: u32,
        end_stream: bool,
    },
    Headers {
        stream: u32,
        fragment: &'a [u8],
        end_stream: bool,
        end_headers: bool,
    },
    /// Priorities have no effect (RFC 9113, 5.3.2).
    Priority {
        stream: u32,
    },
    Reset {
        stream: u32,
        code: ErrorCode,
    },
    Settings {
        entries: &'a [u8],
    },
    SettingsAck,
    PushPromise {
        stream: u32,
    },
    Ping {
        ack: bool,
        data: [u8; 8],
    },
    GoAway {
        last_stream: u32,
        code: ErrorCode,
    },
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    Continuation {
        stream: u32,
        fragment: &'a [u8],
        end_headers: bool,
    },
    /// Of a kind that is not known: ignored (RFC 9113, 4.1).
    Unknown {
        stream: u32,
    },
}

/// Cuts bytes into frames.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    /// The longest payload that is taken, in bytes.
    pub frame_bytes_max: usize,
}

impl FrameHead {
    /// Reads the head of a frame.
    #[must_use]
    pub fn parse(bytes: &[u8; FRAME_HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            len: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_ID_MAX,
        }
    }

    /// Writes the head of a frame of a known kind.
    pub fn put(kind: Kind, flags: u8, stream: u32, len: usize, out: &mut impl BufMut) {
        out.put_slice(&Self::bytes(kind, flags, stream, len));
    }

    /// The same, to be put in place later.
    #[must_use]
    pub fn bytes(kind: Kind, flags: u8, stream: u32, len: usize) -> [u8; FRAME_HEAD_BYTES] {
        debug_assert!(len < 1 << 24, "a frame's length has 24 bits");
        let [.., l0, l1, l2] = len.to_be_bytes();
        let [s0, s1, s2, s3] = stream.to_be_bytes();
        [l0, l1, l2, kind as u8, flags, s0, s1, s2, s3]
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Kind {
    /// The kind of this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => return None,
        })
    }
}

impl Frame<'_> {
    /// The frame of this head and payload.
    ///
    /// # Errors
    /// When it has not the length, the stream or the padding that its kind asks for.
    pub fn parse(head: FrameHead, payload: &[u8]) -> Result<Frame<'_>, Fault> {
        let Some(kind) = head.kind else { return Ok(Frame::Unknown { stream: head.stream }) };
        check_stream(kind, head.stream)?;
        let stream = head.stream;
        match kind {
            Kind::Data => {
                let data = unpadded(head, payload)?;
                let flow_bytes = u32::try_from(payload.len()).map_err(|_| SIZE)?;
                Ok(Frame::Data { stream, data, flow_bytes, end_stream: head.has(flags::END_STREAM) })
            }
            Kind::Headers => headers(head, payload),
            Kind::Continuation => {
                Ok(Frame::Continuation { stream, fragment: payload, end_headers: head.has(flags::END_HEADERS) })
            }
            Kind::Priority => match payload.first_chunk() {
                Some(dependency) if payload.len() == 5 => {
                    check_dependency(stream, *dependency)?;
                    Ok(Frame::Priority { stream })
                }
                _ => Err(Fault::stream(stream, ErrorCode::FrameSizeError)),
            },
            Kind::Reset => Ok(Frame::Reset { stream, code: ErrorCode::of(number(payload)?) }),
            Kind::Settings if !head.has(flags::ACK) && payload.len().is_multiple_of(Setting::BYTES) => {
                Ok(Frame::Settings { entries: payload })
            }
            Kind::Settings if head.has(flags::ACK) && payload.is_empty() => Ok(Frame::SettingsAck),
            Kind::Settings => Err(SIZE),
            Kind::PushPromise => Ok(Frame::PushPromise { stream }),
            Kind::Ping => {
                let data = payload.try_into().map_err(|_| SIZE)?;
                Ok(Frame::Ping { ack: head.has(flags::ACK), data })
            }
            Kind::GoAway => match payload {
                [a, b, c, d, code @ ..] if code.len() >= 4 => {
                    let last_stream = u32::from_be_bytes([*a, *b, *c, *d]) & STREAM_ID_MAX;
                    Ok(Frame::GoAway { last_stream, code: ErrorCode::of(number(&code[..4])?) })
                }
                _ => Err(SIZE),
            },
            Kind::WindowUpdate => match number(payload)? & WINDOW_BYTES_MAX {
                0 if stream == 0 => Err(PROTOCOL),
                0 => Err(Fault::stream(stream, ErrorCode::ProtocolError)),
                increment => Ok(Frame::WindowUpdate { stream, increment }),
            },
        }
    }
}

impl Codec for FrameCodec {
    type Frame<'a> = Frame<'a>;
    type DecodeError = Fault;
    type EncodeError = Fault;

    /// The next frame. After an error of [`Scope::Stream`](super::Scope::Stream) the caller skips the frame, whose length its head says,
    /// and goes on.
    #[inline]
    fn decode<'a>(&mut self, src: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, Fault> {
        let Some(head) = src.first_chunk() else { return Ok(None) };
        let head = FrameHead::parse(head);
        if head.len > self.frame_bytes_max {
            return Err(SIZE);
        }
        let end = FRAME_HEAD_BYTES + head.len;
        match src.get(FRAME_HEAD_BYTES..end) {
            Some(payload) => Ok(Some((Frame::parse(head, payload)?, end))),
            None => Ok(None),
        }
    }

    /// Writes a frame, without padding or priority.
    ///
    /// # Errors
    /// `FRAME_SIZE_ERROR` when it is longer than `frame_bytes_max`, or than `out` has room; `PROTOCOL_ERROR` for one that is never sent.
    fn encode(&mut self, frame: &Frame<'_>, out: &mut impl BufMut) -> Result<(), Fault> {
        let end = |flag: u8, set: bool| if set { flag } else { 0 };
        let (kind, flags, stream, payload): (_, _, _, &[u8]) = match frame {
            Frame::Data { stream, data, end_stream, .. } => {
                (Kind::Data, end(flags::END_STREAM, *end_stream), *stream, data)
            }
            Frame::Headers { stream, fragment, end_stream, end_headers } => {
                let flags = end(flags::END_STREAM, *end_stream) | end(flags::END_HEADERS, *end_headers);
                (Kind::Headers, flags, *stream, fragment)
            }
            Frame::Continuation { stream, fragment, end_headers } => {
                (Kind::Continuation, end(flags::END_HEADERS, *end_headers), *stream, fragment)
            }
            Frame::Reset { stream, code } => (Kind::Reset, 0, *stream, &(*code as u32).to_be_bytes()),
            Frame::Settings { entries } => (Kind::Settings, 0, 0, entries),
            Frame::SettingsAck => (Kind::Settings, flags::ACK, 0, b""),
            Frame::Ping { ack, data } => (Kind::Ping, end(flags::ACK, *ack), 0, data),
            Frame::GoAway { last_stream, code } => {
                let payload = (u64::from(*last_stream) << 32 | u64::from(*code as u32)).to_be_bytes();
                return self.write(Kind::GoAway, 0, 0, &payload, out);
            }
            Frame::WindowUpdate { stream, increment } => (Kind::WindowUpdate, 0, *stream, &increment.to_be_bytes()),
            Frame::Priority { .. } | Frame::PushPromise { .. } | Frame::Unknown { .. } => return Err(PROTOCOL),
        };
        self.write(kind, flags, stream, payload, out)
    }
}

impl FrameCodec {
    fn write(&self, kind: Kind, flags: u8, stream: u32, payload: &[u8], out: &mut impl BufMut) -> Result<(), Fault> {
        if payload.len() > self.frame_bytes_max || out.remaining_mut() < FRAME_HEAD_BYTES + payload.len() {
            return Err(SIZE);
        }
        FrameHead::put(kind, flags, stream, payload.len(), out);
        out.put_slice(payload);
        Ok(())
    }
}

/// Writes RST_STREAM.
pub fn put_reset(stream: u32, code: ErrorCode, out: &mut impl BufMut) {
    FrameHead::put(Kind::Reset, 0, stream, 4, out);
    out.put_u32(code as u32);
}

/// Writes WINDOW_UPDATE.
pub fn put_window_update(stream: u32, increment: u32, out: &mut impl BufMut) {
    FrameHead::put(Kind::WindowUpdate, 0, stream, 4, out);
    out.put_u32(increment);
}

/// Writes PING.
pub fn put_ping(ack: bool, data: [u8; 8], out: &mut impl BufMut) {
    FrameHead::put(Kind::Ping, if ack { flags::ACK } else { 0 }, 0, data.len(), out);
    out.put_slice(&data);
}

/// Writes GOAWAY.
pub fn put_go_away(last_stream: u32, code: ErrorCode, out: &mut impl BufMut) {
    FrameHead::put(Kind::GoAway, 0, 0, 8, out);
    out.put_u32(last_stream);
    out.put_u32(code as u32);
}

/// Writes the acknowledgement of SETTINGS.
pub fn put_settings_ack(out: &mut impl BufMut) {
    FrameHead::put(Kind::Settings, flags::ACK, 0, 0, out);
}

fn headers(head: FrameHead, payload: &[u8]) -> Result<Frame<'_>, Fault> {
    let mut fragment = unpadded(head, payload)?;
    if head.has(flags::PRIORITY) {
        let Some((dependency, rest)) = fragment.split_first_chunk() else { return Err(SIZE) };
        let [_weight, rest @ ..] = rest else { return Err(SIZE) };
        check_dependency(head.stream, *dependency)?;
        fragment = rest;
    }
    let (end_stream, end_headers) = (head.has(flags::END_STREAM), head.has(flags::END_HEADERS));
    Ok(Frame::Headers { stream: head.stream, fragment, end_stream, end_headers })
}

/// Which frames belong to a stream and which to the connection.
fn check_stream(kind: Kind, stream: u32) -> Result<(), Fault> {
    let fits = match kind {
        Kind::Data | Kind::Headers | Kind::Priority | Kind::Reset | Kind::PushPromise | Kind::Continuation => {
            stream != 0
        }
        Kind::Settings | Kind::Ping | Kind::GoAway => stream == 0,
        Kind::WindowUpdate => true,
    };
    if fits { Ok(()) } else { Err(PROTOCOL) }
}

/// A stream that depends on itself: nothing depends on priorities any more, but it was never right (RFC 7540, 5.3.1).
///
/// The header block of such a HEADERS frame would have to be decoded all the same, so that it costs the connection.
fn check_dependency(stream: u32, dependency: [u8; 4]) -> Result<(), Fault> {
    if u32::from_be_bytes(dependency) & STREAM_ID_MAX == stream { Err(PROTOCOL) } else { Ok(()) }
}

/// The payload without its padding (RFC 9113, 6.1).
fn unpadded(head: FrameHead, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.has(flags::PADDED) {
        return Ok(payload);
    }
    let [padding, rest @ ..] = payload else { return Err(SIZE) };
    rest.len().checked_sub(usize::from(*padding)).map(|len| &rest[..len]).ok_or(PROTOCOL)
}

fn number(payload: &[u8]) -> Result<u32, Fault> {
    Ok(u32::from_be_bytes(payload.try_into().map_err(|_| SIZE)?))
}

/// The bytes of a frame's head.
pub const FRAME_HEAD_BYTES: usize = 9;

const SIZE: Fault = Fault::connection(ErrorCode::FrameSizeError);
const PROTOCOL: Fault = Fault::connection(ErrorCode::ProtocolError);
