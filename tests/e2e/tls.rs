//! TLS on both sides, with the tools that people use: curl and OpenSSL as clients, nginx as an origin.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use test_support::certs::Pair;
use test_support::nginx::Nginx;
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Origin, skip, wait_until};

use crate::stage::{Plane, Stage, binary, on_both_planes, tls_backends};

on_both_planes! {
    https_is_served_in_both_versions,
    a_close_over_tls_takes_nothing_of_the_answer,
}

fn https_is_served_in_both_versions(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let Some(stage) = plane.start(Config::proxy_to(&[origin.address()]).tls(&[pair.paths()])) else { return };
    for version in ["1.2", "1.3"] {
        let arguments = [&format!("--tlsv{version}"), "--tls-max", version, "-w", " %{ssl_verify_result} %{http_code}"];
        let out = curl(&stage, &pair, "/", &arguments).unwrap_or_else(|e| panic!("{version}: {e}"));
        assert_eq!(out, "one 0 200", "{version}");
    }
    let big = curl(&stage, &pair, "/big?bytes=5000000", &["-o", "/dev/null", "-w", "%{size_download}"]);
    assert_eq!(big.as_deref(), Ok("5000000"));
    let folder = TempDir::new();
    let file = folder.path().join("body");
    std::fs::write(&file, test_support::pattern::bytes(3_000_000)).unwrap();
    let upload = format!("@{}", file.display());
    let sunk = curl(&stage, &pair, "/sink", &["--data-binary", &upload, "-H", "Expect:"]);
    assert_eq!(sunk.as_deref(), Ok("bytes=3000000 intact=true"));
}

/// The connection ends at once behind an answer to `Connection: close`; a client that is slow to read has all of it, and our `close_notify`.
fn a_close_over_tls_takes_nothing_of_the_answer(plane: Plane) {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let Some(stage) = plane.start(Config::proxy_to(&[origin.address()]).tls(&[pair.paths()])) else { return };
    for version in ["1.2", "1.3"] {
        for (bytes, rate) in [("0", "1G"), ("100", "1G"), ("4194304", "3M")] {
            let path = format!("/big?bytes={bytes}");
            let close = ["-H", "Connection: close", "--limit-rate", rate, "--tls-max", version];
            let out =
                curl(&stage, &pair, &path, &[&close[..], &["-o", "/dev/null", "-w", "%{size_download}"]].concat());
            assert_eq!(out.as_deref(), Ok(bytes), "{version}");
        }
    }
}

#[test]
fn old_versions_are_refused() {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]);
    let stage = Plane::Kernel.start(config).expect("always there");
    assert!(curl(&stage, &pair, "/", &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]).is_err());
    assert!(curl(&stage, &pair, "/", &[]).is_ok());
}

/// Several certificates: the name that the client asks for chooses; one that nobody has gets the first.
#[test]
fn the_name_chooses_the_certificate() {
    let origin = Origin::start("one");
    let (shop, other) = (Pair::for_names(&["shop.example", "*.shop.example"]), Pair::for_names(&["other.example"]));
    let config = Config::proxy_to(&[origin.address()]).tls(&[shop.paths(), other.paths()]);
    let stage = Plane::Kernel.start(config).expect("always there");
    for (name, trusted) in
        [("shop.example", &shop), ("a.shop.example", &shop), ("other.example", &other), ("SHOP.example", &shop)]
    {
        let out = curl_as(&stage, trusted, name, "/", &[]);
        assert_eq!(out.as_deref(), Ok("one"), "{name}");
    }
    assert!(curl_as(&stage, &other, "shop.example", "/", &[]).is_err(), "verification is real");
}

#[test]
fn alpn_says_http11() {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]);
    let text = config.text().replace("{status: true, cert_chain", "{status: true, alpn: http/1.1, cert_chain");
    let stage = Plane::Kernel.start(config.verbatim(&text)).expect("always there");
    let connect = stage.address.to_string();
    let out = run(Command::new("openssl").args([
        "s_client",
        "-connect",
        &connect,
        "-alpn",
        "h2,http/1.1",
        "-servername",
        "test.example",
    ]))
    .unwrap_or_else(|e| panic!("{e}"));
    assert!(out.contains("ALPN protocol: http/1.1"), "{out}");
}

/// A peer that is no TLS client costs its own connection only, and one that stalls is not waited for.
#[test]
fn bad_handshakes_end() {
    let (origin, pair) = (Origin::start("one"), Pair::for_names(&["test.example"]));
    let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]).limit("handshake_timeout", "500ms");
    let stage = Plane::Kernel.start(config).expect("always there");
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x16\x03\x01\x40\x00garbage", &[0xff; 5000]] {
        let mut client = stage.client();
        let _ = client.send(bytes);
        // An alert may come first.
        let end = client.rest();
        assert!(end.is_ok_and(|alert| alert.len() < 100) || client.is_closed());
    }
    let mut stalled = stage.client();
    stalled.send(b"\x16\x03\x01").unwrap();
    assert!(stalled.is_silent_for(Duration::from_millis(100)));
    assert!(stalled.rest().is_ok_and(|alert| alert.len() < 100), "handshake_timeout");
    assert_eq!(curl(&stage, &pair, "/", &[]).as_deref(), Ok("one"));
    assert!(stage.gateway.metric("ferrogate_tls_handshake_failed_total", "") >= 4.0);
}

/// To the origin: verified by default, against what the cluster trusts and for the name that it says.
#[test]
fn origins_are_verified() {
    let pair = Pair::for_names(&["origin.example"]);
    let nginx = match Nginx::start(Some(pair.paths())) {
        Ok(nginx) => nginx,
        Err(reason) => return skip!("e2e-nginx", "{reason}"),
    };
    let trusted = pair.certificate.display();
    let rows = [
        (200, format!("{{status: true, ca_cert: \"{trusted}\", server_name: origin.example}}")),
        (502, format!("{{status: true, ca_cert: \"{trusted}\", server_name: wrong.example}}")),
        (502, "{status: true, server_name: origin.example}".to_owned()),
        (200, "{status: true, server_name: wrong.example, insecure_skip: true}".to_owned()),
    ];
    for (status, tls) in rows {
        let config = Config::proxy_to(&[nginx.address.to_string()]).cluster(&format!("tls_context: {tls}"));
        let stage = Plane::Kernel.start(config).expect("always there");
        let mut client = stage.client();
        for _ in 0..2 {
            let answer = client.get("/");
            assert_eq!(answer.status, status, "{tls}: {answer:?}");
            assert_eq!(answer.text().contains("nginx says hello"), status == 200, "{tls}");
        }
    }
}

/// The keys of sessions are written where the file says so, as a client knows them, and nowhere else.
#[test]
fn keys_are_logged_by_explicit_switch() {
    let (origin, pair, folder) = (Origin::start("one"), Pair::for_names(&["test.example"]), TempDir::new());
    for &backend in tls_backends() {
        let [ours, theirs, environments] =
            ["ours", "theirs", "environment"].map(|name| folder.path().join(format!("{backend}-{name}")));
        // Somebody has made it before, for all to read.
        std::fs::write(&ours, "").unwrap();
        std::fs::set_permissions(&ours, Permissions::from_mode(0o644)).unwrap();
        let config = Config::proxy_to(&[origin.address()]).tls(&[pair.paths()]);
        let config = config.extra(&format!("tls_backend: {{backend: {backend}}}\n"));
        let logging = config.clone().tls_context(&format!("keylog_file: \"{}\"", ours.display()));
        for (config, logs) in [(logging, true), (config, false)] {
            let command = || {
                let mut command = Command::new(binary());
                command.env("SSLKEYLOGFILE", &environments);
                command
            };
            let stage = Plane::Kernel.start_by(command, config).expect("always there");
            let warned = || stage.gateway.process.output().contains("the keys of all sessions are written to");
            for version in ["-tls1_2", "-tls1_3"] {
                let mut client = stage.client_command("openssl");
                client.args(["s_client", "-connect", &stage.address.to_string(), version, "-keylogfile"]).arg(&theirs);
                run(&mut client).unwrap_or_else(|e| panic!("{e}"));
            }
            if logs {
                wait_until("the log warns", warned);
                let [ours, theirs] = [&ours, &theirs].map(|file| std::fs::read_to_string(file).unwrap());
                let known: Vec<&str> = theirs.lines().filter(|line| !line.starts_with(['#', 'E'])).collect();
                assert!(known.len() > 4 && known.iter().all(|line| ours.contains(line)), "{backend}: {ours}\n{theirs}");
                let mode =
                    std::fs::metadata(folder.path().join(format!("{backend}-ours"))).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{backend}");
                std::fs::remove_file(folder.path().join(format!("{backend}-ours"))).unwrap();
            } else {
                assert!(!warned() && !ours.exists(), "{backend}");
            }
            assert!(!environments.exists(), "{backend}");
        }
    }
}

/// What curl gets for a path, as a client of `test.example` that trusts the pair's certificate.
fn curl(stage: &Stage, trusted: &Pair, path: &str, arguments: &[&str]) -> Result<String, String> {
    curl_as(stage, trusted, "test.example", path, arguments)
}

fn curl_as(stage: &Stage, trusted: &Pair, name: &str, path: &str, arguments: &[&str]) -> Result<String, String> {
    let port = stage.address.port();
    let mut command = stage.client_command("curl");
    command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(&trusted.certificate);
    command.args(["--resolve", &format!("{name}:{port}:{}", stage.address.ip())]).args(arguments);
    run(command.arg(format!("https://{name}:{port}{path}")))
}
