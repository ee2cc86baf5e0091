//! The cases, by what they are about.

pub mod lifetime;
pub mod listening;
pub mod reading;
pub mod relaying;
pub mod writing;
