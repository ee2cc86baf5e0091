//! `run`, `report` and `compare` as a user calls them, on small windows; and the configurations of all proxies by their own checks.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ferrogate_bench::backend::{self, Backend, Programs};
use ferrogate_bench::results::{Cell, Level, Results};
use ferrogate_bench::run::place::{Place, PlaceOptions};
use ferrogate_bench::scenario;
use test_support::process::Process;
use test_support::skip;
use test_support::temp::TempDir;
use test_support::wait::wait_until;

/// The gateway beside the program under test; none where only this package was built.
fn gateway() -> Option<PathBuf> {
    let beside = Path::new(BENCH).with_file_name("ferrogate");
    if beside.is_file() {
        return Some(beside);
    }
    skip!("bench-gateway", "no gateway at {}: build the workspace", beside.display());
    None
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(BENCH).args(arguments).output().expect("the program runs")
}

fn said(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_configuration_passes_its_proxys_check() {
    let Some(ferrogate) = gateway() else { return };
    let place = Place::make(
        PlaceOptions { loopback: true, steer: false, proxy_core: 0, load_core: 0, dpdk: false },
        BENCH.into(),
    );
    let place = place.expect("loopback needs no rights");
    let programs = Programs { ferrogate, envoy: None, mosn: None };
    for (name, backend) in backend::all(&programs) {
        let Ok(backend) = backend else { continue };
        // One of each kind; the others write the same files.
        for scenario in [
            "h1-keepalive",
            "h1-real",
            "h1-body-1m",
            "tls-full-rsa2048",
            "tls-to-origin",
            "idle-tls-100k",
            "h2-clear",
            "h2-tls",
            "tcp-proxy",
        ] {
            let scenario = scenario::named(&[scenario.to_owned()]).expect("they exist")[0];
            check(&place, &backend, scenario);
        }
        println!("{name}: checked");
    }
}

fn check(place: &Place, backend: &Backend, scenario: &scenario::Scenario) {
    let (mut site, _) = place.site(backend, scenario).expect("there are free ports");
    if backend.polls() {
        // There is no such device here, and `check` does not look for it; but no port has an address of loopback.
        site.listen.set_ip(Ipv4Addr::new(198, 18, 0, 1).into());
        site.port = Some(("net_af_xdp0,iface=none".to_owned(), site.listen));
    }
    backend.command(&site).expect("the files can be written");
    let mut check = backend.check(&site).expect("all that are installed can check");
    let output = check.output().expect("it runs");
    assert!(output.status.success(), "{} {}: {}", backend.name, scenario.name, said(&output));
}

#[test]
fn a_small_run_gives_results_and_a_report() {
    let Some(ferrogate) = gateway() else { return };
    let folder = TempDir::new();
    let out = folder.path().join("results.jsonl");
    let (out, ferrogate) = (out.to_str().expect("a plain path"), ferrogate.to_str().expect("a plain path"));
    let run = bench(&[
        "run",
        "--wire",
        "loopback",
        "--scenario",
        "h1-keepalive,h2-clear,h2-tls,bolt*",
        "--backend",
        "ferrogate-kernel,nginx",
        "--rounds",
        "2",
        "--seconds",
        "0.2",
        "--warmup",
        "0.1",
        "--out",
        out,
        "--ferrogate",
        ferrogate,
    ]);
    assert!(run.status.success(), "{}", said(&run));

    let results = Results::read(Path::new(out)).expect("our own format");
    let has_nginx = !results.absent.iter().any(|a| a.backend == "nginx");
    for scenario in ["h1-keepalive", "h2-clear", "h2-tls"] {
        for backend in ["ferrogate-kernel", "nginx"].into_iter().take(if has_nginx { 2 } else { 1 }) {
            for level in [Level::Saturation, Level::Fixed] {
                let fits = |c: &&Cell| c.scenario == scenario && c.backend == backend && c.level == level;
                let cells: Vec<_> = results.cells.iter().filter(fits).collect();
                assert_eq!(cells.len(), 2, "{scenario} {backend}: {}", said(&run));
                for cell in cells {
                    assert!(cell.load.requests > 0 && cell.load.errors_total() == 0, "{cell:?}");
                    assert!(cell.usage.cpu_ns > 0 && cell.usage.rss_bytes > 0, "{cell:?}");
                }
            }
        }
    }
    for scenario in ["bolt", "bolt-multiplexed"] {
        let calls: Vec<_> = results.cells.iter().filter(|c| c.scenario == scenario).collect();
        assert_eq!(calls.len(), 2, "one round, both levels: {}", said(&run));
        assert!(calls.iter().all(|c| c.load.requests > 0 && c.load.errors_total() == 0), "{calls:?}");
    }

    let page = folder.path().join("report.html");
    let report = bench(&["report", out, "--html", page.to_str().expect("a plain path")]);
    assert!(report.status.success(), "{}", said(&report));
    let page = fs::read_to_string(page).expect("it was written");
    assert!(page.contains("h1-keepalive") && page.contains("ferrogate-kernel") && page.contains("bolt"));
    let text = said(&bench(&["report", out]));
    assert!(text.contains("CPU per request"), "{text}");
    // Two rounds are no verdict.
    let compared = bench(&["compare", out, out]);
    assert!(compared.status.success() && said(&compared).contains("noisy"), "{}", said(&compared));
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let Some(ferrogate) = gateway() else { return };
    let folder = TempDir::new();
    let out = folder.path().join("results.jsonl");
    let mut command = Command::new(BENCH);
    command.args([
        "run",
        "--scenario",
        "h1-keepalive",
        "--backend",
        "ferrogate-kernel",
        "--rounds",
        "1000",
        "--no-counts",
    ]);
    command.arg("--out").arg(&out).arg("--ferrogate").arg(ferrogate);
    let mut run = Process::start(&mut command);
    let mut ended = false;
    wait_until("a cell is measured, or the ground can't be made", || {
        ended = run.ended().is_some();
        ended || fs::read_to_string(&out).is_ok_and(|t| t.contains("\"kind\":\"cell\""))
    });
    if ended {
        let _ = run.wait();
        return skip!("bench-veth", "{}", run.output());
    }
    let id = run.id();
    // Twice, as the impatient do.
    run.signal("INT");
    run.signal("INT");
    let status = run.wait();
    assert!(!status.success(), "{}", run.output());
    assert!(run.output().contains("interrupted"), "{}", run.output());

    let name = format!("fgbench{id}");
    assert!(!Path::new("/run/netns").join(&name).exists(), "the namespace is left");
    assert!(!Path::new("/sys/class/net").join(format!("{name}k")).exists(), "a link is left");
    let ours = format!("ferrogate-bench-{id}-");
    let begins = |e: fs::DirEntry| e.file_name().to_string_lossy().starts_with(&ours);
    assert!(!fs::read_dir("/dev/shm").is_ok_and(|d| d.flatten().any(begins)), "the folder is left");
    let with_us = |e: &fs::DirEntry| fs::read_to_string(e.path().join("cmdline")).is_ok_and(|c| c.contains(&ours));
    let left: Vec<_> = fs::read_dir("/proc").expect("there are processes").flatten().filter(with_us).collect();
    assert!(left.is_empty(), "processes are left: {left:?}");
    // What was measured is kept.
    assert!(!Results::read(&out).expect("our own format").cells.is_empty());
}

#[test]
fn a_planted_slow_down_is_found_and_identical_binaries_are_not_slower() {
    let Some(ferrogate) = gateway() else { return };
    let folder = TempDir::new();
    let Some(slow) = slowed_down(&folder, &ferrogate, 15_000) else { return };
    let compare = |b: &Path| {
        let (a, b) = (ferrogate.to_str().expect("a plain path"), b.to_str().expect("a plain path"));
        bench(&[
            "compare",
            "--loopback",
            "--binary-a",
            a,
            "--binary-b",
            b,
            "--rounds",
            "7",
            "--seconds",
            "0.2",
            "--warmup",
            "0.1",
        ])
    };
    let work = |output: &Output| {
        let text = said(output);
        let row = text
            .lines()
            .find(|l| l.contains("saturation") && l.contains("CPU per request"))
            .unwrap_or_else(|| panic!("{text}"));
        row.to_owned()
    };
    let planted = compare(&slow);
    assert!(work(&planted).contains("SLOWER"), "{}", said(&planted));
    assert_eq!(planted.status.code(), Some(1));
    let identical = compare(&ferrogate);
    assert!(!work(&identical).contains("SLOWER"), "{}", said(&identical));
}

/// The same gateway behind a library that burns so many nanoseconds in each look at the clock: some five a request. None where there is no C compiler.
fn slowed_down(folder: &TempDir, ferrogate: &Path, nanoseconds: u32) -> Option<PathBuf> {
    let source = folder.write("slow.c", &SLOW.replace("NANOSECONDS", &nanoseconds.to_string()));
    let library = folder.path().join("slow.so");
    let built = Command::new("cc").args(["-O2", "-fPIC", "-shared", "-o"]).arg(&library).arg(&source).output();
    if !built.as_ref().is_ok_and(|o| o.status.success()) {
        skip!("bench-planted", "no C compiler: {built:?}");
        return None;
    }
    let script = format!("#!/bin/sh\nLD_PRELOAD={} exec {} \"$@\"\n", library.display(), ferrogate.display());
    let script = folder.write("slow.sh", &script);
    let made = Command::new("chmod").arg("755").arg(&script).status();
    made.is_ok_and(|s| s.success()).then_some(script)
}

const SLOW: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *told) {
    struct timespec start, now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &start);
    do syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < NANOSECONDS);
    return syscall(SYS_clock_gettime, clock, told);
}
"#;

const BENCH: &str = env!("CARGO_BIN_EXE_ferrogate-bench");
