//! Rules about Rust sources, by subject.

pub mod arrows;
pub mod docs;
pub mod fences;
pub mod names;
pub mod sizes;
