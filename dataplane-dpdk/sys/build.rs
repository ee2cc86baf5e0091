//! Finds libdpdk through pkg-config, compiles the shim and links the five libraries it calls.
//!
//! The poll-mode drivers are not linked: EAL loads them from the directory that the distribution's build names.

use std::process::Command;

const MISSING: &str = "libdpdk was not found by pkg-config. Install the packages `libdpdk-dev` and `pkg-config` \
                       (Debian: apt-get install libdpdk-dev pkg-config), or build without the feature `dpdk`";

fn main() {
    println!("cargo:rerun-if-changed=shim.c");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let Some(cflags) = pkg_config("--cflags") else { fail() };
    let Some(dirs) = pkg_config("--libs-only-L") else { fail() };

    let mut shim = cc::Build::new();
    shim.file("shim.c").warnings(true).opt_level(3);
    // In order: `-include rte_config.h` and the `-march` that DPDK's headers need come from here too.
    for flag in cflags.split_whitespace() {
        shim.flag(flag);
    }
    shim.compile("dpdk_shim");
    for dir in dirs.split_whitespace().filter_map(|d| d.strip_prefix("-L")) {
        println!("cargo:rustc-link-search=native={dir}");
    }
    for library in ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring"] {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
}

/// What pkg-config says of libdpdk, or nothing when either is missing.
fn pkg_config(what: &str) -> Option<String> {
    let out = Command::new("pkg-config").args([what, "libdpdk"]).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

fn fail() -> ! {
    println!("cargo::error={MISSING}");
    std::process::exit(1)
}
