//! Every seed and every input that once broke something, through its fuzz targets.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::{fs, path::Path};

#[test]
fn the_corpus_breaks_nothing() {
    for (name, target, folder) in targets::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder);
        let files: Vec<_> = fs::read_dir(&folder).expect("a target has a corpus").flatten().collect();
        assert!(!files.is_empty(), "{name} has no seeds");
        for file in files {
            let input = fs::read(file.path()).expect("a seed is readable");
            println!("{name}: {}", file.path().display());
            target(&input);
        }
    }
}
