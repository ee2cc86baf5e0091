//! OCSP responses from a file: shown to who asks, and none that a client would refuse.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use test_support::certs::Authority;
use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, Stage, on_both_planes, tls_backends};

on_both_planes! {
    a_response_is_stapled_for_who_asks,
}

fn a_response_is_stapled_for_who_asks(plane: Plane) {
    let (origin, authority) = (Origin::start("one"), Authority::new("ours"));
    let server = authority.issue("server", &["test.example"]);
    let other = authority.issue("other", &["other.example"]);
    let staple = authority.vouch(&server.0, true);
    for &backend in tls_backends() {
        // One certificate, and one of two.
        for (pairs, name) in [
            (vec![&server], "test.example"),
            (vec![&other, &server], "test.example"),
            (vec![&server, &other], "none.example"),
        ] {
            let paths: Vec<(&Path, &Path)> = pairs.iter().map(|pair| (pair.0.as_path(), pair.1.as_path())).collect();
            // For the other certificate it is none, and is told so.
            let keys = format!("ocsp_staple: \"{}\"", staple.display());
            let Some(stage) = plane.start(config(&origin, backend, &paths, &keys)) else { return };
            for version in ["-tls1_2", "-tls1_3"] {
                let out = s_client(&stage, &["-status", "-servername", name, version]);
                assert!(
                    out.contains("OCSP Response Status: successful") && out.contains("Cert Status: good"),
                    "{backend} {version}: {out}"
                );
                let out = s_client(&stage, &["-servername", name, version]);
                assert!(!out.contains("OCSP Response Status"), "{backend} {version}: {out}");
            }
        }
    }
}

/// What is wrong with it is told, and the certificate is served without.
#[test]
fn what_says_nothing_good_is_not_stapled() {
    let (origin, authority) = (Origin::start("one"), Authority::new("ours"));
    let server = authority.issue("server", &["test.example"]);
    let other = authority.issue("other", &["other.example"]);
    let file = authority.vouch(&server.0, true);
    let good = fs::read(&file).unwrap();
    let revoked = fs::read(authority.vouch(&server.0, false)).unwrap();
    let of_another = fs::read(authority.vouch(&other.0, true)).unwrap();
    let mut expired = good.clone();
    // The third of its times is until when it holds; nobody but clients looks at the signature.
    let mut times = expired.windows(2).enumerate().filter(|(_, two)| *two == [0x18, 15]);
    let at = times.nth(2).expect("three times").0 + 2;
    expired[at..at + 4].copy_from_slice(b"2001");
    for &backend in tls_backends() {
        for (content, words) in [
            (&expired[..], "has expired"),
            (&revoked, "says that the certificate is revoked or not known"),
            (&of_another, "is for another certificate"),
            (b"nonsense", "is no successful OCSP response in DER"),
        ] {
            fs::write(&file, content).unwrap();
            let keys = format!("ocsp_staple: \"{}\"", file.display());
            let stage =
                Plane::Kernel.start(config(&origin, backend, &[(&server.0, &server.1)], &keys)).expect("always there");
            let told = format!("{} {words}: nothing is stapled", file.display());
            wait_until(&told, || stage.gateway.process.output().contains(&told));
            let out = s_client(&stage, &["-status", "-servername", "test.example"]);
            assert!(out.contains("OCSP response: no response sent"), "{backend} {words}: {out}");
            fs::write(&file, &good).unwrap();
            stage.gateway.process.signal("HUP");
            wait_until("the new one is stapled", || {
                s_client(&stage, &["-status", "-servername", "test.example"]).contains("Cert Status: good")
            });
        }
    }
}

fn config(origin: &Origin, backend: &str, pairs: &[(&Path, &Path)], keys: &str) -> Config {
    let config = Config::proxy_to(&[origin.address()]).tls(pairs).tls_context(keys);
    config.extra(&format!("tls_backend: {{backend: {backend}}}\n"))
}

fn s_client(stage: &Stage, arguments: &[&str]) -> String {
    let mut command: Command = stage.client_command("openssl");
    command.args(["s_client", "-connect", &stage.address.to_string()]).args(arguments).stdin(Stdio::null());
    let out = command.output().expect("openssl is there");
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}
