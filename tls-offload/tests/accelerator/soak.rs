//! Clients that leave at any moment, while a tenth of what the card computes fails: whoever stays is served, and nothing is left behind.
//!
//! The long form, 50,000 handshakes with OpenSSL and as many with rustls, and 10,000 of each with keys that an engine holds, is run under
//! AddressSanitizer by `make soak`.
//!
//! **Invariant:** the same seed gives the same clients; when the card answers is the clock's.

use tls_offload::Kind;

use super::*;

/// A client, and for how many looks it stays. None: to the end.
struct Visitor {
    shake: Shake,
    looks_left: Option<u32>,
}

/// What so many clients came to.
#[derive(Debug, Default)]
struct Outcome {
    served: usize,
    left: usize,
    /// Resident memory when a fifth had come, and at the end.
    resident_bytes: [usize; 2],
}

/// A card as a provider, of whose operations a tenth fails: software stands in.
fn faulty(backend: Backend, notify: Notify, count: usize) -> Outcome {
    let completion = match notify {
        Notify::Callback => "callback",
        Notify::Poll => "poll",
        Notify::Fd => "fd",
    };
    let mut options = card::options(&[("latency_us", "10000"), ("fail_every", "10"), ("completion", completion)]);
    options.notify = notify;
    let setup = set_up_with(backend, false, Version::Tls13, options);
    let outcome = soak(&setup, count);
    let counts = setup.card.counts();
    println!("{backend:?} {notify:?}: {outcome:?} {counts:?}");
    assert!(counts.faults > 0 && counts.software >= counts.faults, "{counts:?}");
    outcome
}

/// A card as an engine that holds the key: nothing can stand in, so none fails.
fn held(backend: Backend, card: &Accelerator, count: usize) -> Outcome {
    let (folder, key) = (TempDir::new(), new_key(false));
    let file = folder.write("key.pem", &key.serialize_pem());
    let held = Key::Stored(file.to_string_lossy().as_ref().into(), card.clone());
    let setup = set_up_of(backend, Version::Tls13, &key, held, card.clone());
    let outcome = soak(&setup, count);
    let counts = card.counts();
    println!("{backend:?} engine: {outcome:?} {counts:?}");
    assert_eq!((counts.faults, counts.software), (0, 0), "{counts:?}");
    outcome
}

fn soak(setup: &Setup, count: usize) -> Outcome {
    let (mut outcome, mut started, mut draw) = (Outcome::default(), 0, Draw(7));
    let mut here: Vec<Visitor> = Vec::new();
    while outcome.served + outcome.left < count {
        while started < count && here.len() < AT_ONCE {
            let looks_left = draw.below(2).eq(&0).then(|| draw.below(3));
            here.push(Visitor { shake: Shake::new(&setup.server, &setup.client), looks_left });
            started += 1;
            if started == count / 5 {
                outcome.resident_bytes[0] = resident_bytes();
            }
        }
        here.retain_mut(|visitor| is_staying(visitor, &mut outcome));
        std::thread::sleep(turn().unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL));
    }
    while buried() > 0 {
        std::thread::sleep(turn().unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL));
    }
    outcome.resident_bytes[1] = resident_bytes();
    let counts = setup.card.counts();
    assert_eq!((counts.in_flight, counts.is_left), (0, false));
    assert!(outcome.served >= count / 3 && outcome.left >= count / 4, "{outcome:?}");
    assert!(counts.cancelled > 0, "{counts:?}");
    outcome
}

/// A look at a client: whether it is still there after it.
fn is_staying(visitor: &mut Visitor, outcome: &mut Outcome) -> bool {
    if visitor.looks_left == Some(0) {
        outcome.left += 1;
        return false;
    }
    visitor.looks_left = visitor.looks_left.map(|looks| looks - 1);
    visitor.shake.go_on();
    match &visitor.shake.result {
        None => return true,
        Some(Ok(())) => outcome.served += 1,
        Some(Err(error)) => panic!("a client that stayed: {error}"),
    }
    false
}

#[test]
fn clients_may_leave_at_any_moment() {
    for backend in BACKENDS {
        for notify in [Notify::Callback, Notify::Poll, Notify::Fd] {
            faulty(backend, notify, 600);
        }
    }
}

#[test]
#[ignore = "takes minutes: see the head of this file"]
fn soak_of_a_hundred_thousand_clients() {
    for backend in BACKENDS {
        for (notify, count) in [(Notify::Callback, 30_000), (Notify::Poll, 10_000), (Notify::Fd, 10_000)] {
            assert_flat(&faulty(backend, notify, count));
        }
    }
    let mut options = card::options(&[("latency_us", "10000")]);
    options.kind = Kind::Engine;
    match Accelerator::open(options) {
        Ok(card) => BACKENDS.iter().for_each(|&backend| assert_flat(&held(backend, &card, 10_000))),
        Err(error) if error.to_string().contains("this OpenSSL has no engines") => println!("{error}"),
        Err(error) => panic!("{error}"),
    }
}

fn assert_flat(outcome: &Outcome) {
    let [early, late] = outcome.resident_bytes;
    assert!(late < early + GROWTH_BYTES_MAX, "{early} bytes grew to {late}");
}

/// Draws numbers, the same for the same seed (xorshift64*).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        u32::try_from(drawn % u64::from(bound)).expect("below a u32")
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Clients at a time.
const AT_ONCE: usize = 64;
/// What an allocator may keep; a handshake that stays behind takes more than 30 KiB.
const GROWTH_BYTES_MAX: usize = 8 << 20;
