//! A card that fails, is slow, is full, goes and comes back: with software to fall back to no client notices.
//!
//! **Invariant:** each card has a file of its own that takes it away.

#![allow(clippy::disallowed_types, reason = "what a card tells comes from any thread")]

use std::fs;
use std::sync::Mutex;

use test_support::temp::TempDir;
use test_support::wait_until;
use tls_offload::{AcceleratorCounts, AcceleratorEvent, Failure};

use super::*;

/// A card that is gone while a file is there.
struct Removable {
    setup: Setup,
    folder: TempDir,
}

impl Removable {
    fn new(backend: Backend, version: Version, gone: &str, change: impl FnOnce(&mut AcceleratorOptions)) -> Self {
        let folder = TempDir::new();
        let file = folder.path().join("gone");
        let mut options =
            card::options(&[("latency_us", "1000"), ("gone_file", &file.to_string_lossy()), ("gone", gone)]);
        options.timeout = Duration::from_millis(500);
        options.retry_interval = Duration::from_millis(200);
        change(&mut options);
        Self { setup: set_up_with(backend, false, version, options), folder }
    }

    fn take_away(&self) {
        fs::write(self.folder.path().join("gone"), "").unwrap();
    }

    fn bring_back(&self) {
        fs::remove_file(self.folder.path().join("gone")).unwrap();
    }

    /// So many handshakes, of which none may fail.
    fn serve(&self, count: usize) -> AcceleratorCounts {
        let mut all = shakes(&self.setup, count);
        drive(&self.setup, &mut all);
        served(&all);
        self.setup.card.counts()
    }
}

fn served(all: &[Shake]) {
    let failed: Vec<_> = all.iter().filter(|s| !matches!(s.result, Some(Ok(())))).map(|s| &s.result).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn of_a_card_with_faults_no_client_notices() {
    for backend in BACKENDS {
        for (rsa, version) in [(false, Version::Tls13), (false, Version::Tls12), (true, Version::Tls13)] {
            let setup =
                set_up_with(backend, rsa, version, card::options(&[("latency_us", "1000"), ("fail_every", "10")]));
            let mut all = shakes(&setup, 100);
            drive(&setup, &mut all);
            served(&all);
            let counts = setup.card.counts();
            // The proof has had one of the first ten.
            assert_eq!((counts.faults, counts.software, counts.is_left), (10, 10, false), "{version} rsa: {rsa}");
            assert_eq!((counts.offloaded, counts.in_flight, buried()), (91, 0, 0));
        }
    }
}

static TOLD: Mutex<Vec<AcceleratorEvent>> = Mutex::new(Vec::new());

#[test]
fn a_card_that_goes_is_left_alone_and_used_again_when_it_is_back() {
    for backend in BACKENDS {
        let card = Removable::new(backend, Version::Tls13, "silent", |options| {
            options.tell = |_, event| TOLD.lock().unwrap().push(event);
        });
        TOLD.lock().unwrap().clear();
        let before = card.serve(20);
        assert_eq!((before.offloaded, before.software), (21, 0));
        let mut under_way = shakes(&card.setup, 40);
        card.take_away();
        drive(&card.setup, &mut under_way);
        served(&under_way);
        let lost = card.setup.card.counts();
        assert!(lost.timeouts >= 8 && lost.is_left && lost.left >= 1, "{lost:?}");
        assert_eq!(lost.software, lost.timeouts + lost.full);
        // It is not asked again but by who tries it, and what is in it is kept until it lets go.
        let alone = card.serve(50);
        assert!(alone.timeouts - lost.timeouts <= 1 + alone.tried, "{alone:?}");
        assert!(buried() > 0 && alone.in_flight > 0);
        card.bring_back();
        wait_until("it is used again", || !card.serve(1).is_left);
        let back = card.serve(20);
        assert_eq!(back.software, card.serve(20).software, "all by the card");
        wait_until("the graveyard is empty", || {
            turn();
            buried() == 0
        });
        assert_eq!(card.setup.card.counts().in_flight, 0);
        let told = TOLD.lock().unwrap();
        assert_eq!(told[0], AcceleratorEvent::Failed(Failure::Timeout));
        assert_eq!(told[1], AcceleratorEvent::Left(Duration::from_millis(200)));
        assert_eq!(told[told.len() - 2..], [AcceleratorEvent::Tried, AcceleratorEvent::Back]);
    }
}

#[test]
fn a_card_that_says_it_is_gone_costs_no_time() {
    for backend in BACKENDS {
        let card =
            Removable::new(backend, Version::Tls13, "fault", |options| options.timeout = Duration::from_secs(60));
        card.take_away();
        let lost = card.serve(30);
        assert!(lost.is_left && lost.faults >= 8 && lost.timeouts == 0, "{lost:?}");
        assert_eq!(lost.software, 30);
        card.bring_back();
        wait_until("it is used again", || !card.serve(1).is_left);
    }
}

/// More than it takes is software's, and no reason to leave it alone.
#[test]
fn a_card_that_is_full_is_helped_by_software() {
    for backend in BACKENDS {
        let mut options = card::options(&[("latency_us", "20000"), ("ring", "4")]);
        options.timeout = Duration::from_millis(70);
        let setup = set_up_with(backend, false, Version::Tls13, options);
        let mut all = shakes(&setup, 64);
        drive(&setup, &mut all);
        served(&all);
        let counts = setup.card.counts();
        assert!(counts.full > 16 && counts.offloaded > 4 && !counts.is_left, "{counts:?}");
        assert_eq!(counts.software, counts.full + counts.timeouts);
    }
}

#[test]
fn with_no_fallback_a_lost_card_is_an_error_at_once() {
    for backend in BACKENDS {
        let card = Removable::new(backend, Version::Tls13, "fault", |options| {
            options.fallback = Fallback::Fail;
            options.failures_max = 3;
            options.retry_interval = Duration::from_secs(60);
        });
        card.take_away();
        for why in ["TLS failed on our side", "card0: it is left alone"] {
            let mut all = shakes(&card.setup, 3);
            drive(&card.setup, &mut all);
            for shake in &all {
                let text = shake.result.as_ref().unwrap().as_ref().unwrap_err().to_string();
                assert!(text.contains(why), "{text}");
            }
        }
        assert_eq!(card.setup.card.counts().faults, 3);
    }
}

/// A card that is lost when the process starts: software serves until it is there.
#[test]
fn a_start_without_the_card_is_served_by_software() {
    for backend in BACKENDS {
        let folder = TempDir::new();
        let file = folder.write("gone", "");
        let mut options = card::options(&[("gone_file", &file.to_string_lossy()), ("gone", "fault")]);
        options.retry_interval = Duration::from_millis(50);
        let setup = set_up_with(backend, false, Version::Tls13, options);
        assert!(setup.card.counts().is_left);
        let mut all = shakes(&setup, 5);
        drive(&setup, &mut all);
        served(&all);
        fs::remove_file(file).unwrap();
        wait_until("the card serves", || {
            let mut all = shakes(&setup, 1);
            drive(&setup, &mut all);
            served(&all);
            !setup.card.counts().is_left
        });
    }
}

/// What a peer breaks is not the card's fault: else anybody could have it left alone.
#[test]
fn no_hello_makes_a_card_look_broken() {
    for fallback in [Fallback::Software, Fallback::Fail] {
        let mut options = card::options(&[("latency_us", "1")]);
        (options.fallback, options.failures_max) = (fallback, 1);
        let setup = set_up(false, Version::Tls13, options);
        let mut hello = Vec::new();
        let mut client = setup.client.session("a.example").unwrap();
        let _ = client.handshake(&mut Context::from_waker(Waker::noop()), &mut &[][..], &mut hello);
        for at in 5..hello.len() {
            let mut changed = hello.clone();
            changed[at] ^= 0x41;
            let mut server = setup.server.session();
            for _ in 0..3 {
                let mut nobody = Context::from_waker(Waker::noop());
                let _ = server.handshake(&mut nobody, &mut &changed[..], &mut Vec::new());
                changed.clear();
            }
            drop(server);
            turn();
        }
        let counts = setup.card.counts();
        assert_eq!((counts.faults, counts.is_left), (0, false), "{fallback:?}");
    }
}

/// A client does not notice that who resumes its session is not who began it.
#[test]
fn sessions_are_resumed_with_the_card_and_without() {
    for backend in BACKENDS {
        for version in [Version::Tls13, Version::Tls12] {
            let card = Removable::new(backend, version, "fault", |options| options.failures_max = 1);
            let resumed = |card: &Removable| {
                let mut all = shakes(&card.setup, 1);
                drive(&card.setup, &mut all);
                served(&all);
                let shake = &mut all[0];
                // The tickets come behind the handshake.
                shake.server.drain(&mut shake.to_client);
                shake.client.open(&mut &shake.to_client[..], &mut Vec::with_capacity(1 << 16)).unwrap();
                shake.server.info().resumed
            };
            assert!(!resumed(&card) && resumed(&card));
            // A client that has no ticket.
            let full = |card: &Removable| {
                let other =
                    ClientTls::new(ClientOptions { roots: Roots::Insecure, ..ClientOptions::default() }).unwrap();
                let mut all = vec![Shake::new(&card.setup.server, &other)];
                drive(&card.setup, &mut all);
                served(&all);
                card.setup.card.counts().is_left
            };
            card.take_away();
            assert!(full(&card));
            assert!(resumed(&card), "by software, {version}");
            card.bring_back();
            wait_until("it is used again", || !full(&card));
            assert!(resumed(&card), "by the card, {version}");
        }
    }
}

/// A caller that looks again, without the record that was left, must not believe that more is wanted.
#[test]
fn who_waits_for_softwares_turn_waits_with_and_without_a_record() {
    let card = Removable::new(Backend::Auto, Version::Tls13, "fault", |options| options.failures_max = 1);
    card.take_away();
    card.serve(4);
    let mut waiting = 0;
    let mut servers = Vec::new();
    for _ in 0..20 {
        let mut hello = Vec::new();
        let mut client = card.setup.client.session("a.example").unwrap();
        let mut nobody = Context::from_waker(Waker::noop());
        let _ = client.handshake(&mut nobody, &mut &[][..], &mut hello);
        let mut server = card.setup.server.session();
        if server.handshake(&mut nobody, &mut &hello[..], &mut Vec::new()).is_pending() {
            waiting += 1;
            assert!(server.handshake(&mut nobody, &mut &[][..], &mut Vec::new()).is_pending());
        }
        servers.push(server);
    }
    assert!(waiting >= 10, "{waiting}");
}
