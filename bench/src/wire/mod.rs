//! What the load generator and the origin share: the clock, heads of HTTP/1 and Bolt, bodies as they are skipped, and one connection's bytes.
//!
//! **Invariant:** nothing here allocates for a message that arrives in one piece.

pub(crate) mod body;
pub(crate) mod bolt;
pub(crate) mod clock;
pub(crate) mod head;
pub(crate) mod io;
