//! What each module says of itself.

use crate::tree::{Source, Tree};

/// Sources without a module doc, and library modules without their invariant.
pub fn openings(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.rust {
        let doc = module_doc(source);
        if !source.text.starts_with("//!") {
            found.push(format!("{}:1: does not open with //!", source.path));
        } else if source.is_product() && source.is_library() && !source.is_test_file() && !doc.contains(INVARIANT) {
            found.push(format!("{}:1: its //! names no {INVARIANT}", source.path));
        }
    }
    found
}

/// The text of the comment lines that a source opens with.
fn module_doc(source: &Source) -> String {
    source.text.lines().take_while(|l| l.starts_with("//!")).collect::<Vec<_>>().join("\n")
}

const INVARIANT: &str = "**Invariant:**";

#[test]
fn modules_without_doc_or_invariant_are_found() {
    let tree = Tree::of(&[
        ("core/src/a.rs", "//! Is a.\n//!\n//! **Invariant:** never b.\nfn a() {}\n"),
        ("core/src/b.rs", "//! Is b.\nfn b() {}\n"),
        ("core/src/c.rs", "fn c() {}\n"),
        ("tests/e2e/main.rs", "//! Is a test.\n"),
        ("tests/e2e/d.rs", "fn d() {}\n"),
    ]);
    let found: Vec<_> = openings(&tree).iter().map(|v| v.split(':').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(found, ["core/src/b.rs", "core/src/c.rs", "tests/e2e/d.rs"]);
}
