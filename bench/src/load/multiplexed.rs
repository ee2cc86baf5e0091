//! A connection that carries many requests at a time, whatever is spoken on it.
//!
//! **Invariant:** without I/O; a request allocates nothing; no more requests are under way than the load and the server allow.

use super::args::LoadArgs;
use crate::wire::clock::Nanos;
use crate::wire::head::Malformed;

/// The client's side of one connection.
pub(crate) trait Multiplexed: Sized + 'static {
    /// A new connection; what it begins with lies ready to be sent.
    fn new(args: &LoadArgs) -> Self;

    /// Requests that may begin now.
    fn room(&self) -> usize;

    /// Requests under way.
    fn under_way(&self) -> usize;

    /// Nothing is under way, and nothing can be.
    fn is_over(&self) -> bool;

    /// Begins a request that was meant to leave at `intended`.
    fn begin(&mut self, intended: Nanos);

    /// What waits to leave.
    fn unsent(&self) -> &[u8];

    /// So many bytes of it have left.
    fn sent(&mut self, count: usize);

    /// Takes what the server sent; tells what was answered by it.
    fn feed(&mut self, bytes: &[u8], done: impl FnMut(Done)) -> Result<(), Malformed>;
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// When it was meant to leave.
    pub(crate) intended: Nanos,
    /// It was answered as a success.
    pub(crate) is_good: bool,
}
