//! Records that the kernel seals and opens (kTLS), where it can; where it can't, what is said of that. tests/ktls has a kernel that can.

use std::fmt::Write;
use std::process::Command;

use test_support::certs::Authority;
use test_support::{Config, Gateway, Origin, pattern, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes};

on_both_planes! {
    the_kernel_seals_where_it_can,
}

fn the_kernel_seals_where_it_can(plane: Plane) {
    let (origin, authority) = (Origin::start("one"), Authority::new("ours"));
    let (certificate, key) = authority.issue("server", &["test.example"]);
    for ktls in ["off", "auto"] {
        let config = Config::proxy_to(&[origin.address()]).tls(&[(&certificate, &key)]);
        let Some(stage) = plane.start(config.extra(&format!("tls_backend: {{ktls: {ktls}}}\n"))) else { return };
        for version in ["--tls-max 1.2", "--tlsv1.3"] {
            assert_eq!(curl(&stage, &authority, version), SUNK, "{ktls} {version}");
        }
        let metric = || stage.gateway.metric("ferrogate_ktls_connection_total", "");
        let said = stage.gateway.process.output();
        if said.contains("the kernel seals the records of TLS") {
            assert_eq!(ktls, "auto");
            wait_until("both connections are counted", || metric() >= 2.0);
        } else {
            let why = "sealed in this process, not by the kernel";
            assert_eq!(said.contains(why), ktls == "auto", "{said}");
            assert!(metric() < 1.0);
        }
    }
}

/// Two uploads on one connection; what the origin says of them.
fn curl(stage: &Stage, authority: &Authority, words: &str) -> String {
    let mut command: Command = stage.client_command("curl");
    let port = stage.address.port();
    let mut url = String::new();
    write!(url, "https://test.example:{port}/sink?[1-2]").unwrap();
    let body = authority.certificate.with_file_name("body");
    std::fs::write(&body, pattern::bytes(300_000)).unwrap();
    command.args(["-sS", "--max-time", "30", "--noproxy", "*", "-w", " ", "-H", "Expect:", "--data-binary"]);
    command.arg(format!("@{}", body.display()));
    command
        .arg("--cacert")
        .arg(&authority.certificate)
        .args(["--resolve", &format!("test.example:{port}:{}", stage.address.ip())]);
    let out = command.args(words.split(' ')).arg(url).output().expect("curl is there");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// `require` is kept, or there is no start and a remedy is named.
#[test]
fn what_is_required_is_there_or_nothing_is() {
    let (origin, authority) = (Origin::start("one"), Authority::new("ours"));
    let (certificate, key) = authority.issue("server", &["test.example"]);
    let config = |more: &str| {
        let config = Config::proxy_to(&[origin.address()]).tls(&[(&certificate, &key)]);
        config.extra(&format!("tls_backend: {{{more}ktls: require}}\n"))
    };
    let auto = Config::proxy_to(&[origin.address()]).tls(&[(&certificate, &key)]).extra("tls_backend: {ktls: auto}\n");
    let can = Gateway::start(binary(), &auto).process.output().contains("the kernel seals the records of TLS");
    if can {
        let stage = Plane::Kernel.start(config("")).expect("always there");
        assert_eq!(curl(&stage, &authority, "--tlsv1.3"), SUNK);
    } else {
        let exited = Gateway::refused(binary(), &config("").text());
        assert_eq!(exited.status.code(), Some(1), "{}", exited.output);
        for words in ["tls_backend.ktls: require", "modprobe tls", "\"http\""] {
            assert!(exited.output.contains(words), "{words}: {}", exited.output);
        }
    }
    let exited = Gateway::refused(binary(), &config("backend: openssl, ").text());
    assert!(exited.output.contains("OpenSSL gives no keys of a session out"), "{}", exited.output);
}

const SUNK: &str = "bytes=300000 intact=true bytes=300000 intact=true";
