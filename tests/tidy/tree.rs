//! The project's files: Rust sources parsed, everything else as text.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::LineColumn;
use syn::spanned::Spanned;

/// What is checked.
pub struct Tree {
    /// Rust sources.
    pub rust: Vec<Source>,
    /// All text files, Rust sources among them: path and content.
    pub text: Vec<(String, String)>,
}

/// A Rust source.
pub struct Source {
    /// Path from the project's root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The syntax tree.
    pub file: syn::File,
    /// Lines of items that only tests see, first and last, counted from 1.
    pub test_spans: Vec<(usize, usize)>,
}

impl Tree {
    /// The tree this test was built from.
    pub fn of_project() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut tree = Self { rust: Vec::new(), text: Vec::new() };
        tree.collect(&root, &root);
        tree.mark_test_files();
        tree
    }

    /// A tree of these files, for tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let text: Vec<_> = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
        let rust = text.iter().filter(|(p, _)| p.ends_with(".rs")).map(|(p, t)| Source::parse(p, t)).collect();
        let mut tree = Self { rust, text };
        tree.mark_test_files();
        tree
    }

    /// A file that its parent declares as `#[cfg(test)] mod name;` is a test from its first line on.
    fn mark_test_files(&mut self) {
        let declared: Vec<String> = self.rust.iter().flat_map(Source::test_modules).collect();
        for source in &mut self.rust {
            if declared.contains(&source.path) {
                source.test_spans = vec![(1, usize::MAX)];
            }
        }
    }

    fn collect(&mut self, root: &Path, folder: &Path) {
        // Cargo marks its target folders with this file, wherever they are.
        if folder.join("CACHEDIR.TAG").exists() {
            return;
        }
        let mut entries: Vec<_> =
            fs::read_dir(folder).expect("the tree is readable").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_symlink() || SKIPPED.contains(&name) {
                continue;
            }
            if path.is_dir() {
                self.collect(root, &path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                if name.ends_with(".rs") {
                    self.rust.push(Source::parse(&name, &text));
                }
                self.text.push((name, text));
            }
        }
    }
}

impl Source {
    /// Parses a source.
    ///
    /// # Panics
    /// When it is no Rust: then it would not have been built either.
    pub fn parse(path: &str, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let test_spans = file.items.iter().filter(|i| is_test_item(i)).map(lines_of).collect();
        Self { path: path.to_owned(), text: text.to_owned(), file, test_spans }
    }

    /// Whether only tests see this line.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.test_spans.iter().any(|&(first, last)| (first..=last).contains(&line))
    }

    /// Whether only tests see the whole file.
    pub fn is_test_file(&self) -> bool {
        self.test_spans.contains(&(1, usize::MAX))
    }

    /// The files that it declares as modules of its tests: both places where such a file may be.
    fn test_modules(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = file.strip_suffix(".rs").unwrap_or(file);
        let own = if ["mod", "lib", "main"].contains(&stem) { folder.to_owned() } else { format!("{folder}/{stem}") };
        let modules = self.file.items.iter().filter_map(|item| match item {
            syn::Item::Mod(m) if m.content.is_none() && is_test_only(&m.attrs) => Some(m.ident.to_string()),
            _ => None,
        });
        modules.flat_map(|name| [format!("{own}/{name}.rs"), format!("{own}/{name}/mod.rs")]).collect()
    }

    /// The package it belongs to, by its folder: `core`, `dataplane-dpdk/sys`, `.` for the binary.
    pub fn package(&self) -> &str {
        PACKAGES.iter().find(|p| self.path.starts_with(&format!("{p}/"))).copied().unwrap_or(".")
    }

    /// Whether it is a library's or the binary's own code: no test, bench, example or build script.
    pub fn is_product(&self) -> bool {
        let inside = self.path.strip_prefix(self.package()).unwrap_or(&self.path).trim_start_matches('/');
        inside.starts_with("src/") && !self.package().starts_with("tests/support")
    }

    /// Whether it is a module of a library.
    pub fn is_library(&self) -> bool {
        self.package() != "." && self.path[self.package().len()..].starts_with("/src/")
    }

    /// A line's text, counted from 1; empty beyond the file.
    pub fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.wrapping_sub(1)).unwrap_or_default()
    }
}

/// First and last line of a piece of syntax, attributes and doc comments included.
pub fn lines_of(spanned: &impl Spanned) -> (usize, usize) {
    let (start, end): (LineColumn, LineColumn) = (spanned.span().start(), spanned.span().end());
    (start.line, end.line)
}

/// Whether an attribute list says `#[cfg(test)]` or `#[cfg(any(test, ..))]` and the like, but not `not(test)`.
pub fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        let syn::Meta::List(list) = &a.meta else { return a.path().is_ident("test") };
        let words = list.tokens.to_string();
        a.path().is_ident("cfg")
            && words.split(|c: char| !c.is_alphanumeric()).any(|w| w == "test")
            && !words.contains("not")
    })
}

fn is_test_item(item: &syn::Item) -> bool {
    match item {
        syn::Item::Mod(m) => is_test_only(&m.attrs),
        syn::Item::Fn(f) => is_test_only(&f.attrs),
        syn::Item::Impl(i) => is_test_only(&i.attrs),
        syn::Item::Use(u) => is_test_only(&u.attrs),
        syn::Item::Struct(s) => is_test_only(&s.attrs),
        _ => false,
    }
}

/// Folders and files that are no part of the project, by name.
const SKIPPED: &[&str] = &[".git", ".ferrogate", "target", "Cargo.lock", "LICENSE", "artifacts"];

/// The packages' folders, the longer name first; what is in none of them belongs to the root package.
const PACKAGES: &[&str] = &[
    "dataplane-dpdk/sys",
    "dataplane-dpdk",
    "dataplane-kernel",
    "tests/support/card",
    "tests/support",
    "tests/fuzz",
    "tls-offload",
    "bench",
    "core",
];

#[test]
fn packages_are_those_of_the_workspace() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("readable");
    let members = manifest.lines().find(|l| l.starts_with("members")).expect("a line of members");
    let named: Vec<_> = members.split('"').skip(1).step_by(2).collect();
    let missing: Vec<_> = named.iter().filter(|m| !PACKAGES.contains(m)).collect();
    assert!(missing.is_empty(), "tests/tidy/tree.rs does not know {missing:?}");
}

#[test]
fn test_files_are_told_from_others() {
    let tree = Tree::of(&[
        ("core/src/a/mod.rs", "#[cfg(test)]\nmod tests;\nmod other;\n"),
        ("core/src/a/tests.rs", "fn a() {}\n"),
        ("core/src/a/other.rs", "#[cfg(test)]\nmod deep;\n"),
        ("core/src/a/other/deep.rs", "fn b() {}\n"),
    ]);
    let tests: Vec<_> = tree.rust.iter().filter(|s| s.is_test_file()).map(|s| s.path.as_str()).collect();
    assert_eq!(tests, ["core/src/a/tests.rs", "core/src/a/other/deep.rs"]);
}

#[test]
fn test_items_are_told_from_others() {
    let source = Source::parse(
        "core/src/a.rs",
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(not(test))]\nfn c() {}\n",
    );
    let seen: Vec<_> = (1..=7).filter(|&l| source.is_test_line(l)).collect();
    assert_eq!(seen, [2, 3, 4, 5]);
    assert!(source.is_library() && source.is_product());
    assert!(!Source::parse("tests/e2e/main.rs", "").is_product());
}
