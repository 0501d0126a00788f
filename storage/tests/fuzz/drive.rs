//! The small real drive whose files are the seeds, and drives with some of them replaced.
//!
//! Two log segments, one of extents, two checkpoints; every kind of record, and some that no longer count. Files lose
//! their zeros at the end and get them back here.

use super::{
    bytes::{seal, set},
    layout::BLOCK,
};
use ashlar_runtime::{Disk, OpenMode, SimDisk, disk::sim::DiskImage};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

pub(crate) const SEGMENT_BYTES: usize = 64 << 10;
pub(crate) const DIR: &str = "/drive";
/// The newest checkpoint of the drive, and the one before.
pub(crate) const NEWEST: &str = "index/0000000000000002.ckpt";
pub(crate) const FORMER: &str = "index/0000000000000001.ckpt";
const SUPERBLOCKS: [&str; 2] = ["superblock.a", "superblock.b"];

macro_rules! seeds {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("drive/", $name)))),*]
    };
}

/// Bytes by their place in the drive directory.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The files as they are kept.
pub(crate) static SEEDS: LazyLock<Files> = LazyLock::new(|| {
    let seeds: [(&str, &[u8]); 7] = seeds![
        "superblock.a",
        "superblock.b",
        "log/0000000000000001.seg",
        "log/0000000000000003.seg",
        "extents/0000000000000002.seg",
        "index/0000000000000001.ckpt",
        "index/0000000000000002.ckpt"
    ];
    seeds.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
});

/// The files as the drive has them.
pub(crate) static WHOLE: LazyLock<Files> = LazyLock::new(|| {
    let whole = |(name, bytes): (&String, &Vec<u8>)| {
        let mut bytes = bytes.clone();
        if is_segment(name) {
            pad(&mut bytes);
        }
        (name.clone(), bytes)
    };
    SEEDS.iter().map(whole).collect()
});

/// What tells a drive that never had a checkpoint.
pub(crate) static WITHOUT_CHECKPOINTS: LazyLock<Files> = LazyLock::new(|| {
    let mut files = WHOLE.clone();
    files.retain(|name, _| !name.starts_with("index/"));
    for name in SUPERBLOCKS {
        let superblock = files.get_mut(name).expect("the drive has both superblocks");
        set(superblock, 64, 8, 0);
        seal(superblock, 0, BLOCK);
    }
    files
});

pub(crate) fn is_segment(name: &str) -> bool {
    name.ends_with(".seg")
}

/// Names of the log segments.
pub(crate) fn log_names(files: &Files) -> impl Iterator<Item = &String> {
    files.keys().filter(|name| name.starts_with("log/"))
}

/// The zeros that a segment ends with.
pub(crate) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().max(SEGMENT_BYTES), 0);
}

/// What is kept of a segment.
pub(crate) fn trim(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end.next_multiple_of(BLOCK));
    bytes
}

/// A disk with a drive of these files.
pub(crate) fn image(files: &Files) -> DiskImage {
    let disk = SimDisk::new();
    let dir = Path::new(DIR);
    for name in ["log", "extents", "index"] {
        disk.create_dir_all(&dir.join(name)).expect("a new disk takes a directory");
    }
    // Opening makes it where it is missing.
    let lock = BTreeMap::from([("lock".to_owned(), Vec::new())]);
    for (name, bytes) in lock.iter().chain(files) {
        let file = disk.open(&dir.join(name), OpenMode::Create).expect("a new disk takes a file");
        file.write_all_at(bytes, 0).expect("a new disk takes bytes");
    }
    disk.image()
}

/// All files of the drive on a disk.
pub(crate) fn files_of(image: &DiskImage) -> Files {
    let relative = |path: PathBuf| {
        let name = path.strip_prefix(DIR).ok()?.to_str()?.to_owned();
        Some((name, image.read(&path)?))
    };
    image.files().into_iter().filter_map(relative).filter(|(name, _)| name != "lock").collect()
}

pub(crate) fn disk(image: &DiskImage) -> (SimDisk, Arc<dyn Disk>) {
    let disk = SimDisk::with_image(image.clone());
    (disk.clone(), Arc::new(disk))
}
