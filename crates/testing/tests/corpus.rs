//! The committed corpora of `fuzz/` through the bodies of its targets: what a fuzzer reached once is reached by every
//! `cargo test`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use wsstream_testing::property::targets::TARGETS;

/// A corpus is for review and for a quick replay; a fuzzer starts from less.
const MAX_FILES: usize = 200;
const MAX_BYTES: usize = 100 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let table = TARGETS.map(|(name, _)| name);
    assert_eq!(names(&fuzz().join("corpus")), table, "fuzz/corpus and property::targets::TARGETS");
    assert_eq!(names(&fuzz().join("fuzz_targets")), table.map(|name| format!("{name}.rs")));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in table {
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")), "no program {name}");
    }
}

#[test]
fn every_input_of_the_corpora_keeps_its_properties() {
    let mut failed = Vec::new();
    for (target, body) in TARGETS {
        let folder = fuzz().join("corpus").join(target);
        let (mut files, mut bytes) = (0, 0);
        for name in names(&folder) {
            let input = fs::read(folder.join(&name)).unwrap();
            files += 1;
            bytes += input.len();
            if catch_unwind(AssertUnwindSafe(|| body(&input))).is_err() {
                failed.push(format!("fuzz/corpus/{target}/{name}"));
            }
        }
        assert!((1..=MAX_FILES).contains(&files), "{files} files of {target}");
        assert!(bytes <= MAX_BYTES, "{bytes} bytes of {target}");
    }
    assert!(failed.is_empty(), "these break a property: {failed:#?}");
}
