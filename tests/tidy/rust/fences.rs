//! Where unsafe code and feature switches may stand.

use syn::visit::{self, Visit};

use crate::tree::{Source, Tree, lines_of};

/// Unsafe code outside the files that the architecture names.
pub fn places(tree: &Tree) -> Vec<String> {
    let outside = |s: &&Source| !UNSAFE_PLACES.iter().any(|p| s.path.starts_with(p));
    let all = tree.rust.iter().filter(outside).flat_map(|s| unsafe_lines(s).into_iter().map(move |u| (s, u)));
    all.map(|(s, u)| format!("{}:{}: {} not allowed in this file", s.path, u.line, u.kind)).collect()
}

/// Unsafe blocks and impls without a `SAFETY:` comment, and unsafe functions without a `# Safety` section.
pub fn notes(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.rust {
        for place in unsafe_lines(source) {
            let wanted = if place.kind == FUNCTION { "# Safety" } else { "SAFETY:" };
            if !place.is_declaration && !is_noted(source, place.line, wanted) {
                found.push(format!("{}:{}: {} without {wanted:?} before it", source.path, place.line, place.kind));
            }
        }
    }
    found
}

/// Crate roots that must forbid unsafe code.
pub fn forbids(tree: &Tree) -> Vec<String> {
    let roots = ["core/src/lib.rs", "src/main.rs"];
    let mut found = Vec::new();
    for root in roots {
        match tree.rust.iter().find(|s| s.path == root) {
            Some(s) if s.text.contains("#![forbid(unsafe_code)]") => {}
            Some(_) => found.push(format!("{root}:1: lacks #![forbid(unsafe_code)]")),
            None => found.push(format!("{root}: missing")),
        }
    }
    found
}

/// Lines that look at a feature: one for each, in its place.
pub fn features(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (feature, home, part) in FEATURES {
        let needle = format!("feature = \"{feature}\"");
        let mut lines = Vec::new();
        for source in tree.rust.iter().filter(|s| !s.path.starts_with("tests/tidy")) {
            let hits = source.text.lines().enumerate().filter(|(_, l)| l.contains(&needle));
            lines.extend(hits.map(|(n, _)| (source.path.as_str(), n + 1)));
        }
        let strays = lines.iter().filter(|(path, _)| path != home);
        found.extend(strays.map(|(p, n)| format!("{p}:{n}: {feature} belongs into {home}")));
        let at_home = lines.iter().filter(|(path, _)| path == home).count();
        let wanted = usize::from(tree.rust.iter().any(|s| s.path.starts_with(part)));
        if at_home != wanted {
            found.push(format!("{home}: limit {wanted} cfg line(s) for {feature}, actual {at_home}"));
        }
    }
    found
}

/// A piece of unsafe code.
struct Unsafe {
    kind: &'static str,
    line: usize,
    /// A trait's method or a foreign item: its caller is the one who argues.
    is_declaration: bool,
}

fn unsafe_lines(source: &Source) -> Vec<Unsafe> {
    struct Finder {
        found: Vec<Unsafe>,
        /// What the methods of a trait ask of their caller stands at the trait.
        in_trait_impl: bool,
    }
    impl Finder {
        fn add(&mut self, kind: &'static str, line: usize, is_declaration: bool) {
            self.found.push(Unsafe { kind, line, is_declaration });
        }
    }
    impl<'a> Visit<'a> for Finder {
        fn visit_expr_unsafe(&mut self, e: &'a syn::ExprUnsafe) {
            self.add("unsafe block", lines_of(&e.unsafe_token).0, false);
            visit::visit_expr_unsafe(self, e);
        }
        fn visit_item_impl(&mut self, i: &'a syn::ItemImpl) {
            if let Some(token) = &i.unsafety {
                self.add("unsafe impl", lines_of(token).0, false);
            }
            let outer = std::mem::replace(&mut self.in_trait_impl, i.trait_.is_some());
            visit::visit_item_impl(self, i);
            self.in_trait_impl = outer;
        }
        fn visit_signature(&mut self, s: &'a syn::Signature) {
            if let Some(token) = &s.unsafety {
                self.add(FUNCTION, lines_of(token).0, self.in_trait_impl);
            }
            visit::visit_signature(self, s);
        }
        fn visit_item_foreign_mod(&mut self, f: &'a syn::ItemForeignMod) {
            // The signatures inside are C's; whoever calls them argues.
            self.add("extern block", lines_of(&f.abi).0, true);
        }
        fn visit_attribute(&mut self, a: &'a syn::Attribute) {
            if a.path().is_ident("unsafe") {
                self.add("unsafe attribute", lines_of(a).0, false);
            }
        }
    }
    let mut finder = Finder { found: Vec::new(), in_trait_impl: false };
    finder.visit_file(&source.file);
    finder.found
}

/// Whether the comment lines right above the statement of `line` hold `wanted`.
fn is_noted(source: &Source, line: usize, wanted: &str) -> bool {
    let mut code_lines = 0;
    for number in (1..=line).rev() {
        let text = source.line(number).trim();
        if text.starts_with("//") {
            if text.contains(wanted) {
                return true;
            }
        } else if text.starts_with("#[") {
            // Attributes may stand between.
        } else {
            if source.line(number).contains(&format!("// {wanted}")) {
                return true;
            }
            code_lines += 1;
            if code_lines > STATEMENT_LINES_MAX {
                return false;
            }
        }
    }
    false
}

const FUNCTION: &str = "unsafe fn";

/// A statement's lines above the word `unsafe` in it, the word's own line included.
const STATEMENT_LINES_MAX: usize = 3;

/// The only places with unsafe code (architecture: "Fencing unsafe and FFI").
const UNSAFE_PLACES: &[&str] = &[
    "dataplane-kernel/src/affinity.rs",
    "dataplane-kernel/src/socket.rs",
    "dataplane-dpdk/src/port/",
    "dataplane-dpdk/src/queue/tap.rs",
    "dataplane-dpdk/src/stack/arena.rs",
    "dataplane-dpdk/src/words.rs",
    "dataplane-dpdk/sys/",
    "tls-offload/src/openssl/",
    "tests/support/card/",
];

/// A feature, the one file that may look at it, and the part that makes the look necessary.
const FEATURES: &[(&str, &str, &str)] = &[
    ("dpdk", "dataplane-dpdk/src/lib.rs", "dataplane-dpdk/src/port"),
    ("openssl", "tls-offload/src/lib.rs", "tls-offload/src/openssl"),
];

#[test]
fn unsafe_code_is_seen_in_all_its_forms() {
    let text = "
struct A;
unsafe impl Send for A {}
unsafe extern \"C\" { fn c(); }
unsafe fn f() {}
fn g() {
    unsafe { c() }
}
fn h() {
    // SAFETY: argued.
    let x =
        unsafe { c() };
}
/// # Safety
/// Argued.
#[inline]
unsafe fn i() {}
impl T for A {
    unsafe fn j() {}
}
";
    let tree = Tree::of(&[("core/src/a.rs", text), ("dataplane-dpdk/src/port/b.rs", text)]);
    let lines = |v: Vec<String>| {
        v.iter().filter(|l| l.starts_with("core")).map(|l| l.split(':').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(places(&tree)), ["3", "4", "5", "7", "12", "17", "19"]);
    assert_eq!(lines(notes(&tree)), ["3", "5", "7"]);
    assert_eq!(places(&tree).iter().filter(|l| l.starts_with("dataplane")).count(), 0);
    assert_eq!(forbids(&tree).len(), 2);
}

#[test]
fn features_are_counted() {
    let cfg = "#[cfg_attr(not(feature = \"dpdk\"), path = \"port_absent.rs\")]\nmod port;\n";
    let good = Tree::of(&[("dataplane-dpdk/src/lib.rs", cfg), ("dataplane-dpdk/src/port/mod.rs", "")]);
    assert!(features(&good).is_empty());
    let twice = cfg.repeat(2);
    let bad = Tree::of(&[
        ("dataplane-dpdk/src/lib.rs", &twice),
        ("dataplane-dpdk/src/port/mod.rs", ""),
        ("src/main.rs", cfg),
    ]);
    assert_eq!(features(&bad).len(), 2);
    let none = Tree::of(&[("dataplane-dpdk/src/port/mod.rs", "")]);
    assert_eq!(features(&none).len(), 1);
}
