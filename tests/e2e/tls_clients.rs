//! Certificates of clients: who is let in, what origins are told of them, and what a reload makes of new files.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use test_support::certs::Authority;
use test_support::process::run;
use test_support::{Config, Origin, wait_until};

use crate::stage::{Plane, Stage, on_both_planes, tls_backends};

on_both_planes! {
    clients_are_let_in_by_their_certificates,
}

/// A certificate and its key.
type Files = (std::path::PathBuf, std::path::PathBuf);

fn clients_are_let_in_by_their_certificates(plane: Plane) {
    for &backend in tls_backends() {
        let set = Set::new();
        let Some(stage) = plane.start(set.config(backend, &set.verified(true))) else { return };
        for version in ["1.2", "1.3"] {
            let with = |client: Option<&Files>, more: &[&str]| {
                set.curl(&stage, client, &[&["--tlsv1.2", "--tls-max", version], more].concat())
            };
            let forged = ["-H", "X-Forwarded-Client-Cert: Hash=1;URI=spiffe://forged"];
            assert_eq!(with(Some(&set.good), &forged).as_deref(), Ok("one"), "{backend} {version}");
            assert!(with(None, &[]).is_err(), "{backend} {version}");
            assert!(with(Some(&set.revoked), &[]).is_err(), "{backend} {version}");
            assert!(with(Some(&set.strange), &[]).is_err(), "{backend} {version}");
        }
        let refused = stage.gateway.metric("ferrogate_tls_client_certificate_refused_total", "");
        assert!((refused - 6.0).abs() < 0.1, "{backend}: {refused}");
        let told = set.told();
        assert_eq!(told.len(), 2, "{told:?}");
        let hash = openssl(&["x509", "-noout", "-fingerprint", "-sha256"], &set.good.0);
        let hash = hash.split_once('=').expect("name=value").1.replace(':', "").to_lowercase();
        let subject = openssl(&["x509", "-noout", "-subject", "-nameopt", "RFC2253"], &set.good.0);
        let subject = subject.strip_prefix("subject=").expect("it says so").trim();
        let all = format!(
            "By=spiffe://gateway;Hash={};Subject=\"{subject}\";URI=spiffe://client/a;DNS=good.example",
            hash.trim()
        );
        assert!(told.iter().all(|one| *one == all), "{told:?}\n{all}");
    }
}

/// With `verify_client` alone nobody must show a certificate, and nobody can pretend to have shown one.
#[test]
fn a_certificate_may_be_optional() {
    for &backend in tls_backends() {
        let set = Set::new();
        let stage = Plane::Kernel.start(set.config(backend, &set.verified(false))).expect("always there");
        let forged = ["-H", "X-Forwarded-Client-Cert: Hash=1"];
        assert_eq!(set.curl(&stage, None, &forged).as_deref(), Ok("one"), "{backend}");
        assert!(set.told().is_empty(), "{:?}", set.told());
        assert!(set.curl(&stage, Some(&set.strange), &[]).is_err(), "{backend}");
        let h2 = [&forged[..], &["--http2"]].concat();
        assert_eq!(set.curl(&stage, Some(&set.good), &h2).as_deref(), Ok("one"), "{backend}");
        assert!(set.told().len() == 1 && set.told()[0].starts_with("By="), "{:?}", set.told());
    }
}

/// `require_client_cert` alone asks, and believes nothing.
#[test]
fn a_certificate_that_is_only_asked_for_says_nothing() {
    for &backend in tls_backends() {
        let set = Set::new();
        let stage = Plane::Kernel.start(set.config(backend, "require_client_cert: true")).expect("always there");
        for client in [None, Some(&set.good), Some(&set.strange)] {
            assert_eq!(set.curl(&stage, client, &[]).as_deref(), Ok("one"), "{backend}");
        }
        assert!(set.told().is_empty(), "{:?}", set.told());
    }
}

/// What is replaced by nothing better is kept, and the log says which file is why.
#[test]
fn a_reload_takes_new_lists_and_refuses_what_is_worse() {
    for &backend in tls_backends() {
        let set = Set::new();
        let stage = Plane::Kernel.start(set.config(backend, &set.verified(true))).expect("always there");
        assert_eq!(set.curl(&stage, Some(&set.good), &[]).as_deref(), Ok("one"));
        let past = SystemTime::now() - Duration::from_secs(3600);
        // (what is done to the files, what the reload is refused with, what sets it right)
        let _ = set.authority.issue_until("server", &["test.example", "spiffe://gateway"], past);
        let expired = stage.gateway.reload().unwrap_err();
        assert!(expired.contains("server.pem has expired, at 2"), "{expired}");
        let (_, key) = set.authority.issue("server", &["test.example", "spiffe://gateway"]);
        let own = std::fs::read(&key).unwrap();
        std::fs::copy(&set.good.1, &key).unwrap();
        let mismatched = stage.gateway.reload().unwrap_err();
        assert!(mismatched.contains("server.key does not match the certificate in"), "{mismatched}");
        std::fs::write(&key, "nonsense").unwrap();
        let broken = stage.gateway.reload().unwrap_err();
        assert!(broken.contains("server.key holds no PRIVATE KEY block"), "{broken}");
        std::fs::write(&key, own).unwrap();
        let list = set.authority.revoke(&[]);
        std::fs::write(&list, "nonsense").unwrap();
        let unlisted = stage.gateway.reload().unwrap_err();
        assert!(unlisted.contains("crl.pem holds no X509 CRL block"), "{unlisted}");
        // All the while the one before serves.
        assert_eq!(set.curl(&stage, Some(&set.good), &[]).as_deref(), Ok("one"), "{backend}");
        assert!(set.curl(&stage, Some(&set.revoked), &[]).is_err(), "{backend}");
        let _ = set.authority.revoke(&["good.example"]);
        stage.gateway.process.signal("HUP");
        wait_until("the new list is in force", || stage.gateway.metric("ferrogate_config_generation", "") > 1.5);
        wait_until("the one is refused", || set.curl(&stage, Some(&set.good), &[]).is_err());
        assert_eq!(set.curl(&stage, Some(&set.revoked), &[]).as_deref(), Ok("one"), "{backend}");
    }
}

/// A certificate that expires while it serves is no reason to keep what else was loaded with it.
#[test]
fn what_has_expired_in_force_blocks_nothing() {
    for &backend in tls_backends() {
        let set = Set::new();
        let soon = SystemTime::now() + Duration::from_secs(2);
        let _ = set.authority.issue_until("server", &["test.example"], soon);
        let stage = Plane::Kernel.start(set.config(backend, &set.verified(true))).expect("always there");
        wait_until("it expires", || SystemTime::now() > soon + Duration::from_secs(1));
        assert_eq!(set.curl(&stage, Some(&set.good), &["--insecure"]).as_deref(), Ok("one"), "{backend}");
        let _ = set.authority.revoke(&["good.example"]);
        stage.gateway.reload().unwrap();
        assert!(set.curl(&stage, Some(&set.good), &["--insecure"]).is_err(), "{backend}");
    }
}

/// At a start there is nothing that is better than a certificate that has expired.
#[test]
fn a_start_goes_on_with_what_has_expired() {
    let set = Set::new();
    let past = SystemTime::now() - Duration::from_secs(3600);
    let _ = set.authority.issue_until("server", &["test.example"], past);
    let stage = Plane::Kernel.start(set.config("rustls", "alpn: h2")).expect("always there");
    wait_until("it is told", || stage.gateway.process.output().contains("server.pem has expired, at 2"));
    assert_eq!(set.curl(&stage, None, &["--insecure"]).as_deref(), Ok("one"));
}

/// Who is who in these tests.
struct Set {
    origin: Origin,
    authority: Authority,
    server: Files,
    good: Files,
    revoked: Files,
    /// Of another authority.
    strange: Files,
    _other: Authority,
}

impl Set {
    fn new() -> Self {
        let (authority, other) = (Authority::new("ours"), Authority::new("another"));
        let _ = authority.revoke(&["bad.example"]);
        Self {
            origin: Origin::start("one"),
            server: authority.issue("server", &["test.example", "spiffe://gateway"]),
            good: authority.issue("good", &["good.example", "spiffe://client/a"]),
            revoked: authority.issue("bad", &["bad.example"]),
            strange: other.issue("good", &["good.example", "spiffe://client/a"]),
            authority,
            _other: other,
        }
    }

    /// Keys of a `tls_context` that verifies clients.
    fn verified(&self, required: bool) -> String {
        let ca = &self.authority.certificate;
        let crl = ca.with_file_name("crl.pem");
        let (ca, crl) = (ca.display(), crl.display());
        format!("verify_client: true, require_client_cert: {required}, ca_cert: \"{ca}\", crl: \"{crl}\"")
    }

    fn config(&self, backend: &str, keys: &str) -> Config {
        let filter = "{type: proxy, config: {downstream_protocol: \"Http1,Http2\", router_config_name: web, \
                      forward_client_cert_details: SANITIZE_SET, \
                      set_current_client_cert_details: {subject: true, uri: true, dns: true}}}";
        let config = Config::proxy_to(&[self.origin.address()]).filter(filter);
        let config = config.tls(&[(&self.server.0, &self.server.1)]).tls_context(keys);
        config.extra(&format!("tls_backend: {{backend: {backend}}}\n"))
    }

    /// What a client gets that shows this certificate.
    fn curl(&self, stage: &Stage, client: Option<&Files>, arguments: &[&str]) -> Result<String, String> {
        let port = stage.address.port();
        let mut command = stage.client_command("curl");
        command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(&self.authority.certificate);
        command.args(["--resolve", &format!("test.example:{port}:{}", stage.address.ip())]).args(arguments);
        if let Some((certificate, key)) = client {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        run(command.arg(format!("https://test.example:{port}/")))
    }

    /// What the origin was told of clients' certificates.
    fn told(&self) -> Vec<String> {
        let fields = self.origin.received().into_iter().flat_map(|r| r.head.fields);
        fields.filter(|(n, _)| n.eq_ignore_ascii_case("x-forwarded-client-cert")).map(|(_, v)| v).collect()
    }
}

fn openssl(arguments: &[&str], file: &Path) -> String {
    run(Command::new("openssl").args(arguments).arg("-in").arg(file)).unwrap_or_else(|e| panic!("{e}"))
}
