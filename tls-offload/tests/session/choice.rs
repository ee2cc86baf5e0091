//! What is chosen: suites, groups, and one of very many certificates.
//!
//! **Invariant:** as of the suite: no sockets.

use rcgen::{CertificateParams, KeyPair};
use tls_offload::{Algorithms, Backend, ClientOptions, ClientTls, Identity, ServerTls, TlsError, Version, Versions};

use super::Backends;
use super::pair::{Authority, Pair, server_options, trusting};

pub(crate) fn suites_and_groups_are_those_that_are_named(b: Backends) {
    use Version::{Tls12, Tls13};
    let authority = Authority::new();
    let identity = authority.issue(&["a.example"]);
    let aes = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let chacha = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    // (version, the server's suites and groups, the client's, the suite that they agree on)
    for (version, server, client, agreed) in [
        (Tls12, ("", ""), ("", ""), Some(aes)),
        (Tls12, ("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", ""), ("", ""), Some(chacha)),
        (Tls12, ("", ""), ("ECDHE-ECDSA-CHACHA20-POLY1305", ""), Some(chacha)),
        (Tls12, ("ECDHE-ECDSA-AES128-GCM-SHA256", ""), ("ECDHE-ECDSA-CHACHA20-POLY1305", ""), None),
        (Tls12, ("TLS_AES_128_GCM_SHA256", ""), ("", ""), Some(aes)),
        (Tls13, ("TLS_AES_128_GCM_SHA256", ""), ("", ""), Some("TLS_AES_128_GCM_SHA256")),
        (Tls13, ("ECDHE-ECDSA-AES128-GCM-SHA256", ""), ("", ""), Some("TLS_AES_256_GCM_SHA384")),
        (Tls13, ("TLS_CHACHA20_POLY1305_SHA256", ""), ("TLS_AES_128_GCM_SHA256", ""), None),
        (Tls13, ("", "p384"), ("", ""), Some("TLS_AES_256_GCM_SHA384")),
        (Tls13, ("", "p384"), ("", "x25519"), None),
        // What one of them does not have is no matter, as long as there is another.
        (Tls13, ("", "X25519MLKEM768:X25519"), ("", "X25519MLKEM768:X25519"), Some("TLS_AES_256_GCM_SHA384")),
    ] {
        let algorithms = |(suites, groups)| Algorithms::from_lists(suites, groups).unwrap();
        let mut options = server_options(b, vec![identity.clone()]);
        options.algorithms = algorithms(server);
        let versions = Versions::only(version);
        let of_client = ClientOptions { versions, algorithms: algorithms(client), ..trusting(b, &authority) };
        let client_tls = ClientTls::new(of_client).unwrap();
        let mut pair = Pair::new(&ServerTls::new(options).unwrap(), &client_tls, "a.example");
        match (pair.shake(usize::MAX / 2), agreed) {
            (Ok(()), Some(agreed)) => {
                assert_eq!(pair.server.info().cipher, Some(agreed), "{version} {server:?} {client:?}");
                assert_eq!(pair.client.info().cipher, Some(agreed));
            }
            (Err((_, Some(TlsError::NoAgreement(_)))), None) => {}
            (result, _) => panic!("{version} {server:?} {client:?}: {result:?}"),
        }
    }
    // A group that stands against quantum computers too, where both have it.
    if let (Backend::Rustls, Backend::Rustls) = (b.server, b.client) {
        let only = || Algorithms::from_lists("", "X25519MLKEM768").unwrap();
        let mut options = server_options(b, vec![identity]);
        options.algorithms = only();
        let client = ClientTls::new(ClientOptions { algorithms: only(), ..trusting(b, &authority) }).unwrap();
        Pair::new(&ServerTls::new(options).unwrap(), &client, "a.example").shake(usize::MAX / 2).unwrap();
    }
}

/// Names, wildcards and two kinds of keys for each.
pub(crate) fn of_thousands_of_certificates_the_right_one_is_shown(b: Backends) {
    const NAMES: usize = 1000;
    let authority = Authority::new();
    let keys = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384];
    let keys = keys.map(|kind| KeyPair::generate_for(kind).unwrap());
    let mut identities = Vec::new();
    for n in 0..NAMES {
        for key in &keys {
            let names = vec![format!("n{n}.example"), format!("*.w{n}.example")];
            let certificate = authority.certify_key(CertificateParams::new(names).unwrap(), key);
            let key = key.serialize_pem().as_str().into();
            identities.push(Identity { certificates: certificate.pem().as_str().into(), key, staple: None });
        }
    }
    let server = ServerTls::new(server_options(b, identities)).unwrap();
    let client = ClientTls::new(trusting(b, &authority)).unwrap();
    for (asked, own) in [
        ("n0.example", "n0.example"),
        ("n999.example", "n999.example"),
        ("X.W777.example", "n777.example"),
        ("n1.w1.example", "n1.example"),
    ] {
        let mut pair = Pair::new(&server, &client, asked);
        pair.shake(usize::MAX / 2).unwrap();
        assert_eq!(pair.client.peer_certificate().unwrap().dns_names()[0], own, "{asked}");
    }
    assert!(Pair::new(&server, &client, "n1000.example").shake(usize::MAX / 2).is_err());
}
