//! Benches of the parts that every request passes: see `benches/`.
//!
//! **Invariant:** measures, never decides: no speed is a gate.
