//! What an idle session of OpenSSL costs.
//!
//! **Invariant:** nothing but the backend and its bound.

#[path = "memory/measure.rs"]
mod measure;

#[test]
fn idle_sessions_are_small() {
    measure::idle_sessions_are_small(tls_offload::Backend::OpenSsl, [IDLE_SERVER_BYTES_MAX, IDLE_CLIENT_BYTES_MAX]);
}

/// 13 to 14 KiB with OpenSSL 3.0. From 3.2 on each direction's keys have a record layer of 4.4 KiB, and from 3.5 on the peer's ML-KEM key stays,
/// 6 KiB: 20 KiB with TLS 1.2 and 27 with 1.3. One of the two record buffers would be 17 KiB more.
const IDLE_SERVER_BYTES_MAX: usize = 29 * 1024;
/// A client of TLS 1.3 keeps the 16 KiB into which it read a ticket; nothing of the API gives them back.
const IDLE_CLIENT_BYTES_MAX: usize = 42 * 1024;
