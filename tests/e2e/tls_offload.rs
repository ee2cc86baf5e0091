//! Keys in accelerators: the card simulator of `tests/support/card` behind the real binary, with curl as a client.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use test_support::certs::Pair;
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Origin, card, skip, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    handshakes_wait_for_the_card_side_by_side,
    handshakes_of_rustls_wait_for_the_card_side_by_side,
    a_card_may_want_to_be_polled_or_tell_by_a_descriptor,
    no_client_notices_that_the_card_is_lost,
}

/// One worker, and a card that takes long: what waits for it is not one handshake behind the other.
fn handshakes_wait_for_the_card_side_by_side(plane: Plane) {
    wait_side_by_side(plane, "auto");
}

/// The same with rustls, on stacks of their own.
fn handshakes_of_rustls_wait_for_the_card_side_by_side(plane: Plane) {
    wait_side_by_side(plane, "rustls");
}

fn wait_side_by_side(plane: Plane, backend: &str) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let Some(stage) = start_with(plane, backend, &origin, &pair, "latency_us: \"300000\"", "") else { return };
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| assert_eq!(curl(&stage, &pair, &[]).as_deref(), Ok("one")));
        }
        wait_until("several operations are in the card", || of(&stage, "in_flight") >= 3.0);
    });
    // And the handshake of the proof.
    assert_eq!(
        (of(&stage, "handshakes_total"), of(&stage, "offloaded_total")),
        (f64::from(CLIENTS + 1), f64::from(CLIENTS + 1))
    );
    assert_eq!(of(&stage, "in_flight"), 0.0);
}

fn a_card_may_want_to_be_polled_or_tell_by_a_descriptor(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    for way in ["poll", "fd"] {
        let (parameters, more) = (format!("completion: {way}"), format!("notify: {way}, timeout: 5s, fallback: fail"));
        let Some(stage) = start(plane, &origin, &pair, &parameters, &more) else { return };
        for version in ["1.2", "1.3"] {
            let out = curl(&stage, &pair, &[&format!("--tlsv{version}"), "--tls-max", version]);
            assert_eq!(out.as_deref(), Ok("one"), "{way} {version}");
        }
        assert_eq!((of(&stage, "handshakes_total"), of(&stage, "offloaded_total")), (3.0, 3.0), "{way}");
    }
}

/// It goes and comes back under load, and a tenth of what it computes fails all the while.
fn no_client_notices_that_the_card_is_lost(plane: Plane) {
    let (origin, pair, folder) = (Origin::start("one"), Pair::for_names(&["test.example"]), TempDir::new());
    let gone = folder.path().join("gone");
    let parameters = format!("latency_us: \"1000\", fail_every: \"10\", gone_file: \"{}\"", gone.display());
    let more = "timeout: 300ms, failures_max: 3, retry_interval: 100ms";
    let Some(stage) = start(plane, &origin, &pair, &parameters, more) else { return };
    let (stop, served) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    assert_eq!(curl(&stage, &pair, &[]).as_deref(), Ok("one"));
                    served.fetch_add(1, Relaxed);
                }
            });
        }
        let _stops = StopAtEnd(&stop);
        wait_until("faults", || of(&stage, "faults_total") >= 3.0);
        assert_eq!(of(&stage, "is_left"), 0.0, "one in ten is no reason");
        std::fs::write(&gone, "").unwrap();
        wait_until("it is left alone", || of(&stage, "is_left") == 1.0);
        let before = served.load(Relaxed);
        wait_until("software serves", || served.load(Relaxed) > before + 20);
        wait_until("it is tried in vain", || of(&stage, "left_total") >= 2.0);
        std::fs::remove_file(&gone).unwrap();
        wait_until("it is back", || of(&stage, "is_left") == 0.0);
        let offloaded = of(&stage, "offloaded_total");
        wait_until("it serves", || of(&stage, "offloaded_total") > offloaded + 10.0);
    });
    wait_until("nothing is left in the card", || of(&stage, "in_flight") == 0.0);
    assert_eq!(stage.gateway.metric("ferrogate_tls_handshake_failed_total", ""), 0.0);
    assert!(of(&stage, "timeouts_total") >= 3.0 && of(&stage, "software_total") >= 20.0);
    let log = stage.gateway.process.output();
    for line in ["an operation failed", "it is left alone", "a handshake tries it again", "it computes again"] {
        assert!(log.contains(line), "{line:?} is not in\n{log}");
    }
}

/// Beyond in_flight_max one waits for the other, and each has its turn.
#[test]
fn handshakes_beyond_in_flight_max_have_their_turn() {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let more = "in_flight_max: 2, timeout: 15s, fallback: fail";
    let Some(stage) = start(Plane::Kernel, &origin, &pair, "latency_us: \"50000\"", more) else { return };
    std::thread::scope(|scope| {
        for _ in 0..4 * CLIENTS {
            scope.spawn(|| assert_eq!(curl(&stage, &pair, &[]).as_deref(), Ok("one")));
        }
    });
    assert!(of(&stage, "waits_total") >= 1.0);
    assert_eq!(of(&stage, "offloaded_total"), f64::from(4 * CLIENTS + 1));
}

/// What a card leaves to software is no card.
#[test]
fn an_accelerator_that_computes_nothing_stops_the_start() {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]).tls_context("accelerator: soft");
    let config = config.extra("tls_backend: {accelerators: [{name: soft, id: default}]}\n");
    let told = check(&config).unwrap_err();
    if !told.contains(NOT_BUILT) {
        assert!(told.contains("never paused for the accelerator soft, so software computed it"), "{told}");
    }
}

/// A gateway whose key is in a card. None, and a skipped row, where it can't run.
fn start(plane: Plane, origin: &Origin, pair: &Pair, parameters: &str, more: &str) -> Option<Stage> {
    start_with(plane, "auto", origin, pair, parameters, more)
}

fn start_with(
    plane: Plane,
    backend: &str,
    origin: &Origin,
    pair: &Pair,
    parameters: &str,
    more: &str,
) -> Option<Stage> {
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]).tls_context("accelerator: card0");
    let module = card::module().display();
    let config = config.extra(&format!(
        "tls_backend: {{backend: {backend}, accelerators: [{{name: card0, id: card, path: \"{module}\", parameters: {{{parameters}}}, {more}}}]}}\n"
    ));
    if check(&config).is_err_and(|told| told.contains(NOT_BUILT)) {
        skip!("e2e-openssl", "this binary is built without OpenSSL");
        return None;
    }
    plane.start(config)
}

/// What `ferrogate check` says of a file.
fn check(config: &Config) -> Result<String, String> {
    let folder = TempDir::new();
    run(Command::new(binary()).args(["check", "-c"]).arg(folder.write("gateway.yaml", &config.text())))
}

/// A number of the accelerator.
fn of(stage: &Stage, name: &str) -> f64 {
    stage.gateway.metric(&format!("ferrogate_tls_accelerator_{name}"), "accelerator=\"card0\"")
}

/// What curl gets over a connection of its own.
fn curl(stage: &Stage, pair: &Pair, arguments: &[&str]) -> Result<String, String> {
    let (ip, port) = (stage.address.ip(), stage.address.port());
    let mut command = stage.client_command("curl");
    command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(&pair.certificate);
    command.args(["--resolve", &format!("test.example:{port}:{ip}")]).args(arguments);
    run(command.arg(format!("https://test.example:{port}/")))
}

/// Ends the load whatever happens, so that a failed wait is told.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

const CLIENTS: u8 = 6;
const NOT_BUILT: &str = "built without OpenSSL";
