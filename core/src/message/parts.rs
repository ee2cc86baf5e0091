//! What a head consists of, and the heads of the past, for the next ones of this worker.
//!
//! **Invariant:** parts that are taken are empty, whatever they held before.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use super::head::{Field, StartLine};
use super::known::FieldIds;
use super::rpc::RpcSaid;

/// Raw bytes and where things lie in them.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) raw: Vec<u8>,
    pub(super) fields: Vec<Field>,
    pub(super) line: StartLine,
    /// How many of the raw bytes came from the peer, in one piece and checked; what was added here lies behind them.
    pub(super) received: usize,
    /// The ids of the fields that are or were there: what most heads lack is not looked for in each of their fields.
    pub(super) ids: FieldIds,
    /// What a frame of an RPC protocol says of itself; of HTTP's heads nobody asks for it.
    pub(super) said: RpcSaid,
}

/// Parts on the heap: a head moves through many hands, and a pointer moves faster. None only while it is dropped.
pub(super) struct OwnedParts(Option<Box<Parts>>);

impl OwnedParts {
    /// Empty parts, in recycled buffers if there are any.
    pub(super) fn take() -> Self {
        Self(Some(FREE.with_borrow_mut(Vec::pop).unwrap_or_default()))
    }
}

impl Default for OwnedParts {
    fn default() -> Self {
        Self::take()
    }
}

impl Deref for OwnedParts {
    type Target = Parts;

    #[inline]
    fn deref(&self) -> &Parts {
        self.0.as_deref().expect("there until they are dropped")
    }
}

impl DerefMut for OwnedParts {
    #[inline]
    fn deref_mut(&mut self) -> &mut Parts {
        self.0.as_deref_mut().expect("there until they are dropped")
    }
}

impl Drop for OwnedParts {
    fn drop(&mut self) {
        let Some(mut parts) = self.0.take() else { return };
        if parts.raw.capacity() > FREE_BUFFER_BYTES_MAX {
            return;
        }
        parts.raw.clear();
        parts.fields.clear();
        (parts.line, parts.received, parts.ids) = (StartLine::None, 0, FieldIds::default());
        // At thread exit the list may be gone already; then the parts are simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < FREE_PARTS_MAX {
                free.push(parts);
            }
        });
    }
}

thread_local! {
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    static FREE: RefCell<Vec<Box<Parts>>> = const { RefCell::new(Vec::new()) };
}

/// Parts that a worker keeps for later heads, at most.
const FREE_PARTS_MAX: usize = 1024;

/// A larger buffer is given back to the allocator, in bytes.
const FREE_BUFFER_BYTES_MAX: usize = 16 * 1024;
