//! Which module of core may import from which.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::tree::{Source, Tree, lines_of};

/// Imports in core that do not go down.
pub fn core(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.rust {
        let Some(module) = module_of(&source.path) else { continue };
        let Some(row) = row_of(module) else {
            found.push(format!("{}:1: module {module} has no row in tests/tidy/rust/arrows.rs", source.path));
            continue;
        };
        for (line, target) in imports(source) {
            if target == module || SAME_ROW_ALLOWED.contains(&(module, target.as_str())) {
                continue;
            }
            match row_of(&target) {
                Some(below) if below > row => {}
                Some(_) => found.push(format!("{}:{line}: {module} may not import {target}", source.path)),
                None => {}
            }
        }
    }
    found
}

/// The top-level module that a file of core belongs to; none for the crate root and for other crates.
fn module_of(path: &str) -> Option<&str> {
    let first = path.strip_prefix("core/src/")?.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

/// A module's row, counted from the top.
fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Every top-level module that a source names outside its tests, and where.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut finder = Imports { depth: depth_of(&source.path), found: Vec::new() };
    finder.visit_file(&source.file);
    finder.found.retain(|(line, _)| !source.is_test_line(*line));
    finder.found
}

/// How many `super` lead from a file to the crate root.
fn depth_of(path: &str) -> usize {
    let inside = path.strip_prefix("core/src/").unwrap_or(path);
    let parts = inside.split('/').count();
    if inside.ends_with("/mod.rs") { parts - 1 } else { parts }
}

struct Imports {
    /// `super`s from the place of the visit to the crate root.
    depth: usize,
    found: Vec<(usize, String)>,
}

impl Imports {
    /// Records the first name after `crate`, or after as many `super` as lead to the root.
    fn path(&mut self, line: usize, names: &[String]) {
        let supers = names.iter().take_while(|n| *n == "super").count();
        let rest = match names.first().map(String::as_str) {
            Some("crate") => &names[1..],
            Some("super") if supers >= self.depth => &names[supers..],
            Some("self") => return,
            _ => return,
        };
        if let Some(first) = rest.first() {
            self.found.push((line, first.clone()));
        }
    }

    fn use_tree(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(p) => {
                prefix.push(p.ident.to_string());
                self.use_tree(prefix, &p.tree);
                prefix.pop();
            }
            syn::UseTree::Group(g) => {
                for item in &g.items {
                    self.use_tree(prefix, item);
                }
            }
            syn::UseTree::Name(n) => self.leaf(prefix, &n.ident),
            syn::UseTree::Rename(r) => self.leaf(prefix, &r.ident),
            syn::UseTree::Glob(g) => self.path(lines_of(g).0, prefix),
        }
    }

    fn leaf(&mut self, prefix: &mut Vec<String>, ident: &syn::Ident) {
        prefix.push(ident.to_string());
        self.path(lines_of(ident).0, prefix);
        prefix.pop();
    }

    /// `crate::name` inside a macro's words.
    fn tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<_> = tokens.into_iter().collect();
        for (i, tree) in trees.iter().enumerate() {
            match tree {
                TokenTree::Group(g) => self.tokens(g.stream()),
                TokenTree::Ident(ident) if ident == "crate" => {
                    if let Some(TokenTree::Ident(name)) = trees.get(i + 3) {
                        self.found.push((ident.span().start().line, name.to_string()));
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'a> Visit<'a> for Imports {
    fn visit_item_use(&mut self, u: &'a syn::ItemUse) {
        self.use_tree(&mut Vec::new(), &u.tree);
    }
    fn visit_path(&mut self, p: &'a syn::Path) {
        let names: Vec<_> = p.segments.iter().map(|s| s.ident.to_string()).collect();
        self.path(lines_of(p).0, &names);
        visit::visit_path(self, p);
    }
    fn visit_macro(&mut self, m: &'a syn::Macro) {
        self.tokens(m.tokens.clone());
        visit::visit_macro(self, m);
    }
    fn visit_item_mod(&mut self, m: &'a syn::ItemMod) {
        self.depth += 1;
        visit::visit_item_mod(self, m);
        self.depth -= 1;
    }
}

/// The rows of core, from the top: a module imports from rows below its own only (docs/ARCHITECTURE.md, "Arrows inside core").
const ROWS: &[&[&str]] = &[
    &["worker", "control", "handover"],
    &["origin", "orders"],
    &["proxy"],
    &["snapshot"],
    &["filter"],
    &["router", "upstream"],
    &["stream"],
    &["codec", "tls"],
    &["net", "message"],
    &["config", "telemetry"],
];

/// Imports within a row that are wanted: who, and from whom.
const SAME_ROW_ALLOWED: &[(&str, &str)] = &[];

#[test]
fn arrows_that_go_up_or_across_are_found() {
    let tree = Tree::of(&[
        ("core/src/codec/http1.rs", "use crate::message::Head;\nuse super::Codec;\nuse crate::{net::Conn, stream};\n"),
        ("core/src/codec/mod.rs", "use super::proxy::Error;\nfn f() { let _ = crate::tls::X; }\n"),
        (
            "core/src/message/mod.rs",
            "use crate::codec::Codec;\nmod inner { use super::super::stream::S; use super::Head; }\n",
        ),
        ("core/src/worker.rs", "use crate::proxy;\nfn f() { format!(\"{}\", crate::control::X); }\n"),
        (
            "core/src/stream/a/b.rs",
            "use super::super::super::router::R;\n#[cfg(test)]\nmod tests { use crate::worker; }\n",
        ),
        ("core/src/novel.rs", ""),
        ("core/src/lib.rs", "pub use crate::worker::run;\n"),
    ]);
    let found = core(&tree);
    let short: Vec<_> = found.iter().map(|v| v.trim_start_matches("core/src/")).collect();
    assert_eq!(
        short,
        [
            "codec/http1.rs:3: codec may not import stream",
            "codec/mod.rs:1: codec may not import proxy",
            "codec/mod.rs:2: codec may not import tls",
            "message/mod.rs:1: message may not import codec",
            "message/mod.rs:2: message may not import stream",
            "worker.rs:2: worker may not import control",
            "stream/a/b.rs:1: stream may not import router",
            "novel.rs:1: module novel has no row in tests/tidy/rust/arrows.rs",
        ]
    );
}
