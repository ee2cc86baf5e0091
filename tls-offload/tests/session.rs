//! The session contract in software: rustls on both sides.
//!
//! **Invariant:** nothing but the choice of backends; the tests are in `session/suite.rs`.

#[path = "session/suite.rs"]
#[macro_use]
mod suite;

suite!(rustls, server: Rustls, client: Rustls);
