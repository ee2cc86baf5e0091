//! Measurement: criterion benches of the parts that every request passes (`benches/`), a load generator and an origin of its own.
//!
//! **Invariant:** measures, never decides: no speed is a gate.

pub mod load;
pub mod origin;
pub mod wire;
