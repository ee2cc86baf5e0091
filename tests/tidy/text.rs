//! Rules about text: any file, whatever its language.

use crate::tree::Tree;

/// What is left open in code must carry its issue's number in parentheses.
pub fn open_points(tree: &Tree) -> Vec<String> {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let mut found = Vec::new();
    for (path, text) in tree.text.iter().filter(|(p, _)| is_code(p)) {
        for (number, line) in text.lines().enumerate() {
            for word in &words {
                let open = occurrences(line, word).any(|at| !has_issue(&line[at + word.len()..]));
                if open {
                    found.push(format!("{path}:{}: {word} without an issue, as in {word}(#12)", number + 1));
                }
            }
        }
    }
    found
}

/// Paths that exist on one machine only.
pub fn machine_paths(tree: &Tree) -> Vec<String> {
    let paths = ["work", "tmp/fg", "root", "home"].map(|p| format!("/{p}"));
    let mut found = Vec::new();
    for (path, text) in &tree.text {
        for (number, line) in text.lines().enumerate() {
            if let Some(bad) = paths.iter().find(|p| is_absolute_path(line, p)) {
                found.push(format!("{path}:{}: a path below {bad}", number + 1));
            }
        }
    }
    found
}

/// The architecture has to stay readable in one sitting.
pub fn architecture_length(tree: &Tree) -> Vec<String> {
    let Some((path, text)) = tree.text.iter().find(|(p, _)| p == "docs/ARCHITECTURE.md") else {
        return vec!["docs/ARCHITECTURE.md: missing".to_owned()];
    };
    let lines = text.lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        return vec![format!("{path}: limit {ARCHITECTURE_LINES_MAX} lines, actual {lines}")];
    }
    Vec::new()
}

/// What every package's manifest says alike.
pub fn lints(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.text.iter().filter(|(p, _)| p.ends_with("Cargo.toml") && !p.starts_with("tests/fuzz/")) {
        for line in ["[lints]\nworkspace = true", "edition.workspace = true", "license.workspace = true"] {
            if !text.contains(line) {
                found.push(format!("{path}: lacks {line:?}"));
            }
        }
    }
    found
}

/// The rows that CI may skip.
pub fn skip_list(tree: &Tree) -> Vec<String> {
    let Some((path, text)) = tree.text.iter().find(|(p, _)| p == "tests/unavailable.txt") else {
        return vec!["tests/unavailable.txt: missing".to_owned()];
    };
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        match line.split_once(": ") {
            Some((name, reason)) if !name.contains(' ') && reason.len() > 10 => {
                if seen.contains(&name) {
                    found.push(format!("{path}:{}: {name} stands here twice", number + 1));
                }
                seen.push(name);
            }
            _ => found.push(format!("{path}:{}: expected `name: reason`", number + 1)),
        }
    }
    found
}

fn is_code(path: &str) -> bool {
    let kinds = [".rs", ".c", ".h", ".sh", ".toml", ".yaml", ".json", "Makefile", ".ci/run"];
    kinds.iter().any(|k| path.ends_with(k))
}

fn occurrences<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn has_issue(after: &str) -> bool {
    let Some(rest) = after.strip_prefix("(#") else { return false };
    rest.split_once(')').is_some_and(|(number, _)| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// Whether `path` stands in the line as the start of an absolute path, and not inside another one.
fn is_absolute_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || "/._-})$*>~".contains(c));
        let whole = path.len() > 6 || after == Some('/');
        starts && whole
    })
}

const ARCHITECTURE_LINES_MAX: usize = 120;

#[test]
fn open_points_need_their_issue() {
    let word = ["TO", "DO"].concat();
    let bad = format!("fn a() {{}} // {word}: later\n// {word}(#x)\n");
    let good = format!("// {word}(#12): later\nlet AU{word}S = 1;\n");
    let tree = Tree::of(&[("a.c", &bad), ("b.c", &good), ("README.md", &bad)]);
    assert_eq!(open_points(&tree).len(), 2, "{:?}", open_points(&tree));
}

#[test]
fn machine_paths_are_found() {
    let [a, b] = ["work/x", "root/.cargo"].map(|p| format!("cd /{p}"));
    let good = "https://x.example/home/a\n$HOME/root/b\n\"a/work/b\"\n/homes\n".to_owned();
    let tree = Tree::of(&[("a", &a), ("b", &b), ("c", &good)]);
    assert_eq!(machine_paths(&tree).len(), 2, "{:?}", machine_paths(&tree));
}

#[test]
fn manifests_and_lists_are_read() {
    let long = "x\n".repeat(ARCHITECTURE_LINES_MAX + 1);
    let tree = Tree::of(&[
        ("a/Cargo.toml", "edition.workspace = true\n"),
        ("docs/ARCHITECTURE.md", &long),
        ("tests/unavailable.txt", "# comment\nrow: a reason of some length\nrow: a reason of some length\nno reason\n"),
    ]);
    assert_eq!((lints(&tree).len(), architecture_length(&tree).len(), skip_list(&tree).len()), (2, 1, 2));
}
