//! One connection of the load, and the request on it.
//!
//! **Invariant:** at most one request at a time; its intended time stays with it until it is answered or given up.

use std::io::{self, ErrorKind};

use super::response::Reader;
use super::result::Errors;
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

impl Fault {
    /// What an error of a connection means that was established or not.
    pub(crate) fn of(error: &io::Error, is_established: bool) -> Self {
        match error.kind() {
            ErrorKind::InvalidData => Self::Protocol,
            ErrorKind::TimedOut if is_established => Self::Timeout,
            _ if !is_established => Self::Connect,
            _ => Self::Reset,
        }
    }

    pub(crate) fn count(self, errors: &mut Errors) {
        match self {
            Self::Connect => errors.connect += 1,
            Self::Timeout => errors.timeout += 1,
            Self::Reset => errors.reset += 1,
            Self::Protocol => errors.protocol += 1,
        }
    }
}

/// Which faults were explained on stderr: the first of each kind is, so that nobody guesses.
#[derive(Default)]
pub(crate) struct Explained([bool; 4]);

impl Explained {
    pub(crate) fn say(&mut self, fault: Fault, error: &io::Error) {
        if !std::mem::replace(&mut self.0[fault as usize], true) {
            eprintln!("the first {fault:?} error: {error}");
        }
    }
}
