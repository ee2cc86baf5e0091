//! Session tickets: two gateways with the same keys, keys that change, and what a ticket does not open; openssl is the client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use test_support::certs::{Authority, Pair};
use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, Stage, on_both_planes, tls_backends};

on_both_planes! {
    gateways_with_the_same_keys_resume_each_others_sessions,
}

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// A key of 80 bytes, as `openssl rand` makes one.
fn new_key(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    run(Command::new("openssl").args(["rand", "-out"]).arg(&path).arg("80")).unwrap_or_else(|e| panic!("{e}"));
    path
}

fn config(origin: &Origin, pair: &Pair, backend: &str, keys: &str) -> Config {
    let config = Config::proxy_to(&[origin.address()]).workers(2).tls(&[pair.paths()]).tls_context(keys);
    config.extra(&format!("tls_backend: {{backend: {backend}}}\n"))
}

fn with_keys(files: &[&Path]) -> String {
    let files: Vec<String> = files.iter().map(|file| format!("\"{}\"", file.display())).collect();
    format!("session_ticket_keys: [{}]", files.join(", "))
}

/// OpenSSL's client, speaking this version.
fn s_client(stage: &Stage, version: &str) -> Command {
    let mut command = stage.client_command("openssl");
    command.args([
        "s_client",
        "-connect",
        &stage.address.to_string(),
        "-servername",
        "test.example",
        "-ign_eof",
        version,
    ]);
    command
}

/// Whether a client whose session lies in `file` resumes it. It gets a new one, which is put in its place where it is told to.
fn resumes(stage: &Stage, version: &str, file: &Path, keeps: bool) -> bool {
    let mut command = s_client(stage, version);
    if file.exists() {
        command.arg("-sess_in").arg(file);
    }
    if keeps {
        command.arg("-sess_out").arg(file);
    }
    let out = ask(command).unwrap_or_else(|e| panic!("{e}"));
    assert!(out.contains("HTTP/1.1 200"), "{out}");
    out.contains("Reused, TLSv1.")
}

/// Has it send a request, which waits for the tickets that come before the answer.
fn ask(mut command: Command) -> Result<String, String> {
    use std::io::Write;
    use std::process::Stdio;
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    child.stdin.take().expect("piped").write_all(request).map_err(|e| e.to_string())?;
    let out = child.wait_with_output().map_err(|e| e.to_string())?;
    Ok(format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

fn gateways_with_the_same_keys_resume_each_others_sessions(plane: Plane) {
    let (origin, pair, folder) = (Origin::start("one"), Pair::for_names(&["test.example"]), TempDir::new());
    let (key, other) = (new_key(&folder, "a.key"), new_key(&folder, "b.key"));
    for &backend in tls_backends() {
        let start = |keys: &[&Path]| plane.start(config(&origin, &pair, backend, &with_keys(keys)));
        let (Some(one), Some(two), Some(stranger)) = (start(&[&key]), start(&[&other, &key]), start(&[&other])) else {
            return;
        };
        for version in VERSIONS {
            let session = folder.path().join(format!("{backend}{version}"));
            assert!(!resumes(&one, version, &session, true), "{backend} {version}");
            assert!(resumes(&one, version, &session, false), "{backend} {version}: on itself");
            assert!(resumes(&two, version, &session, false), "{backend} {version}: on the other");
            assert!(!resumes(&stranger, version, &session, false), "{backend} {version}: on one with another key");
        }
    }
}

/// Keys come first as those that open, then one of them seals; then the old one goes. By HUP, and by a file that is written.
#[test]
fn keys_are_rotated_without_a_restart() {
    let (origin, pair, folder) = (Origin::start("one"), Pair::for_names(&["test.example"]), TempDir::new());
    let line = || {
        let out = run(Command::new("openssl").args(["rand", "-base64", "80"])).unwrap_or_else(|e| panic!("{e}"));
        out.split_whitespace().collect::<String>() + "\n"
    };
    let [a, b, c] = [line(), line(), line()];
    for &backend in tls_backends() {
        let keys = folder.write("haproxy.keys", &a);
        let config = config(&origin, &pair, backend, &with_keys(&[&keys]));
        let stage = Plane::Kernel.start(config.extra("control: {watch_config: true}\n")).expect("always there");
        let session = folder.path().join(format!("{backend}.session"));
        let generation = || stage.gateway.metric("ferrogate_config_generation", "");
        assert!(!resumes(&stage, "-tls1_3", &session, true), "{backend}");
        for (next, text, opens) in [(2.0, format!("{a}{b}{c}"), true), (3.0, format!("{b}{c}"), false)] {
            // The watch sees it, with no signal.
            folder.write("haproxy.keys", &text);
            wait_until("the keys are in force", || generation() > next - 0.5);
            wait_until("on each worker", || (0..4).all(|_| resumes(&stage, "-tls1_3", &session, false) == opens));
        }
        folder.write("haproxy.keys", "nonsense");
        let told = stage.gateway.reload().unwrap_err();
        assert!(told.contains("line 1 of") && told.contains("haproxy.keys is no key"), "{told}");
        assert!(stage.gateway.metric("ferrogate_config_last_reload_failed", "") > 0.9);
    }
}

/// A new certificate spoils no session; a new list of what is revoked ends all that began under the old one.
#[test]
fn a_reload_keeps_sessions_unless_clients_are_to_be_verified_anew() {
    let (origin, authority, folder) = (Origin::start("one"), Authority::new("ours"), TempDir::new());
    let _ = authority.revoke(&["bad.example"]);
    for &backend in tls_backends() {
        let server = authority.issue("server", &["test.example"]);
        let crl = authority.certificate.with_file_name("crl.pem");
        let ca = authority.certificate.display();
        let config = Config::proxy_to(&[origin.address()]).tls(&[(&server.0, &server.1)]);
        let config = config.tls_context(&format!("verify_client: true, ca_cert: \"{ca}\", crl: \"{}\"", crl.display()));
        let config = config.extra(&format!("tls_backend: {{backend: {backend}}}\n"));
        let stage = Plane::Kernel.start(config).expect("always there");
        for version in VERSIONS {
            let session = folder.path().join(format!("{backend}{version}.session"));
            assert!(!resumes(&stage, version, &session, true), "{backend} {version}");
            let _ = authority.issue("server", &["test.example"]);
            stage.gateway.reload().unwrap();
            wait_until("the session is resumed", || resumes(&stage, version, &session, false));
            let _ = authority.revoke(&["bad.example", version]);
            stage.gateway.reload().unwrap();
            wait_until("it is not any more", || !resumes(&stage, version, &session, false));
        }
    }
}

/// What was begun without a certificate is not resumed where one is wanted, although the keys are the same.
#[test]
fn a_ticket_is_no_certificate() {
    let (origin, authority, folder) = (Origin::start("one"), Authority::new("ours"), TempDir::new());
    let (server, key) = (authority.issue("server", &["test.example"]), new_key(&folder, "a.key"));
    for &backend in tls_backends() {
        let start = |more: &str| {
            let keys = format!("{}{more}", with_keys(&[&key]));
            let config = Config::proxy_to(&[origin.address()]).tls(&[(&server.0, &server.1)]).tls_context(&keys);
            let config = config.extra(&format!("tls_backend: {{backend: {backend}}}\n"));
            Plane::Kernel.start(config).expect("always there")
        };
        let ca = authority.certificate.display();
        let open = start("");
        let closed = start(&format!(", verify_client: true, require_client_cert: true, ca_cert: \"{ca}\""));
        for version in VERSIONS {
            let session = folder.path().join(format!("{backend}{version}.session"));
            assert!(!resumes(&open, version, &session, true), "{backend} {version}");
            assert!(resumes(&open, version, &session, false), "{backend} {version}");
            let mut command = closed.client_command("openssl");
            command.args(["s_client", "-connect", &closed.address.to_string(), "-servername", "test.example", version]);
            let out = ask_of(command, &session);
            assert!(!out.contains("HTTP/1.1 200") && !out.contains("Reused"), "{backend} {version}: {out}");
        }
    }
}

/// Who resumes again and again is let in no longer than by a certificate.
#[test]
fn a_session_ends_with_the_certificate_of_its_client() {
    let (origin, authority, folder) = (Origin::start("one"), Authority::new("ours"), TempDir::new());
    let server = authority.issue("server", &["test.example"]);
    let ca = authority.certificate.display();
    for &backend in tls_backends() {
        let config = Config::proxy_to(&[origin.address()]).tls(&[(&server.0, &server.1)]);
        let config = config.tls_context(&format!("verify_client: true, require_client_cert: true, ca_cert: \"{ca}\""));
        let config = config.extra(&format!("tls_backend: {{backend: {backend}}}\n"));
        let stage = Plane::Kernel.start(config).expect("always there");
        for version in VERSIONS {
            let soon = SystemTime::now() + Duration::from_secs(2);
            let client = authority.issue_until("client", &["client.example"], soon);
            let session = folder.path().join(format!("{backend}{version}.session"));
            let command = || s_client(&stage, version);
            let mut first = command();
            first.arg("-cert").arg(&client.0).arg("-key").arg(&client.1).arg("-sess_out").arg(&session);
            let out = ask(first).unwrap_or_else(|e| panic!("{e}"));
            assert!(out.contains("HTTP/1.1 200"), "{backend} {version}: {out}");
            let again = ask_of(command(), &session);
            assert!(again.contains("Reused") && again.contains("HTTP/1.1 200"), "{backend} {version}: {again}");
            wait_until("it expires", || SystemTime::now() > soon + Duration::from_secs(1));
            let late = ask_of(command(), &session);
            assert!(!late.contains("HTTP/1.1 200"), "{backend} {version}: {late}");
        }
        assert!(stage.gateway.metric("ferrogate_tls_client_certificate_refused_total", "") > 1.5, "{backend}");
    }
}

fn ask_of(mut command: Command, session: &Path) -> String {
    command.arg("-ign_eof").arg("-sess_in").arg(session);
    ask(command).unwrap_or_else(|e| panic!("{e}"))
}
