//! The pretended card, plugged in.
//!
//! **Invariant:** every card is one of its own.

use test_support::card::module;
use tls_offload::AcceleratorOptions;

/// Options for a card with these parameters.
pub(crate) fn options(parameters: &[(&str, &str)]) -> AcceleratorOptions {
    let mut options = AcceleratorOptions::new("card0", "card");
    options.module = Some(module().into());
    options.parameters = parameters.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    options
}
