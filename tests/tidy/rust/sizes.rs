//! How long functions and files may be.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use crate::tree::{Source, Tree, lines_of};

/// Functions over the limit that are no table.
pub fn functions(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.rust {
        for f in functions_of(source).iter().filter(|f| f.lines() > FUNCTION_LINES_MAX && !f.is_table(source)) {
            found.push(format!(
                "{}:{}: fn {}: limit {FUNCTION_LINES_MAX} lines, actual {}",
                source.path,
                f.first,
                f.name,
                f.lines()
            ));
        }
    }
    found
}

/// Packages whose 95th percentile is over its limit.
pub fn percentiles(tree: &Tree) -> Vec<String> {
    let mut by_package: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for source in tree.rust.iter().filter(|s| s.is_library() || s.is_product()) {
        let lengths = functions_of(source).into_iter().filter(|f| !f.is_table(source)).map(|f| f.lines());
        by_package.entry(source.package()).or_default().extend(lengths);
    }
    let mut found = Vec::new();
    for (package, mut lengths) in by_package {
        lengths.sort_unstable();
        let p95 = lengths.get((lengths.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        if p95 > FUNCTION_LINES_P95 {
            found.push(format!(
                "{package}: limit {FUNCTION_LINES_P95} lines for 95 of 100, actual {p95} of {} functions",
                lengths.len()
            ));
        }
    }
    found
}

/// Files over the limit, without their tests and their tables of data.
pub fn files(tree: &Tree) -> Vec<String> {
    let long = tree.rust.iter().map(|s| (s, production_lines(s))).filter(|(_, n)| *n > FILE_LINES_MAX);
    long.map(|(s, n)| format!("{}:1: limit {FILE_LINES_MAX} lines, actual {n}", s.path)).collect()
}

/// The binary's lines, all files together.
pub fn binary(tree: &Tree) -> Vec<String> {
    let own = tree.rust.iter().filter(|s| s.path.starts_with("src/"));
    let lines: usize = own.map(production_lines).sum();
    if lines > FILE_LINES_MAX {
        return vec![format!("src/: limit {FILE_LINES_MAX} lines, actual {lines}")];
    }
    Vec::new()
}

/// A function outside of tests.
struct Function<'a> {
    name: String,
    first: usize,
    last: usize,
    block: &'a syn::Block,
}

impl Function<'_> {
    fn lines(&self) -> usize {
        self.last - self.first + 1
    }

    /// Marked as a table, and one: nearly all of it is a single `match` whose arms are one statement each.
    fn is_table(&self, source: &Source) -> bool {
        let marked = (self.first.saturating_sub(3)..=self.last).any(|l| source.line(l).trim() == TABLE_MARK);
        marked && self.widest_table() + TABLE_REST_LINES_MAX >= self.lines()
    }

    /// Lines of the widest `match` whose arms are one statement each.
    fn widest_table(&self) -> usize {
        struct Tables(usize);
        impl<'a> Visit<'a> for Tables {
            fn visit_expr_match(&mut self, m: &'a syn::ExprMatch) {
                let simple = m.arms.iter().all(|a| match &*a.body {
                    syn::Expr::Block(b) => b.block.stmts.len() <= 1,
                    _ => true,
                });
                let (first, last) = lines_of(m);
                if simple {
                    self.0 = self.0.max(last - first + 1);
                }
                visit::visit_expr_match(self, m);
            }
        }
        let mut tables = Tables(0);
        tables.visit_block(self.block);
        tables.0
    }
}

/// Every function of a source that is no test's, nested ones too.
fn functions_of(source: &Source) -> Vec<Function<'_>> {
    struct Functions<'a>(Vec<Function<'a>>);
    impl<'a> Functions<'a> {
        fn add(&mut self, signature: &'a syn::Signature, block: &'a syn::Block) {
            let (first, last) = (lines_of(signature).0, lines_of(block).1);
            self.0.push(Function { name: signature.ident.to_string(), first, last, block });
        }
    }
    impl<'a> Visit<'a> for Functions<'a> {
        fn visit_item_fn(&mut self, f: &'a syn::ItemFn) {
            self.add(&f.sig, &f.block);
            visit::visit_item_fn(self, f);
        }
        fn visit_impl_item_fn(&mut self, f: &'a syn::ImplItemFn) {
            self.add(&f.sig, &f.block);
            visit::visit_impl_item_fn(self, f);
        }
        fn visit_trait_item_fn(&mut self, f: &'a syn::TraitItemFn) {
            if let Some(block) = &f.default {
                self.add(&f.sig, block);
            }
            visit::visit_trait_item_fn(self, f);
        }
    }
    let mut all = Functions(Vec::new());
    all.visit_file(&source.file);
    all.0.retain(|f| !source.is_test_line(f.first));
    all.0
}

/// Lines that are neither a test's nor of a constant that is marked as a table.
fn production_lines(source: &Source) -> usize {
    let tables: Vec<_> = source.file.items.iter().filter_map(|item| data_table(source, item)).collect();
    let in_table = |l: usize| tables.iter().any(|&(first, last)| (first..=last).contains(&l));
    (1..=source.text.lines().count()).filter(|&l| !source.is_test_line(l) && !in_table(l)).count()
}

/// The lines of a constant or static that has the mark of a table right above it.
fn data_table(source: &Source, item: &syn::Item) -> Option<(usize, usize)> {
    let (syn::Item::Const(_) | syn::Item::Static(_)) = item else { return None };
    let (first, last) = lines_of(item);
    (source.line(first.saturating_sub(1)).trim() == TABLE_MARK).then_some((first, last))
}

const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_P95: usize = 45;
const FILE_LINES_MAX: usize = 600;

/// What a table may have around its `match`.
const TABLE_REST_LINES_MAX: usize = 25;

const TABLE_MARK: &str = "// tidy: table";

#[test]
fn long_functions_are_found_and_tables_let_be() {
    let body = "    let _ = 1;\n".repeat(FUNCTION_LINES_MAX);
    let long = format!("fn long() {{\n{body}}}\n");
    let arms: String = (0..80).map(|n| format!("        {n} => {n},\n")).collect();
    let table =
        format!("{TABLE_MARK}\nfn table(n: u32) -> u32 {{\n    match n {{\n{arms}        _ => 0,\n    }}\n}}\n");
    let in_tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    let sham = format!("{TABLE_MARK}\n{long}");
    let tree = Tree::of(&[
        ("core/src/long.rs", &long),
        ("core/src/table.rs", &table),
        ("core/src/tested.rs", &in_tests),
        ("core/src/sham.rs", &sham),
        ("core/src/unmarked.rs", table.strip_prefix(TABLE_MARK).expect("marked")),
    ]);
    let found = functions(&tree);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "core/src/long.rs:1: fn long: limit 70 lines, actual 72");
}

#[test]
fn percentiles_count_by_package() {
    let function = |name: usize, lines: usize| format!("fn f{name}() {{\n{}}}\n", "    let _ = 1;\n".repeat(lines - 2));
    let text = |long: usize| -> String { (0..100).map(|n| function(n, if n < long { 50 } else { 5 })).collect() };
    let at_the_limit = Tree::of(&[("core/src/a.rs", &text(5))]);
    let above = Tree::of(&[("core/src/a.rs", &text(6))]);
    assert!(percentiles(&at_the_limit).is_empty());
    assert_eq!(percentiles(&above).len(), 1);
}

#[test]
fn files_count_without_tests_and_data() {
    let lines = "const A: u8 = 1;\n".repeat(FILE_LINES_MAX);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{lines}}}\n");
    let data = format!("{TABLE_MARK}\nconst T: [u8; 600] = [\n{}];\n", "    1,\n".repeat(FILE_LINES_MAX));
    let tree = Tree::of(&[
        ("core/src/fits.rs", &format!("{lines}{tests}")),
        ("core/src/long.rs", &format!("{lines}fn a() {{}}\n")),
        ("core/src/data.rs", &data),
        ("src/a.rs", &lines),
        ("src/b.rs", "fn a() {}\n"),
    ]);
    assert_eq!(files(&tree), ["core/src/long.rs:1: limit 600 lines, actual 601"]);
    assert_eq!(binary(&tree).len(), 1);
}
