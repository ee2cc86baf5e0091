//! Every key that the gateway knows, with its type, default and meaning: the reader asks for no other, reports on all others, and the
//! reference page is printed from it.
//!
//! **Invariant:** a key stands in exactly one of the two tables, [`working`] or [`planned`].

mod cluster;
mod dataplane;
mod filters;
mod json_schema;
mod limits;
mod network;
mod page;
mod planned;
mod routing;
mod tls;
mod working;

pub use json_schema::json_schema;
pub use page::reference_page;
pub(super) use planned::{CLUSTER_TYPES, NETWORK_FILTERS, STREAM_FILTERS, Variant};
use planned::{INNER, PLANNED};
use working::SECTIONS;

use super::diagnostic::Severity;

/// A map in the file and the keys that have function in it.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    /// Where it stands in the file.
    pub(super) path: &'static str,
    pub(super) keys: &'static [Key],
}

/// A key that has function.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As it would be written; empty: none, or the key is required (its meaning says so).
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
}

/// What a key's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    Number,
    Duration,
    Size,
    Address,
    Pem,
    Choice(&'static [&'static str]),
    Texts,
    Numbers,
    Any,
    /// A map whose section depends on the `type` beside it: types, each with its section. That of any other type is not described.
    ByType(&'static [(&'static str, &'static str)]),
    Map(&'static str),
    Maps(&'static str),
}

impl Key {
    /// Whether a map without it is a mistake, whatever else stands in it.
    fn is_required(&self) -> bool {
        self.meaning.ends_with("Required.")
    }
}

/// A key of MOSN's schema that has no function yet, or none here.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// What happens because it has none.
    pub(super) effect: &'static str,
    /// The row of [`INNER`] that lists the keys within; empty: anything may stand there.
    pub(super) inner: &'static str,
}

/// Whether a change of the key at `path` takes a restart: it is looked at once, when the process starts.
pub(super) fn takes_restart(path: &str) -> bool {
    RESTART.iter().any(|key| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
}

/// The section of this name. Only names that the tables hold are asked for.
pub(super) fn section(name: &str) -> &'static Section {
    SECTIONS
        .iter()
        .find(|s| s.name == name)
        .expect("the reader asks for sections of the table only; a test walks them all")
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    pub(super) fn planned(&self, name: &str) -> Option<&'static Planned> {
        PLANNED.iter().find(|p| p.section == self.name && p.name == name)
    }

    /// The known key that is most like `name`, if any is like it.
    pub(super) fn nearest(&self, name: &str) -> Option<&'static str> {
        let working = self.keys.iter().map(|k| k.name);
        let planned = PLANNED.iter().filter(|p| p.section == self.name).map(|p| p.name);
        nearest(name, working.chain(planned))
    }
}

/// The keys within a planned key, each with the row that lists what is within it in turn.
pub(super) fn inner(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let row = INNER.iter().find(|(n, _)| *n == name).map_or("", |(_, keys)| keys);
    row.split_ascii_whitespace().map(|key| key.split_once('>').unwrap_or((key, "")))
}

/// The candidate that is most like `name`: at most a third of its letters differ.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let bound = (name.chars().count() / 3).max(1);
    candidates.map(|c| (distance(name, c), c)).filter(|(d, _)| *d <= bound).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// How many letters must be changed, added, removed or swapped with their neighbour, upper and lower case alike.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_ascii_lowercase().chars().collect(), b.to_ascii_lowercase().chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = above[j] + usize::from(a[i] != b[j]);
            let mut best = changed.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// The keys, with all within them, that are looked at once, when the process starts.
const RESTART: &[&str] =
    &["admin", "dataplane", "servers[0].default_log_path", "servers[0].processor", "metrics", "pid"];

/// A longer key is not compared with the known ones, in bytes.
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Limits};

    #[test]
    fn the_tables_hold_together() {
        for section in SECTIONS {
            for (i, key) in section.keys.iter().enumerate() {
                assert!(section.keys[..i].iter().all(|k| k.name != key.name), "{}.{} twice", section.name, key.name);
                assert!(section.planned(key.name).is_none(), "{}.{} in both tables", section.name, key.name);
                let within = match key.kind {
                    Kind::Map(name) | Kind::Maps(name) => vec![name],
                    Kind::ByType(types) => types.iter().map(|(_, name)| *name).collect(),
                    _ => Vec::new(),
                };
                for name in within {
                    assert!(SECTIONS.iter().any(|s| s.name == name), "no section {name}");
                }
            }
        }
        for (i, row) in PLANNED.iter().enumerate() {
            assert!(SECTIONS.iter().any(|s| s.name == row.section), "{}: no such section", row.section);
            assert!(!PLANNED[..i].iter().any(|p| (p.section, p.name) == (row.section, row.name)), "{} twice", row.name);
            assert!(row.inner.is_empty() || INNER.iter().any(|(n, _)| *n == row.inner), "{}", row.inner);
        }
        for (name, _) in INNER {
            for (key, within) in inner(name) {
                assert!(within.is_empty() || INNER.iter().any(|(n, _)| *n == within), "{key}>{within}");
            }
        }
    }

    /// What a file says that has only this piece besides what it must have.
    fn read(piece: &str) -> Config {
        let text = format!(
            "servers: [{{listeners: [{{address: :1, routers: [{{direct_response: {{status: 200}}}}]}}]}}]\n{piece}\n"
        );
        Config::parse(&text, "t").unwrap_or_else(|found| panic!("{text}: {found:?}")).0
    }

    /// The keys of a section that are values, with their defaults.
    fn defaults(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let maps = |k: &&Key| matches!(k.kind, Kind::Map(_) | Kind::Maps(_));
        section(name).keys.iter().filter(move |k| !maps(k)).map(|k| (k.name, k.default))
    }

    #[test]
    fn the_defaults_of_the_page_are_those_in_force() {
        let all =
            |name: &str| defaults(name).map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ");
        let piece = format!(
            "limits: {{{}}}\ndataplane: {{{}, dpdk: {{{}, idle: {{{}}}}}}}\ntls_backend: {{{}}}",
            all("limits"),
            all("dataplane"),
            all("dpdk"),
            all("dpdk_idle"),
            all("tls_backend"),
        );
        assert_eq!(read(&piece), read(""));
    }

    #[test]
    fn every_limit_reaches_the_data() {
        for (key, default) in defaults("limits") {
            let other = if default.ends_with('s') || default.ends_with('h') { "7m" } else { "777" };
            let config = read(&format!("limits: {{{key}: {other}}}"));
            assert_ne!(config.limits, Limits::default(), "{key}");
            let printed = format!("{:?}", config.limits);
            assert!(printed.contains(&format!("{key}: {}", other.replace("7m", "420s"))), "{key}: {printed}");
        }
        let fields = format!("{:?}", Limits::default()).matches(": ").count();
        assert_eq!(fields, defaults("limits").count(), "a limit without a key");
    }

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let listener = section("listener");
        for (wrong, right) in [
            ("adress", Some("address")),
            ("acces_logs", Some("access_logs")),
            ("filter_chain", Some("filter_chains")),
            ("Name", Some("name")),
            ("zzz", None),
            ("use_orginal_dst", Some("use_original_dst")),
        ] {
            assert_eq!(listener.nearest(wrong), right, "{wrong}");
        }
        assert_eq!(distance("ab", "ba"), 1);
    }
}
