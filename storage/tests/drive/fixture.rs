//! Shards and drives to test with.

use ashlar_hashing::crc64nvme;
use ashlar_runtime::{Clock, Disk, Env, RealClock, Rng};
use ashlar_storage::{
    DriveIdentity, DriveOptions, DriveStore, FormatOptions, OpenError, ShardUnit, StoreError,
};
use ashlar_types::{
    BlobId, BucketId, ChunkId, ClusterId, DriveUuid, FailureDomain, GroupId, Interval, ObjectKey, PgId,
    Profile, ShardId, ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const IDENTITY: DriveIdentity = DriveIdentity { cluster: ClusterId(1), drive: DriveUuid(2) };

/// For what happens soon unless the code is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const SMALL_SEGMENTS: FormatOptions = FormatOptions { segment_bytes: 4 << 20 };

/// Ids whose order is that of their numbers, four of them with neighbouring blobs.
pub(crate) fn shard_id(number: u8) -> ShardId {
    let blob = (u128::from(number / 4) << 122) | u128::from(number);
    ShardId { chunk: ChunkId { blob: BlobId(blob), index: u32::from(number) }, slot: SlotIndex(number % 6) }
}

pub(crate) fn meta(id: ShardId) -> ShardMeta {
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

/// Units of the lengths, each with bytes of its own.
pub(crate) fn units(seed: u64, lens: &[usize]) -> Vec<ShardUnit> {
    lens.iter().zip(seed..).map(|(len, seed)| unit(seed, *len)).collect()
}

/// A unit with bytes that follow from `seed`, and with CRCs of data units for an odd one.
pub(crate) fn unit(seed: u64, len: usize) -> ShardUnit {
    let random = Seeded::new(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    let sum = UnitSum {
        len: u32::try_from(len).unwrap(),
        crc64: crc64nvme(&bytes),
        data: if seed % 2 == 1 { vec![seed, 1, 2] } else { Vec::new() },
    };
    ShardUnit { bytes: Bytes::from(bytes), sum }
}

pub(crate) async fn put(store: &DriveStore, id: ShardId, units: &[ShardUnit]) -> Result<(), StoreError> {
    let mut writer = store.put(meta(id)).await?;
    for unit in units {
        writer.append(unit.clone()).await?;
    }
    writer.commit().await
}

/// All units of a shard, or what is wrong with it.
pub(crate) async fn get(store: &DriveStore, id: ShardId) -> Result<Vec<Bytes>, StoreError> {
    let units = store.stat(id).await?.ok_or(StoreError::NotFound)?.units;
    let read = store.read(id, 0..units).await?;
    Ok(read.into_iter().map(|unit| unit.bytes).collect())
}

pub(crate) fn payload(units: &[ShardUnit]) -> Vec<Bytes> {
    units.iter().map(|unit| unit.bytes.clone()).collect()
}

pub(crate) fn env(disk: &Arc<dyn Disk>) -> Env {
    Env { disk: Arc::clone(disk), ..Env::real() }
}

pub(crate) fn real_disk() -> Arc<dyn Disk> {
    Arc::new(ashlar_runtime::RealDisk)
}

/// A number below `bound`, which is not 0.
pub(crate) fn below(random: &Seeded, bound: u64) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % bound
}

pub(crate) async fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<DriveStore, OpenError> {
    let options = DriveOptions { capacity: Some(1 << 30), readers: 2, ..DriveOptions::default() };
    DriveStore::open(&env(disk), dir, IDENTITY, options).await
}

/// Opens after a store was dropped, whose threads end soon.
pub(crate) async fn open_after_drop(disk: &Arc<dyn Disk>, dir: &Path) -> DriveStore {
    loop {
        match open(disk, dir).await {
            Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

pub(crate) async fn formatted(disk: &Arc<dyn Disk>, dir: &Path) -> DriveStore {
    DriveStore::format(disk, dir, IDENTITY, SMALL_SEGMENTS).unwrap();
    open(disk, dir).await.unwrap()
}

/// Waits for what other threads are about to do.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = RealClock::new();
    while !condition() {
        assert!(clock.monotonic() < DEADLINE, "{what} did not happen");
        tokio::task::yield_now().await;
    }
}

/// A repeatable source of bytes (splitmix64).
#[derive(Debug)]
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Rng for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}
