//! What the tests share: connections in memory, and small drivers for any connection.
//!
//! **Invariant:** for tests only: panics where a caller breaks a contract.

pub mod drive;
pub mod memory_conn;
