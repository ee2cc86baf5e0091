//! The session contract in software: rustls on both sides.
//!
//! **Invariant:** nothing but the choice of backends; the tests are in `session/contract.rs`.

#[path = "session/contract.rs"]
#[macro_use]
mod contract;

contract!(rustls, server: Rustls, client: Rustls);
