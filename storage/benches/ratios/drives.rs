//! The drive store under load.

use crate::sample::{Meter, Quota, Sample};
use anyhow::Result;
use ashlar_hashing::crc64nvme;
use ashlar_runtime::Env;
use ashlar_storage::{DriveIdentity, DriveOptions, DriveStore, FormatOptions, ShardUnit};
use ashlar_types::{
    BlobId, BucketId, ChunkId, ClusterId, DriveUuid, FailureDomain, GroupId, Interval, ObjectKey, PgId,
    Profile, ShardId, ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

const UNIT: usize = 64 << 10;
/// Shards deleted at once.
const DELETES: u64 = 4096;
/// Payload that fills log segments fastest: the largest unit that is sure to go with a batch.
const SMALL: usize = 64 << 10;
const LARGE: usize = 1 << 20;
const FILLERS: usize = 16;

/// Some drives in directories of one file system, each operation one shard on each of them.
#[derive(Clone, Debug)]
pub(crate) struct Drives {
    env: Env,
    stores: Arc<[DriveStore]>,
    /// Number of the next operation, which its shards are named by.
    next: Arc<AtomicU64>,
    /// The first that was not deleted.
    first: Arc<AtomicU64>,
}

impl Drives {
    pub(crate) async fn make(env: &Env, place: &Path, drives: u8, segment_bytes: u64) -> Result<Self> {
        let mut stores = Vec::new();
        for drive in 0..drives {
            let dir = place.join(format!("drive-{drive}"));
            let identity = DriveIdentity { cluster: ClusterId(1), drive: DriveUuid(u128::from(drive) + 1) };
            DriveStore::format(&env.disk, &dir, identity, FormatOptions { segment_bytes })?;
            stores.push(DriveStore::open(env, &dir, identity, DriveOptions::default()).await?);
        }
        let count = || Arc::new(AtomicU64::new(0));
        Ok(Self { env: env.clone(), stores: stores.into(), next: count(), first: count() })
    }

    /// Brings the drives to where they are after long use: segments for `bytes` of small shards and of large ones are
    /// there, written once and empty.
    pub(crate) async fn prepare(&self, bytes: u64) -> Result<()> {
        for len in [SMALL, LARGE] {
            let quota = Quota::new(&self.env, Duration::MAX / 2, bytes / len as u64);
            self.append(FILLERS, &payload(&self.env, len), quota).await?;
        }
        self.empty().await
    }

    /// Each client puts one shard of `payload` after another on all drives, waiting until all are durable.
    pub(crate) async fn append(&self, clients: usize, payload: &Bytes, quota: Arc<Quota>) -> Result<Sample> {
        let units: Arc<[ShardUnit]> = payload
            .chunks(UNIT)
            .map(|unit| {
                let sum =
                    UnitSum { len: u32::try_from(unit.len())?, crc64: crc64nvme(unit), data: Vec::new() };
                Ok(ShardUnit { bytes: payload.slice_ref(unit), sum })
            })
            .collect::<Result<_>>()?;
        let (report, mut reports) = mpsc::unbounded_channel();
        let meter = Meter::start(&self.env)?;
        let mut running = Vec::new();
        for _ in 0..clients {
            let (this, units) = (self.clone(), Arc::clone(&units));
            let (quota, report) = (Arc::clone(&quota), report.clone());
            running.push(self.env.tasks.spawn("client", async move {
                // The receiver is there until all have reported.
                let _ = report.send(this.client(&units, &quota).await);
            }));
        }
        drop(report);
        let mut latencies = Vec::new();
        while let Some(report) = reports.recv().await {
            latencies.extend(report?);
        }
        meter.stop(latencies)
    }

    async fn client(&self, units: &[ShardUnit], quota: &Quota) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while let Some(begun) = quota.take() {
            self.put(units).await?;
            latencies.push(quota.since(begun));
        }
        Ok(latencies)
    }

    async fn put(&self, units: &[ShardUnit]) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match &*self.stores {
            [only] => put(only, shard(number), units).await,
            many => {
                let puts = many.iter().map(|store| put(store, shard(number), units));
                try_join_all(puts).await.map(drop)
            }
        }
    }

    /// Reads shards that were put since the drives were emptied, by their place in the order of writing.
    pub(crate) async fn read(&self, number: u64) -> Result<Bytes> {
        let id = shard(self.first.load(Ordering::Relaxed) + number);
        let units = self.stores[0].read(id, 0..1).await?;
        Ok(units.into_iter().map(|unit| unit.bytes).next().unwrap_or_default())
    }

    /// Deletes everything, so that the segments can be used again.
    pub(crate) async fn empty(&self) -> Result<()> {
        let (first, next) = (self.first.load(Ordering::Relaxed), self.next.load(Ordering::Relaxed));
        for from in (first..next).step_by(usize::try_from(DELETES)?) {
            let ids: Vec<_> = (from..next.min(from + DELETES)).map(shard).collect();
            try_join_all(self.stores.iter().map(|store| store.delete(ids.clone()))).await?;
        }
        self.first.store(next, Ordering::Relaxed);
        for store in self.stores.iter() {
            // Segments are kept from the older of two checkpoints on.
            store.checkpoint().await?;
            store.checkpoint().await?;
            store.reclaim().await?;
        }
        Ok(())
    }

    pub(crate) async fn close(self) {
        for store in self.stores.iter() {
            store.clone().close().await;
        }
    }
}

async fn put(store: &DriveStore, id: ShardId, units: &[ShardUnit]) -> Result<()> {
    let mut writer = store.put(meta(id)?).await?;
    for unit in units {
        writer.append(unit.clone()).await?;
    }
    Ok(writer.commit().await?)
}

/// Bytes that no one can shorten.
pub(crate) fn payload(env: &Env, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    env.rng.fill(&mut bytes);
    Bytes::from(bytes)
}

/// Names spread as those of real blobs, which are random.
fn shard(number: u64) -> ShardId {
    let blob = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number);
    ShardId { chunk: ChunkId { blob: BlobId(blob), index: 0 }, slot: SlotIndex(0) }
}

fn meta(id: ShardId) -> Result<ShardMeta> {
    Ok(ShardMeta {
        id,
        pg: PgId(1),
        interval: Interval(2),
        profile: Profile::new(2, 2, FailureDomain::Drive)?,
        chunk_len: 4096,
        group: GroupId(1),
        write_epoch: WriteEpoch(4),
        owner: ShardOwner::Version(VersionUid(77)),
        bucket: BucketId(5),
        key: ObjectKey::parse("photos/2026/a-picture-with-a-name.jpeg")?,
    })
}
