//! Takes frames out of bytes that come in pieces.
//!
//! A frame that is all there is decoded where it lies. The start of one that is not is kept here, so that a connection whose ring is smaller
//! than a frame goes on.
//!
//! **Invariant:** holds no more than the start of one frame, which is shorter than `frame_bytes_max`; between two frames it holds nothing.

use super::{Fault, RpcCodec, RpcFrame, RpcLimits, Step};

/// The start of a frame, if there is one.
#[derive(Debug, Default)]
pub struct Gather {
    bytes: Vec<u8>,
    /// So many are needed to say more.
    needed: usize,
}

impl Gather {
    /// Takes all of `src`, and shows `take` each frame that is whole with it.
    ///
    /// # Errors
    /// When what follows the last of them is no frame; `refused` is shown its bytes, as far as they are there. Nothing more is to come then.
    pub fn feed(
        &mut self,
        codec: &dyn RpcCodec,
        limits: RpcLimits,
        mut src: &[u8],
        mut take: impl FnMut(RpcFrame),
        refused: impl FnOnce(&[u8]),
    ) -> Result<(), Fault> {
        loop {
            let whole = if self.bytes.is_empty() {
                if src.is_empty() {
                    return Ok(());
                }
                src
            } else {
                let wanted = self.needed.saturating_sub(self.bytes.len()).min(src.len());
                self.bytes.extend_from_slice(&src[..wanted]);
                src = &src[wanted..];
                if self.bytes.len() < self.needed {
                    return Ok(());
                }
                &self.bytes
            };
            match codec.decode(whole, limits) {
                Ok(Step::Frame(frame, used)) => {
                    if self.bytes.is_empty() {
                        src = &src[used..];
                    } else {
                        // It was given no byte more than it asked for.
                        debug_assert_eq!(used, self.bytes.len());
                        self.bytes = Vec::new();
                    }
                    take(frame);
                }
                Ok(Step::Needs(needed)) => {
                    debug_assert!(needed > whole.len());
                    if self.bytes.is_empty() {
                        self.bytes.extend_from_slice(src);
                        src = &[];
                    }
                    self.needed = needed;
                }
                Err(fault) => {
                    refused(whole);
                    return Err(fault);
                }
            }
        }
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }
}
