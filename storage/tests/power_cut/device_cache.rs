//! The cuts themselves, without a drive store: what each takes along. A store that writes past the page cache would
//! pass any cut that left the device its cache.

use super::{
    cycles::say,
    volume::{Cut, FileSystem, Volume},
};
use ashlar_runtime::{AlignedBuf, Disk, OpenMode, RealDisk};
use std::path::Path;

const BLOCK: usize = 4096;
/// The kernel may write back on its own what nobody flushed, but not every time.
const ATTEMPTS: u8 = 3;

#[test]
fn direct_writes_that_nobody_flushed_are_lost_with_the_cache_of_the_device_and_only_with_it() {
    let volume = match Volume::make(FileSystem::Ext4) {
        Ok(volume) => volume,
        Err(reason) => {
            let name =
                "direct_writes_that_nobody_flushed_are_lost_with_the_cache_of_the_device_and_only_with_it";
            say(&format!("SKIP {name}: {reason}"));
            return;
        }
    };
    let path = volume.path().join("file");
    let file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_all_at(&[0; 3 * BLOCK], 0).unwrap();
    file.sync_data().unwrap();
    RealDisk.sync_dir(&volume.path()).unwrap();
    drop(file);

    write(&path, 0, 1, Flush::No);
    volume.cut(Cut::Kernel).unwrap();
    volume.restore().unwrap();
    assert_eq!(read(&path), [1, 0, 0], "it had reached the device");

    write(&path, 1, 1, Flush::Yes);
    volume.cut(Cut::Device).unwrap();
    volume.restore().unwrap();
    assert_eq!(read(&path), [1, 1, 0], "it was flushed");

    let lost = (1..=ATTEMPTS).any(|attempt| {
        let before = read(&path);
        write(&path, 2, attempt, Flush::No);
        volume.cut(Cut::Device).unwrap();
        volume.restore().unwrap();
        read(&path) == before
    });
    assert!(lost, "the cache of the device survived every cut");
}

#[derive(PartialEq, Eq)]
enum Flush {
    Yes,
    No,
}

fn write(path: &Path, block: usize, byte: u8, flush: Flush) {
    let file = RealDisk.open_direct(path, OpenMode::ReadWrite).unwrap();
    let mut bytes = AlignedBuf::zeroed(BLOCK);
    bytes.fill(byte);
    file.write_all_at(&bytes, (block * BLOCK) as u64).unwrap();
    if flush == Flush::Yes {
        file.sync_data().unwrap();
    }
}

/// A byte of each block, of which all must be equal.
fn read(path: &Path) -> [u8; 3] {
    let bytes = std::fs::read(path).unwrap();
    [0, 1, 2].map(|block| {
        let block = &bytes[block * BLOCK..][..BLOCK];
        assert!(block.iter().all(|byte| *byte == block[0]), "a torn block");
        block[0]
    })
}
