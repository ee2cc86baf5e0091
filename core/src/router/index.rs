//! The routes of one virtual host, found without looking at each of them.
//!
//! Routes that match by a whole path lie in a hash table, those that match by a prefix in a radix tree; the few that match by anything else are
//! a list. Each place holds its routes in the order of the file, and of all places' first hits the one that stands first in the file wins.
//!
//! **Invariant:** the same answer as trying the routes one after the other.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use regex::bytes::Regex;

use super::Route;
use super::condition::Conditions;
use super::variable::Facts;
use crate::config::schema::PathMatch;

/// The routes of one virtual host.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// By the whole path in lower case.
    paths: HashMap<Box<[u8]>, Places, RandomState>,
    path_len_max: usize,
    prefixes: Tree,
    /// Those that match by something else.
    others: Places,
}

/// A route, and what must hold besides what led to it. In one place: with many routes each of them lies in memory that is cold.
#[derive(Debug)]
struct Entry {
    regex: Option<Box<Regex>>,
    conditions: Option<Box<Conditions>>,
    route: Route,
}

/// Places in the file, in its order.
type Places = Vec<u32>;

impl Index {
    /// Adds a route behind those that are there.
    pub(super) fn new(routes: impl IntoIterator<Item = (PathMatch, Option<Box<Conditions>>, Route)>) -> Self {
        let mut made = Self::default();
        let mut prefixes: HashMap<Box<[u8]>, Places> = HashMap::new();
        for (place, (path, conditions, route)) in (0..).zip(routes) {
            let mut regex = None;
            let places = match path {
                PathMatch::Prefix(text) => prefixes.entry(text.into_bytes().into()).or_default(),
                PathMatch::Path(text) => made.paths.entry(text.to_ascii_lowercase().into_bytes().into()).or_default(),
                PathMatch::Regex(pattern) => {
                    regex = Some(Box::new(pattern.regex().clone()));
                    &mut made.others
                }
                PathMatch::Any => &mut made.others,
            };
            // Behind one that takes everything none is ever asked.
            let closed = places.last().is_some_and(|&last| made.entries[last as usize].takes_all());
            if !closed {
                places.push(place);
            }
            made.entries.push(Entry { regex, conditions, route });
        }
        made.path_len_max = made.paths.keys().map(|key| key.len()).max().unwrap_or(0);
        made.prefixes = Tree::new(prefixes.into_iter().collect());
        made
    }

    /// The first route in the file that takes a request with this normal path.
    pub(super) fn find(&self, path: &[u8], facts: &Facts<'_>) -> Option<&Route> {
        let mut best = u32::MAX;
        if !self.paths.is_empty() && path.len() <= self.path_len_max {
            self.improve(&mut best, self.by_path(path), path, facts);
        }
        self.prefixes.walk(path, |places| self.improve(&mut best, places, path, facts));
        self.improve(&mut best, &self.others, path, facts);
        self.entries.get(best as usize).map(|entry| &entry.route)
    }

    /// Every route, in the order of the file.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.entries.iter().map(|entry| &entry.route)
    }

    /// Takes the first of `places` that holds, if it stands before `best`.
    #[inline]
    fn improve(&self, best: &mut u32, places: &[u32], path: &[u8], facts: &Facts<'_>) {
        let before = places.iter().take_while(|&place| place < best);
        if let Some(place) = before.copied().find(|&place| self.entries[place as usize].holds(path, facts)) {
            *best = place;
        }
    }

    fn by_path(&self, path: &[u8]) -> &[u32] {
        let mut room = [0; STACK_BYTES];
        let found = match room.get_mut(..path.len()) {
            Some(lower) => {
                lower.copy_from_slice(path);
                lower.make_ascii_lowercase();
                self.paths.get(&*lower)
            }
            None => self.paths.get(path.to_ascii_lowercase().as_slice()),
        };
        found.map_or(&[], Vec::as_slice)
    }
}

impl Entry {
    fn takes_all(&self) -> bool {
        self.regex.is_none() && self.conditions.is_none()
    }

    #[inline]
    fn holds(&self, path: &[u8], facts: &Facts<'_>) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(path))
            && self.conditions.as_ref().is_none_or(|conditions| conditions.hold(facts))
    }
}

/// Prefixes as a radix tree: each node adds its label to the text of its parent.
#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
    /// The first byte of each node's label. The children of a node stand side by side, so that one is found by a search through these.
    first_bytes: Vec<u8>,
    labels: Vec<u8>,
    places: Places,
}

/// Ranges of the tree's own lists, so that the nodes of a walk lie close together.
#[derive(Debug, Default)]
struct Node {
    label: Range,
    children: Range,
    places: Range,
}

#[derive(Clone, Copy, Debug, Default)]
struct Range {
    start: u32,
    end: u32,
}

impl Tree {
    fn new(mut prefixes: Vec<(Box<[u8]>, Places)>) -> Self {
        let mut made = Self::default();
        if prefixes.is_empty() {
            return made;
        }
        prefixes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        made.add(&[]);
        // What is still to be put below a node: the prefixes that share its text, which is so long.
        let mut open = vec![(0, 0..prefixes.len(), 0)];
        while let Some((node, mut range, depth)) = open.pop() {
            if prefixes[range.start].0.len() == depth {
                let start = made.places.len();
                made.places.extend_from_slice(&prefixes[range.start].1);
                made.nodes[node].places = Range::new(start, made.places.len());
                range.start += 1;
            }
            let first_child = made.nodes.len();
            while !range.is_empty() {
                let group = &prefixes[range.clone()];
                let byte = group[0].0[depth];
                let len = group.partition_point(|(text, _)| text[depth] <= byte);
                let (first, last) = (&group[0].0, &group[len - 1].0);
                let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
                let child = made.add(&first[depth..shared]);
                open.push((child, range.start..range.start + len, shared));
                range.start += len;
            }
            made.nodes[node].children = Range::new(first_child, made.nodes.len());
        }
        made
    }

    fn add(&mut self, label: &[u8]) -> usize {
        let start = self.labels.len();
        self.labels.extend_from_slice(label);
        self.first_bytes.push(label.first().copied().unwrap_or(0));
        self.nodes.push(Node { label: Range::new(start, self.labels.len()), ..Node::default() });
        self.nodes.len() - 1
    }

    /// Shows `f` the places of each prefix that `path` has, the shortest first.
    #[inline]
    fn walk(&self, mut path: &[u8], mut f: impl FnMut(&[u32])) {
        let Some(mut node) = self.nodes.first() else { return };
        loop {
            if !node.places.is_empty() {
                f(&self.places[node.places.of()]);
            }
            let Some(byte) = path.first() else { return };
            let children = node.children;
            let Some(at) = memchr::memchr(*byte, &self.first_bytes[children.of()]) else { return };
            node = &self.nodes[children.start as usize + at];
            match path.strip_prefix(&self.labels[node.label.of()]) {
                Some(rest) => path = rest,
                None => return,
            }
        }
    }
}

impl Range {
    fn new(start: usize, end: usize) -> Self {
        let fit = |n: usize| u32::try_from(n).expect("a configuration file is far smaller than 4 GiB");
        Self { start: fit(start), end: fit(end) }
    }

    fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn of(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Paths up to this are compared without an allocation, in bytes.
const STACK_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walked(prefixes: &[&str], path: &str) -> Vec<String> {
        let entry = |(place, text): (u32, &&str)| (text.as_bytes().into(), vec![place]);
        let tree = Tree::new((0..).zip(prefixes).map(entry).collect());
        let mut found = Vec::new();
        tree.walk(path.as_bytes(), |places| found.push(prefixes[places[0] as usize].to_owned()));
        found
    }

    #[test]
    fn a_walk_meets_every_prefix_of_the_path() {
        let prefixes = ["/", "/api", "/api/v2", "/apiary", "/app", "", "/api/v2/x"];
        assert_eq!(walked(&prefixes, "/api/v2/y"), ["", "/", "/api", "/api/v2"]);
        assert_eq!(walked(&prefixes, "/apiary"), ["", "/", "/api", "/apiary"]);
        assert_eq!(walked(&prefixes, "/ap"), ["", "/"]);
        assert_eq!(walked(&prefixes, "*"), [""]);
        assert_eq!(walked(&["/only"], "/only/x"), ["/only"]);
        assert!(walked(&[], "/").is_empty() && walked(&["/a"], "").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_walk_is_a_scan(texts in proptest::collection::hash_set("[ab/]{0,6}", 0..20), path in "[ab/]{0,8}") {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut scan: Vec<String> = texts.iter().filter(|t| path.starts_with(**t)).map(|t| (*t).to_owned()).collect();
            scan.sort_unstable_by_key(String::len);
            prop_assert_eq!(walked(&texts, &path), scan);
        }
    }
}
