//! What a fuzz target has found interesting, as test inputs.
//!
//! **Invariant:** a corpus that is gone, or nearly, fails its test.

use std::fs;
use std::path::Path;

/// Runs `check` on each input of the fuzz target `name`, of which there are `count_min` at least.
///
/// # Panics
/// When `check` does, or inputs are missing.
pub fn replay(name: &str, count_min: usize, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.expect("the folder can be listed").path();
        let input = fs::read(&path).expect("a corpus file can be read");
        // Names the culprit when the check panics.
        println!("{}", path.display());
        check(&input);
        count += 1;
    }
    assert!(count >= count_min, "only {count} inputs: is the corpus gone?");
}
