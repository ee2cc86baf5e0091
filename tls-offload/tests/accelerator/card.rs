//! The pretended card, plugged in.
//!
//! **Invariant:** every card is one of its own.

#![allow(clippy::disallowed_types, reason = "the card is a thread on the real clock")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use test_support::card::module;
use tls_offload::AcceleratorOptions;

/// Options for a card with these parameters.
pub(crate) fn options(parameters: &[(&str, &str)]) -> AcceleratorOptions {
    let mut options = AcceleratorOptions::new("card0", "card", clock);
    // A loaded machine is no defect of the card's.
    options.timeout = Duration::from_secs(60);
    options.module = Some(module().into());
    options.parameters = parameters.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    options
}

/// The real one.
pub(crate) fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
