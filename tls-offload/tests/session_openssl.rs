//! The session contract with OpenSSL: on both sides, and on either side of rustls.
//!
//! **Invariant:** nothing but the choice of backends; the tests are in `session/contract.rs`.

#[path = "session/contract.rs"]
#[macro_use]
mod contract;

contract!(openssl, server: OpenSsl, client: OpenSsl);
contract!(openssl_serves_rustls, server: OpenSsl, client: Rustls);
contract!(rustls_serves_openssl, server: Rustls, client: OpenSsl);
