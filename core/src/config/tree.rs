//! The file as a small tree whose every node knows its line and column. YAML 1.2, and so JSON too.
//!
//! Built from the parser's events, not from its own tree: so that depth, size and what aliases copy are bounded here, and a key that
//! stands twice is seen.
//!
//! **Invariant:** bounded in depth, nodes and copies, whatever the text; never panics.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::diagnostic::Place;

/// A value and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What stands in the file.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Why a text is no tree. The first one met: behind it nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TreeError {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) remedy: &'static str,
}

impl Node {
    /// What kind of value this is, for a report.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Whether the value switches nothing on: null, false, 0, an empty text, list or map, or a map with `enable: false`.
    pub(super) fn is_neutral(&self) -> bool {
        match &self.value {
            Value::Null | Value::Bool(false) | Value::Int(0) => true,
            Value::Text(t) => t.is_empty(),
            Value::List(l) => l.is_empty(),
            Value::Map(m) => {
                m.is_empty() || m.iter().any(|e| e.key == "enable" && matches!(e.node.value, Value::Bool(false)))
            }
            Value::Bool(true) | Value::Int(_) | Value::Float(_) => false,
        }
    }

    /// The value of `key`, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(m) => m.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    /// The value of `key`, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(m) => m.iter_mut().find(|e| e.key == key).map(|e| &mut e.node),
            _ => None,
        }
    }

    /// The elements, if this is a list.
    pub(super) fn elements(&self) -> &[Self] {
        match &self.value {
            Value::List(l) => l,
            _ => &[],
        }
    }

    /// The elements, to change them.
    pub(super) fn elements_mut(&mut self) -> &mut [Self] {
        match &mut self.value {
            Value::List(l) => l,
            _ => &mut [],
        }
    }

    /// Gives a key of a map another value.
    pub(super) fn set(&mut self, entry: Entry) {
        if let Value::Map(m) = &mut self.value {
            m.retain(|e| e.key != entry.key);
            m.push(entry);
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::List(l) => l.iter().map(Self::count).sum(),
            Value::Map(m) => m.iter().map(|e| 1 + e.node.count()).sum(),
            _ => 0,
        }
    }
}

/// Reads a text, which is the `file`th of the configuration's. `None` when it holds nothing but white space and comments.
pub(super) fn parse(text: &str, file: u32) -> Result<Option<Node>, TreeError> {
    let text = join_surrogates(text.strip_prefix('\u{feff}').unwrap_or(text));
    let end = end_of(&text, file);
    let mut builder = Builder { end, ..Builder::default() };
    let mut parser = Parser::new_from_str(&text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| syntax_error(&e, end))?;
        if !builder.event(event, span)? {
            break;
        }
    }
    forbid_rest(parser, end)?;
    Ok(builder.root)
}

/// An open list or map.
struct Open {
    node: Node,
    /// The key whose value comes next.
    key: Option<(String, Place)>,
    /// The keys so far, once there are enough for a search through them to cost.
    seen: HashSet<String>,
    anchor: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    /// Where the text ends. At the end the parser may already be in the line behind it.
    end: Place,
    nodes: usize,
    copied: usize,
}

impl Builder {
    /// Takes one event; false after the end of the first document.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<bool, TreeError> {
        let place = place(span.start, self.end);
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(TreeError { place, message: format!("more than {NODES_MAX} values"), remedy: "" });
        }
        self.bound_copies(place)?;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                forbid_tag(tag.as_deref(), place)?;
                let plain = style == ScalarStyle::Plain;
                if self.key_is_next() {
                    self.key(&text, plain, place)?;
                } else {
                    let value = if plain { resolve(&text) } else { Value::Text(text.into_owned()) };
                    self.put(Node { place, value }, anchor);
                }
            }
            Event::SequenceStart(anchor, tag) => self.open(Value::List(Vec::new()), anchor, tag.as_deref(), place)?,
            Event::MappingStart(anchor, tag) => self.open(Value::Map(Vec::new()), anchor, tag.as_deref(), place)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.put(open.node, open.anchor);
                }
            }
            Event::Alias(id) => self.alias(id, place)?,
            Event::DocumentEnd | Event::StreamEnd => return Ok(false),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
        }
        Ok(true)
    }

    fn key_is_next(&self) -> bool {
        self.open.last().is_some_and(|o| matches!(o.node.value, Value::Map(_)) && o.key.is_none())
    }

    fn key(&mut self, text: &str, plain: bool, place: Place) -> Result<(), TreeError> {
        if plain && text == "<<" {
            return Err(TreeError {
                place,
                message: "merge keys (`<<`) are not read".into(),
                remedy: "write the keys out",
            });
        }
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if !open.seen.insert(text.to_owned()) {
            let message = format!("the key `{text}` stands twice in the same map");
            return Err(TreeError { place, message, remedy: "remove one of the two" });
        }
        open.key = Some((text.to_owned(), place));
        Ok(())
    }

    fn open(&mut self, value: Value, anchor: usize, tag: Option<&Tag>, place: Place) -> Result<(), TreeError> {
        forbid_tag(tag, place)?;
        if self.key_is_next() {
            return Err(TreeError { place, message: "a list or a map can't be a key".into(), remedy: "" });
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(TreeError { place, message: format!("nested deeper than {DEPTH_MAX} levels"), remedy: "" });
        }
        self.open.push(Open { node: Node { place, value }, key: None, seen: HashSet::new(), anchor });
        Ok(())
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<(), TreeError> {
        let Some(node) = self.anchors.get(&id) else {
            let message = "an alias of a value that is not complete yet".into();
            return Err(TreeError { place, message, remedy: "write the value out" });
        };
        if self.key_is_next() {
            return Err(TreeError { place, message: "an alias can't be a key".into(), remedy: "write the key out" });
        }
        self.copied += node.count();
        self.bound_copies(place)?;
        // A report about a copied value should lead to the alias, and from there to the anchor.
        let copy = Node { place, value: node.value.clone() };
        self.put(copy, 0);
        Ok(())
    }

    fn bound_copies(&self, place: Place) -> Result<(), TreeError> {
        if self.copied <= ALIAS_NODES_MAX {
            return Ok(());
        }
        let message = format!("anchors and aliases copy more than {ALIAS_NODES_MAX} values");
        Err(TreeError { place, message, remedy: "write the values out" })
    }

    fn put(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.copied += node.count();
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(open) => match (&mut open.node.value, open.key.take()) {
                (Value::Map(entries), Some((key, place))) => entries.push(Entry { key, place, node }),
                (Value::List(list), _) => list.push(node),
                _ => {}
            },
        }
    }
}

/// A second document would be ignored silently: refuse it.
fn forbid_rest(mut parser: Parser<'_, StrInput<'_>>, end: Place) -> Result<(), TreeError> {
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| syntax_error(&e, end))?;
        if matches!(event, Event::DocumentStart(_)) {
            let message = "a second document in the same file".into();
            return Err(TreeError { place: place(span.start, end), message, remedy: "keep one document" });
        }
    }
    Ok(())
}

fn forbid_tag(tag: Option<&Tag>, place: Place) -> Result<(), TreeError> {
    match tag {
        Some(tag) => {
            Err(TreeError { place, message: format!("tags (`{tag}`) are not read"), remedy: "remove the tag" })
        }
        None => Ok(()),
    }
}

/// JSON writes a character beyond U+FFFF as two escapes (RFC 8259, 7); YAML has one escape for it. Only where a file starts as JSON does.
fn join_surrogates(text: &str) -> Cow<'_, str> {
    if !text.trim_start().starts_with('{') || !text.contains("\\u") {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let (mut done, mut at) = (0, 0);
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[at..]) {
        let start = at + found;
        if let Some(character) = surrogate_pair(&text.as_bytes()[start..]) {
            out.push_str(&text[done..start]);
            out.push_str(&format!("\\U{:08x}", u32::from(character)));
            at = start + SURROGATE_PAIR_BYTES;
            done = at;
        } else {
            // A backslash escapes what follows it, another backslash too.
            at = (start + 2).min(text.len());
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The character that `\\uD83D\\uDE00` and its like stand for.
fn surrogate_pair(bytes: &[u8]) -> Option<char> {
    let pair = std::str::from_utf8(bytes.get(..SURROGATE_PAIR_BYTES)?).ok()?;
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?, 16).ok();
    let units = [unit(pair.get(..6)?)?, unit(pair.get(6..)?)?];
    if !(0xd800..0xdc00).contains(&units[0]) {
        return None;
    }
    char::decode_utf16(units).next()?.ok()
}

/// A plain scalar by the YAML 1.2 core schema (10.3.2), which holds JSON's `null`, `true`, `false` and numbers.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let radix = |prefix, radix| text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok());
    if let Some(int) = text.parse().ok().or_else(|| radix("0x", 16)).or_else(|| radix("0o", 8)) {
        return Value::Int(int);
    }
    // Rust also reads "inf", "nan" and "infinity" as numbers; here they are texts.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    match text.parse() {
        Ok(float) if numeric => Value::Float(float),
        _ => Value::Text(text.to_owned()),
    }
}

fn syntax_error(error: &ScanError, end: Place) -> TreeError {
    let place = place(*error.marker(), end);
    TreeError { place, message: error.info().to_owned(), remedy: "this is neither YAML nor JSON" }
}

/// The place behind the last character.
fn end_of(text: &str, file: u32) -> Place {
    let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    let line_ends = memchr::memchr2_iter(b'\n', b'\r', text.as_bytes()).count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
    Place { file, line: number(line_ends), column: number(last.chars().count()) }
}

/// The place of a mark in the text that ends at `end`.
fn place(at: Marker, end: Place) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { file: end.file, line: number(at.line()), column: number(at.col()).saturating_add(1) }.min(end)
}

/// Two escapes of four digits.
const SURROGATE_PAIR_BYTES: usize = 12;

/// Levels of lists and maps within each other, at most.
const DEPTH_MAX: usize = 64;

/// Values and keys of one file, at most.
const NODES_MAX: usize = 8_000_000;

/// Values that all anchors and aliases of a file copy together, at most: a few lines of aliases of aliases could otherwise fill the memory.
const ALIAS_NODES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn print(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => format!("{f:?}"),
            Value::Text(t) => format!("{t:?}"),
            Value::List(l) => format!("[{}]", l.iter().map(print).collect::<Vec<_>>().join(",")),
            Value::Map(m) => {
                format!(
                    "{{{}}}",
                    m.iter().map(|e| format!("{}:{}", e.key, print(&e.node))).collect::<Vec<_>>().join(",")
                )
            }
        }
    }

    #[test]
    fn json_and_yaml_give_the_same_tree() {
        for (text, tree) in [
            ("{\"a\":1,\"b\":[true,null,-2.5],\"c\":{\"d\":\"x\"}}", r#"{a:1,b:[true,null,-2.5],c:{d:"x"}}"#),
            ("{\n\t\"a\": [\n\t\t1,\n\t\t2\n\t],\n\t\"b\"\t:\t\"t\"\n}\n", r#"{a:[1,2],b:"t"}"#),
            (r#"{"a":"\/\"\\\b\f\n\r\t\u00e9"}"#, "{a:\"/\\\"\\\\\\u{8}\\u{c}\\n\\r\\té\"}"),
            (r#"{"a":"\ud83d\ude00"}"#, "{a:\"😀\"}"),
            (r#"{"a":"\\ud83d\\ude00 \ud83d\ude00"}"#, r#"{a:"\\ud83d\\ude00 😀"}"#),
            ("a: 1\nb:\n- true\n- ~\n- -2.5\nc: {d: x}\n", r#"{a:1,b:[true,null,-2.5],c:{d:"x"}}"#),
            (
                "a: 127.0.0.1:80\nb: 30s\nc: '30'\nd: .5\ne: 1e3\n",
                r#"{a:"127.0.0.1:80",b:"30s",c:"30",d:0.5,e:1000.0}"#,
            ),
            ("a: on\nb: inf\nc: 0x1f\nd: nan\n", r#"{a:"on",b:"inf",c:31,d:"nan"}"#),
            ("a: &x {b: 1}\nc: *x\n", "{a:{b:1},c:{b:1}}"),
            ("\u{feff}a: |\n  two\n  lines\n", r#"{a:"two\nlines\n"}"#),
            ("# only a comment\n---\na:\n", "{a:null}"),
        ] {
            assert_eq!(print(&parse(text, 0).unwrap().unwrap()), tree, "{text}");
        }
        assert!(parse("", 0).unwrap().is_none());
        assert!(parse("# nothing\n", 0).unwrap().is_none());
    }

    #[test]
    fn nodes_know_their_place() {
        let root = parse("a: 1\nb:\n  c: [x,\n    yy]\n", 0).unwrap().unwrap();
        let c = root.get("b").unwrap().get("c").unwrap();
        let Value::List(list) = &c.value else { panic!("{c:?}") };
        let at = |n: &Node| (n.place.line, n.place.column);
        assert_eq!((at(root.get("a").unwrap()), at(c), at(&list[0]), at(&list[1])), ((1, 4), (3, 6), (3, 7), (4, 5)));
        let json = parse("{\n \"é\": {\"k\": 7}}", 0).unwrap().unwrap();
        assert_eq!(at(json.get("é").unwrap().get("k").unwrap()), (2, 13));
    }

    #[test]
    fn what_can_t_be_read_is_refused_with_its_place() {
        let deep = "[".repeat(DEPTH_MAX + 1);
        for (text, line, column, message) in [
            ("a: 1\nb: 2\na: 3\n", 3, 1, "the key `a` stands twice in the same map"),
            ("{\"a\":1,\"a\":2}", 1, 8, "the key `a` stands twice in the same map"),
            ("a: 1\n---\nb: 2\n", 2, 1, "a second document in the same file"),
            ("a: !!str 1\n", 1, 4, "tags"),
            ("a: &x 1\n<<: *x\n", 2, 1, "merge keys"),
            ("? [a]\n: 1\n", 1, 3, "a list or a map can't be a key"),
            ("a: *nowhere\n", 1, 4, "anchor"),
            ("a: &x [*x]\n", 1, 8, "not complete"),
            (deep.as_str(), 1, 65, "nested deeper"),
        ] {
            let error = parse(text, 0).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error:?}");
            assert_eq!((error.place.line, error.place.column), (line, column), "{text}: {error:?}");
        }
        for text in ["{\"a\":1", "[1,,2", "a: b: c", "\"open", "{]}", "a:\n\t- x"] {
            assert!(parse(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn aliases_of_aliases_are_bounded() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let copies = vec![format!("*a{}", i - 1); 10].join(",");
            text.push_str(&format!("a{i}: &a{i} [{copies}]\n"));
        }
        assert!(parse(&text, 0).unwrap_err().message.contains("aliases copy more than"));
    }
}
