//! What the simulated disk leaves after a power cut, and its faults.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its fixtures as well")]

use ashlar_runtime::{
    Disk, DiskFile, OpenMode, SimDisk,
    disk::sim::{DiskImage, Survivors},
};
use std::path::Path;

#[path = "sim_disk/crash.rs"]
mod crash;
#[path = "sim_disk/faults.rs"]
mod faults;
#[path = "sim_disk/history.rs"]
mod history;

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn create(disk: &SimDisk, name: &str) -> Box<dyn DiskFile> {
    disk.open(path(name), OpenMode::Create).unwrap()
}

/// A disk with a durable file of this content.
fn with_file(name: &str, bytes: &[u8]) -> (SimDisk, Box<dyn DiskFile>) {
    let disk = SimDisk::new();
    create(&disk, name).write_all_at(bytes, 0).unwrap();
    let disk = SimDisk::with_image(disk.image());
    let file = create(&disk, name);
    (disk, file)
}

fn crash_now(disk: &SimDisk, survivors: Survivors) -> DiskImage {
    let history = disk.history();
    history.crash(history.events.len(), survivors)
}
