//! The routes of one virtual host, found without looking at each of them.
//!
//! Routes that match by a whole path lie in a hash table, those that match by a prefix in a radix tree; the few that match by anything else are
//! a list. Each place holds its routes in the order of the file, and of all places' first hits the one that stands first in the file wins.
//!
//! **Invariant:** the same answer as trying the routes one after the other; a route that asks for nothing but its path is found without a
//! look at it.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use regex::bytes::Regex;

use super::condition::Conditions;
use super::route::{Course, Route};
use super::variable::Facts;
use super::{Resolve, RouteId, UnknownCluster};
use crate::config::schema::{self, PathMatch};

/// The routes of one virtual host.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    courses: Vec<Course>,
    /// By the whole path in lower case.
    paths: HashMap<Box<[u8]>, Places, RandomState>,
    path_len_max: usize,
    prefixes: Tree,
    /// Those that match by something else.
    others: Places,
}

/// A route by itself: its names, and what must hold besides what led to it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: RouteId,
    course: u32,
    pub(super) name: Box<str>,
    regex: Option<Box<Regex>>,
    conditions: Option<Box<Conditions>>,
}

/// Where a route lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its place in the file.
    entry: u32,
    course: u32,
    /// Whether it takes everything that led to it.
    takes_all: bool,
}

/// Of several routes, in the order of the file.
type Places = Vec<Place>;

impl Index {
    /// The table of a virtual host of a router with these edits. `ids` gives its routes their numbers.
    ///
    /// # Errors
    /// When a route names a cluster that is not there.
    pub(super) fn new(
        host: &schema::VirtualHost,
        edits: &schema::Edits,
        resolve: &Resolve<'_>,
        ids: &mut impl Iterator<Item = RouteId>,
    ) -> Result<Self, UnknownCluster> {
        let mut made = Self::default();
        let mut prefixes: HashMap<Box<[u8]>, Places> = HashMap::new();
        let mut courses: VecDeque<(&schema::Route, u32)> = VecDeque::new();
        for (route, id) in host.routes.iter().zip(ids) {
            let shared = courses.iter().find(|(other, _)| Course::is_shared(other, route)).map(|&(_, course)| course);
            let course = match shared {
                Some(course) => course,
                None => {
                    made.courses.push(Course::new(route, host, edits, resolve)?);
                    let course = place(made.courses.len() - 1);
                    courses.truncate(COURSES_COMPARED_MAX - 1);
                    courses.push_front((route, course));
                    course
                }
            };
            made.add(Entry::new(id, course, route), &route.matching.path, &mut prefixes);
        }
        made.path_len_max = made.paths.keys().map(|key| key.len()).max().unwrap_or(0);
        made.prefixes = Tree::new(prefixes.into_iter().collect());
        Ok(made)
    }

    /// Adds a route behind those that are there.
    fn add(&mut self, entry: Entry, path: &PathMatch, prefixes: &mut HashMap<Box<[u8]>, Places>) {
        let places = match path {
            PathMatch::Prefix(text) => prefixes.entry(text.as_bytes().into()).or_default(),
            PathMatch::Path(text) => self.paths.entry(text.to_ascii_lowercase().into_bytes().into()).or_default(),
            PathMatch::Regex(_) | PathMatch::Any => &mut self.others,
        };
        // Behind one that takes everything none is ever asked.
        if !places.last().is_some_and(|last| last.takes_all) {
            let takes_all = entry.takes_all();
            places.push(Place { entry: place(self.entries.len()), course: entry.course, takes_all });
        }
        self.entries.push(entry);
    }

    /// The first route in the file that takes a request with this normal path.
    pub(super) fn find(&self, path: &[u8], facts: &Facts<'_>) -> Option<Route<'_>> {
        let mut best = None;
        if !self.paths.is_empty() && path.len() <= self.path_len_max {
            self.improve(&mut best, self.by_path(path), path, facts);
        }
        self.prefixes.walk(path, |places| self.improve(&mut best, places, path, facts));
        self.improve(&mut best, &self.others, path, facts);
        best.map(|Place { entry, course, .. }| {
            Route::new(&self.entries[entry as usize], &self.courses[course as usize])
        })
    }

    /// Every route, in the order of the file.
    pub(super) fn routes(&self) -> impl Iterator<Item = Route<'_>> {
        self.entries.iter().map(|entry| Route::new(entry, &self.courses[entry.course as usize]))
    }

    /// Takes the first of `places` that holds, if it stands before `best`.
    #[inline]
    fn improve(&self, best: &mut Option<Place>, places: &[Place], path: &[u8], facts: &Facts<'_>) {
        let end = best.map_or(u32::MAX, |best| best.entry);
        let mut before = places.iter().take_while(|place| place.entry < end);
        let holds = |place: &&Place| place.takes_all || self.entries[place.entry as usize].holds(path, facts);
        if let Some(place) = before.find(holds) {
            *best = Some(*place);
        }
    }

    fn by_path(&self, path: &[u8]) -> &[Place] {
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
    fn new(id: RouteId, course: u32, config: &schema::Route) -> Self {
        let path = &config.matching.path;
        let regex = if let PathMatch::Regex(pattern) = path { Some(Box::new(pattern.regex().clone())) } else { None };
        Self { id, course, name: config.name.as_str().into(), regex, conditions: Conditions::new(&config.matching) }
    }

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
    fn walk(&self, mut path: &[u8], mut f: impl FnMut(&[Place])) {
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
        Self { start: place(start), end: place(end) }
    }

    fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn of(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A place in one of the lists.
fn place(n: usize) -> u32 {
    u32::try_from(n).expect("a configuration file is far smaller than 4 GiB")
}

/// The courses that one more route is compared with, the last ones that are new: a file lists like beside like.
const COURSES_COMPARED_MAX: usize = 16;

/// Paths up to this are compared without an allocation, in bytes.
const STACK_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walked(prefixes: &[&str], path: &str) -> Vec<String> {
        let entry = |(place, text): (u32, &&str)| {
            (text.as_bytes().into(), vec![Place { entry: place, course: 0, takes_all: true }])
        };
        let tree = Tree::new((0..).zip(prefixes).map(entry).collect());
        let mut found = Vec::new();
        tree.walk(path.as_bytes(), |places| found.push(prefixes[places[0].entry as usize].to_owned()));
        found
    }

    #[test]
    fn what_a_request_looks_at_is_small() {
        assert!(size_of::<Place>() <= 12 && size_of::<Entry>() <= 40);
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
