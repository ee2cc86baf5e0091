//! What an idle session of rustls costs.
//!
//! **Invariant:** nothing but the backend and its bound.

#[path = "memory/measure.rs"]
mod measure;

#[test]
fn idle_sessions_are_small() {
    measure::idle_sessions_are_small(tls_offload::Backend::Rustls, [IDLE_SESSION_BYTES_MAX; 2]);
}

/// The buffered interface alone would add 4 KiB of input buffer at least.
const IDLE_SESSION_BYTES_MAX: usize = 6 * 1024;
