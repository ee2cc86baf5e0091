//! Who seals and opens the records of a connection: the session here, or the plane with the session's keys.
//!
//! **Invariant:** one of the two; what the plane has got never comes back.

use std::cell::Cell;
use std::io;

use tls_offload::{Agreed, PeerCertificate, Session, SessionInfo, SessionState, Unsupported};

use crate::net::Conn;

/// Who does.
#[allow(clippy::large_enum_variant, reason = "the connection around it is boxed as a whole")]
pub(super) enum Records {
    /// The session.
    Ours(Session),
    /// The plane. What the session had agreed is all that is left of it.
    Planes(Agreed),
}

impl Records {
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match self {
            Self::Ours(session) => Some(session),
            Self::Planes(_) => None,
        }
    }

    pub(super) fn are_planes(&self) -> bool {
        matches!(self, Self::Planes(_))
    }

    pub(super) fn info(&self) -> SessionInfo<'_> {
        match self {
            Self::Ours(session) => session.info(),
            Self::Planes(agreed) => agreed.info(),
        }
    }

    pub(super) fn peer_certificate(&self) -> Option<PeerCertificate> {
        match self {
            Self::Ours(session) => session.peer_certificate(),
            Self::Planes(agreed) => agreed.peer_certificate(),
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Ours(session) => session.held_bytes(),
            Self::Planes(_) => 0,
        }
    }

    /// Gives the keys to the plane. The caller has nothing unsent.
    ///
    /// # Errors
    /// The plane had said that it would take them, and did not: the connection is lost.
    pub(super) fn hand_down<C: Conn>(&mut self, conn: &mut C) -> io::Result<Handed> {
        let Self::Ours(session) = self else { return Ok(Handed::Down) };
        match session.exportable() {
            Ok(suite) if conn.can_seal(suite) => {}
            Ok(_) | Err(Unsupported::NotNow) => return Ok(Handed::NotYet),
            Err(_) => return Ok(Handed::Never),
        }
        let Self::Ours(session) = std::mem::replace(self, Self::Planes(Agreed::default())) else {
            return Ok(Handed::Down);
        };
        let SessionState { keys, agreed } = session.export().map_err(io::Error::other)?;
        *self = Self::Planes(agreed);
        conn.seal(keys)?;
        HANDED_DOWN.set(HANDED_DOWN.get() + 1);
        Ok(Handed::Down)
    }
}

/// What became of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    Down,
    /// Something is under way.
    NotYet,
    /// The session does not give them.
    Never,
}

/// Sessions of this thread whose keys the plane has got since the last call.
pub(crate) fn take_handed_down() -> u64 {
    HANDED_DOWN.take()
}

thread_local! {
    static HANDED_DOWN: Cell<u64> = const { Cell::new(0) };
}
