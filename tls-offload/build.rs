//! With the feature `openssl`: finds libssl through pkg-config and links it and libcrypto, dynamically.
//!
//! The declarations are this crate's own (`src/openssl/ffi.rs`): some hundred functions that are the same from OpenSSL 3.0 to 4.x.

use std::process::Command;

const MISSING: &str = "OpenSSL 3.0 or newer was not found by pkg-config. Install the packages `libssl-dev` and `pkg-config` \
                       (Debian: apt-get install libssl-dev pkg-config), or build without the feature `openssl`";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    if std::env::var_os("CARGO_FEATURE_OPENSSL").is_none() {
        return;
    }
    let Some(dirs) = pkg_config(&["--libs-only-L", "openssl >= 3.0.0"]) else {
        println!("cargo::error={MISSING}");
        std::process::exit(1)
    };
    for dir in dirs.split_whitespace().filter_map(|d| d.strip_prefix("-L")) {
        println!("cargo:rustc-link-search=native={dir}");
    }
    println!("cargo:rustc-link-lib=dylib=ssl");
    println!("cargo:rustc-link-lib=dylib=crypto");
}

/// What pkg-config says, or nothing when the library or pkg-config itself is missing.
fn pkg_config(words: &[&str]) -> Option<String> {
    let out = Command::new("pkg-config").args(words).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}
