//! One blob on its way to the drives: its chunks in order, and what is left to do when it fails.
//!
//! Owns every shard that the write has made until the commit is known. Abandoning a blob ends its streams and deletes
//! its shards in the background (see `abandon`).
//! Lifecycle: new -(append*, finish)-> finished -> proposed -> kept (committed), refused (abandoned) or dropped
//! (outcome unknown, left alone). Dropped before it was proposed: abandoned.

use super::{
    abandon::{Abandoned, abandon},
    fan_out::{FanOut, LateSlot},
    late::fill_late_slots,
    target::Target,
};
use crate::{shard_io::Unit, store::Core};
use ashlar_erasure::{Codec, Geometry};
use ashlar_runtime::{Reservation, RngExt};
use ashlar_types::{
    Blob, BlobId, Chunk, ChunkId, DriveId, Interval, ObjectError, PgId, Profile, ProfileId, ShardId,
    ShardMeta, SlotIndex,
};
use std::{collections::BTreeSet, sync::Arc};

/// Profile of new blobs and what follows from it.
#[derive(Clone)]
pub(crate) struct Coding {
    pub(crate) profile_id: ProfileId,
    pub(crate) profile: Profile,
    pub(crate) geometry: Geometry,
    pub(crate) codec: Arc<Codec>,
}

impl Coding {
    /// Every storage class is stored with the default profile.
    pub(crate) fn of_new_blobs(core: &Core) -> Result<Self, ObjectError> {
        let map = core.map();
        let profile_id =
            map.default_profile.ok_or(ObjectError::Unavailable("the cluster has no profile yet"))?;
        Self::of(core, profile_id)
    }

    pub(crate) fn of(core: &Core, profile_id: ProfileId) -> Result<Self, ObjectError> {
        let map = core.map();
        let profile = *map
            .profiles
            .get(&profile_id)
            .ok_or(ObjectError::Internal("the cluster map does not have a blob's profile"))?;
        let (k, m) = (profile.k(), profile.m());
        let broken = ObjectError::Internal("a profile that cannot be coded");
        let geometry = Geometry::new(k, m, profile.stripe_unit()).map_err(|_| broken.clone())?;
        let codec = Arc::new(Codec::new(k, m).map_err(|_| broken)?);
        Ok(Self { profile_id, profile, geometry, codec })
    }

    /// Bytes of the longest row of a blob of `len` bytes, with its parity.
    pub(crate) fn coded_len(&self, len: u64) -> u64 {
        let row_len = len.clamp(1, self.profile.row_len());
        u64::from(self.geometry.stripe(row_len, 0).unit_len) * u64::from(self.profile.slots())
    }
}

/// What the shards of one chunk have in common.
pub(crate) struct ChunkContext {
    pub(crate) profile_id: ProfileId,
    pub(crate) profile: Profile,
    chunk: ChunkId,
    chunk_len: u64,
    target: Target,
}

impl ChunkContext {
    /// Of slot 0.
    pub(crate) fn shard_meta(&self, pg: PgId, interval: Interval) -> ShardMeta {
        ShardMeta {
            id: ShardId { chunk: self.chunk, slot: SlotIndex(0) },
            pg,
            interval,
            profile: self.profile,
            chunk_len: self.chunk_len,
            group: self.target.group,
            write_epoch: self.target.request.write_epoch,
            owner: self.target.owner,
            bucket: self.target.bucket,
            key: self.target.key.clone(),
        }
    }
}

pub(crate) struct BlobWriter {
    core: Arc<Core>,
    target: Target,
    id: BlobId,
    coding: Coding,
    /// Length of the blob if the client declared it.
    expected_len: Option<u64>,
    len: u64,
    chunks: Vec<Chunk>,
    open: Option<FanOut>,
    late: Vec<LateSlot>,
    /// Drives of finished chunks that may hold a shard.
    touched: Vec<(DriveId, ShardId)>,
    /// Drives that failed this write: not tried again.
    refused: BTreeSet<DriveId>,
    /// Memory of the rows; late slots keep it as long as they hold units.
    reservation: Arc<Reservation>,
    settled: bool,
}

impl BlobWriter {
    pub(crate) fn new(
        core: &Arc<Core>,
        target: Target,
        coding: Coding,
        expected_len: Option<u64>,
        reservation: Reservation,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            target,
            id: BlobId(core.env.rng.u128()),
            coding,
            expected_len,
            len: 0,
            chunks: Vec::new(),
            open: None,
            late: Vec::new(),
            touched: Vec::new(),
            refused: BTreeSet::new(),
            reservation: Arc::new(reservation),
            settled: false,
        }
    }

    /// Bytes that the next row after `len` bytes of blob may have: a row never crosses a chunk.
    pub(crate) fn row_room(&self, len: u64) -> u64 {
        let chunk_size = self.coding.profile.chunk_size();
        let room = (chunk_size - len % chunk_size).min(self.coding.profile.row_len());
        self.expected_len.map_or(room, |expected| room.min(expected.saturating_sub(len)))
    }

    /// Sends the next row, of `len` object bytes.
    pub(crate) async fn append(&mut self, units: Vec<Unit>, len: u64) -> Result<(), ObjectError> {
        if self.open.is_none() {
            let context = self.next_chunk()?;
            self.open = Some(FanOut::open(&self.core, &context, &mut self.refused).await?);
        }
        let fan_out = self.open.as_mut().expect("opened above if it was not open");
        fan_out.send(units, &mut self.refused).await?;
        self.len += len;
        if self.len.is_multiple_of(self.coding.profile.chunk_size()) {
            self.finish().await?;
        }
        Ok(())
    }

    fn next_chunk(&self) -> Result<ChunkContext, ObjectError> {
        let index = u32::try_from(self.chunks.len()).map_err(|_| ObjectError::EntityTooLarge)?;
        let chunk_size = self.coding.profile.chunk_size();
        Ok(ChunkContext {
            profile_id: self.coding.profile_id,
            profile: self.coding.profile,
            chunk: ChunkId { blob: self.id, index },
            chunk_len: self.expected_len.map_or(0, |len| chunk_size.min(len - self.len)),
            target: self.target.clone(),
        })
    }

    /// Waits until the last chunk is durable on at least a quorum of drives.
    pub(crate) async fn finish(&mut self) -> Result<(), ObjectError> {
        let Some(fan_out) = &mut self.open else { return Ok(()) };
        let (chunk, late) = fan_out.finish(&mut self.refused).await?;
        self.touched.extend_from_slice(fan_out.touched());
        self.open = None;
        self.chunks.push(chunk);
        self.late.extend(late);
        Ok(())
    }

    /// The blob as its commit names it.
    pub(crate) fn blob(&self, crc64: u64) -> Blob {
        Blob {
            id: self.id,
            len: self.len,
            crc64,
            profile: self.coding.profile_id,
            group: self.target.group,
            write_epoch: self.target.request.write_epoch,
            chunks: self.chunks.clone(),
        }
    }

    /// From here on the blob may be committed: dropping it leaves its shards alone. If nothing commits it, they are
    /// found as orphans once its write epoch is below the floor.
    pub(crate) fn proposed(&mut self) {
        self.settled = true;
    }

    /// The blob is committed: late slots may finish and are then told to metadata.
    pub(crate) fn keep(mut self) {
        self.settled = true;
        self.core.metrics.blob_puts.increment(1);
        if self.chunks.iter().any(|chunk| chunk.slots.contains(&None)) {
            self.core.metrics.short_commits.increment(1);
        }
        let late = std::mem::take(&mut self.late);
        let intervals = self.chunks.iter().map(|chunk| chunk.interval).collect();
        fill_late_slots(&self.core, &self.target, intervals, late, &self.reservation);
    }

    /// The blob is surely not committed: abandons it.
    pub(crate) fn refused(mut self) {
        self.settled = false;
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut streams: Vec<_> =
            std::mem::take(&mut self.late).into_iter().map(|late| late.stream).collect();
        let mut touched = std::mem::take(&mut self.touched);
        let mut blob = self.blob(0);
        if let Some(mut fan_out) = self.open.take() {
            touched.extend_from_slice(fan_out.touched());
            streams.extend(fan_out.streams());
            blob.chunks.push(fan_out.unfinished());
        }
        if touched.is_empty() {
            return;
        }
        abandon(Abandoned {
            core: Arc::clone(&self.core),
            group: self.target.group,
            blob,
            touched,
            streams,
            reservation: Arc::clone(&self.reservation),
        });
    }
}
