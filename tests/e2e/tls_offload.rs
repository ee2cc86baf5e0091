//! Keys in accelerators: the card simulator of `tests/support/card` behind the real binary, with curl as a client.

use std::process::Command;

use test_support::certs::Pair;
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Origin, card, skip, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    handshakes_wait_for_the_card_side_by_side,
    a_card_that_must_be_polled_is,
}

/// One worker, and a card that takes long: what waits for it is not one handshake behind the other.
fn handshakes_wait_for_the_card_side_by_side(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let Some(stage) = start(plane, &origin, &pair, "latency_us: \"300000\"", "") else { return };
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

fn a_card_that_must_be_polled_is(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let Some(stage) = start(plane, &origin, &pair, "completion: poll", "notify: poll") else { return };
    for version in ["1.2", "1.3"] {
        let out = curl(&stage, &pair, &[&format!("--tlsv{version}"), "--tls-max", version]);
        assert_eq!(out.as_deref(), Ok("one"), "{version}");
    }
    assert_eq!((of(&stage, "handshakes_total"), of(&stage, "offloaded_total")), (3.0, 3.0));
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
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]).tls_context("accelerator: card0");
    let module = card::module().display();
    let config = config.extra(&format!(
        "tls_backend: {{accelerators: [{{name: card0, id: card, path: \"{module}\", parameters: {{{parameters}}}, {more}}}]}}\n"
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

const CLIENTS: u8 = 6;
const NOT_BUILT: &str = "built without OpenSSL";
