//! Keys that never leave their token: SoftHSM's behind OpenSSL's pkcs11 engine, with openssl and curl as clients.
//!
//! The token is made by the commands of docs/operating/tls-offload.md, as they stand there.

use std::path::Path;
use std::process::Command;

use test_support::process::run;
use test_support::temp::TempDir;
use test_support::{Config, Gateway, Origin, skip};

use crate::stage::binary;

/// RSA and ECDSA side by side for one name; the client's signature algorithms choose.
#[test]
fn a_token_serves_both_kinds_of_key_in_both_versions() {
    let Some(token) = Token::make() else { return };
    let origin = Origin::start("one");
    let keys = ["ec", "rsa"].map(|label| format!("pkcs11:token=gateway;object={label};type=private"));
    let certificates = ["ec.crt", "rsa.crt"].map(|name| token.folder.path().join(name));
    let pairs = [0, 1].map(|i| (certificates[i].as_path(), Path::new(&keys[i])));
    let config = Config::proxy_to(&[origin.address()]).tls(&pairs).tls_context("accelerator: token");
    let Some(gateway) = token.start(&config.extra(&accelerator("1234"))) else { return };
    for (name, algorithms, signature) in
        [("ec.crt", "ecdsa_secp256r1_sha256", "ECDSA"), ("rsa.crt", "rsa_pss_rsae_sha256", "RSA-PSS")]
    {
        let trusted = token.folder.path().join(name);
        for version in ["1_2", "1_3"] {
            let mut client = Command::new("openssl");
            client.args(["s_client", "-connect", &gateway.listen.to_string(), "-servername", "test.example"]);
            client.args(["-verify_return_error", "-sigalgs", algorithms, &format!("-tls{version}"), "-CAfile"]);
            let out = run(client.arg(&trusted)).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            for line in ["Verification: OK", format!("Peer signature type: {signature}").as_str()] {
                assert!(out.contains(line), "{name} {version}: {line:?} is not in\n{out}");
            }
        }
        let port = gateway.listen.port();
        for version in ["1.2", "1.3"] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--max-time", "20", "--noproxy", "*", &format!("--tlsv{version}"), "--tls-max", version]);
            curl.args(["--resolve", &format!("test.example:{port}:127.0.0.1"), "--cacert"]).arg(bundle(&token));
            let got = run(curl.arg(format!("https://test.example:{port}/")));
            assert_eq!(got.as_deref(), Ok("one"), "{version}");
        }
    }
    let served = gateway.metric("ferrogate_tls_accelerator_offloaded_total", "accelerator=\"token\"");
    // Two proofs, four clients of openssl's and four of curl's.
    assert_eq!(served, 10.0);
    assert_eq!(gateway.metric("ferrogate_tls_accelerator_software_total", ""), 0.0);
    gateway.stop();
}

/// What is wrong with a token is told at the start, and its PIN by nobody.
#[test]
fn what_a_token_refuses_is_told() {
    let Some(token) = Token::make() else { return };
    let certificate = token.folder.path().join("ec.crt");
    let rows = [
        ("pkcs11:token=gateway;object=none;type=private", accelerator("1234"), "gives no private key pkcs11:token"),
        ("pkcs11:token=gateway;object=ec?pin-value=9876", accelerator("9876"), "gives no private key pkcs11:token"),
        ("pkcs11:object=ec", accelerator("1234").replace("MODULE_PATH", "MODUL_PATH"), "it refuses MODUL_PATH"),
        ("pkcs11:object=ec", accelerator("1234").replace("id: pkcs11", "id: nothing"), "token can't be opened"),
    ];
    for (key, accelerator, words) in rows {
        let config = Config::proxy_to(&["127.0.0.1:1".to_owned()]).tls(&[(&certificate, Path::new(key))]);
        let config = config.tls_context("accelerator: token").extra(&accelerator);
        let file = token.folder.write("gateway.yaml", &config.text());
        let told = run(token.command(binary()).args(["check", "-c"]).arg(file)).unwrap_err();
        if told.contains("built without OpenSSL") {
            return skip!("e2e-openssl", "this binary is built without OpenSSL");
        }
        if told.contains(NO_ENGINES) {
            return skip!("tls-engine", "{NO_ENGINES}");
        }
        assert!(told.contains(words), "{key}: {told}");
        // The engine itself prints what it was asked for.
        let ours: Vec<&str> = told.lines().filter(|line| line.contains(": error: ")).collect();
        assert!(!ours.is_empty() && ours.iter().all(|line| !line.contains("9876")), "{told}");
    }
}

/// A SoftHSM token in a folder of its own, with an ECDSA and an RSA key and their certificates.
struct Token {
    folder: TempDir,
}

impl Token {
    /// None, and a skipped row, where the packages are missing.
    fn make() -> Option<Self> {
        let engine = run(Command::new("openssl").args(["engine", "pkcs11"]));
        if let Err(reason) = run(Command::new("softhsm2-util").arg("--version")).and(engine) {
            skip!("e2e-softhsm", "softhsm2 and libengine-pkcs11-openssl are needed: {reason}");
            return None;
        }
        let folder = TempDir::new();
        let page = include_str!("../../docs/operating/tls-offload.md");
        let commands = page.split("```sh\n").find(|block| block.contains("softhsm2-util --init-token")).unwrap();
        let commands = commands.split("```").next().unwrap();
        run(Command::new("sh").args(["-euc", commands]).current_dir(folder.path())).unwrap_or_else(|e| panic!("{e}"));
        Some(Self { folder })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.folder.path().join("softhsm2.conf"));
        command
    }

    fn start(&self, config: &Config) -> Option<Gateway> {
        match Gateway::launch(&mut self.command(binary()), config) {
            Ok(gateway) => Some(gateway),
            Err(exited) if exited.output.contains("built without OpenSSL") => {
                skip!("e2e-openssl", "this binary is built without OpenSSL");
                None
            }
            Err(exited) if exited.output.contains(NO_ENGINES) => {
                skip!("tls-engine", "{NO_ENGINES}");
                None
            }
            Err(exited) => panic!("{}\n{}", exited.status, exited.output),
        }
    }
}

/// What is said where libssl can load none: from 4.0 on.
const NO_ENGINES: &str = "this OpenSSL has no engines";

/// Both certificates, for a client that does not mind which it is shown.
fn bundle(token: &Token) -> std::path::PathBuf {
    let read = |name| std::fs::read_to_string(token.folder.path().join(name)).unwrap();
    token.folder.write("both.crt", &(read("ec.crt") + &read("rsa.crt")))
}

fn accelerator(pin: &str) -> String {
    format!(
        "tls_backend: {{accelerators: [{{name: token, kind: engine, id: pkcs11, async: false, parameters: {{MODULE_PATH: {MODULE}, PIN: \"{pin}\"}}}}]}}\n"
    )
}

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
