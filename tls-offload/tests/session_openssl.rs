//! The session contract with OpenSSL: on both sides, and on either side of rustls.
//!
//! **Invariant:** nothing but the choice of backends; the tests are in `session/suite.rs`.

#[path = "session/suite.rs"]
#[macro_use]
mod suite;

suite!(openssl, server: OpenSsl, client: OpenSsl);
suite!(openssl_serves_rustls, server: OpenSsl, client: Rustls);
suite!(rustls_serves_openssl, server: Rustls, client: OpenSsl);
