//! The card as an engine: keys that it holds, by their id.
//!
//! **Invariant:** one engine for all: OpenSSL loads no module of them twice. A key is in a file of the test's own, which is its id.

use test_support::skip;
use test_support::temp::TempDir;
use tls_offload::Kind;

use super::*;

#[test]
fn an_engine_serves_with_keys_that_it_holds() {
    let mut options = card::options(&[("latency_us", "50000")]);
    options.kind = Kind::Engine;
    let card = match Accelerator::open(options) {
        Ok(card) => card,
        Err(error) if error.to_string().contains("this OpenSSL has no engines") => {
            return skip!("tls-engine", "{error}");
        }
        Err(error) => panic!("{error}"),
    };
    for backend in BACKENDS {
        for (rsa, version) in
            [(false, Version::Tls13), (false, Version::Tls12), (true, Version::Tls13), (true, Version::Tls12)]
        {
            let (folder, key, before) = (TempDir::new(), new_key(rsa), card.counts());
            let file = folder.write("key.pem", &key.serialize_pem());
            let held = Key::Stored(file.to_string_lossy().as_ref().into(), card.clone());
            let setup = set_up_of(backend, version, &key, held, card.clone());
            let mut all = shakes(&setup, 10);
            assert_eq!(drive(&setup, &mut all), 10, "{backend:?} {version} rsa: {rsa}");
            assert!(all.iter().all(|s| matches!(s.result, Some(Ok(())))), "{backend:?} {version} rsa: {rsa}");
            let counts = card.counts();
            // And the one of the proof.
            assert_eq!((counts.offloaded - before.offloaded, counts.software, counts.in_flight), (11, 0, 0));
        }
    }
    // In use, it can't be told anything new.
    let mut changed = card::options(&[("latency_us", "1")]);
    changed.kind = Kind::Engine;
    let error = Accelerator::open(changed).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("in use already") && error.contains("restart to change it"), "{error}");
}
