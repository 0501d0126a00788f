//! Scrubbing: reading everything again, from the device, before a reader needs it.
//!
//! The caller sets the pace and holds the cursor, so that a scrub goes on where it was after a restart.

use crate::{
    drive::Drive, error::StoreError, format::Entry, listing, reading::ReadFault, store::Inner,
    tables::extent_weight,
};
use ashlar_types::ShardId;
use std::time::Duration;

/// Shards verified by one job of a read thread, so that readers get their turn between.
const SHARDS_AT_ONCE: usize = 16;
/// How often a shard that moves is looked up again.
const LOOKUPS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubLimits {
    /// The pace; 0 is as fast as the drive reads.
    pub bytes_per_second: u64,
    /// The page ends after about this many bytes.
    pub bytes: u64,
}

/// A unit that does not verify, or with unit 0 a shard whose description does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptUnit {
    pub shard: ShardId,
    pub unit: u32,
}

/// What one call of a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubPage {
    /// Where to go on; `None` if all is done.
    pub next: Option<ShardId>,
    pub shards: u64,
    pub units: u64,
    /// Bytes read.
    pub bytes: u64,
    pub corrupt: Vec<CorruptUnit>,
    /// Shards that the device would not read.
    pub unreadable: Vec<ShardId>,
}

pub(crate) async fn scrub(
    store: &Inner,
    after: Option<ShardId>,
    limits: ScrubLimits,
) -> Result<ScrubPage, StoreError> {
    let clock = &store.drive.clock;
    let began = clock.monotonic();
    let mut page = ScrubPage { next: after, ..ScrubPage::default() };
    loop {
        let cursor = page.next;
        let (next, checked) = store.read_job(move |drive| check_some(drive, cursor)).await?;
        page.shards += checked.shards;
        page.units += checked.units;
        page.bytes += checked.bytes;
        page.corrupt.extend(checked.corrupt);
        page.unreadable.extend(checked.unreadable);
        page.next = next;
        if page.next.is_none() || page.bytes >= limits.bytes {
            return Ok(page);
        }
        if limits.bytes_per_second > 0 {
            // The time that this many bytes take at the pace, less what has gone.
            let nanos = u128::from(page.bytes) * 1_000_000_000 / u128::from(limits.bytes_per_second);
            let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            let ahead = due.saturating_sub(clock.monotonic().saturating_sub(began));
            if !ahead.is_zero() {
                clock.sleep(ahead).await;
            }
        }
    }
}

fn check_some(drive: &Drive, after: Option<ShardId>) -> (Option<ShardId>, ScrubPage) {
    let ids = listing::ids(drive, after, SHARDS_AT_ONCE);
    let next = (ids.len() == SHARDS_AT_ONCE).then(|| ids.last().copied()).flatten();
    let mut page = ScrubPage::default();
    for shard in ids {
        check(drive, shard, &mut page);
    }
    (next, page)
}

/// Verifies one shard into the page.
pub(crate) fn check(drive: &Drive, shard: ShardId, page: &mut ScrubPage) {
    for attempt in 1..=LOOKUPS_MAX {
        let entry = drive.read_tables(|tables| tables.get(shard).cloned());
        let Some(entry) = entry else { return };
        let fault = match check_entry(drive, shard, &entry, page) {
            Ok(()) => return,
            Err(fault) => fault,
        };
        // Moved, replaced or deleted while it was read: that says nothing about the new place.
        let unchanged =
            drive.read_tables(|tables| tables.get(shard).is_some_and(|now| now.record == entry.record));
        if !unchanged && attempt < LOOKUPS_MAX {
            continue;
        }
        page.shards += 1;
        let unit = match fault {
            ReadFault::Io(_, error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                page.unreadable.push(shard);
                return;
            }
            ReadFault::BadUnit(unit) => unit,
            ReadFault::Cold | ReadFault::BadRecord | ReadFault::NoSuchUnit(_) | ReadFault::Io(..) => 0,
        };
        drive.metrics.corrupt_units.increment(1);
        page.corrupt.push(CorruptUnit { shard, unit });
        return;
    }
}

/// Reads all of it from the device; every unit that does not verify is noted.
fn check_entry(drive: &Drive, shard: ShardId, entry: &Entry, page: &mut ScrubPage) -> Result<(), ReadFault> {
    let (_, payload) = drive.read_whole(shard, entry)?;
    page.shards += 1;
    page.units += payload.len() as u64;
    page.bytes += u64::from(entry.stored_len) + entry.extents.iter().map(extent_weight).sum::<u64>();
    Ok(())
}
