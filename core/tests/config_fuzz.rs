//! Arbitrary texts as configuration files: each is taken or refused, soon, and nothing panics.

#![allow(clippy::disallowed_types, reason = "bounds the real time of a parse; no worker runs here")]

use std::path::Path;
use std::time::{Duration, Instant};

use ferrogate_core::config::{Config, Diagnostic, FILE_BYTES_MAX};
use proptest::prelude::*;

/// Reads the text. A refusal must say why, at a place that is there.
fn read(text: &str) -> Result<(), TestCaseError> {
    let found = match Config::parse(text, "t") {
        Ok((config, found)) => {
            prop_assert!(!found.iter().any(Diagnostic::is_error));
            // What is taken holds together: every reference leads somewhere.
            for router in &config.server.routers {
                for name in router.cluster_names() {
                    prop_assert!(config.clusters.iter().any(|c| c.name == name));
                }
            }
            found
        }
        Err(found) => {
            prop_assert!(found.iter().any(Diagnostic::is_error), "refused without an error");
            found
        }
    };
    let lines = text.matches(['\n', '\r']).count() + 1;
    for report in found {
        prop_assert!((report.line as usize) <= lines, "{report} in {lines} lines");
        prop_assert!(!report.message.is_empty() && report.message.len() < 400, "{report}");
    }
    Ok(())
}

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Pieces that YAML, JSON and the schema give a meaning to.
fn token() -> impl Strategy<Value = &'static str> {
    let (words, signs) =
        (prop::sample::select(WORDS.split(' ').collect::<Vec<_>>()), prop::sample::select(SIGNS.to_vec()));
    prop_oneof![words, signs]
}

const WORDS: &str = "servers listeners routers clusters cluster_manager address limits dataplane dpdk hosts virtual_hosts domains match \
prefix route tls_context filter_chains filters type proxy stream_filters 127.0.0.1:80 30s 64KiB -1 1e999 0x null true ~ *a &a << !!str \
%TAG --- ...";

#[rustfmt::skip]
const SIGNS: &[&str] = &[
    ": ", ":", "- ", "-", ",", "{", "}", "[", "]", "\"", "'", "\\", "\\ud83d", "\\u0000", "|", ">", "|2-", "?", "#", "\n", "\n  ",
    "\n    ", "\t", " ", "\r\n", "\u{85}", "\u{2028}", "é", "\u{feff}", "\0", "@", "`",
];

/// A shipped file with a few pieces cut out, doubled or overwritten.
fn mutated() -> impl Strategy<Value = String> {
    let bases = ["../configs/demo.yaml", "../configs/dpdk.yaml", "tests/data/config/edge.json"].map(shipped);
    let edit = (any::<prop::sample::Index>(), 0..40usize, 0..4u8, token());
    (prop::sample::select(bases.to_vec()), prop::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
        for (at, len, kind, token) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary(text.len().min(start + len));
            let piece = text[start..end].to_owned();
            match kind {
                0 => text.replace_range(start..end, ""),
                1 => text.insert_str(start, &piece),
                2 => text.replace_range(start..end, token),
                _ => text.insert_str(start, token),
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,300}") {
        read(&text)?;
    }

    #[test]
    fn any_bytes_that_are_text(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_heap_of_tokens(tokens in prop::collection::vec(token(), 0..120)) {
        read(&tokens.concat())?;
    }

    #[test]
    fn a_good_file_spoilt(text in mutated()) {
        read(&text)?;
    }
}

/// Texts that cost a careless reader its memory, its stack or a day.
#[test]
fn costly_texts_are_refused_soon() {
    let repeat = |piece: &str, times: usize| piece.repeat(times);
    let laughs =
        (1..40).fold(String::from("a0: &a0 [x, x]\n"), |text, i| format!("{text}a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1));
    for (what, text) in [
        ("deep lists", repeat("[", 200_000)),
        ("deep maps", repeat("{a: ", 200_000)),
        ("deep blocks", (0..2000).map(|i| format!("{}a:\n", " ".repeat(i))).collect()),
        ("deep dashes", repeat("- ", 200_000)),
        (
            "nested anchors",
            format!("{}x", (0..60).map(|i| format!("- &a{i}\n{}", " ".repeat(i + 1))).collect::<String>()),
        ),
        ("billion laughs", laughs),
        ("a long key", format!("{}: 1", repeat("k", 1 << 20))),
        ("a long value", format!("servers: {}", repeat("v", 1 << 20))),
        ("many unknown keys", (0..100_000).map(|i| format!("k{i}: 1\n")).collect()),
        ("many documents", repeat("---\na: 1\n", 100_000)),
        ("many quotes", repeat("\"", 200_000)),
        ("many question marks", repeat("? ", 100_000)),
        ("many colons", repeat(":", 200_000)),
        ("many tags", repeat("!a ", 100_000)),
        ("many comments", repeat("#\n", 500_000)),
        ("many escapes", format!("{{\"a\": \"{}", repeat("\\ud83d", 100_000))),
    ] {
        let start = Instant::now();
        let found = Config::parse(&text, what).expect_err(what);
        assert!(found.len() <= 2002, "{what}: {} reports", found.len());
        assert!(start.elapsed() < Duration::from_secs(10), "{what} took {:?}", start.elapsed());
    }
}

#[test]
fn a_file_that_is_too_large_is_not_looked_at() {
    let text = " ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    let found = Config::parse(&text, "t").unwrap_err();
    assert_eq!(found[0].to_string(), "t: error: larger than 32 MiB");
}
