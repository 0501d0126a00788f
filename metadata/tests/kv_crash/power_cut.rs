//! Power cuts of the file system: what was not flushed is gone.

use super::{
    child::Honesty,
    story::{Story, crashes, say},
    volume::{Cut, FileSystem, Volume},
};

const CUTS: u64 = 4;
/// Most cuts take the device's cache along, one in this many leaves it.
const KERNEL_CUTS: u64 = 3;
/// One cut in this many comes while the store is being opened or made.
const CUTS_AT_OPENING: u64 = 4;
const FLUSHES: u64 = 40;

#[test]
fn what_was_flushed_on_ext4_survives_power_cuts() {
    nothing_is_lost("what_was_flushed_on_ext4_survives_power_cuts", FileSystem::Ext4);
}

#[test]
fn what_was_flushed_on_xfs_survives_power_cuts() {
    nothing_is_lost("what_was_flushed_on_xfs_survives_power_cuts", FileSystem::Xfs);
}

/// The control: the cuts are cuts, and the check notices.
#[test]
fn without_flushes_a_power_cut_loses_batches() {
    let name = "without_flushes_a_power_cut_loses_batches";
    let Some(volume) = volume(name, FileSystem::Ext4) else { return };
    let mut story = Story::begin(volume.path().join("kv"));
    // Made in peace, so that it is there to lose something.
    let mut running = story.start(Honesty::Flushes, &[]);
    story.hear(&mut running, 1);
    running.kill();
    story.hear(&mut running, u64::MAX);
    drop(running);
    story.must_be_whole(name);
    for cut in 1..=CUTS {
        cut_power(&mut story, &volume, Honesty::OnlySaysSo, Cut::Device, FLUSHES);
        if let Err(lost) = story.check() {
            say(&format!("{name}: cut {cut}: {lost}"));
            return;
        }
    }
    panic!("a process that never flushed lost nothing in {CUTS} cuts");
}

fn nothing_is_lost(name: &str, file_system: FileSystem) {
    let Some(volume) = volume(name, file_system) else { return };
    let mut story = Story::begin(volume.path().join("kv"));
    for cut in 1..=crashes(Some(CUTS)) {
        let kind = if cut % KERNEL_CUTS == 0 { Cut::Kernel } else { Cut::Device };
        let flushes = if cut % CUTS_AT_OPENING == 1 { 0 } else { 1 + story.random.below(FLUSHES) };
        cut_power(&mut story, &volume, Honesty::Flushes, kind, flushes);
        story.must_be_whole(&format!("{name}, {kind:?}"));
    }
    story.report(name);
}

/// `None` if this machine cannot cut the power; says so.
fn volume(name: &str, file_system: FileSystem) -> Option<Volume> {
    let made = Volume::make(file_system);
    if let Err(reason) = &made {
        say(&format!("SKIP {name}: {} cannot be had: {reason}", file_system.name()));
    }
    made.ok()
}

/// Lets the process work until it has flushed so many times, cuts, and brings the power back.
fn cut_power(story: &mut Story, volume: &Volume, honesty: Honesty, kind: Cut, flushes: u64) {
    let mut running = story.start(honesty, &[]);
    let said = story.hear(&mut running, flushes);
    assert_eq!(said.failed, None, "before the cut");
    volume.cut(kind).unwrap();
    running.kill();
    // What it said until it ended counts too: after the cut no flush succeeds.
    story.hear(&mut running, u64::MAX);
    drop(running);
    volume.restore().unwrap();
}
