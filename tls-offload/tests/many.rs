//! Twenty thousand certificates: how long they take to load, and what they hold. By hand, in a release build:
//!
//! `cargo test --release -p tls-offload --features openssl --test many -- --ignored --nocapture`
//!
//! **Invariant:** each certificate and each ECDSA key is another one; the RSA key is loaded anew for each, as if it were.

#![allow(clippy::disallowed_types, reason = "what is measured is the time of a clock on the wall")]

use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use tls_offload::{Backend, Identity, ServerOptions, ServerTls};

/// Names, each with an ECDSA and an RSA certificate.
const NAMES: usize = 10_000;

#[test]
#[ignore = "takes minutes: see the head of this file"]
fn twenty_thousand_certificates_load() {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("there is randomness");
    let mut identities = Vec::new();
    for n in 0..NAMES {
        let names = vec![format!("n{n}.example"), format!("*.n{n}.example")];
        let ecdsa = KeyPair::generate().expect("there is randomness");
        for key in [&ecdsa, &rsa] {
            let params = CertificateParams::new(names.clone()).expect("these are names");
            let certificate = params.self_signed(key).expect("it signs itself");
            let key = key.serialize_pem().as_str().into();
            identities.push(Identity { certificates: certificate.pem().as_str().into(), key, staple: None });
        }
    }
    for backend in [Backend::Rustls, Backend::OpenSsl] {
        let mut options = ServerOptions::new(identities.clone());
        options.backend = backend;
        let (before, begun) = (resident_bytes(), Instant::now());
        let server = match ServerTls::new(options) {
            Ok(server) => server,
            Err(error) => {
                assert!(backend == Backend::OpenSsl && !tls_offload::OPENSSL_BUILT, "{backend:?}: {error}");
                println!("{backend:?}: {error}");
                continue;
            }
        };
        let (took, held) = (begun.elapsed(), resident_bytes().saturating_sub(before));
        println!("{backend:?}: {} in {took:.1?}, {} bytes each", identities.len(), held / identities.len());
        // Bounded: no certificate holds more than some KiB.
        assert!(held / identities.len() < 32 * 1024, "{held}");
        drop(server);
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize = status.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("statm has numbers");
    pages * 4096
}
