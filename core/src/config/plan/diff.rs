//! The walk over two trees side by side, by the tables of keys.
//!
//! **Invariant:** a key that the reader does not look at makes no difference.

use std::collections::HashMap;

use super::value::{canonical, print, redacted_json};
use super::{Change, Effect};
use crate::config::Document;
use crate::config::diagnostic::Place;
use crate::config::keys::{self, Key, Kind};
use crate::config::tree::{self, Node, Value};

/// The changes from one document to the other.
pub(super) fn documents(old: &Document, new: &Document) -> Vec<Change> {
    let empty = empty_map();
    let mut walk = Walk { path: String::new(), changes: Vec::new() };
    walk.map("file", old.root().unwrap_or(&empty), new.root().unwrap_or(&empty));
    walk.changes
}

struct Walk {
    path: String,
    changes: Vec<Change>,
}

impl Walk {
    fn at(&mut self, key: &str, f: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        if !self.path.is_empty() && !key.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(key);
        f(self);
        self.path.truncate(before);
    }

    fn tell(&mut self, effect: Effect) {
        self.changes.push(Change::new(self.path.clone(), effect));
    }

    fn map(&mut self, section: &str, old: &Node, new: &Node) {
        for key in keys::section(section).keys {
            let kind = kind_of(key, old, new);
            let (old, new) = (present(key, old), present(key, new));
            self.at(key.name, |walk| walk.key(key, kind, old, new));
        }
    }

    fn key(&mut self, key: &Key, kind: Kind, old: Option<&Node>, new: Option<&Node>) {
        let empty = empty_map();
        match kind {
            _ if old.is_none() && new.is_none() => {}
            Kind::Map(section) if TRANSPARENT.contains(&section) => {
                self.map(section, old.unwrap_or(&empty), new.unwrap_or(&empty));
            }
            Kind::Map(section) => {
                let default = default_of(key);
                match (old.or(default.as_ref()), new.or(default.as_ref())) {
                    (Some(old), Some(new)) => self.map(section, old, new),
                    (None, Some(new)) => self.tell(Effect::Added(print(key.name, new))),
                    _ => self.tell(Effect::Removed),
                }
            }
            Kind::Maps(section) => {
                self.list(section, old.map_or(&[], Node::elements), new.map_or(&[], Node::elements));
            }
            Kind::Any | Kind::ByType(_) => self.any(key.name, old.unwrap_or(&empty), new.unwrap_or(&empty)),
            kind => self.value(key, kind, old, new),
        }
    }

    fn value(&mut self, key: &Key, kind: Kind, old: Option<&Node>, new: Option<&Node>) {
        let default = default_of(key);
        let meaning = |node: Option<&Node>| node.or(default.as_ref()).map(|node| canonical(kind, key.name, node));
        if meaning(old) == meaning(new) {
            return;
        }
        let shown = |node: Option<&Node>| match node {
            Some(node) => print(key.name, node),
            None if key.default.is_empty() => "(absent)".into(),
            None => format!("{} (default)", key.default),
        };
        self.tell(Effect::Changed { old: shown(old), new: shown(new) });
    }

    /// A map that no table describes, key by key.
    fn any(&mut self, name: &str, old: &Node, new: &Node) {
        if let (Value::List(before), Value::List(after)) = (&old.value, &new.value)
            && before.len() == after.len()
        {
            for (i, (old, new)) in before.iter().zip(after).enumerate() {
                self.at(&format!("[{i}]"), |walk| walk.any(name, old, new));
            }
            return;
        }
        let (Value::Map(before), Value::Map(after)) = (&old.value, &new.value) else {
            if canonical(Kind::Any, name, old) != canonical(Kind::Any, name, new) {
                self.tell(Effect::Changed { old: print(name, old), new: print(name, new) });
            }
            return;
        };
        for entry in before {
            self.at(&entry.key, |walk| match new.get(&entry.key) {
                Some(now) => walk.any(&entry.key, &entry.node, now),
                None => walk.tell(Effect::Removed),
            });
        }
        for entry in after.iter().filter(|e| old.get(&e.key).is_none()) {
            self.at(&entry.key, |walk| walk.tell(Effect::Added(print(&entry.key, &entry.node))));
        }
    }

    fn list(&mut self, section: &str, old: &[Node], new: &[Node]) {
        let (old, new) = (named(section, old), named(section, new));
        let new_names: HashMap<&str, usize> = (0..).zip(&new).map(|(i, (name, _))| (name.as_str(), i)).collect();
        let old_names: HashMap<&str, usize> = (0..).zip(&old).map(|(i, (name, _))| (name.as_str(), i)).collect();
        for (name, _) in old.iter().filter(|(name, _)| !new_names.contains_key(name.as_str())) {
            self.at(&format!("[{name}]"), |walk| walk.tell(Effect::Removed));
        }
        let places: Vec<usize> = new.iter().filter_map(|(name, _)| old_names.get(name.as_str()).copied()).collect();
        let stay = if UNORDERED.contains(&section) { None } else { Some(longest_rising(&places)) };
        for (i, (name, node)) in new.iter().enumerate() {
            self.at(&format!("[{name}]"), |walk| match old_names.get(name.as_str()) {
                None => walk.tell(Effect::Added(print("", node))),
                Some(&was) => {
                    if stay.as_ref().is_some_and(|stay| stay.binary_search(&was).is_err()) {
                        walk.tell(Effect::Moved { old: was + 1, new: i + 1 });
                    }
                    walk.map(section, old[was].1, node);
                }
            });
        }
    }
}

/// What stands under a key, where that depends on the type beside it: a section that both maps have, else a map that no table describes.
fn kind_of(key: &Key, old: &Node, new: &Node) -> Kind {
    let Kind::ByType(types) = key.kind else { return key.kind };
    let section = |map: &Node| match &map.get("type")?.value {
        Value::Text(kind) => types.iter().find(|(name, _)| name == kind).map(|(_, section)| *section),
        _ => None,
    };
    match (section(old), section(new)) {
        (Some(old), Some(new)) if old == new => Kind::Map(new),
        _ => Kind::Any,
    }
}

/// The value of a key, unless it is as if it were absent.
fn present<'n>(key: &Key, map: &'n Node) -> Option<&'n Node> {
    map.get(key.name).filter(|node| match (&node.value, key.kind) {
        (Value::Null, _) => false,
        (Value::Text(text), _) => !text.is_empty(),
        // A list or a map of nothing; `admin: {}` is the one that switches something on.
        (Value::List(_), _) | (_, Kind::Map(_) | Kind::Any | Kind::ByType(_)) => {
            !node.is_neutral() || key.name == "admin"
        }
        _ => true,
    })
}

/// What an absent key stands for, where the table says it as it would be written.
fn default_of(key: &Key) -> Option<Node> {
    if key.default.is_empty() { None } else { tree::parse(key.default, 0).ok().flatten() }
}

fn empty_map() -> Node {
    Node { place: Place::default(), value: Value::Map(Vec::new()) }
}

/// The elements of a list, each with a name that no other has.
fn named<'n>(section: &str, list: &'n [Node]) -> Vec<(String, &'n Node)> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut out = Vec::with_capacity(list.len());
    for (i, node) in list.iter().enumerate() {
        let name = name_of(section, node).unwrap_or_else(|| i.to_string());
        let times = seen.entry(name.clone()).or_insert(0);
        *times += 1;
        out.push((if *times == 1 { name } else { format!("{name}#{times}") }, node));
    }
    out
}

/// What an element of a list is known by.
fn name_of(section: &str, node: &Node) -> Option<String> {
    let text = |key: &str| match &node.get(key)?.value {
        Value::Text(text) if !text.is_empty() && !text.contains("-----BEGIN") => Some(text.clone()),
        _ => None,
    };
    let inner = || match &node.value {
        // `{cluster: {name: a, weight: 1}}`
        Value::Map(entries) => match entries.as_slice() {
            [only] if matches!(only.node.value, Value::Map(_)) => name_of(section, &only.node),
            _ => None,
        },
        _ => None,
    };
    match section {
        // There is one of each.
        "server" | "filter_chain" => None,
        "virtual_host" => text("name").or_else(|| first_text(node.get("domains")?)),
        "route" => text("name").or_else(|| Some(node.get("match").map_or_else(|| "prefix /".to_owned(), matched))),
        _ => NAMES.iter().find_map(|key| text(key)).or_else(inner),
    }
}

fn first_text(list: &Node) -> Option<String> {
    match &list.elements().first()?.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// The requests of a route in short: `prefix /api`.
fn matched(node: &Node) -> String {
    match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [only] if matches!(only.node.value, Value::Text(_)) => {
                format!("{} {}", only.key, print(&only.key, &only.node))
            }
            _ => redacted_json(node),
        },
        _ => redacted_json(node),
    }
}

/// The longest part of a sequence that rises, as a rising sequence: these stay, the others have moved.
fn longest_rising(sequence: &[usize]) -> Vec<usize> {
    // `ends[n]` is where the rising part of n + 1 elements with the smallest end ends.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; sequence.len()];
    for (i, value) in sequence.iter().enumerate() {
        let n = ends.partition_point(|&end| sequence[end] < *value);
        before[i] = n.checked_sub(1).map(|last| ends[last]);
        if n == ends.len() {
            ends.push(i);
        } else {
            ends[n] = i;
        }
    }
    let mut out = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(i) = at {
        out.push(sequence[i]);
        at = before[i];
    }
    out.reverse();
    out
}

/// Maps that do the same absent and empty: their keys have the defaults.
const TRANSPARENT: &[&str] = &[
    "limits",
    "dataplane",
    "dpdk",
    "dpdk_idle",
    "tls_backend",
    "cluster_manager",
    "proxy_extend",
    "proxy_http1",
    "proxy_bolt",
    "keepalive",
    "proxy",
    "tcp_proxy",
    "udp_proxy",
];

/// Lists whose order has no effect.
const UNORDERED: &[&str] = &["listener", "router", "virtual_host", "cluster", "access_log", "dpdk_port"];

/// The keys that may name an element, the first that is there.
const NAMES: &[&str] = &["name", "router_config_name", "address", "device", "type", "log_path", "key", "cert_chain"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_as_much_as_can_be() {
        for (sequence, stays) in [
            (vec![], vec![]),
            (vec![0, 1, 2], vec![0, 1, 2]),
            (vec![2, 0, 1], vec![0, 1]),
            (vec![0, 3, 1, 2, 4], vec![0, 1, 2, 4]),
            (vec![3, 2, 1], vec![1]),
        ] {
            assert_eq!(longest_rising(&sequence), stays, "{sequence:?}");
        }
    }
}
