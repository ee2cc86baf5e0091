//! The pretended card, built and plugged in.
//!
//! **Invariant:** built by the cargo that runs the test, into the folder that the test came from.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tls_offload::{Accelerator, AcceleratorOptions};

/// The module of `tests/support/card`.
pub(crate) fn module() -> PathBuf {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE
        .get_or_init(|| {
            let program = std::env::current_exe().unwrap();
            let target = program.ancestors().nth(3).unwrap().to_owned();
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "card-simulator", "--target-dir"]).arg(&target);
            assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
            target.join("debug/libcard.so")
        })
        .clone()
}

/// Options for a card with these parameters.
pub(crate) fn options(parameters: &[(&str, &str)]) -> AcceleratorOptions {
    let mut options = AcceleratorOptions::new("card0", "card");
    options.module = Some(module());
    options.parameters = parameters.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    options
}

/// A card with these parameters.
#[allow(dead_code, reason = "not every user has a use for it")]
pub(crate) fn plug_in(parameters: &[(&str, &str)]) -> Accelerator {
    Accelerator::open(options(parameters)).unwrap()
}
