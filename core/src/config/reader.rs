//! What the walk over a file is made of: typed looks at the keys of a map, and the list of what is wrong.
//!
//! A look that finds the wrong thing reports it and answers None: the walk goes on, so that every mistake of a file is told at once.
//!
//! **Invariant:** every key of every map is asked for, or known without function, or reported as unknown.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Origin, Place, Severity};
use super::keys::{self, Section};
use super::scalar;
use super::tree::{Entry, Node, Value};

/// The place in the walk, and what was found so far.
pub(super) struct Reader {
    /// By [`Place::file`].
    files: Vec<String>,
    path: String,
    found: Vec<(Place, Diagnostic)>,
    errors: usize,
    warnings: usize,
}

/// A map whose keys are being looked at.
pub(super) struct Fields<'n> {
    pub(super) node: &'n Node,
    section: &'static Section,
}

impl Reader {
    /// `files` are the names that places count by; there is one at least.
    pub(super) fn new(files: &[String]) -> Self {
        Self { files: files.to_owned(), path: String::new(), found: Vec::new(), errors: 0, warnings: 0 }
    }

    /// What was found, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(place, _)| *place);
        self.path.clear();
        for (count, severity) in [(self.errors, Severity::Error), (self.warnings, Severity::Warning)] {
            if count > REPORTS_MAX {
                let message = format!("{} more {severity}s are left out", count - REPORTS_MAX);
                let last = self.report(severity, Place::default(), message, String::new());
                self.found.push((Place::default(), last));
            }
        }
        self.found.into_iter().map(|(_, report)| report).collect()
    }

    pub(super) fn error(&mut self, place: Place, message: impl Display, remedy: impl Display) {
        self.push(Severity::Error, place, message.to_string(), remedy.to_string());
    }

    pub(super) fn warn(&mut self, place: Place, message: impl Display, remedy: impl Display) {
        self.push(Severity::Warning, place, message.to_string(), remedy.to_string());
    }

    /// Runs `f` with `key` behind the path.
    pub(super) fn at<R>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.path.len();
        if !self.path.is_empty() && !key.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(&key[..key.floor_char_boundary(TEXT_BYTES_MAX)]);
        let result = f(self);
        self.path.truncate(before);
        result
    }

    /// Where the walk is.
    pub(super) fn origin(&self, place: Place) -> Origin {
        Origin { place, path: self.path.clone() }
    }

    /// A place in words, for a report about another one.
    pub(super) fn line_of(&self, place: Place) -> String {
        match place.file {
            0 => format!("in line {}", place.line),
            file => format!("in {}:{}", self.files[file as usize], place.line),
        }
    }

    /// An error about a thing whose path is known, not about where the walk is.
    pub(super) fn error_at(&mut self, origin: &Origin, message: impl Display, remedy: impl Display) {
        let here = std::mem::replace(&mut self.path, origin.path.clone());
        self.error(origin.place, message, remedy);
        self.path = here;
    }

    /// The same as a warning.
    pub(super) fn warn_at(&mut self, origin: &Origin, message: impl Display, remedy: impl Display) {
        let here = std::mem::replace(&mut self.path, origin.path.clone());
        self.warn(origin.place, message, remedy);
        self.path = here;
    }

    /// Reports a value, a filter's type or the like, that is not here: one of `known` says what that means; any other is none at all.
    pub(super) fn variant(&mut self, place: Place, what: &str, value: &str, known: &[keys::Variant]) {
        if let Some(variant) = known.iter().find(|v| v.name == value) {
            let message = format!("the {what} `{value}` has no function yet: {}", variant.effect);
            return self.push(variant.severity, place, message, String::new());
        }
        let nearest = keys::nearest(value, known.iter().map(|v| v.name));
        self.error(place, format!("there is no {what} `{value}`"), did_you_mean(nearest));
    }

    /// The map at `node`, its unknown keys and those without function reported. None when it is no map.
    pub(super) fn map<'n>(&mut self, node: &'n Node, section: &str) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, "a map");
            return None;
        };
        let section = keys::section(section);
        for entry in entries.iter().filter(|e| section.key(&e.key).is_none()) {
            self.at(&entry.key, |r| match section.planned(&entry.key) {
                Some(known) => r.without_function(entry.place, known, &entry.node),
                None => r.unknown(entry, |name| section.nearest(name)),
            });
        }
        Some(Fields { node, section })
    }

    /// Each element of the list at `node` with its path.
    pub(super) fn each<'n>(&mut self, node: &'n Node, mut f: impl FnMut(&mut Self, &'n Node)) {
        let Value::List(list) = &node.value else { return self.wrong_type(node, "a list") };
        for (i, element) in list.iter().enumerate() {
            self.at(&format!("[{i}]"), |r| f(r, element));
        }
    }

    pub(super) fn wrong_type(&mut self, node: &Node, expected: &str) {
        let remedy = match node.value {
            Value::Int(_) | Value::Float(_) | Value::Bool(_) if expected == "a text" => "put it in quotes",
            _ => "",
        };
        self.error(node.place, format!("{expected} is expected, not {}", node.kind()), remedy);
    }

    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(t) => Some(t.clone()),
            _ => {
                self.wrong_type(node, "a text");
                None
            }
        }
    }

    fn number(&mut self, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        match node.value {
            Value::Int(i) => {
                let value = u64::try_from(i).ok().filter(|v| range.contains(v));
                if value.is_none() {
                    self.out_of_range(node.place, &i, &range);
                }
                value
            }
            Value::Float(f) => {
                self.error(node.place, format!("a whole number is expected, not {f}"), "");
                None
            }
            _ => {
                self.wrong_type(node, "a number");
                None
            }
        }
    }

    fn size(&mut self, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let Value::Text(text) = &node.value else { return self.number(node, range) };
        match scalar::size(text) {
            Some(size) if range.contains(&size) => Some(size),
            Some(_) => {
                self.out_of_range(node.place, text, &range);
                None
            }
            None => {
                self.error(node.place, format!("`{text}` is no size"), "write bytes, or a number with KiB, MiB or GiB");
                None
            }
        }
    }

    /// Whether it is negative, and how long.
    fn duration(&mut self, node: &Node) -> Option<(bool, Duration)> {
        let value = match &node.value {
            Value::Text(text) => scalar::duration(text),
            Value::Int(nanos) => {
                // MOSN reads a bare number as nanoseconds, which is hardly ever what is meant.
                let value = (*nanos < 0, Duration::from_nanos(nanos.unsigned_abs()));
                if *nanos != 0 {
                    let message = format!(
                        "a bare number is a time in nanoseconds: {nanos} is {}",
                        scalar::print_duration(value.1)
                    );
                    self.warn(node.place, message, "write it with a unit, like \"30s\"");
                }
                Some(value)
            }
            _ => {
                self.wrong_type(node, "a duration");
                return None;
            }
        };
        match (value, &node.value) {
            (Some((_, d)), _) if d > DURATION_MAX => {
                self.error(node.place, "a duration of more than a year", "");
                None
            }
            (None, Value::Text(text)) => {
                let remedy = "write numbers with units, like \"300ms\", \"15s\" or \"1h30m\"";
                self.error(node.place, format!("`{text}` is no duration"), remedy);
                None
            }
            (value, _) => value,
        }
    }

    fn out_of_range(&mut self, place: Place, value: &dyn Display, range: &RangeInclusive<u64>) {
        let (low, high) = (range.start(), range.end());
        let message = match *high {
            u64::MAX => format!("{value} is less than {low}"),
            _ => format!("{value} is not between {low} and {high}"),
        };
        self.error(place, message, "");
    }

    fn without_function(&mut self, place: Place, known: &keys::Planned, node: &Node) {
        self.check_inner(node, known.inner);
        if !node.is_neutral() {
            let message = format!("`{}` has no function yet: {}", known.name, known.effect);
            self.push(known.severity, place, message, String::new());
        }
    }

    /// Reports the misspelt keys within a key that has no function yet.
    fn check_inner(&mut self, node: &Node, row: &str) {
        match &node.value {
            _ if row.is_empty() => {}
            Value::List(_) => self.each(node, |r, element| r.check_inner(element, row)),
            Value::Map(entries) => {
                for entry in entries {
                    match keys::inner(row).find(|(name, _)| *name == entry.key) {
                        Some((_, within)) => self.at(&entry.key, |r| r.check_inner(&entry.node, within)),
                        None => self.at(&entry.key, |r| {
                            r.unknown(entry, |name| keys::nearest(name, keys::inner(row).map(|(known, _)| known)));
                        }),
                    }
                }
            }
            _ => {}
        }
    }

    fn unknown(&mut self, entry: &Entry, nearest: impl Fn(&str) -> Option<&'static str>) {
        // Comparing names costs, and behind the bound nobody reads the result.
        let nearest = if self.warnings < REPORTS_MAX { nearest(&entry.key) } else { None };
        let message = format!("the key `{}` is unknown and has no effect", entry.key);
        self.warn(entry.place, message, did_you_mean(nearest));
    }

    fn push(&mut self, severity: Severity, place: Place, message: String, remedy: String) {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= REPORTS_MAX {
            let report = self.report(severity, place, shorten(message), remedy);
            self.found.push((place, report));
        }
    }

    fn report(&self, severity: Severity, place: Place, message: String, remedy: String) -> Diagnostic {
        let (file, path) = (self.files[place.file as usize].clone(), self.path.clone());
        Diagnostic { severity, file, line: place.line, column: place.column, path, message, remedy }
    }
}

impl<'n> Fields<'n> {
    /// The value of `key`; None when it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.section.key(key).is_some(), "{}.{key} is not in the table of keys", self.section.name);
        self.node.get(key).filter(|n| !matches!(n.value, Value::Null))
    }

    /// What `f` reads from the value of `key`, with its path.
    pub(super) fn with<R>(
        &self,
        r: &mut Reader,
        key: &str,
        f: impl FnOnce(&mut Reader, &'n Node) -> Option<R>,
    ) -> Option<R> {
        let node = self.get(key)?;
        r.at(key, |r| f(r, node))
    }

    /// Reports on the value of `key`, where there is one.
    pub(super) fn report(&self, r: &mut Reader, key: &str, f: impl FnOnce(&mut Reader, &'n Node)) {
        if let Some(node) = self.get(key) {
            r.at(key, |r| f(r, node));
        }
    }

    /// A text; None when it is empty, as in MOSN.
    pub(super) fn text(&self, r: &mut Reader, key: &str) -> Option<String> {
        self.with(r, key, Reader::text).filter(|text| !text.is_empty())
    }

    /// A text that must be there and not be empty.
    pub(super) fn required(&self, r: &mut Reader, key: &str) -> Option<String> {
        if self.get(key).is_none() {
            self.missing(r, key);
            return None;
        }
        self.with(r, key, |r, node| {
            let text = r.text(node)?;
            if text.is_empty() {
                r.error(node.place, "an empty text", "");
                return None;
            }
            Some(text)
        })
    }

    pub(super) fn missing(&self, r: &mut Reader, key: &str) {
        r.error(self.node.place, format!("the key `{key}` is missing"), "");
    }

    pub(super) fn boolean(&self, r: &mut Reader, key: &str) -> Option<bool> {
        self.with(r, key, |r, node| match node.value {
            Value::Bool(b) => Some(b),
            _ => {
                r.wrong_type(node, "true or false");
                None
            }
        })
    }

    /// A whole number within `range`.
    pub(super) fn number<T: TryFrom<u64>>(&self, r: &mut Reader, key: &str, range: RangeInclusive<u64>) -> Option<T> {
        self.with(r, key, |r, node| r.number(node, range)).and_then(|n| T::try_from(n).ok())
    }

    /// Whole numbers within `range`.
    pub(super) fn numbers<T: TryFrom<u64>>(&self, r: &mut Reader, key: &str, range: RangeInclusive<u64>) -> Vec<T> {
        self.list(r, key, |r, node| r.number(node, range.clone()).and_then(|n| T::try_from(n).ok()))
    }

    /// A number, maybe with a fraction, within `range`.
    pub(super) fn real(&self, r: &mut Reader, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        self.with(r, key, |r, node| {
            #[expect(clippy::cast_precision_loss, reason = "a number that is too large to be exact is out of range")]
            let value = match node.value {
                Value::Int(i) => i as f64,
                Value::Float(f) => f,
                _ => {
                    r.wrong_type(node, "a number");
                    return None;
                }
            };
            if !range.contains(&value) {
                r.error(node.place, format!("{value} is not between {} and {}", range.start(), range.end()), "");
                return None;
            }
            Some(value)
        })
    }

    /// A number of threads from 1, or `auto`: None, as when it is absent.
    pub(super) fn threads(&self, r: &mut Reader, key: &str) -> Option<usize> {
        self.with(r, key, |r, node| match &node.value {
            Value::Text(t) if t == "auto" => None,
            Value::Text(t) => {
                r.error(node.place, format!("`{t}` is neither a number nor `auto`"), "");
                None
            }
            _ => r.number(node, 1..=WORKERS_MAX).and_then(|n| usize::try_from(n).ok()),
        })
    }

    /// A number of bytes within `range`.
    pub(super) fn size<T: TryFrom<u64>>(&self, r: &mut Reader, key: &str, range: RangeInclusive<u64>) -> Option<T> {
        self.with(r, key, |r, node| r.size(node, range)).and_then(|n| T::try_from(n).ok())
    }

    /// A duration of more than nothing.
    pub(super) fn duration(&self, r: &mut Reader, key: &str) -> Option<Duration> {
        self.with(r, key, |r, node| match r.duration(node)? {
            (false, d) if !d.is_zero() => Some(d),
            _ => {
                r.error(node.place, "a duration of more than nothing is expected", "");
                None
            }
        })
    }

    /// A duration, maybe of nothing.
    pub(super) fn duration_or_none(&self, r: &mut Reader, key: &str) -> Option<Duration> {
        self.with(r, key, |r, node| match r.duration(node)? {
            (false, d) => Some(d),
            (true, _) => {
                r.error(node.place, "a negative duration", "");
                None
            }
        })
    }

    /// A duration, maybe negative: whether it is, and how long.
    pub(super) fn signed_duration(&self, r: &mut Reader, key: &str) -> Option<(bool, Duration)> {
        self.with(r, key, Reader::duration)
    }

    /// One of several words, upper and lower case alike.
    pub(super) fn choice<T: Clone>(&self, r: &mut Reader, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.with(r, key, |r, node| {
            let text = r.text(node)?;
            let found =
                choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text)).map(|(_, value)| value.clone());
            if found.is_none() {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
                r.error(node.place, format!("`{text}` is not known here"), format!("one of {}", names.join(", ")));
            }
            found
        })
    }

    /// What `f` reads from each element of a list. Elements that it can't read are left out; they were reported.
    pub(super) fn list<T>(
        &self,
        r: &mut Reader,
        key: &str,
        mut f: impl FnMut(&mut Reader, &'n Node) -> Option<T>,
    ) -> Vec<T> {
        let mut out = Vec::new();
        if let Some(node) = self.get(key) {
            r.at(key, |r| r.each(node, |r, element| out.extend(f(r, element))));
        }
        out
    }
}

/// A remedy that offers the nearest known name.
pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("did you mean `{name}`?"))
}

/// A text of the file in a report, not longer than anyone reads.
fn shorten(mut message: String) -> String {
    if message.len() > TEXT_BYTES_MAX {
        message.truncate(message.floor_char_boundary(TEXT_BYTES_MAX));
        message.push('…');
    }
    message
}

/// Errors told of one file, and warnings, at most; the rest is counted.
const REPORTS_MAX: usize = 1000;

/// A key or a message in a report, in bytes, at most.
const TEXT_BYTES_MAX: usize = 300;

/// The longest duration that is taken.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Workers, at most.
const WORKERS_MAX: u64 = 1024;
