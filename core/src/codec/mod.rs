//! Bytes to frames and back, one module a protocol.
//!
//! **Invariant:** never does I/O, never allocates per byte, and gives the same frames however its input is split.

pub mod client_hello;
pub mod detect;
pub mod http1;
pub mod http2;
pub mod proxy_protocol;
#[doc(hidden)]
pub mod selfcheck;
pub mod websocket;
pub mod xprotocol;

use bytes::BufMut;

/// What every protocol's codec is: a machine without I/O over bytes that its caller lends.
pub trait Codec {
    /// A wire unit. It may point into the bytes it was decoded from.
    type Frame<'a>;
    /// Why bytes are no frame: the peer's fault.
    type DecodeError;
    /// Why a frame can't be written: the caller's fault.
    type EncodeError;

    /// The next frame of `src` and how many bytes it took, or `None` when it needs more.
    ///
    /// After `None` the caller shows the same bytes again, with more behind them.
    ///
    /// # Errors
    /// When `src` can't be the start of a frame, whatever follows.
    fn decode<'a>(&mut self, src: &'a [u8]) -> Result<Option<(Self::Frame<'a>, usize)>, Self::DecodeError>;

    /// Writes a frame.
    ///
    /// # Errors
    /// When the frame can't be expressed, or `out` lacks room; nothing has been written then.
    fn encode(&mut self, frame: &Self::Frame<'_>, out: &mut impl BufMut) -> Result<(), Self::EncodeError>;
}
