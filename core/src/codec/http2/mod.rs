//! HTTP/2 (RFC 9113) and its header compression (RFC 7541): frames, settings and heads, strict, without I/O.
//!
//! [`FrameCodec`] cuts the bytes of a connection into [`Frame`]s; [`HeadDecoder`] turns header blocks into heads of the form that the
//! rest of the gateway knows, and [`HeadEncoder`] does the reverse. What frames mean together is the business of `stream::http2`.
//!
//! A decoded head is written as the HTTP/1.1 text that it would be, so that filters and routes read it as they read any other, and an
//! HTTP/1 origin gets it as one copy.
//!
//! **Invariant:** no frame or field costs an allocation of its own; what a peer can make grow is bounded by a limit; nothing that HTTP/1
//! would read in another way passes in.

mod error;
mod frame;
mod head;
mod head_encoder;
pub mod hpack;
mod rules;
#[doc(hidden)]
pub mod selfcheck;
mod settings;
mod upgrade;

pub use error::{ErrorCode, Fault, Malformed, Scope};
pub use frame::{
    FRAME_HEAD_BYTES, Frame, FrameCodec, FrameHead, Kind, flags, put_go_away, put_ping, put_reset, put_settings_ack,
    put_window_update,
};
pub use head::{Decoded, HeadDecoder, HeadError, HeadKind, HeadLimits};
pub use head_encoder::{HeadEncoder, RequestTerms};
pub use settings::{Setting, Settings};
pub use upgrade::{SWITCHING_TO_H2C, offered_settings};

/// What a client's connection starts with (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest window (RFC 9113, 6.9.1), in bytes.
pub const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// The largest stream identifier (RFC 9113, 5.1.1).
pub const STREAM_ID_MAX: u32 = (1 << 31) - 1;
