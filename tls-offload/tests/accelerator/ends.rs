//! A process that ends while the card computes for it.
//!
//! **Invariant:** who ends so is a process of its own: the program of these tests, started once more.

#![allow(clippy::disallowed_types, reason = "the card is a thread on the real clock")]

use std::process::Command;
use std::time::Instant;

use super::*;

#[test]
fn a_process_may_end_with_operations_in_the_card() {
    let program = std::env::current_exe().unwrap();
    for name in ["leaves_openssl", "leaves_rustls"] {
        for _ in 0..5 {
            let path = format!("ends::{name}");
            let ended = Command::new(&program).args(["--exact", "--ignored", &path]).output().unwrap();
            assert!(ended.status.success(), "{name}: {ended:?}");
            assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"), "{ended:?}");
        }
    }
}

#[test]
#[ignore = "ends with operations in the card: the test above runs it"]
fn leaves_openssl() {
    leave(Backend::Auto);
}

#[test]
#[ignore = "ends with operations in the card: the test above runs it"]
fn leaves_rustls() {
    leave(Backend::Rustls);
}

/// What is begun in this time ends in as much time, a latency later: that is when the process has come to its own end.
fn leave(backend: Backend) {
    let options = card::options(&[("latency_us", "40000"), ("slots", "4096"), ("ring", "4096")]);
    let setup = set_up_with(backend, false, Version::Tls13, options);
    let mut all = shakes(&setup, 500);
    let begin = Instant::now();
    let count = all.iter_mut().take_while(|_| begin.elapsed() < Duration::from_millis(40)).map(Shake::go_on).count();
    assert!(count > 10 && setup.card.counts().in_flight > 0, "{count}");
}
