//! Names: none that says nothing, and no metric that nothing writes.

use syn::visit::{self, Visit};

use crate::tree::{Source, Tree, lines_of};

/// Types, modules and files whose name holds a word that names nothing.
pub fn forbidden(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.rust {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        if let Some(word) = empty_word(file.strip_suffix(".rs").unwrap_or(file)) {
            found.push(format!("{}:1: file name with {word:?}", source.path));
        }
        for (line, name) in definitions(source) {
            if let Some(word) = empty_word(&name) {
                found.push(format!("{}:{line}: {name}: a name with {word:?}", source.path));
            }
        }
    }
    found
}

/// Metrics of core/src/telemetry that no other file of the product names.
pub fn unused_metrics(tree: &Tree) -> Vec<String> {
    let home = "core/src/telemetry";
    let mut found = Vec::new();
    for source in tree.rust.iter().filter(|s| s.path.starts_with(home)) {
        for (line, name) in metrics(source) {
            let users = tree.rust.iter().filter(|s| s.is_product() && !s.path.starts_with(home));
            if !users.into_iter().any(|s| names(s, &name)) {
                found.push(format!("{}:{line}: metric {name} is never written", source.path));
            }
        }
    }
    found
}

/// The word of a snake or camel case name that is on the list.
fn empty_word(name: &str) -> Option<&'static str> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c == '-' || c.is_uppercase() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    EMPTY_WORDS.iter().find(|w| words.iter().any(|n| n == *w)).copied()
}

/// Every type, trait, alias and module that a source defines, tests included.
fn definitions(source: &Source) -> Vec<(usize, String)> {
    struct Names(Vec<(usize, String)>);
    impl Names {
        fn add(&mut self, ident: &syn::Ident) {
            self.0.push((lines_of(ident).0, ident.to_string()));
        }
    }
    impl<'a> Visit<'a> for Names {
        fn visit_item(&mut self, item: &'a syn::Item) {
            match item {
                syn::Item::Struct(i) => self.add(&i.ident),
                syn::Item::Enum(i) => self.add(&i.ident),
                syn::Item::Union(i) => self.add(&i.ident),
                syn::Item::Trait(i) => self.add(&i.ident),
                syn::Item::Type(i) => self.add(&i.ident),
                syn::Item::Mod(i) => self.add(&i.ident),
                _ => {}
            }
            visit::visit_item(self, item);
        }
    }
    let mut all = Names(Vec::new());
    all.visit_file(&source.file);
    all.0
}

/// The metrics that a source defines: the variants of enums whose name ends in a kind of metric, and the fields of structs whose fields
/// are all metrics.
fn metrics(source: &Source) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for item in &source.file.items {
        match item {
            syn::Item::Enum(e) if METRIC_KINDS.iter().any(|k| e.ident.to_string().ends_with(k)) => {
                all.extend(e.variants.iter().map(|v| (lines_of(&v.ident).0, v.ident.to_string())));
            }
            syn::Item::Struct(s) => {
                let own = s.fields.iter().filter(|f| is_metric_type(&f.ty));
                all.extend(own.filter_map(|f| f.ident.as_ref()).map(|i| (lines_of(i).0, i.to_string())));
            }
            _ => {}
        }
    }
    all.retain(|(line, _)| !source.is_test_line(*line));
    all
}

fn is_metric_type(ty: &syn::Type) -> bool {
    let syn::Type::Path(p) = ty else { return false };
    p.path.segments.last().is_some_and(|s| METRIC_KINDS.contains(&s.ident.to_string().as_str()))
}

/// Whether a source has this word outside its tests and comments.
fn names(source: &Source, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    source.text.lines().enumerate().any(|(n, line)| {
        let code = line.split("//").next().unwrap_or_default();
        !source.is_test_line(n + 1) && code.split(|c| !is_part(c)).any(|w| w == word)
    })
}

const EMPTY_WORDS: &[&str] = &["endpoint", "context", "manager", "handler", "util", "utils"];

const METRIC_KINDS: &[&str] = &["Counter", "Gauge", "Histogram", "Metric"];

#[test]
fn empty_names_are_found() {
    let tree = Tree::of(&[
        (
            "core/src/a.rs",
            "struct PoolManager;\nenum RequestContext {}\nmod util {}\ntrait Handler {}\ntype E = Endpoint;\n",
        ),
        ("core/src/http_utils.rs", "use std::task::Context;\nstruct Contextual;\nfn handler() {}\n"),
    ]);
    let found = forbidden(&tree);
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn metrics_that_nothing_writes_are_found() {
    let tree = Tree::of(&[
        (
            "core/src/telemetry/metrics.rs",
            "pub struct Downstream { pub requests: Counter, pub resets: Counter, pub name: u8 }\npub enum HostMetric { Ok, Failed }\n",
        ),
        ("core/src/worker.rs", "fn f() { d.requests.add(1); // resets\n    add(HostMetric::Ok) }\n"),
        ("core/src/proxy.rs", "#[cfg(test)]\nmod tests { fn f() { HostMetric::Failed } }\n"),
    ]);
    let found: Vec<_> = unused_metrics(&tree).iter().map(|v| v.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(found, ["resets", "Failed"]);
}
