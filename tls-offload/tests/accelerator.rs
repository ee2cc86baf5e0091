//! Handshakes whose keys are in a card: many at once on one thread, cancelled, refused, failed; against the simulator in `tests/support/card`.
//!
//! **Invariant:** one thread, as a worker is; what the card does in time is waited for, never assumed.

#[path = "accelerator/card.rs"]
mod card;
#[path = "accelerator/ends.rs"]
mod ends;
#[path = "accelerator/engine.rs"]
mod engine;
#[path = "accelerator/loss.rs"]
mod loss;
#[path = "accelerator/soak.rs"]
mod soak;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use test_support::temp::TempDir;
use tls_offload::{
    Accelerator, AcceleratorOptions, Backend, ClientOptions, ClientTls, Fallback, Identity, Key, Notify, Roots,
    ServerOptions, ServerTls, Session, Step, TlsError, Version, Versions, buried, poll_news, turn,
};

/// A handshake in memory, and whether somebody woke it.
struct Shake {
    client: Session,
    server: Session,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    woken: Arc<Woken>,
    result: Option<Result<(), TlsError>>,
}

#[derive(Default)]
struct Woken {
    is_woken: AtomicBool,
    wakes: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Shake {
    fn new(server: &ServerTls, client: &ClientTls) -> Self {
        let woken = Arc::new(Woken::default());
        woken.is_woken.store(true, Ordering::SeqCst);
        let (to_client, to_server) = (Vec::new(), Vec::new());
        let client = client.session("a.example").unwrap();
        Self { client, server: server.session(), to_client, to_server, woken, result: None }
    }

    /// Goes as far as it can without the card.
    fn go_on(&mut self) {
        if self.result.is_some() || !self.woken.is_woken.swap(false, Ordering::SeqCst) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        for _ in 0..8 {
            let client = step(&mut self.client, &waker, &mut self.to_client, &mut self.to_server);
            let server = step(&mut self.server, &waker, &mut self.to_server, &mut self.to_client);
            match (client, server) {
                (Poll::Ready(Ok(Step::Done)), Poll::Ready(Ok(Step::Done))) => self.result = Some(Ok(())),
                (_, Poll::Ready(Err(error))) => self.result = Some(Err(error)),
                (Poll::Ready(Err(error)), _) => panic!("the client: {error}"),
                (_, Poll::Pending) => return,
                _ => continue,
            }
            return;
        }
        panic!("the handshake stands still");
    }
}

fn step(session: &mut Session, waker: &Waker, from: &mut Vec<u8>, to: &mut Vec<u8>) -> Poll<Result<Step, TlsError>> {
    let mut rest = &from[..];
    let step = session.handshake(&mut Context::from_waker(waker), &mut rest, to);
    let used = from.len() - rest.len();
    from.drain(..used);
    step
}

/// A certificate with its key in a card, and clients that trust it.
struct Setup {
    server: ServerTls,
    client: ClientTls,
    card: Accelerator,
}

fn set_up(rsa: bool, version: Version, options: AcceleratorOptions) -> Setup {
    set_up_with(Backend::Auto, rsa, version, options)
}

fn set_up_with(backend: Backend, rsa: bool, version: Version, options: AcceleratorOptions) -> Setup {
    let key = new_key(rsa);
    let card = Accelerator::open(options).unwrap();
    let accelerated = Key::Accelerated(key.serialize_pem().as_str().into(), card.clone());
    set_up_of(backend, version, &key, accelerated, card)
}

fn new_key(rsa: bool) -> KeyPair {
    if rsa {
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
    } else {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
    }
}

/// `key`: for the certificate; `held`: the same, as the server has it.
fn set_up_of(backend: Backend, version: Version, key: &KeyPair, held: Key, card: Accelerator) -> Setup {
    let certificate = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(key).unwrap().pem();
    let identity = Identity { certificates: certificate.as_str().into(), key: held, staple: None };
    let mut options = ServerOptions::new(vec![identity]);
    options.versions = Versions::only(version);
    options.backend = backend;
    let server = ServerTls::new(options).unwrap();
    let roots = Roots::Pem(certificate.as_str().into());
    let client = ClientTls::new(ClientOptions { roots, ..ClientOptions::default() }).unwrap();
    Setup { server, client, card }
}

/// Drives handshakes to their end; says how many operations of theirs were in the card at once.
fn drive(setup: &Setup, shakes: &mut [Shake]) -> u64 {
    let mut most = 0;
    for _ in 0..40_000 {
        shakes.iter_mut().for_each(Shake::go_on);
        most = most.max(setup.card.counts().in_flight);
        if shakes.iter().all(|s| s.result.is_some()) {
            return most;
        }
        std::thread::sleep(turn().unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL));
    }
    panic!("the handshakes do not end");
}

/// How soon what was refused is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// How soon a handshake goes on whose operation is done.
const LOOK_INTERVAL: Duration = Duration::from_micros(100);

/// OpenSSL, and rustls on fibres.
const BACKENDS: [Backend; 2] = [Backend::Auto, Backend::Rustls];

fn shakes(setup: &Setup, count: usize) -> Vec<Shake> {
    (0..count).map(|_| Shake::new(&setup.server, &setup.client)).collect()
}

#[test]
fn one_thread_has_every_handshake_in_the_card_at_once() {
    for backend in BACKENDS {
        for (completion, notify) in [("callback", Notify::Callback), ("poll", Notify::Poll), ("fd", Notify::Fd)] {
            for (rsa, version) in
                [(false, Version::Tls13), (false, Version::Tls12), (true, Version::Tls13), (true, Version::Tls12)]
            {
                let mut options = card::options(&[("latency_us", "100000"), ("completion", completion)]);
                options.notify = notify;
                let setup = set_up_with(backend, rsa, version, options);
                let mut all = shakes(&setup, 40);
                assert_eq!(drive(&setup, &mut all), 40, "{backend:?} {completion} {version} rsa: {rsa}");
                let failed: Vec<_> = all.iter().filter_map(|s| s.result.as_ref()?.as_ref().err()).collect();
                assert!(failed.is_empty(), "{backend:?} {completion}, RSA {rsa}, {version:?}: {failed:?}");
                let counts = setup.card.counts();
                // And the one of the proof.
                assert_eq!((counts.handshakes, counts.offloaded, counts.in_flight), (41, 41, 0));
            }
        }
    }
}

#[test]
fn what_is_done_before_its_job_has_paused_pauses_all_the_same() {
    for backend in BACKENDS {
        let setup = set_up_with(backend, false, Version::Tls13, card::options(&[("latency_us", "0")]));
        for count in 1..=60 {
            let mut all = shakes(&setup, 1);
            drive(&setup, &mut all);
            assert!(matches!(all[0].result, Some(Ok(()))));
            // And the one of the proof.
            assert_eq!(setup.card.counts().offloaded, count + 1, "{backend:?}");
        }
    }
}

#[test]
fn an_accelerator_that_nobody_uses_is_unloaded() {
    let folder = TempDir::new();
    for (backend, name) in BACKENDS.into_iter().zip(["one", "other"]) {
        let file = folder.path().join(name);
        let mut options = card::options(&[("in_file", &file.display().to_string())]);
        options.timeout = Duration::from_secs(2);
        let setup = set_up_with(backend, false, Version::Tls13, options);
        let mut all = shakes(&setup, 4);
        drive(&setup, &mut all);
        drop(setup);
        assert!(file.exists(), "sessions have its keys");
        drop(all);
        // A worker lets go of it when the last deadline has passed.
        for _ in 0..10_000 {
            if !file.exists() {
                break;
            }
            turn();
            std::thread::sleep(RETRY_INTERVAL);
        }
        assert!(!file.exists(), "{backend:?}");
    }
}

#[test]
fn no_more_than_may_be_are_in_the_card_and_nobody_spins() {
    for backend in BACKENDS {
        // Longer than this thread may be kept from its core: what is in the card at once is then what was let in.
        let mut options = card::options(&[("latency_us", "50000")]);
        options.in_flight_max = 8;
        let setup = set_up_with(backend, false, Version::Tls13, options);
        let mut all = shakes(&setup, 64);
        assert_eq!(drive(&setup, &mut all), 8);
        assert!(all.iter().all(|s| matches!(s.result, Some(Ok(())))));
        let wakes: usize = all.iter().map(|s| s.woken.wakes.load(Ordering::SeqCst)).sum();
        assert!(wakes <= 3 * 64, "woken {wakes} times for 64 handshakes");
        assert!(setup.card.counts().waits >= 56);
    }
}

/// A worker's driver looks again at once where there is news. That the ring is still full is none.
#[test]
fn a_ring_that_others_have_filled_is_tried_again_without_haste() {
    let setup = set_up(false, Version::Tls13, card::options(&[("latency_us", "100000"), ("ring", "1")]));
    let (held, is_held) = mpsc::channel();
    std::thread::scope(|scope| {
        let setup = &setup;
        scope.spawn(move || {
            let mut theirs = shakes(setup, 1);
            theirs[0].go_on();
            assert_eq!(setup.card.counts().in_flight, 1);
            held.send(()).unwrap();
            drive(setup, &mut theirs);
        });
        is_held.recv().unwrap();
        let mut mine = Shake::new(&setup.server, &setup.client);
        let mut turns = 0;
        while mine.result.is_none() {
            turns += 1;
            let wait = turn();
            mine.go_on();
            if poll_news(&mut Context::from_waker(Waker::noop())).is_pending() {
                // Its operation wakes it; here nobody waits for that.
                std::thread::sleep(wait.unwrap_or(RETRY_INTERVAL).min(RETRY_INTERVAL));
            }
        }
        assert!(matches!(mine.result, Some(Ok(()))));
        assert!((10..1000).contains(&turns), "{turns} turns in some 200 ms");
    });
}

#[test]
fn what_a_full_ring_refuses_is_tried_again() {
    for backend in BACKENDS {
        let setup =
            set_up_with(backend, false, Version::Tls13, card::options(&[("latency_us", "30000"), ("ring", "4")]));
        let mut all = shakes(&setup, 64);
        // What the card has done is ours until we look, so a few more than its ring has.
        assert!(drive(&setup, &mut all) < 32);
        assert!(all.iter().all(|s| matches!(s.result, Some(Ok(())))));
        assert!(setup.card.counts().waits > 0);
        let wakes: usize = all.iter().map(|s| s.woken.wakes.load(Ordering::SeqCst)).sum();
        assert!(wakes <= 3 * 64, "woken {wakes} times for 64 handshakes");
    }
}

#[test]
fn handshakes_given_up_in_the_card_stay_in_the_graveyard_until_it_lets_go() {
    for backend in BACKENDS {
        let setup = set_up_with(backend, false, Version::Tls13, card::options(&[("latency_us", "50000")]));
        for round in 1..=3 {
            let mut all = shakes(&setup, 50);
            all.iter_mut().for_each(Shake::go_on);
            assert_eq!(setup.card.counts().in_flight, 50);
            drop(all);
            assert_eq!((buried(), setup.card.counts().cancelled), (50, 50 * round));
            while buried() > 0 {
                std::thread::sleep(turn().unwrap_or_default().min(LOOK_INTERVAL));
            }
            assert_eq!(setup.card.counts().in_flight, 0);
        }
        // The card serves as before.
        let mut all = shakes(&setup, 10);
        drive(&setup, &mut all);
        assert!(all.iter().all(|s| matches!(s.result, Some(Ok(())))));
    }
}

#[test]
fn a_thread_may_end_with_operations_in_the_card() {
    for backend in BACKENDS {
        let setup = set_up_with(backend, false, Version::Tls13, card::options(&[("latency_us", "50000")]));
        let (server, client) = (setup.server.clone(), setup.client.clone());
        std::thread::spawn(move || {
            let mut all: Vec<_> = (0..20).map(|_| Shake::new(&server, &client)).collect();
            all.iter_mut().for_each(Shake::go_on);
        })
        .join()
        .unwrap();
        // Longer than the card takes: its calls for the 20 come while another thread uses it.
        for _ in 0..3 {
            let mut all = shakes(&setup, 10);
            drive(&setup, &mut all);
            assert!(all.iter().all(|s| matches!(s.result, Some(Ok(())))));
        }
    }
}

#[test]
fn a_fault_of_the_card_fails_its_handshake_and_no_other() {
    for backend in BACKENDS {
        let mut options = card::options(&[("latency_us", "1000"), ("fail_every", "10")]);
        options.fallback = Fallback::Fail;
        let setup = set_up_with(backend, false, Version::Tls13, options);
        let mut all = shakes(&setup, 50);
        drive(&setup, &mut all);
        let failed: Vec<_> = all.iter().filter_map(|s| s.result.as_ref()?.as_ref().err()).collect();
        assert_eq!(failed.len(), 5);
        assert!(failed.iter().all(|e| matches!(e, TlsError::Local(_))), "{failed:?}");
    }
}

#[test]
fn an_accelerator_that_does_not_compute_is_told_of_at_the_start() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap().pem();
    let bound = |options: AcceleratorOptions, backend| {
        let key = Key::Accelerated(key.serialize_pem().as_str().into(), Accelerator::open(options).unwrap());
        let identity = Identity { certificates: certificate.as_str().into(), key, staple: None };
        let mut options = ServerOptions::new(vec![identity]);
        options.backend = backend;
        ServerTls::new(options).unwrap_err().to_string()
    };
    // OpenSSL's own software, posing as a card.
    let text = bound(AcceleratorOptions::new("soft", "default", card::clock), Backend::Auto);
    assert!(text.contains("never paused for the accelerator soft"), "{text}");
    let text = bound(AcceleratorOptions::new("old", "legacy", card::clock), Backend::OpenSsl);
    assert!(text.contains("can't be given to the accelerator old"), "{text}");
    let text = bound(AcceleratorOptions::new("soft", "default", card::clock), Backend::Rustls);
    assert!(text.contains("never paused for the accelerator soft"), "{text}");
    for backend in BACKENDS {
        let mut options = card::options(&[("fail_every", "1")]);
        options.fallback = Fallback::Fail;
        let text = bound(options, backend);
        assert!(text.contains("and the accelerator card0 failed: TLS failed on our side"), "{text}");
    }
}

/// By URI, through the store that every OpenSSL has.
#[test]
fn a_key_that_is_named_by_uri_serves() {
    let folder = TempDir::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap().pem();
    let file = folder.write("key.pem", &key.serialize_pem());
    let with = |uri: String| {
        let mut options = AcceleratorOptions::new("soft", "default", card::clock);
        options.asynchronous = false;
        let accelerator = Accelerator::open(options).unwrap();
        let identity = Identity {
            certificates: certificate.as_str().into(),
            key: Key::Stored(uri.into(), accelerator),
            staple: None,
        };
        ServerTls::new(ServerOptions::new(vec![identity]))
    };
    let server = with(format!("file:{}", file.display())).unwrap();
    let roots = Roots::Pem(certificate.as_str().into());
    let client = ClientTls::new(ClientOptions { roots, ..ClientOptions::default() }).unwrap();
    let mut shake = Shake::new(&server, &client);
    shake.go_on();
    assert!(matches!(shake.result, Some(Ok(()))), "{:?}", shake.result);
    let text = with("file:/nowhere/key.pem?pin-value=1234".to_owned()).unwrap_err().to_string();
    assert!(text.contains("the accelerator soft gives no private key file:/nowhere/key.pem: "), "{text}");
}

#[test]
fn an_engine_that_is_not_there_is_told() {
    let mut options = AcceleratorOptions::new("old", "no-such-engine", card::clock);
    options.kind = tls_offload::Kind::Engine;
    let text = Accelerator::open(options).unwrap_err().to_string();
    assert!(text.contains("the accelerator old can't be opened: "), "{text}");
}
