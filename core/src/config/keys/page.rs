//! The reference page of the configuration, printed from the tables of keys.
//!
//! **Invariant:** nothing is said here of a key that the tables do not say.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::planned::{CLUSTER_TYPES, INNER, NETWORK_FILTERS, PLANNED, STREAM_FILTERS, Variant};
use super::working::SECTIONS;
use super::{Key, Kind, Section};
use crate::config::diagnostic::Severity;

/// `docs/reference/configuration.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(HEAD);
    for section in SECTIONS {
        write_section(&mut page, section);
    }
    for (title, variants) in [
        ("Network filters without function yet", NETWORK_FILTERS),
        ("Stream filters without function yet", STREAM_FILTERS),
        ("Cluster types without function yet", CLUSTER_TYPES),
    ] {
        write_variants(&mut page, title, variants);
    }
    write_inner(&mut page);
    page
}

fn write_section(page: &mut String, section: &Section) {
    let title = if section.path.is_empty() { "The file".to_owned() } else { format!("`{}`", section.path) };
    line(page, format_args!("\n## {title}\n\n| key | type | default | meaning |\n|---|---|---|---|"));
    for key in section.keys {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let restart = if takes_restart(section, key) { " Takes a restart." } else { "" };
        line(page, format_args!("| `{}` | {} | {default} | {}{restart} |", key.name, kind(key), escape(key.meaning)));
    }
    let mut planned = PLANNED.iter().filter(|p| p.section == section.name).peekable();
    if planned.peek().is_none() {
        return;
    }
    line(page, format_args!("\nKnown, without function yet:\n\n| key | reported as | because |\n|---|---|---|"));
    for row in planned {
        line(page, format_args!("| `{}` | {} | {} |", row.name, severity(row.severity), escape(row.effect)));
    }
}

/// Whether a change of this key takes a restart.
pub(super) fn takes_restart(section: &Section, key: &Key) -> bool {
    let dot = if section.path.is_empty() { "" } else { "." };
    super::takes_restart(&format!("{}{dot}{}", section.path, key.name))
}

fn write_variants(page: &mut String, title: &str, variants: &[Variant]) {
    line(page, format_args!("\n## {title}\n\n| type | reported as | because |\n|---|---|---|"));
    for variant in variants {
        line(
            page,
            format_args!("| `{}` | {} | {} |", variant.name, severity(variant.severity), escape(variant.effect)),
        );
    }
}

fn write_inner(page: &mut String) {
    line(page, format_args!("{INNER_HEAD}"));
    for (name, _) in INNER {
        let keys: Vec<String> = super::inner(name).map(|(key, _)| format!("`{key}`")).collect();
        let planned = PLANNED.iter().filter(|p| p.inner == *name).map(|p| p.name);
        let above = INNER.iter().flat_map(|(row, _)| super::inner(row)).filter(|(_, within)| within == name);
        let parents: BTreeSet<String> =
            planned.chain(above.map(|(key, _)| key)).map(|key| format!("`{key}`")).collect();
        let parents: Vec<String> = parents.into_iter().collect();
        line(page, format_args!("| {} | {} |", parents.join(", "), keys.join(", ")));
    }
}

fn kind(key: &Key) -> String {
    let within = |name: &str| SECTIONS.iter().find(|s| s.name == name).map_or("", |s| s.path);
    match key.kind {
        Kind::Text => "text".into(),
        Kind::Bool => "true or false".into(),
        Kind::Number if key.default == "auto" => "number or `auto`".into(),
        Kind::Number => "number".into(),
        Kind::Duration => "duration".into(),
        Kind::Size => "size".into(),
        Kind::Address => "address".into(),
        Kind::Pem => "file or PEM".into(),
        Kind::Choice(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
        Kind::Texts => "list of texts".into(),
        Kind::Numbers => "list of numbers".into(),
        Kind::Any => "map".into(),
        Kind::ByType(types) => {
            let each = types.iter().map(|(kind, name)| format!("of `{kind}`: `{}`", within(name)));
            format!("map, {}", each.collect::<Vec<_>>().join(", "))
        }
        Kind::Map(name) => format!("map: `{}`", within(name)),
        Kind::Maps(name) => format!("list of maps: `{}`", within(name)),
    }
}

fn severity(severity: Severity) -> String {
    severity.to_string()
}

/// A bar would end the table's cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a String takes every text");
}

const HEAD: &str = "\
# Configuration

This page is printed from the tables that the reader of the file goes by (`core/src/config/keys`); a test compares the two. To print it
anew: `FERROGATE_BLESS=1 cargo test -p ferrogate-core --test config`.

A configuration file is JSON or YAML (1.2, one document, no tags, no merge keys) of at most 32 MiB, in MOSN's schema with sections of our
own. Every mistake of a file is told at once, with its place and the key's path:

    web.yaml:7:9: error: servers[0].listeners[0].address: `localhost` is no address (expected IP:PORT, ...)

For editors the same is in [ferrogate.schema.json](ferrogate.schema.json), a JSON Schema.

- A key that is not known is a warning that names the nearest known one.
- A key of MOSN's that has no function here yet is an error where ignoring it would open, lose or misroute traffic, and else a warning
  that says the effect. A value that switches nothing on (false, 0, an empty text, list or map, `enable: false`) is not reported.
- A *duration* is a text with units, as in Go: `300ms`, `15s`, `1h30m`. A bare number is nanoseconds, as in MOSN, and gets a warning.
- A *size* is a number of bytes, or a text with a binary unit: `65536`, `64KiB`, `1MiB`, `2GiB`.
- An *address* is `IP:PORT`, `[IPv6]:PORT`, `:PORT` (every IPv4 address) or `unix:/PATH`.
- An empty default means: absent, or required where the meaning says so.
";

const INNER_HEAD: &str = "\n## Keys within keys that have no function yet\n
They are known so that a misspelt one is told; they are not read.\n
| within | keys |
|---|---|";
