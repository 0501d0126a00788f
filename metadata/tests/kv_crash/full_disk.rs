//! A file system that runs full: the engine fails at once and for good, and what was flushed is there when there is room
//! again.

use super::{
    child::Honesty,
    story::{Story, say},
    volume::{FileSystem, Volume},
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
};

const BLOCK: usize = 4 << 20;

#[test]
fn a_full_file_system_stops_the_store_and_loses_nothing_that_was_flushed() {
    let name = "a_full_file_system_stops_the_store_and_loses_nothing_that_was_flushed";
    let volume = match Volume::make(FileSystem::Ext4) {
        Ok(volume) => volume,
        Err(reason) => {
            say(&format!("SKIP {name}: {reason}"));
            return;
        }
    };
    let mut story = Story::begin(volume.path().join("kv"));
    let ballast = volume.path().join("ballast");
    for _ in 0..2 {
        let mut running = story.start(Honesty::Flushes, &[]);
        assert_eq!(story.hear(&mut running, 5).failed, None);
        let mut file = File::create(&ballast).unwrap();
        // The last steps are small, so that less is left than the store needs.
        let mut len = BLOCK;
        while len >= 512 {
            match file.write_all(&vec![1; len]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => len /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        let said = story.hear(&mut running, u64::MAX);
        let failed = said.failed.expect("the engine says so");
        assert!(failed.contains("StorageFull") || failed.contains("Poisoned"), "{failed}");
        drop(running);
        drop(file);
        fs::remove_file(&ballast).unwrap();
        story.must_be_whole(name);
    }
    story.report(name);
}
