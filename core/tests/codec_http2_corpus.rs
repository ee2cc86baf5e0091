//! Replays what the fuzz target `codec_http2` has found interesting: each input once, as the fuzzer runs it.

use std::fs;
use std::path::Path;

use ferrogate_core::codec::http2::selfcheck;

#[test]
fn the_corpus_keeps_the_promises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/codec_http2");
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.expect("the folder can be listed").path();
        let input = fs::read(&path).expect("a corpus file can be read");
        // Names the culprit when the check panics.
        println!("{}", path.display());
        selfcheck::check(&input);
        count += 1;
    }
    assert!(count >= 20, "only {count} inputs: is the corpus gone?");
}
