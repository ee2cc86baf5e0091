//! TLS that is looked at and not taken off, and TLS beside clear text.

use std::process::Command;
use std::time::Duration;

use test_support::certs::Pair;
use test_support::nginx::Nginx;
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Origin, skip, wait_until};

use crate::stage::{Plane, Stage, on_both_planes};

on_both_planes! {
    tls_and_clear_text_share_a_port,
    names_choose_the_host,
}

/// What a client of this name gets, which trusts this certificate alone.
fn curl(stage: &Stage, trusted: &Pair, name: &str, more: &[&str]) -> Result<String, String> {
    let port = stage.address.port();
    let mut command = stage.client_command("curl");
    command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(&trusted.certificate);
    command.args(["--resolve", &format!("{name}:{port}:{}", stage.address.ip())]).args(more);
    run(command.arg(format!("https://{name}:{port}/head")))
}

fn tls_and_clear_text_share_a_port(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]).listener("inspector: true");
    let config = config.limit("head_timeout", "700ms");
    let Some(stage) = plane.start(config) else { return };
    for version in ["1.2", "1.3"] {
        let head = curl(&stage, &pair, "test.example", &[&format!("--tlsv{version}"), "--tls-max", version]);
        assert!(head.as_ref().is_ok_and(|head| head.contains("x-forwarded-proto: https")), "{version}: {head:?}");
    }
    let head = stage.client().get("/head").text();
    assert!(head.contains("x-forwarded-proto: http\r\n"), "{head}");
    // One byte tells enough, one way and the other.
    let mut slow = stage.client();
    slow.send(b"G").unwrap();
    assert!(slow.is_silent_for(Duration::from_millis(100)));
    slow.send(b"ET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(slow.answer_to("GET").text(), "one");
    let mut broken = stage.client();
    broken.send(b"\x16\x03\x01\xff\xffhello").unwrap();
    assert!(broken.rest().is_ok_and(|alert| alert.first() == Some(&21)), "it is answered as TLS");
    assert!(stage.client().is_closed(), "who says nothing is not waited for");
}

fn names_choose_the_host(plane: Plane) {
    let names = ["shop.example", "api.shop.example", "other.example"];
    let pairs: Vec<Pair> = names.iter().map(|name| Pair::for_names(&[name])).collect();
    let mut hosts = Vec::new();
    for pair in &pairs {
        match Nginx::start(Some(pair.paths())) {
            Ok(nginx) => hosts.push(nginx),
            Err(reason) => return skip!("e2e-nginx", "{reason}"),
        }
    }
    let clear = Origin::start("clear");
    let folder = TempDir::new();
    let log = folder.path().join("access.log");
    let line = format!(
        "access_logs: [{{log_path: \"{}\", log_format: \"%requested_server_name% %upstream_cluster%\"}}]",
        log.display()
    );
    let config = Config::proxy_to(&[clear.address()])
        .more_origins("shop", &[hosts[0].address.to_string()])
        .more_origins("below", &[hosts[1].address.to_string()])
        .more_origins("others", &[hosts[2].address.to_string()])
        .listener("listener_filters: [{type: tls_inspector}]")
        .listener(&line)
        .filter(
            "{type: tcp_proxy, config: {routes: [{cluster: shop, server_names: [shop.example]}, {cluster: below, server_names: \
             [\"*.shop.example\"]}, {cluster: others, server_names: [\"*.example\"]}, {cluster: origins}]}}",
        );
    let Some(stage) = plane.start(config) else { return };
    for (name, pair) in names.iter().zip(&pairs) {
        // Each host has a certificate of its own: to be trusted, the connection must have come to the right one.
        assert!(curl(&stage, pair, name, &[]).is_ok(), "{name}");
    }
    assert_eq!(stage.client().get("/").text(), "clear");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the lines are written", || lines().lines().count() >= 4);
    for line in ["shop.example shop", "api.shop.example below", "other.example others", "- origins"] {
        assert!(lines().lines().any(|l| l == line), "{line}: {}", lines());
    }
}

/// With a termination of our own the name is known too.
#[test]
fn a_log_tells_the_name() {
    let (origin, pair, folder) = (Origin::start("one"), Pair::for_names(&["test.example"]), TempDir::new());
    let log = folder.path().join("access.log");
    let line = format!("access_logs: [{{log_path: \"{}\", log_format: \"%requested_server_name%\"}}]", log.display());
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]).listener(&line);
    let stage = Plane::Kernel.start(config).expect("always there");
    assert!(curl(&stage, &pair, "test.example", &[]).is_ok());
    wait_until("the line is written", || std::fs::read_to_string(&log).is_ok_and(|text| text == "test.example\n"));
}

/// OpenSSL's largest messages: many groups, a long list of protocols.
#[test]
fn long_messages_are_read() {
    let pair = Pair::for_names(&["shop.example"]);
    let nginx = match Nginx::start(Some(pair.paths())) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let config = Config::proxy_to(&["127.0.0.1:1".to_owned()])
        .more_origins("shop", &[nginx.address.to_string()])
        .listener("listener_filters: [{type: tls_inspector}]")
        .filter("{type: tcp_proxy, config: {routes: [{cluster: shop, server_names: [shop.example]}]}}");
    let stage = Plane::Kernel.start(config).expect("always there");
    let protocols =
        (0..500).map(|n| format!("protocol-{n}")).chain(["http/1.1".to_owned()]).collect::<Vec<_>>().join(",");
    let address = stage.address.to_string();
    let arguments = ["s_client", "-connect", &address, "-servername", "shop.example", "-alpn", &protocols];
    let out = run(Command::new("openssl").args(arguments)).unwrap_or_else(|e| panic!("{e}"));
    assert!(out.contains("BEGIN CERTIFICATE"), "{out}");
}
