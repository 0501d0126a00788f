//! Where an object's shards are, and how many losses it survives.

use crate::{
    read::{FoundVersion, find_version},
    shard_io::ShardError,
    store::{Core, ObjectStore},
    write::Coding,
};
use ashlar_metadata::query::ContentWanted;
use ashlar_runtime::ClockExt;
use ashlar_types::{
    Blob, BlobId, Chunk, ChunkId, DriveId, ExtentSource, Interval, ObjectError, ObjectKey, PgId, Profile,
    ShardId, SlotIndex, VersionId, VersionInfo, service::BucketInfo,
};
use futures_util::future::join_all;
use serde::Serialize;

/// Everything that is known about one version. Does not read payload: a unit that rotted since the last scrub or
/// read shows as `Ok`.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub version: VersionInfo,
    pub entries: Vec<ExplainedEntry>,
    /// Losses that the worst chunk survives now; `None` if all bytes are in metadata.
    pub margin_now: Option<i32>,
    /// The same when it was acknowledged.
    pub margin_at_ack: Option<i32>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExplainedEntry {
    pub part_number: u16,
    pub len: u64,
    pub source: ExplainedSource,
}

#[derive(Clone, Debug, Serialize)]
pub enum ExplainedSource {
    /// In the metadata group, as many times as it has replicas.
    Inline,
    Blob {
        blob: BlobId,
        offset: u64,
        profile: Profile,
        chunks: Vec<ExplainedChunk>,
    },
}

#[derive(Clone, Debug, Serialize)]
pub struct ExplainedChunk {
    pub chunk: ChunkId,
    pub len: u64,
    pub pg: PgId,
    pub interval: Interval,
    pub slots: Vec<ExplainedSlot>,
    /// Shards in order now, minus k. Negative: some bytes cannot be read.
    pub margin_now: i32,
    /// Shards that were durable when the write was acknowledged (or filled in since), minus k.
    pub margin_at_ack: i32,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct ExplainedSlot {
    pub shard: ShardId,
    /// `None`: not written, or lost; repair will choose a drive.
    pub drive: Option<DriveId>,
    pub state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SlotState {
    Ok,
    /// Not on its drive, or not written at all.
    Missing,
    /// Its description is damaged, or it has not the length it should have.
    Corrupt,
    /// Its drive does not answer.
    Unreachable,
}

impl ObjectStore {
    pub async fn explain(
        &self,
        bucket: &BucketInfo,
        key: ObjectKey,
        version: Option<VersionId>,
    ) -> Result<Explanation, ObjectError> {
        let core = &self.0;
        let found = find_version(core, bucket, key, version, ContentWanted::Yes).await?;
        let FoundVersion { info, content, .. } = found;
        let content = content.ok_or(ObjectError::Internal("metadata left out the content"))?;
        let mut entries = Vec::with_capacity(content.manifest.entries.len());
        for entry in content.manifest.entries {
            let source = match entry.source {
                ExtentSource::Inline { .. } => ExplainedSource::Inline,
                ExtentSource::Blob { blob, offset } => explain_blob(core, &blob, offset).await?,
            };
            entries.push(ExplainedEntry { part_number: entry.part_number, len: entry.len, source });
        }
        let worst = |margin: fn(&ExplainedChunk) -> i32| {
            let chunks = entries.iter().flat_map(|entry| match &entry.source {
                ExplainedSource::Inline => [].iter(),
                ExplainedSource::Blob { chunks, .. } => chunks.iter(),
            });
            chunks.map(margin).min()
        };
        let (margin_now, margin_at_ack) =
            (worst(|chunk| chunk.margin_now), worst(|chunk| chunk.margin_at_ack));
        Ok(Explanation { version: info, entries, margin_now, margin_at_ack })
    }
}

async fn explain_blob(core: &Core, blob: &Blob, offset: u64) -> Result<ExplainedSource, ObjectError> {
    let coding = Coding::of(core, blob.profile)?;
    let mut chunks = Vec::with_capacity(blob.chunks.len());
    let mut left = blob.len;
    for (chunk, index) in blob.chunks.iter().zip(0..) {
        let len = left.min(coding.profile.chunk_size());
        left -= len;
        chunks.push(explain_chunk(core, &coding, ChunkId { blob: blob.id, index }, len, chunk).await);
    }
    Ok(ExplainedSource::Blob { blob: blob.id, offset, profile: coding.profile, chunks })
}

async fn explain_chunk(core: &Core, coding: &Coding, id: ChunkId, len: u64, chunk: &Chunk) -> ExplainedChunk {
    let slots = join_all(chunk.slots.iter().zip(0..).map(|(drive, slot)| async move {
        let shard = ShardId { chunk: id, slot: SlotIndex(slot) };
        let state = match drive {
            None => SlotState::Missing,
            Some(drive) => slot_state(core, coding, *drive, shard, len).await,
        };
        ExplainedSlot { shard, drive: *drive, state }
    }))
    .await;
    let margin = |count: usize| i32::try_from(count).unwrap_or(i32::MAX) - i32::from(coding.profile.k());
    ExplainedChunk {
        chunk: id,
        len,
        pg: chunk.pg,
        interval: chunk.interval,
        margin_now: margin(slots.iter().filter(|slot| slot.state == SlotState::Ok).count()),
        margin_at_ack: margin(chunk.slots.iter().flatten().count()),
        slots,
    }
}

async fn slot_state(core: &Core, coding: &Coding, drive: DriveId, shard: ShardId, len: u64) -> SlotState {
    let stat = core.shards.stat(drive, shard);
    let stat = core.env.clock.timeout(core.settings.request_deadline, stat).await;
    match stat.unwrap_or(Err(ShardError::Unreachable)) {
        Ok(Some(stat)) => {
            let whole = stat.meta.id == shard
                && stat.len == coding.geometry.shard_len(len, shard.slot.0)
                && stat.units == coding.geometry.stripe_count(len);
            if whole { SlotState::Ok } else { SlotState::Corrupt }
        }
        Ok(None) | Err(ShardError::NotFound) => SlotState::Missing,
        Err(ShardError::Corrupt { .. }) => SlotState::Corrupt,
        Err(
            ShardError::NotMine
            | ShardError::StaleInterval { .. }
            | ShardError::Overloaded
            | ShardError::Failed
            | ShardError::Unreachable,
        ) => SlotState::Unreachable,
    }
}
