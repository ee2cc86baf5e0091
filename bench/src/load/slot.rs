//! One connection of the load, and the request on it.
//!
//! **Invariant:** at most one request at a time; its intended time stays with it until it is answered or given up.

use super::response::Reader;
use crate::wire::clock::Nanos;
use crate::wire::io::Io;

/// A place for a connection. It outlives the connections that come and go in it.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) io: Option<Io>,
    pub(crate) phase: Phase,
    pub(crate) reader: Reader,
    /// Number of the request under way.
    pub(crate) request: u32,
    /// Bytes of it that were sent.
    pub(crate) sent: usize,
    /// When the request was meant to leave.
    pub(crate) intended: Nanos,
    /// When the request, the opening or the close is given up.
    pub(crate) deadline: Nanos,
    /// Requests answered on this connection.
    pub(crate) served: u32,
    /// The connection was established, and counted.
    pub(crate) is_counted: bool,
    /// The run still waits for this slot's first connection.
    pub(crate) is_first: bool,
}

/// What a slot is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No request; a connection or not.
    #[default]
    Free,
    /// No request; the connection is being opened.
    Opening,
    /// A request is under way.
    Busy,
    /// The last answer has come; the peer's close has not.
    Closing,
}

/// Why a request has no good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Connect,
    Timeout,
    Reset,
    Protocol,
}
