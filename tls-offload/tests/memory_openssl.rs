//! What an idle session of OpenSSL costs.
//!
//! **Invariant:** nothing but the backend and its bound.

#[path = "memory/measure.rs"]
mod measure;

#[test]
fn idle_sessions_are_small() {
    measure::idle_sessions_are_small(tls_offload::Backend::OpenSsl, [IDLE_SERVER_BYTES_MAX, IDLE_CLIENT_BYTES_MAX]);
}

/// OpenSSL's two record buffers alone would be 34 KiB.
const IDLE_SERVER_BYTES_MAX: usize = 16 * 1024;
/// A client of TLS 1.3 keeps the 16 KiB into which it read a ticket; nothing of the API gives them back.
const IDLE_CLIENT_BYTES_MAX: usize = 32 * 1024;
