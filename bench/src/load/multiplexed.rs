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

    /// What is between it and the connection.
    fn flow(&self) -> &Flow;

    /// The same, to be changed.
    fn flow_mut(&mut self) -> &mut Flow;

    /// Takes whole messages of the server's: how many bytes they have.
    fn take(&mut self, bytes: &[u8], done: &mut impl FnMut(Done)) -> Result<usize, Malformed>;

    /// What waits to leave.
    fn unsent(&self) -> &[u8] {
        let flow = self.flow();
        &flow.out[flow.sent..]
    }

    /// So many bytes of it have left.
    fn sent(&mut self, count: usize) {
        let flow = self.flow_mut();
        flow.sent += count;
        if flow.sent == flow.out.len() {
            flow.out.clear();
            flow.sent = 0;
        }
    }

    /// Takes what the server sent; tells what was answered by it.
    fn feed(&mut self, bytes: &[u8], mut done: impl FnMut(Done)) -> Result<(), Malformed> {
        if self.flow().stash.is_empty() {
            let used = self.take(bytes, &mut done)?;
            self.flow_mut().stash.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut stash = std::mem::take(&mut self.flow_mut().stash);
        stash.extend_from_slice(bytes);
        let used = self.take(&stash, &mut done)?;
        stash.drain(..used);
        self.flow_mut().stash = stash;
        Ok(())
    }
}

/// Bytes on their way, both ways.
#[derive(Default)]
pub(crate) struct Flow {
    /// Bytes to send; those before `sent` have left.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// The front of a message that came in pieces.
    stash: Vec<u8>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// When it was meant to leave.
    pub(crate) intended: Nanos,
    /// It was answered as a success.
    pub(crate) is_good: bool,
}
