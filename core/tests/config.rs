//! Configuration files as a user meets them: what is taken, and what is told.

use std::path::{Path, PathBuf};

use ferrogate_core::config::{Config, Diagnostic};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn show(found: &[Diagnostic]) -> String {
    found.iter().map(|d| format!("{d}\n")).collect()
}

#[test]
fn the_shipped_files_load_without_a_word() {
    for name in ["kernel", "dpdk", "demo"] {
        let path = repository(&format!("configs/{name}.yaml"));
        match Config::load(&path) {
            Ok((_, found)) => assert!(found.is_empty(), "{}", show(&found)),
            Err(found) => panic!("{}", show(&found)),
        }
    }
}
