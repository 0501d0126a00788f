//! The seeds, and every input that was ever found, are opened again.

use super::{
    layout::Structure,
    targets::{run, seeds},
};
use std::path::{Path, PathBuf};

/// Names of inputs have no dot.
fn is_input(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.to_string_lossy().contains('.'))
}

fn replay(structure: Structure, folder: &str) {
    let mut inputs: Vec<(String, Vec<u8>)> =
        seeds(structure).into_iter().map(|bytes| ("a seed".to_owned(), bytes)).collect();
    inputs.push(("nothing".to_owned(), Vec::new()));
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions").join(folder);
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    for path in found.into_iter().filter(|path| is_input(path)) {
        inputs.push((path.display().to_string(), std::fs::read(path).unwrap()));
    }
    for (name, bytes) in inputs {
        if let Err(reason) = run(structure, &bytes) {
            panic!("{name}: {reason}");
        }
    }
}

#[test]
fn superblocks_that_were_found_open_or_are_refused() {
    replay(Structure::Superblock, "superblock");
}

#[test]
fn segments_that_were_found_open_or_are_refused() {
    replay(Structure::Segment, "segment");
}

#[test]
fn checkpoints_that_were_found_open_or_are_refused() {
    replay(Structure::Checkpoint, "checkpoint");
}
