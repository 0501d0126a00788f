//! Recovery of a drive from what a crash left, and everything that must hold right after it.

use super::{
    client::{DIR, IDENTITY},
    content::{Contents, number_of, shard_id},
    model::Found,
};
use ashlar_runtime::{Disk, SimDisk};
use ashlar_storage::{OfflineDrive, RecoveryReport, StoreError};
use std::{path::Path, sync::Arc};

/// What was found, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) found: Found,
    pub(crate) torn_tail: bool,
    pub(crate) from_checkpoint: bool,
}

/// Opens the drive offline after a pure crash and reads all of it: nothing is damaged, whatever was torn.
pub(crate) fn recover(disk: &SimDisk, contents: &Contents) -> Result<Recovered, String> {
    let drive = open(disk)?;
    let report = drive.recovery();
    if !report.damaged.is_empty() || !report.lost.is_empty() || report.rebuilt || report.inconsistent {
        return Err(format!("a crash is no damage, but recovery reports {report:?}"));
    }
    let found = read_all(&drive, contents)?;
    check_usage(&drive, contents, &found)?;
    let RecoveryReport { torn_tail, checkpoint, .. } = *report;
    Ok(Recovered { found, torn_tail, from_checkpoint: checkpoint.is_some() })
}

/// The drive's own verification finds nothing wrong either.
pub(crate) fn verify(disk: &SimDisk, found: &Found) -> Result<(), String> {
    let report = open(disk)?.verify(&mut |_| {});
    let all = report.shards == found.len() as u64;
    if all && report.corrupt.is_empty() && report.unreadable.is_empty() {
        return Ok(());
    }
    Err(format!("{} whole shards, but verifying them says {report:?}", found.len()))
}

pub(crate) fn open(disk: &SimDisk) -> Result<OfflineDrive, String> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let drive = OfflineDrive::open(&disk, Path::new(DIR)).map_err(|error| format!("open: {error}"))?;
    if drive.identity() != IDENTITY {
        return Err(format!("the drive says that it is {:?}", drive.identity()));
    }
    Ok(drive)
}

fn read_all(drive: &OfflineDrive, contents: &Contents) -> Result<Found, String> {
    let ids = drive.ids();
    if !ids.is_sorted_by(|a, b| a < b) {
        return Err("the ids are not in order".to_owned());
    }
    let mut found = Found::new();
    for id in ids {
        let number = number_of(id).ok_or_else(|| format!("{id} is there but was never written"))?;
        let of_shard = |what: &dyn std::fmt::Display| format!("shard {number}: {what}");
        let stat = drive.stat(id).map_err(|error| of_shard(&error))?;
        let stat = stat.ok_or_else(|| of_shard(&"it has an id but no description"))?;
        let read = drive.read(id, 0..stat.units).map_err(|error| of_shard(&error))?;
        let round = contents.identify(number, &stat, &read).map_err(|what| of_shard(&what))?;
        found.insert(number, round);
    }
    let absent = (0..u8::MAX).find(|number| !found.contains_key(number)).unwrap_or(u8::MAX);
    match (drive.stat(shard_id(absent)), drive.read(shard_id(absent), 0..1)) {
        (Ok(None), Err(StoreError::NotFound)) => Ok(found),
        other => Err(format!("shard {absent} is not in the list, but reads as {other:?}")),
    }
}

fn check_usage(drive: &OfflineDrive, contents: &Contents, found: &Found) -> Result<(), String> {
    let usage = drive.usage();
    let units = found.values().map(|round| contents.units(*round));
    let payload: u64 = units.map(|units| units.iter().map(|unit| unit.bytes.len() as u64).sum::<u64>()).sum();
    let fits = usage.live + usage.dead + usage.free <= usage.capacity;
    let sums = usage.used == usage.live + usage.dead;
    if !fits || !sums || usage.live < payload || usage.shards != found.len() as u64 {
        return Err(format!("{} shards of {payload} bytes, but the drive counts {usage:?}", found.len()));
    }
    Ok(())
}
