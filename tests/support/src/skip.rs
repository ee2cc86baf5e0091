//! Rows that can't run where the tests are: told by name, never silently.

use std::fs::OpenOptions;
use std::io::Write;

/// Records that the row `name` could not run here, and why. The test then returns: `return skip!("contract/veth", "not root");`
///
/// `make test` lists what was recorded; with CI=true an unlisted row is a failure (tests/unavailable.txt).
#[macro_export]
macro_rules! skip {
    ($name:expr, $($reason:tt)+) => {
        $crate::record_skip($name, &format!($($reason)+))
    };
}

/// What [`skip!`] does.
///
/// # Panics
/// When the name has a space or a colon (it has to be found in a list), or the file of skips can't be written.
pub fn record_skip(name: &str, reason: &str) {
    assert!(!name.contains([' ', ':', '\t']), "{name:?} is no name of a row");
    let reason = reason.replace(['\n', '\t'], " ");
    println!("SKIPPED: {name}: {reason}");
    let Some(path) = std::env::var_os(SKIP_FILE) else { return };
    let mut file = OpenOptions::new().append(true).create(true).open(&path).expect("the file of skips can be opened");
    // One write, so that rows of tests that run at the same time don't mix.
    file.write_all(format!("{name}\t{reason}\n").as_bytes()).expect("the file of skips can be written");
}

/// Where `make test` gathers the rows.
const SKIP_FILE: &str = "FERROGATE_SKIP_FILE";
