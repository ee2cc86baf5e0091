//! The reference page of the configuration, printed from the tables of keys.
//!
//! **Invariant:** nothing is said here that the tables do not say.

/// `docs/reference/configuration.md`.
#[must_use]
pub fn reference_page() -> String {
    String::new()
}
