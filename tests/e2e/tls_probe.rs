//! `ferrogate tls probe`: what it says of this host and of a file, with and without OpenSSL, with the card simulator of `tests/support/card`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use test_support::certs::Pair;
use test_support::temp::TempDir;
use test_support::{Config, card, skip};

use crate::stage::binary;

/// What the probe says in one of its two forms, and whether all was well.
fn probe(config: Option<&str>, as_json: bool) -> (bool, String) {
    let folder = TempDir::new();
    let mut command = Command::new(binary());
    command.args(["tls", "probe"]).env_remove("MOSN_CONFIG");
    if let Some(text) = config {
        command.arg("-c").arg(folder.write("gateway.yaml", text));
    }
    let output = command.args(as_json.then_some("--json")).output().expect("the binary runs");
    (output.status.success(), String::from_utf8(output.stdout).expect("text"))
}

fn json(config: Option<&str>) -> (bool, Value) {
    let (is_good, text) = probe(config, true);
    (is_good, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

/// A file with these accelerators, and certificates of which the first has its key with `card0`.
fn file(accelerators: &str, pairs: &[(&Path, &Path)]) -> String {
    let config = Config::proxy_to(&["127.0.0.1:1".to_owned()]).tls(pairs).tls_context("accelerator: card0");
    config.extra(&format!("tls_backend: {{accelerators: [{accelerators}]}}\n")).text()
}

fn card0(parameters: &str, more: &str) -> String {
    format!("{{name: card0, id: card, path: \"{}\", parameters: {{{parameters}}}{more}}}", card::module().display())
}

/// Whether this binary has OpenSSL.
fn has_openssl() -> bool {
    let (is_good, host) = json(None);
    assert!(is_good, "{host}");
    host["backends"][1]["is_there"].as_bool().expect("says so")
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[test]
fn a_host_is_told_without_a_file() {
    let ((is_good, host), (_, text)) = (json(None), probe(None, false));
    assert!(is_good);
    let rustls = &host["backends"][0];
    assert_eq!((&rustls["name"], &rustls["is_there"]), (&"rustls".into(), &true.into()), "{host}");
    let groups: Vec<_> = rustls["groups"].as_array().unwrap().iter().map(text_of).collect();
    assert!(groups.contains(&"X25519MLKEM768") && groups.contains(&"P-256"), "{groups:?}");
    for (index, key) in ["ECDSA P-256", "RSA-2048"].into_iter().enumerate() {
        let rate = &host["software"][index];
        assert_eq!(rate["key"], key, "{host}");
        assert!(rate["per_second"].as_f64().unwrap() > 10.0 && rate["worker_us"].as_f64().unwrap() > 1.0, "{rate}");
        assert!(text.contains(&format!("rustls signs with {key}: ")), "{text}");
    }
    if !has_openssl() {
        assert!(host["engines"].is_null() && host["providers"].is_null(), "{host}");
        assert!(text.contains("OpenSSL: not in this binary") && !text.contains("providers"), "{text}");
        return;
    }
    assert!(text_of(&host["backends"][1]["says"]).starts_with("OpenSSL "), "{host}");
    assert_eq!(host["backends"][1]["can_pause"], true);
    let providers = host["providers"]["found"].as_array().unwrap();
    let legacy = providers.iter().find(|one| one["name"] == "legacy").expect("OpenSSL brings it");
    let ciphers = legacy["can"].as_array().unwrap().iter().find(|can| can["what"] == "ciphers").unwrap();
    assert!(ciphers["names"].as_array().unwrap().len() > 10, "{legacy}");
    assert!(text.contains("  legacy: ciphers "), "{text}");
    if let Some(engines) = host["engines"]["found"].as_array() {
        assert!(!engines.is_empty() && text.contains("engines in /"), "{text}");
        let names: Vec<_> = engines.iter().map(|one| text_of(&one["name"])).collect();
        assert!(!names.contains(&"libpkcs11"), "another name of pkcs11: {names:?}");
    }
}

#[test]
fn certificates_and_their_card_are_measured() {
    let (in_card, plain) = (Pair::for_names(&["card.example"]), Pair::for_names(&["soft.example"]));
    // One certificate of the listener is the card's, the other is not.
    let text = file(&card0("latency_us: \"5000\"", ""), &[in_card.paths(), plain.paths()]);
    let at = text.rfind(", accelerator: card0").expect("the second");
    let text = format!("{}{}", &text[..at], &text[at + ", accelerator: card0".len()..]);
    let (is_good, found) = json(Some(&text));
    let of_file = &found["file"];
    let [first, second] = &of_file["certificates"].as_array().unwrap()[..] else { panic!("{found}") };
    if !has_openssl() {
        assert!(!is_good, "{found}");
        for error in [&of_file["accelerators"][0]["error"], &first["error"]] {
            assert!(text_of(error).contains("built without OpenSSL"), "{error}");
        }
        return;
    }
    assert!(is_good, "{found}");
    let card = &of_file["accelerators"][0];
    assert_eq!((&card["name"], &card["kind"], &card["id"]), (&"card0".into(), &"provider".into(), &"card".into()));
    let signatures = card["can"].as_array().unwrap().iter().find(|can| can["what"] == "signatures").unwrap();
    assert!(signatures["names"].as_array().unwrap().iter().any(|name| name == "RSA"), "{card}");
    assert_eq!((&first["backend"], &first["signs"]), (&"OpenSSL".into(), &"card0".into()));
    assert_eq!((&first["names"][0], &first["key"]), (&"card.example".into(), &"ECDSA P-256".into()));
    assert!(
        text_of(&first["why"]).starts_with("card0 has the key and signs, and where it fails software does"),
        "{first}"
    );
    // One at a time waits for each, 5 ms; many wait together.
    let rate = |index: usize| first["in_accelerator"][index]["per_second"].as_f64().unwrap();
    assert!(rate(0) <= 200.0 && rate(1) >= 4.0 * rate(0), "{first}");
    assert_eq!(first["in_accelerator"][1]["at_once"], 64);
    assert!(first["in_accelerator"][1]["paused"].as_u64().unwrap() > 0, "{first}");
    assert!(first["in_software"]["per_second"].as_f64().unwrap() > 10.0, "{first}");
    assert_eq!((&second["backend"], &second["signs"]), (&"OpenSSL".into(), &"software".into()));
    assert!(text_of(&second["why"]).starts_with("a certificate of the same listener has its key"), "{second}");
    assert_eq!(second["in_accelerator"].as_array().unwrap().len(), 0);
    let (_, text) = probe(Some(&text), false);
    for line in ["accelerator card0 (provider card): keys ", "ECDSA P-256 for card.example", "card0 signs as much as "]
    {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

/// What can't be used is told with its reason, and the rest all the same.
#[test]
fn an_engine_that_does_not_load_is_told() {
    if !has_openssl() {
        return skip!("e2e-openssl", "this binary is built without OpenSSL");
    }
    let (pair, folder) = (Pair::for_names(&["test.example"]), TempDir::new());
    let junk = folder.write("engine.so", "no module");
    for (accelerator, words) in [
        ("{name: card0, kind: engine, id: nothing}".to_owned(), "card0 can't be opened"),
        (format!("{{name: card0, kind: engine, id: card, path: \"{}\"}}", junk.display()), "card0 can't be opened"),
        ("{name: card0, id: default}".to_owned(), "never paused for the accelerator card0"),
    ] {
        let text = file(&accelerator, &[pair.paths()]);
        let (is_good, found) = json(Some(&text));
        let certificate = &found["file"]["certificates"][0];
        assert!(!is_good && text_of(&certificate["error"]).contains(words), "{accelerator}: {found}");
        assert!(!found["providers"]["found"].as_array().unwrap().is_empty(), "{found}");
        let (_, text) = probe(Some(&text), false);
        assert!(text.contains("can't be served: "), "{text}");
    }
}

/// With `fallback: software` a lost card stops no start, and the probe says what a start would do.
#[test]
fn a_card_that_is_gone_leaves_it_to_software() {
    if !has_openssl() {
        return skip!("e2e-openssl", "this binary is built without OpenSSL");
    }
    let (pair, folder) = (Pair::for_names(&["test.example"]), TempDir::new());
    let gone = folder.write("gone", "");
    let card = card0(&format!("gone_file: \"{}\"", gone.display()), ", timeout: 300ms");
    let (is_good, found) = json(Some(&file(&card, &[pair.paths()])));
    let certificate = &found["file"]["certificates"][0];
    assert!(is_good, "{found}");
    assert!(text_of(&certificate["caveat"]).contains("software computes until it is back"), "{certificate}");
    assert!(certificate["in_software"]["per_second"].as_f64().unwrap() > 10.0, "{certificate}");
}

/// The file's own mistakes are told too.
#[test]
fn mistakes_of_a_file_are_told() {
    let (is_good, found) = json(Some("servers: []\nno_such_key: 1\n"));
    assert!(!is_good && !found["file"]["errors"].as_array().unwrap().is_empty(), "{found}");
}
