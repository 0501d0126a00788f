//! Working off garbage rows: shards first, then the row.
//!
//! A row goes away only after every drive that may hold one of its shards has said that they are gone. Drives that
//! are out for good, or no longer in the map, hold nothing that anybody will read: what is on them is reconciled if
//! they ever come back.

use crate::{
    refusal::propose_error,
    shard_io::ShardError,
    store::{Core, ObjectStore, WRONG_ANSWER},
};
use ashlar_metadata::{
    command::{Command, PartitionCommand},
    query::{Answer, GarbageRow, Query},
};
use ashlar_placement::{ClusterMap, DriveState};
use ashlar_runtime::ClockExt;
use ashlar_types::{Blob, Chunk, ChunkId, DriveId, GroupId, ObjectError, ShardId, SlotIndex, Timestamp};
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Shards of one delete call: a message and a flush of reasonable size.
const DELETE_BATCH: usize = 1024;

/// While the oldest rows all wait for a drive that is away, later ones would keep their space on the others: a pass
/// without any row done looks at so many times as many rows, so many times.
const WIDENING: u32 = 8;
const WIDENINGS: u32 = 3;

impl ObjectStore {
    /// One bounded pass over the rows that have been garbage for longer than `grace`. Returns how many rows are done;
    /// rows whose drives do not answer stay.
    pub async fn collect_garbage(&self, group: GroupId, grace: Duration) -> Result<usize, ObjectError> {
        let core = &self.0;
        let Answer::GroupState(state) = core.query(group, Query::GroupState).await? else {
            return Err(WRONG_ANSWER);
        };
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let Some(before) = state.clock.0.checked_sub(grace).map(Timestamp) else { return Ok(0) };
        let mut limit = core.settings.garbage_rows.max(1);
        for _ in 0..WIDENINGS {
            let Answer::Garbage(rows) = core.query(group, Query::Garbage { before, limit }).await? else {
                return Err(WRONG_ANSWER);
            };
            let fetched = rows.len();
            let done = self.collect_rows(group, rows).await?;
            let is_last = fetched < usize::try_from(limit).unwrap_or(usize::MAX);
            if fetched == 0 {
                self.tick_if_waiting(group).await?;
            }
            if done > 0 || is_last {
                return Ok(done);
            }
            limit = limit.saturating_mul(WIDENING);
        }
        Ok(0)
    }

    /// Returns how many of the rows are done.
    async fn collect_rows(&self, group: GroupId, rows: Vec<GarbageRow>) -> Result<usize, ObjectError> {
        let core = &self.0;
        let map = core.map();
        let failed = delete_shards(core, shards_by_drive(&map, &rows)).await;
        let is_done = |row: &&GarbageRow| {
            let mut places = row.blobs.iter().flat_map(|blob| shards(&map, blob));
            !places.any(|(drive, _)| failed.contains(&drive))
        };
        let done: Vec<_> = rows.iter().filter(is_done).map(|row| row.id).collect();
        let count = done.len();
        if count > 0 {
            core.propose(group, None, PartitionCommand::GarbageDone { rows: done }).await?;
            core.metrics.garbage_rows.increment(count as u64);
        }
        Ok(count)
    }

    /// The group clock stands still while nobody writes. If there is garbage, an empty command moves it, so that the
    /// rows become due all the same.
    async fn tick_if_waiting(&self, group: GroupId) -> Result<(), ObjectError> {
        let core = &self.0;
        let any = Query::Garbage { before: Timestamp(u64::MAX), limit: 1 };
        let Answer::Garbage(rows) = core.query(group, any).await? else { return Err(WRONG_ANSWER) };
        if !rows.is_empty() {
            let ticked =
                core.metadata.propose(group, None, Command::Nothing, core.settings.request_deadline).await;
            // What an empty command answers is of no interest, only that it was stamped and applied.
            let _ = ticked.map_err(propose_error)?;
        }
        Ok(())
    }
}

fn shards_by_drive(map: &ClusterMap, rows: &[GarbageRow]) -> BTreeMap<DriveId, Vec<ShardId>> {
    let mut by_drive: BTreeMap<DriveId, Vec<ShardId>> = BTreeMap::new();
    for (drive, shard) in rows.iter().flat_map(|row| &row.blobs).flat_map(|blob| shards(map, blob)) {
        by_drive.entry(drive).or_default().push(shard);
    }
    by_drive
}

/// Every place in the cluster where a shard of the blob may be.
fn shards<'a>(map: &'a ClusterMap, blob: &'a Blob) -> impl Iterator<Item = (DriveId, ShardId)> + 'a {
    blob.chunks.iter().zip(0..).flat_map(move |(chunk, index)| {
        let id = ChunkId { blob: blob.id, index };
        (0..chunk.slots.len()).flat_map(move |slot| {
            let shard = u8::try_from(slot).map(|slot| ShardId { chunk: id, slot: SlotIndex(slot) });
            places(map, chunk, slot).into_iter().filter_map(move |drive| Some((drive, shard.ok()?)))
        })
    })
}

/// Where the slot was written, and where its placement group wants it now, if that is not the same: it may have been
/// repaired or moved there.
fn places(map: &ClusterMap, chunk: &Chunk, slot: usize) -> BTreeSet<DriveId> {
    let now = map.pgs.get(&chunk.pg).and_then(|pg| pg.slots.get(slot)).copied().unwrap_or_default();
    let recorded = chunk.slots.get(slot).copied().flatten();
    let may_have_moved = map.pgs.get(&chunk.pg).is_none_or(|pg| pg.interval != chunk.interval);
    let moved =
        [now.current, now.next].into_iter().flatten().filter(|_| may_have_moved || recorded.is_none());
    recorded
        .into_iter()
        .chain(moved)
        .filter(|drive| map.drives.get(drive).is_some_and(|drive| drive.state != DriveState::Out))
        .collect()
}

/// The drives that did not delete what they were asked to.
async fn delete_shards(core: &Core, by_drive: BTreeMap<DriveId, Vec<ShardId>>) -> BTreeSet<DriveId> {
    let deletes = by_drive.into_iter().map(|(drive, shards)| async move {
        if !core.shards.is_usable(drive) {
            return Some(drive);
        }
        for batch in shards.chunks(DELETE_BATCH) {
            let delete = core.shards.delete(drive, batch.to_vec());
            let deleted = core.env.clock.timeout(core.settings.request_deadline, delete).await;
            if let Err(error) = deleted.unwrap_or(Err(ShardError::Unreachable)) {
                tracing::info!(%drive, %error, "garbage stays until its drive answers");
                return Some(drive);
            }
            core.metrics.garbage_shards.increment(batch.len() as u64);
        }
        None
    });
    join_all(deletes).await.into_iter().flatten().collect()
}
