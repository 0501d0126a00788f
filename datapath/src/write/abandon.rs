//! Cleaning up after a write that was not committed.
//!
//! Its streams are ended first, so that no drive makes a shard durable after it was told to delete it. Shards that a
//! drive does not delete in time are left to a garbage row; if metadata does not take that either, they are orphans
//! of an epoch that will pass.

use super::slot_stream::SlotStream;
use crate::{shard_io::ShardError, store::Core};
use ashlar_metadata::command::PartitionCommand;
use ashlar_runtime::{ClockExt, Reservation};
use ashlar_types::{Blob, DriveId, GroupId, ShardId};
use futures_util::future::join_all;
use std::{collections::BTreeMap, sync::Arc};

pub(crate) struct Abandoned {
    pub(crate) core: Arc<Core>,
    pub(crate) group: GroupId,
    /// As far as it was written.
    pub(crate) blob: Blob,
    /// Where a shard may be.
    pub(crate) touched: Vec<(DriveId, ShardId)>,
    pub(crate) streams: Vec<SlotStream>,
    pub(crate) reservation: Arc<Reservation>,
}

/// Works in the background, within `cleanup_deadline` for each of its steps.
pub(crate) fn abandon(abandoned: Abandoned) {
    abandoned.core.metrics.abandoned_writes.increment(1);
    let tasks = abandoned.core.env.tasks.clone();
    tasks.spawn("abandon-write", clean_up(abandoned)).detach();
}

async fn clean_up(abandoned: Abandoned) {
    let Abandoned { core, group, blob, touched, mut streams, reservation } = abandoned;
    streams.iter_mut().for_each(SlotStream::cancel);
    let ends = join_all(streams.iter_mut().map(SlotStream::end));
    // A stream that does not end is aborted below.
    let _ = core.env.clock.timeout(core.settings.cleanup_deadline, ends).await;
    drop(streams);
    drop(reservation);

    let mut by_drive: BTreeMap<DriveId, Vec<ShardId>> = BTreeMap::new();
    for (drive, shard) in touched {
        by_drive.entry(drive).or_default().push(shard);
    }
    let deletes = by_drive.into_iter().map(|(drive, shards)| {
        let core = &core;
        async move {
            let delete = core.shards.delete(drive, shards.clone());
            let deleted = core.env.clock.timeout(core.settings.cleanup_deadline, delete).await;
            match deleted.unwrap_or(Err(ShardError::Unreachable)) {
                Ok(()) => Vec::new(),
                Err(_) => shards.into_iter().map(|shard| (drive, shard)).collect(),
            }
        }
    });
    let left: Vec<(DriveId, ShardId)> = join_all(deletes).await.into_iter().flatten().collect();
    if left.is_empty() {
        return;
    }
    tracing::info!(blob = %blob.id, shards = left.len(), "shards of an abandoned write are left as garbage");
    let command = PartitionCommand::QueueGarbage { blobs: garbage(&blob, left) };
    if let Err(error) = core.propose(group, None, command).await {
        tracing::info!(blob = %blob.id, %error, "garbage of an abandoned write was not queued");
    }
}

/// The blob once for each shard that a slot left: a slot that was handed off may have left several.
fn garbage(blob: &Blob, left: Vec<(DriveId, ShardId)>) -> Vec<Blob> {
    let mut empty = blob.clone();
    empty.chunks.iter_mut().for_each(|chunk| chunk.slots.fill(None));
    let mut blobs: Vec<Blob> = Vec::new();
    for (drive, shard) in left {
        let position = |blob: &mut Blob| {
            let chunk = blob.chunks.get_mut(usize::try_from(shard.chunk.index).ok()?)?;
            chunk
                .slots
                .get_mut(usize::from(shard.slot.0))
                .filter(|slot| slot.is_none())
                .map(|slot| *slot = Some(drive))
        };
        if !blobs.iter_mut().any(|blob| position(blob).is_some()) {
            let mut next = empty.clone();
            if position(&mut next).is_some() {
                blobs.push(next);
            }
        }
    }
    blobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::{BlobId, Chunk, ChunkId, Interval, PgId, ProfileId, SlotIndex, WriteEpoch};

    #[test]
    fn a_slot_that_left_two_shards_is_garbage_twice() {
        let chunk = Chunk { pg: PgId(1), interval: Interval(1), slots: vec![Some(DriveId(1)), None] };
        let blob = Blob {
            id: BlobId(1),
            len: 1,
            crc64: 0,
            profile: ProfileId(1),
            group: GroupId(1),
            write_epoch: WriteEpoch(1),
            chunks: vec![chunk.clone(), chunk],
        };
        let shard =
            |index, slot| ShardId { chunk: ChunkId { blob: BlobId(1), index }, slot: SlotIndex(slot) };
        let blobs = garbage(
            &blob,
            vec![(DriveId(5), shard(1, 0)), (DriveId(6), shard(1, 0)), (DriveId(7), shard(0, 1))],
        );
        let drives: Vec<Vec<Vec<Option<u32>>>> = blobs
            .iter()
            .map(|blob| {
                let slots =
                    |chunk: &Chunk| chunk.slots.iter().map(|drive| drive.map(|drive| drive.0)).collect();
                blob.chunks.iter().map(slots).collect()
            })
            .collect();
        assert_eq!(
            drives,
            [vec![vec![None, Some(7)], vec![Some(5), None]], vec![vec![None, None], vec![Some(6), None]]]
        );
    }
}
