//! The card simulator of `tests/support/card`, built where it is needed.
//!
//! **Invariant:** built by the cargo that built the test, into the folder that the test came from.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The module that OpenSSL loads, to the provider `card`.
///
/// # Panics
/// When it can't be built.
#[must_use]
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let program = std::env::current_exe().expect("a test has a file");
        let target = program.ancestors().nth(3).expect("in target/PROFILE/deps");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "card-simulator", "--target-dir"]).arg(target);
        // Not instrumented, where the test is: a module has no place for the sanitizer's own functions.
        cargo.env_remove("RUSTFLAGS");
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be started");
        assert!(built.success(), "the card simulator can't be built");
        target.join("debug/libcard.so")
    })
}
