//! What has to hold of every drive, whatever its bytes: it opens or is refused without a panic, in bounds; it opens the
//! same way again; it stays as it is; every byte it gives is one that a record of it vouches for.

use super::{
    bytes::crc64,
    drive::{DIR, Files, disk, image},
    measure::bounded,
    witness::{self, Witness},
};
use ashlar_runtime::disk::sim::DiskImage;
use ashlar_storage::{
    DriveUsage, OfflineDrive, RecoveryReport, SegmentReport, SegmentUse, SuperblockReport, UnitRead,
    VerifyReport,
};
use ashlar_types::{ShardId, ShardStat};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Units that are also read one by one.
const SINGLE_READS_MAX: u32 = 4;

/// All that an open drive shows. Errors are as they print.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) superblock: SuperblockReport,
    pub(crate) report: RecoveryReport,
    pub(crate) usage: DriveUsage,
    pub(crate) segments: Vec<SegmentReport>,
    pub(crate) ids: Vec<ShardId>,
    pub(crate) shards: BTreeMap<ShardId, Result<Shard, String>>,
    verified: VerifyReport,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shard {
    pub(crate) stat: ShardStat,
    pub(crate) units: Result<Vec<UnitRead>, String>,
}

/// Opens a drive of these files twice and judges it. What it shows, or why it is refused.
pub(crate) fn examine(files: &Files) -> Result<Result<Shown, String>, String> {
    let image = image(files);
    let shown = open(&image)?;
    if open(&image)? != shown {
        return Err("opened again, the drive shows something else".to_owned());
    }
    if let Ok(shown) = &shown {
        judge(shown, files)?;
    }
    Ok(shown)
}

/// Opens a drive and looks at all of it.
pub(crate) fn open(image: &DiskImage) -> Result<Result<Shown, String>, String> {
    let opened = bounded("opening", || {
        let (sim, disk) = disk(image);
        (sim, OfflineDrive::open(&disk, Path::new(DIR)))
    })?;
    let shown = match opened {
        (sim, Ok(drive)) => {
            let shown = look(&drive)?;
            if sim.image() != *image {
                return Err("looking at the drive changed it".to_owned());
            }
            Ok(shown)
        }
        (_, Err(error)) => Err(format!("{error:?}")),
    };
    Ok(shown)
}

fn look(drive: &OfflineDrive) -> Result<Shown, String> {
    let report = RecoveryReport { took: Duration::ZERO, ..drive.recovery().clone() };
    let ids = bounded("listing", || drive.ids())?;
    let verified = bounded("verifying", || drive.verify(&mut |_| {}))?;
    let mut shards = BTreeMap::new();
    for id in &ids {
        shards.insert(*id, look_at(drive, *id)?);
    }
    let superblock = drive.superblock();
    Ok(Shown { superblock, report, usage: drive.usage(), segments: drive.segments(), ids, shards, verified })
}

fn look_at(drive: &OfflineDrive, id: ShardId) -> Result<Result<Shard, String>, String> {
    let read = |units: std::ops::Range<u32>| {
        let read = bounded("reading", || drive.read(id, units.clone()))?;
        Ok::<_, String>(read.map_err(|error| format!("{error:?}")))
    };
    let stat = bounded("describing", || drive.stat(id))?;
    let stat = match stat.map_err(|error| format!("{error:?}")) {
        Ok(Some(stat)) => stat,
        Ok(None) => return Err(format!("{id} is listed and not found")),
        Err(error) => {
            if read(0..1)?.is_ok() {
                return Err(format!("{id} is read though it cannot be described"));
            }
            return Ok(Err(error));
        }
    };
    let units = read(0..stat.units)?;
    for unit in 0..stat.units.min(SINGLE_READS_MAX) {
        let single = read(unit..unit + 1)?;
        if let Ok(all) = &units
            && single.as_ref().ok().and_then(|single| single.first()) != all.get(unit as usize)
        {
            return Err(format!("unit {unit} of {id} is another one when it is read alone"));
        }
    }
    for beyond in [stat.units..stat.units.saturating_add(1), 0..u32::MAX] {
        if stat.units < u32::MAX && read(beyond)?.is_ok() {
            return Err(format!("{id} gives units that it does not have"));
        }
    }
    Ok(Ok(Shard { stat, units }))
}

pub(crate) fn judge(shown: &Shown, files: &Files) -> Result<(), String> {
    if !shown.ids.is_sorted_by(|a, b| a < b) {
        return Err("ids are not in order, or not each once".to_owned());
    }
    judge_space(shown)?;
    let opens = |kind| {
        let open = |segment: &&SegmentReport| segment.using == SegmentUse::Open && segment.kind == kind;
        shown.segments.iter().filter(open).count()
    };
    if opens("log") > 1 || opens("extents") > 1 {
        return Err("more than one segment is open".to_owned());
    }
    let is_whole = |id: &&ShardId| matches!(shown.shards.get(id), Some(Ok(Shard { units: Ok(_), .. })));
    if let Some(lost) = shown.report.lost.iter().find(is_whole) {
        return Err(format!("{lost} is lost and can be read"));
    }
    let witnesses = witness::all(files);
    for (id, shard) in &shown.shards {
        let whole = shard.as_ref().is_ok_and(|shard| shard.units.is_ok());
        let corrupt = shown.verified.corrupt.iter().any(|unit| unit.shard == *id)
            || shown.verified.unreadable.contains(id);
        if whole == corrupt {
            return Err(format!("{id} is read and found corrupt, or neither: {shard:?}"));
        }
        if let Ok(shard) = shard {
            judge_shard(*id, shard, witnesses.get(id).map_or(&[], Vec::as_slice))?;
        }
    }
    Ok(())
}

fn judge_space(shown: &Shown) -> Result<(), String> {
    let DriveUsage { capacity, used, free, shards, live, dead } = shown.usage;
    if shards != shown.ids.len() as u64 {
        return Err(format!("{} shards are listed and {shards} counted", shown.ids.len()));
    }
    // A checkpoint that lies about what was written has accounts that lie; nothing is promised but that they count.
    if shown.segments.iter().any(|segment| segment.live + 4096 > segment.written.max(4096)) {
        return Ok(());
    }
    let fits = used.checked_add(free).is_some_and(|sum| sum <= capacity);
    if live.checked_add(dead) != Some(used) || !fits {
        return Err(format!("the space does not add up: {:?}", shown.usage));
    }
    let bytes_of = |of: fn(&SegmentReport) -> u64| shown.segments.iter().map(of).sum::<u64>();
    if bytes_of(|segment| segment.live) != live || bytes_of(|segment| segment.dead) != dead {
        return Err(format!("the space is not that of the segments: {:?}", shown.segments));
    }
    Ok(())
}

/// A record of this shard has to say what is shown.
fn judge_shard(id: ShardId, shard: &Shard, witnesses: &[Witness]) -> Result<(), String> {
    let vouches = |witness: &&Witness| {
        let payload_len: u64 = witness.units.iter().map(|(len, ..)| u64::from(*len)).sum();
        witness.meta.as_ref() == Some(&shard.stat.meta)
            && u32::try_from(witness.units.len()) == Ok(shard.stat.units)
            && payload_len == shard.stat.len
    };
    let Some(_) = witnesses.iter().find(vouches).filter(|_| shard.stat.meta.id == id) else {
        return Err(format!("no record says what is shown of {id}: {:?}", shard.stat));
    };
    let Ok(units) = &shard.units else { return Ok(()) };
    for unit in units {
        if crc64(&unit.bytes) != unit.sum.crc64 || unit.bytes.len() != unit.sum.len as usize {
            return Err(format!("a unit of {id} does not verify"));
        }
    }
    let rows: Vec<_> =
        units.iter().map(|unit| (unit.sum.len, unit.sum.crc64, unit.sum.data.clone())).collect();
    if !witnesses.iter().filter(vouches).any(|witness| witness.units == rows) {
        return Err(format!("no record has the units that were read of {id}"));
    }
    Ok(())
}

/// The records at the front of the log, which nothing can hide, are all shown.
pub(crate) fn judge_prefix(shown: &Shown, files: &Files) -> Result<(), String> {
    let drive = shown.superblock.identity.drive.0.to_le_bytes();
    let Some(prefix) = witness::prefix(files, &drive) else { return Ok(()) };
    if shown.report.replayed_records < prefix.len() as u64 {
        return Err(format!("{} records were applied of {}", shown.report.replayed_records, prefix.len()));
    }
    let mut last = BTreeMap::new();
    let mut counts: BTreeMap<ShardId, usize> = BTreeMap::new();
    for record in prefix {
        *counts.entry(record.shard).or_default() += 1;
        last.insert(record.shard, record);
    }
    let witnesses = witness::all(files);
    for (id, record) in last {
        // Another record of it lies elsewhere, and may be a later one.
        if witnesses.get(&id).map(Vec::len) != counts.get(&id).copied() {
            continue;
        }
        let shard = shown.shards.get(&id);
        if record.is_delete() {
            if shard.is_some() {
                return Err(format!("{id} is shown though it was deleted"));
            }
            continue;
        }
        let found = shard.and_then(|shard| shard.as_ref().ok());
        if record.is_small() {
            let read = found.and_then(|shard| shard.units.as_ref().ok());
            let bytes =
                read.map(|units| units.iter().flat_map(|unit| unit.bytes.to_vec()).collect::<Vec<u8>>());
            if bytes.is_none() || bytes != record.payload {
                return Err(format!("{id} is whole in the log and shown as {shard:?}"));
            }
        } else if shard.is_none() {
            return Err(format!("{id} is in the log and not listed"));
        }
    }
    Ok(())
}
