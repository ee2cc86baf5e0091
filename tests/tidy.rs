//! The house rules of docs/STYLE.md as tests: each violation names its place, its limit and its value.
//!
//! What is checked is the tree as it lies there, but for what cargo and the demo write. The rules themselves are tested on small samples,
//! so that none of them can go blind unnoticed.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "tidy/rust/mod.rs"]
mod rust;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;

use tree::Tree;

/// Fails with one line a violation.
fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{} violation(s): {rule}\n  {}\n", violations.len(), violations.join("\n  "));
}

macro_rules! rules {
    ($($name:ident: $check:path, $rule:literal;)*) => {$(
        #[test]
        fn $name() {
            let tree = Tree::of_project();
            assert!(tree.rust.len() > 10 && tree.text.len() > 10, "the tree was not found");
            assert_none($rule, &$check(&tree));
        }
    )*};
}

rules! {
    functions_are_short: rust::sizes::functions, "a function has at most 70 lines";
    most_functions_are_very_short: rust::sizes::percentiles, "95 of 100 functions of a crate have at most 45 lines";
    files_are_short: rust::sizes::files, "a file has at most 600 lines before its tests";
    the_binary_is_wiring: rust::sizes::binary, "src/ has at most 600 lines in all";
    modules_say_what_they_are: rust::docs::openings, "a module opens with //! and names its invariant";
    unsafe_is_fenced: rust::fences::places, "unsafe stands only where the architecture allows it";
    unsafe_is_argued: rust::fences::notes, "each unsafe block has a SAFETY note";
    core_and_binary_forbid_unsafe: rust::fences::forbids, "core and the binary forbid unsafe code";
    features_have_one_cfg_line: rust::fences::features, "a feature has one cfg line in the workspace";
    names_say_something: rust::names::forbidden, "no type, module or file has a name that names nothing";
    arrows_go_down: rust::arrows::core, "a module of core imports only from rows below its own";
    metrics_are_used: rust::names::unused_metrics, "every metric that is defined is written somewhere";
    open_points_have_an_issue: text::open_points, "an open point in the code names its issue";
    no_machine_paths: text::machine_paths, "no path of one machine stands in the tree";
    architecture_fits_two_pages: text::architecture_length, "docs/ARCHITECTURE.md has at most 120 lines";
    packages_take_the_workspace_lints: text::lints, "each package takes the workspace's lints, edition and licence";
    skips_are_known: text::skip_list, "each line of tests/unavailable.txt is `name: reason`, once";
}
