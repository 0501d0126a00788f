//! What the drive does when the power fails: writers, each with ids of its own, that read those of all.

use super::ledger::{Kind, Ledger, Operation, Seeded, content, number_in};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::{TaskHandle, Tasks};
use ashlar_storage::{DriveStore, ShardUnit, StoreError};
use ashlar_types::{
    BlobId, BucketId, ChunkId, FailureDomain, GroupId, Interval, ObjectKey, PgId, Profile, ShardId,
    ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::Notify;

const WRITERS: usize = 8;
const IDS_PER_WRITER: usize = 16;
pub(crate) const IDS: usize = WRITERS * IDS_PER_WRITER;
const UNIT: usize = 64 << 10;
/// Lengths, each the bounds of a class: mostly small, some past the small lane.
const LENGTHS: [(usize, usize); 5] =
    [(100, 1000), (1000, 8000), (4000, 140_000), (60_000, 200_000), (200_000, 2 << 20)];
/// One operation in this many is a delete.
const DELETES: usize = 5;
/// One in this many is a checkpoint and a pass of reclaiming.
const HOUSEKEEPING: usize = 100;
/// Reads while one operation runs.
const READS: usize = 4;

/// Shared by the tasks of one cycle.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) store: DriveStore,
    pub(crate) ledger: Arc<Ledger>,
    /// Acknowledged operations, over all cycles, after which `reached` is told.
    pub(crate) goal: u64,
    pub(crate) reached: Notify,
    /// Set before the power is cut: errors are expected from then on.
    pub(crate) cutting: AtomicBool,
    /// What went wrong before.
    pub(crate) failure: Mutex<Option<String>>,
}

pub(crate) fn shard(id: usize) -> ShardId {
    let number = u64::try_from(id).unwrap();
    // Spread, so that the order of ids is not the order of writing.
    let blob = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number);
    ShardId { chunk: ChunkId { blob: BlobId(blob), index: 0 }, slot: SlotIndex(0) }
}

fn meta(id: ShardId) -> ShardMeta {
    ShardMeta {
        id,
        pg: PgId(1),
        interval: Interval(2),
        profile: Profile::new(4, 2, FailureDomain::Node).unwrap(),
        chunk_len: 12345,
        group: GroupId(1),
        write_epoch: WriteEpoch(4),
        owner: ShardOwner::Version(VersionUid(77)),
        bucket: BucketId(5),
        key: ObjectKey::parse("some/key").unwrap(),
    }
}

impl Workload {
    /// Starts all tasks; they end with the drive.
    pub(crate) fn start(self: &Arc<Self>, tasks: &Tasks, seed: u64) -> Vec<TaskHandle> {
        (0..WRITERS)
            .map(|writer| {
                let this = Arc::clone(self);
                let random = Seeded::new(seed ^ writer as u64);
                tasks.spawn("writer", async move { this.write(writer, random).await })
            })
            .collect()
    }

    async fn write(&self, writer: usize, random: Seeded) {
        loop {
            let id = writer * IDS_PER_WRITER + random.index(IDS_PER_WRITER);
            let change = async {
                if random.index(HOUSEKEEPING) == 0 {
                    self.store.checkpoint().await?;
                    self.store.reclaim().await.map(drop)
                } else if random.index(DELETES) == 0 {
                    self.delete(id, &random).await
                } else {
                    let (from, to) = LENGTHS[random.index(LENGTHS.len())];
                    self.put(id, from + random.index(to - from)).await
                }
            };
            let (changed, looked) = tokio::join!(change, self.look(&random));
            if !self.goes_on(changed.and(looked)) {
                return;
            }
        }
    }

    async fn put(&self, id: usize, len: usize) -> Result<(), StoreError> {
        let operation = self.ledger.begin(id, Kind::Put { len });
        let begun = self.store.put(meta(shard(id))).await;
        let mut writer = match begun {
            Err(StoreError::Full | StoreError::Overloaded) => {
                self.ledger.refused(id, operation);
                return Ok(());
            }
            begun => begun?,
        };
        let bytes = Bytes::from(content(id, operation.number, len));
        for start in (0..len).step_by(UNIT) {
            let bytes = bytes.slice(start..len.min(start + UNIT));
            let sum = UnitSum {
                len: u32::try_from(bytes.len()).unwrap(),
                crc64: crc64nvme(&bytes),
                data: Vec::new(),
            };
            writer.append(ShardUnit { bytes, sum }).await?;
        }
        writer.commit().await?;
        self.acked(id, operation);
        Ok(())
    }

    /// One to three of the writer's ids at once.
    async fn delete(&self, id: usize, random: &Seeded) -> Result<(), StoreError> {
        let first = id - id % IDS_PER_WRITER;
        let count = 1 + random.index(3);
        let ids: Vec<_> = (0..count).map(|next| first + (id + next) % IDS_PER_WRITER).collect();
        let operations: Vec<_> = ids.iter().map(|id| (*id, self.ledger.begin(*id, Kind::Delete))).collect();
        self.store.delete(ids.into_iter().map(shard).collect()).await?;
        for (id, operation) in operations {
            self.acked(id, operation);
        }
        Ok(())
    }

    fn acked(&self, id: usize, operation: Operation) {
        if self.ledger.acked(id, operation) >= self.goal {
            self.reached.notify_one();
        }
    }

    /// Reads ids of anybody while an operation is under way: what is visible must be durable.
    async fn look(&self, random: &Seeded) -> Result<(), StoreError> {
        for _ in 0..READS {
            let id = random.index(IDS);
            match self.store.read(shard(id), 0..1).await {
                Ok(units) => {
                    if let Some(number) = units.first().and_then(|unit| number_in(&unit.bytes)) {
                        self.ledger.seen(id, number);
                    }
                }
                Err(StoreError::NotFound | StoreError::Overloaded) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `false` ends the task.
    fn goes_on(&self, outcome: Result<(), StoreError>) -> bool {
        let Err(error) = outcome else { return !self.cutting.load(Ordering::SeqCst) };
        if !self.cutting.load(Ordering::SeqCst) {
            self.failure.lock().unwrap().get_or_insert(format!("{error:?}"));
            self.reached.notify_one();
        }
        false
    }
}
