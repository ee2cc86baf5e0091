//! testssl.sh, as its users run it, against a listener with nothing but a certificate: no finding above LOW. It takes minutes, so `make soak`
//! runs it:
//!
//! `cargo test --features openssl --test e2e -- --ignored testssl`, with `FERROGATE_BLESS=1` to keep the report in docs/reference.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Origin, skip};

use crate::stage::{Plane, tls_backends};

#[test]
#[ignore = "takes minutes: see the head of this file"]
fn testssl_finds_nothing_above_low() {
    if Command::new("testssl").arg("--version").output().is_err() {
        return skip!("e2e-testssl", "testssl can't be run");
    }
    for &backend in tls_backends() {
        let (origin, set) = (Origin::start("one"), Set::new());
        let pairs = [set.pair("ecdsa"), set.pair("rsa")];
        let pairs: Vec<(&Path, &Path)> = pairs.iter().map(|(c, k)| (c.as_path(), k.as_path())).collect();
        let config = Config::proxy_to(&[origin.address()]).protocols("Http1,Http2").tls(&pairs).router(HEADERS);
        let config = config.extra(&format!("tls_backend: {{backend: {backend}}}\n"));
        let stage = Plane::Kernel.start(config).expect("always there");
        let (json, ca) = (set.folder.path().join("report.json"), set.folder.path().join("ca.pem"));
        let arguments = [
            "--quiet",
            "--color",
            "0",
            "--nodns=none",
            "--ip=127.0.0.1",
            "--warnings=off",
            &format!("--add-ca={}", ca.display()),
            &format!("--jsonfile={}", json.display()),
            &format!("https://test.example:{}", stage.address.port()),
        ];
        // Its exit code counts findings of any severity.
        let out = Command::new("testssl").args(arguments).output().expect("testssl runs");
        let report = String::from_utf8_lossy(&out.stdout).into_owned();
        let findings = fs::read_to_string(&json).unwrap_or_else(|e| panic!("{e}: {report}"));
        let bad: Vec<&str> = findings.split('{').filter(|one| SEVERE.iter().any(|s| one.contains(s))).collect();
        assert!(bad.is_empty(), "{backend}: {bad:#?}\n{report}");
        assert!(
            report.contains("TLS 1.3    offered (OK)") && report.contains("HSTS") | report.contains("Strict"),
            "{report}"
        );
        if backend == "rustls" && std::env::var_os("FERROGATE_BLESS").is_some() {
            keep(&report);
        }
    }
}

/// What belongs to pages, and is their origin's to say.
const HEADERS: &str = "response_headers_to_add: [\
    {header: {key: strict-transport-security, value: \"max-age=31536000; includeSubDomains\"}}, \
    {header: {key: content-security-policy, value: \"default-src 'self'\"}}, \
    {header: {key: x-frame-options, value: DENY}}, \
    {header: {key: x-content-type-options, value: nosniff}}, \
    {header: {key: referrer-policy, value: no-referrer}}]";

const SEVERE: [&str; 4] = ["\"MEDIUM\"", "\"HIGH\"", "\"CRITICAL\"", "\"FATAL\""];

fn keep(report: &str) {
    let report: Vec<&str> = report.trim().lines().map(str::trim_end).collect();
    let page = format!(
        "# testssl.sh\n\nThe report of testssl.sh (Debian's package) on a listener with an ECDSA and an RSA certificate of a local authority and no other key of TLS. \
         No finding is above LOW. `tests/e2e/tls_testssl.rs` runs it, for both backends, and keeps this page:\n\n```sh\n{COMMAND}\n```\n\n```text\n{}\n```\n",
        report.join("\n")
    );
    fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/testssl.md"), page)
        .expect("the page can be written");
}

const COMMAND: &str = "FERROGATE_BLESS=1 cargo test --features openssl --test e2e -- --ignored testssl
testssl --nodns=none --ip=127.0.0.1 --add-ca=ca.pem https://test.example:8443   # what it runs";

/// Certificates as a public authority issues them: for servers only, with the addresses of what tells of their revocation.
struct Set {
    folder: TempDir,
}

impl Set {
    fn new() -> Self {
        let folder = TempDir::new();
        let set = Self { folder };
        set.openssl(
            "req -x509 -newkey rsa:3072 -nodes -keyout ca.key -out ca.pem -days 365 -subj /O=Test/CN=Authority -addext keyUsage=critical,keyCertSign,cRLSign",
        );
        set.folder.write(
            "extensions",
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n\
             subjectAltName=DNS:test.example\ncrlDistributionPoints=URI:http://crl.test.example/ca.crl\n\
             authorityInfoAccess=OCSP;URI:http://ocsp.test.example/\n",
        );
        set.openssl("ecparam -genkey -name prime256v1 -noout -out ecdsa.key");
        set.openssl("genrsa -out rsa.key 2048");
        for kind in ["ecdsa", "rsa"] {
            set.openssl(&format!("req -new -key {kind}.key -subj /CN=test.example -out {kind}.csr"));
            set.openssl(&format!(
                "x509 -req -in {kind}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -sha256 -extfile extensions -out {kind}.pem"
            ));
        }
        set
    }

    fn pair(&self, kind: &str) -> (PathBuf, PathBuf) {
        (self.folder.path().join(format!("{kind}.pem")), self.folder.path().join(format!("{kind}.key")))
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        run(command.args(arguments.split_whitespace()).current_dir(self.folder.path()))
            .unwrap_or_else(|e| panic!("{e}"));
    }
}
