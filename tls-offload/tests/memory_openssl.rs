//! What an idle session of OpenSSL costs.
//!
//! **Invariant:** nothing but the backend and its bound.

#[path = "memory/measure.rs"]
mod measure;

#[test]
fn idle_sessions_are_small() {
    let version = tls_offload::openssl_facts().expect("built with it").version;
    let is_old = ["OpenSSL 3.0", "OpenSSL 3.1"].iter().any(|old| version.starts_with(old));
    let bounds =
        if is_old { [SERVER_BYTES_MAX, CLIENT_BYTES_MAX] } else { [NEW_SERVER_BYTES_MAX, NEW_CLIENT_BYTES_MAX] };
    measure::idle_sessions_are_small(tls_offload::Backend::OpenSsl, bounds);
}

/// OpenSSL's two record buffers alone would be 34 KiB.
const SERVER_BYTES_MAX: usize = 16 * 1024;
/// A client of TLS 1.3 keeps the 16 KiB into which it read a ticket; nothing of the API gives them back.
const CLIENT_BYTES_MAX: usize = 32 * 1024;
/// From 3.2 on each direction's keys have a record layer of 4.4 KiB, and from 3.5 on the peer's ML-KEM key stays, 6 KiB: a server's session is 20 KiB
/// with TLS 1.2 and 27 with 1.3. One record buffer would be 17 KiB more.
const NEW_SERVER_BYTES_MAX: usize = 29 * 1024;
const NEW_CLIENT_BYTES_MAX: usize = 42 * 1024;
