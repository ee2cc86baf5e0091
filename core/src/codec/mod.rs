//! Bytes to frames and back, one module a protocol.
//!
//! **Invariant:** never does I/O, never allocates per byte, and gives the same frames however its input is split.

use bytes::BufMut;

/// What every protocol's codec is: a machine without I/O over bytes that its caller lends.
pub trait Codec {
    /// A wire unit.
    type Frame;
    /// Why bytes are no frame: the peer's fault.
    type DecodeError;
    /// Why a frame can't be written: the caller's fault.
    type EncodeError;

    /// The next frame of `src` and how many bytes it took, or `None` when it needs more.
    ///
    /// # Errors
    /// When `src` can't be the start of a frame, whatever follows.
    fn decode(&mut self, src: &[u8]) -> Result<Option<(Self::Frame, usize)>, Self::DecodeError>;

    /// Writes a frame.
    ///
    /// # Errors
    /// When the frame can't be expressed, or `out` lacks room; nothing has been written then.
    fn encode(&mut self, frame: &Self::Frame, out: &mut impl BufMut) -> Result<(), Self::EncodeError>;
}
