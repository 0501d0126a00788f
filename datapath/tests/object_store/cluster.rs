//! Drives in memory, with faults: the second implementation of `ShardIo`.

use ashlar_datapath::{ShardError, ShardIo, ShardSink, ShardSource, Unit};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::Tasks;
use ashlar_types::{DriveId, ShardId, ShardMeta, ShardStat};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// Real time after which a test that waits has failed.
pub const WATCHDOG: Duration = Duration::from_secs(20);

/// What is wrong with a drive.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Known to be down, and does not answer.
    pub down: bool,
    /// Does not answer, but nobody knows.
    pub unreachable: bool,
    /// Takes no new shards.
    pub full: bool,
    /// The append of this unit of a shard fails, and all after it.
    pub fails_at_unit: Option<usize>,
    pub fails_commit: bool,
    pub fails_delete: bool,
    /// The append of this unit of a shard waits until the fault is lifted.
    pub holds_unit: Option<usize>,
    /// The calls wait until the fault is lifted.
    pub holds_commit: bool,
    pub holds_get: bool,
    /// Bytes are handed out without verification, as a network that damages them would.
    pub unverified: bool,
    pub stale_interval: bool,
}

#[derive(Clone, Debug)]
pub struct StoredShard {
    pub meta: ShardMeta,
    pub units: Vec<Unit>,
}

#[derive(Default)]
struct Drive {
    faults: Faults,
    shards: BTreeMap<ShardId, StoredShard>,
    appended: usize,
    opens: usize,
    commits: usize,
    gets: usize,
    handed_out: usize,
}

#[derive(Clone)]
pub struct Drives(Arc<Shared>);

struct Shared {
    drives: Mutex<BTreeMap<DriveId, Drive>>,
    /// Counts every change, so that waiting needs no sleeping.
    changed: watch::Sender<u64>,
}

impl Drives {
    pub fn new(drives: impl IntoIterator<Item = DriveId>) -> Self {
        let drives = drives.into_iter().map(|id| (id, Drive::default())).collect();
        Self(Arc::new(Shared { drives: Mutex::new(drives), changed: watch::Sender::new(0) }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DriveId, Drive>> {
        self.0.drives.lock().unwrap()
    }

    fn change<T>(&self, drive: DriveId, change: impl FnOnce(&mut Drive) -> T) -> T {
        let result = change(self.lock().get_mut(&drive).unwrap());
        self.0.changed.send_modify(|count| *count += 1);
        result
    }

    pub fn fault(&self, drive: DriveId, set: impl FnOnce(&mut Faults)) {
        self.change(drive, |drive| set(&mut drive.faults));
    }

    /// Waits until the drives are as wanted.
    pub async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        let waiting = self.until_forever(wanted);
        tokio::time::timeout(WATCHDOG, waiting).await.expect("the drives become as the test wants them");
    }

    async fn until_forever(&self, wanted: impl Fn(&Self) -> bool) {
        let mut changed = self.0.changed.subscribe();
        while !wanted(self) {
            changed.changed().await.unwrap();
        }
    }

    async fn until_faults(&self, drive: DriveId, wanted: impl Fn(&Faults) -> bool) {
        self.until_forever(|drives| wanted(&drives.faults(drive))).await;
    }

    pub fn faults(&self, drive: DriveId) -> Faults {
        self.lock()[&drive].faults.clone()
    }

    /// All shards there are.
    pub fn shards(&self) -> Vec<(DriveId, ShardId)> {
        let drives = self.lock();
        drives.iter().flat_map(|(id, drive)| drive.shards.keys().map(|shard| (*id, *shard))).collect()
    }

    pub fn shard(&self, drive: DriveId, shard: ShardId) -> Option<StoredShard> {
        self.lock()[&drive].shards.get(&shard).cloned()
    }

    pub fn remove(&self, drive: DriveId, shard: ShardId) {
        self.change(drive, |drive| drive.shards.remove(&shard)).unwrap();
    }

    /// Damages bytes without their checksum.
    pub fn flip(&self, drive: DriveId, shard: ShardId, unit: usize, at: usize) {
        self.damage(drive, shard, unit, |unit| {
            let mut bytes = unit.bytes.to_vec();
            bytes[at] ^= 0x20;
            unit.bytes = bytes.into();
        });
    }

    /// Other bytes under a checksum that is right for them.
    pub fn replace(&self, drive: DriveId, shard: ShardId, unit: usize) {
        self.damage(drive, shard, unit, |unit| {
            let bytes: Vec<u8> = unit.bytes.iter().map(|byte| byte ^ 0x55).collect();
            unit.sum.crc64 = crc64nvme(&bytes);
            unit.bytes = bytes.into();
        });
    }

    fn damage(&self, drive: DriveId, shard: ShardId, unit: usize, damage: impl FnOnce(&mut Unit)) {
        self.change(drive, |drive| damage(&mut drive.shards.get_mut(&shard).unwrap().units[unit]));
    }

    /// Units taken from writers so far.
    pub fn appended(&self, drive: DriveId) -> usize {
        self.lock()[&drive].appended
    }

    pub fn opens(&self) -> usize {
        self.lock().values().map(|drive| drive.opens).sum()
    }

    pub fn commits(&self) -> usize {
        self.lock().values().map(|drive| drive.commits).sum()
    }

    pub fn gets(&self) -> usize {
        self.lock().values().map(|drive| drive.gets).sum()
    }

    /// Units given to readers so far.
    pub fn handed_out(&self, drive: DriveId) -> usize {
        self.lock()[&drive].handed_out
    }

    /// Puts a shard somewhere, as repair would.
    pub fn place(&self, drive: DriveId, shard: ShardId, stored: StoredShard) {
        self.change(drive, |drive| drive.shards.insert(shard, stored));
    }

    pub fn gets_of(&self, drive: DriveId) -> usize {
        self.lock()[&drive].gets
    }
}

impl Faults {
    fn check(&self) -> Result<(), ShardError> {
        if self.down || self.unreachable { Err(ShardError::Unreachable) } else { Ok(()) }
    }
}

#[async_trait]
impl ShardIo for Drives {
    async fn put(&self, drive: DriveId, meta: ShardMeta) -> Result<Box<dyn ShardSink>, ShardError> {
        self.change(drive, |drive| drive.opens += 1);
        let faults = self.faults(drive);
        faults.check()?;
        if faults.full {
            return Err(ShardError::Overloaded);
        }
        if faults.stale_interval {
            return Err(ShardError::StaleInterval { current: meta.interval });
        }
        let shard = StoredShard { meta, units: Vec::new() };
        Ok(Box::new(Sink { drives: self.clone(), drive, shard }))
    }

    async fn get(
        &self,
        drive: DriveId,
        shard: ShardId,
        units: Range<u32>,
    ) -> Result<Box<dyn ShardSource>, ShardError> {
        self.change(drive, |drive| drive.gets += 1);
        self.until_faults(drive, |faults| !faults.holds_get).await;
        self.faults(drive).check()?;
        let stored = self.shard(drive, shard).ok_or(ShardError::NotFound)?;
        let units = stored.units.into_iter().zip(0..).filter(|(_, index)| units.contains(index)).collect();
        Ok(Box::new(Source { drives: self.clone(), drive, units }))
    }

    async fn delete(&self, drive: DriveId, shards: Vec<ShardId>) -> Result<(), ShardError> {
        let faults = self.faults(drive);
        faults.check()?;
        if faults.fails_delete {
            return Err(ShardError::Failed);
        }
        self.change(drive, |drive| drive.shards.retain(|id, _| !shards.contains(id)));
        Ok(())
    }

    async fn list(
        &self,
        _drive: DriveId,
        _after: Option<ShardId>,
        _limit: u32,
    ) -> Result<Vec<ShardStat>, ShardError> {
        unreachable!("neither reads nor writes list drives")
    }

    async fn stat(&self, drive: DriveId, shard: ShardId) -> Result<Option<ShardStat>, ShardError> {
        self.faults(drive).check()?;
        Ok(self.shard(drive, shard).map(|stored| ShardStat {
            len: stored.units.iter().map(|unit| u64::from(unit.sum.len)).sum(),
            units: u32::try_from(stored.units.len()).unwrap(),
            meta: stored.meta,
        }))
    }

    fn is_usable(&self, drive: DriveId) -> bool {
        !self.faults(drive).down
    }
}

struct Sink {
    drives: Drives,
    drive: DriveId,
    shard: StoredShard,
}

#[async_trait]
impl ShardSink for Sink {
    async fn append(&mut self, unit: Unit) -> Result<(), ShardError> {
        let at = Some(self.shard.units.len());
        self.drives.until_faults(self.drive, |faults| faults.holds_unit != at).await;
        let faults = self.drives.faults(self.drive);
        faults.check()?;
        if faults.fails_at_unit.is_some_and(|at| self.shard.units.len() >= at) {
            return Err(ShardError::Failed);
        }
        assert_eq!(unit.sum.len as usize, unit.bytes.len());
        // A copy: the writer's buffer is free as soon as a drive has taken the bytes.
        self.shard.units.push(Unit { bytes: Bytes::copy_from_slice(&unit.bytes), sum: unit.sum });
        self.drives.change(self.drive, |drive| drive.appended += 1);
        Ok(())
    }

    /// A drive that was asked goes on, whether or not anybody waits.
    async fn commit(self: Box<Self>) -> Result<(), ShardError> {
        let (done, result) = oneshot::channel();
        let commit = async move {
            let _ = done.send(self.store().await);
        };
        Tasks::real().spawn("commit", commit).detach();
        result.await.unwrap()
    }
}

impl Sink {
    async fn store(self: Box<Self>) -> Result<(), ShardError> {
        self.drives.until_faults(self.drive, |faults| !faults.holds_commit).await;
        let faults = self.drives.faults(self.drive);
        faults.check()?;
        if faults.fails_commit {
            return Err(ShardError::Failed);
        }
        let Self { drives, drive, shard } = *self;
        drives.change(drive, |drive| {
            drive.commits += 1;
            drive.shards.insert(shard.meta.id, shard)
        });
        Ok(())
    }
}

struct Source {
    drives: Drives,
    drive: DriveId,
    units: VecDeque<(Unit, u32)>,
}

#[async_trait]
impl ShardSource for Source {
    async fn next(&mut self) -> Result<Option<Unit>, ShardError> {
        self.drives.until_faults(self.drive, |faults| !faults.holds_get).await;
        let faults = self.drives.faults(self.drive);
        faults.check()?;
        let Some((unit, index)) = self.units.pop_front() else { return Ok(None) };
        if !faults.unverified && crc64nvme(&unit.bytes) != unit.sum.crc64 {
            return Err(ShardError::Corrupt { unit: index });
        }
        self.drives.change(self.drive, |drive| drive.handed_out += 1);
        Ok(Some(unit))
    }
}
