//! Writing one shard.
//!
//! Lifecycle: Open -append-> Open -commit-> durable; a dropped, cancelled or failed writer leaves nothing behind.
//! Units are gathered, so that a small shard costs one job. Nothing is visible before its commit.

use super::{
    Inner,
    drive::{Abandoned, Drive, flush_directory},
};
use crate::{
    error::{FileOperation, StoreError},
    index::Entry,
    shard_file::{Description, HEADER_LEN, first_byte},
};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::{DiskFile, OpenMode, Reservation};
use ashlar_types::{
    ShardId, ShardMeta, UnitSum,
    limits::{KIB, MIB},
};
use bytes::Bytes;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of one unit at most; a stripe unit has 64 KiB.
pub const UNIT_MAX_LEN: usize = 4 << 20;
/// Units of one shard at most; a chunk of the narrowest profile has 1024.
pub const UNITS_MAX: usize = 65_536;

/// Units are handed to the write threads in batches of about this size.
const GATHER_LEN: u64 = 256 * KIB;
const _: () = assert!((UNIT_MAX_LEN as u64) + GATHER_LEN < 16 * MIB, "a batch fits the queue");

/// A unit on its way to the drive.
#[derive(Clone, Debug)]
pub struct ShardUnit {
    pub bytes: Bytes,
    pub sum: UnitSum,
}

/// A shard being written. Dropping it without commit removes what was written, in the background.
#[derive(Debug)]
#[must_use = "a shard exists only once it is committed"]
pub struct ShardWriter {
    store: Arc<Inner>,
    /// Away while a job has it; a call that is cancelled meanwhile leaves the error.
    draft: Result<Draft, StoreError>,
    begun: Duration,
    _permit: OwnedSemaphorePermit,
}

/// The state of a shard being written, which travels to the write threads and back.
#[derive(Debug)]
struct Draft {
    drive: Arc<Drive>,
    description: Description,
    gathered: Vec<Bytes>,
    gathered_len: u64,
    /// Payload bytes in the file.
    written: u64,
    file: Option<TemporaryFile>,
}

/// A file in `tmp`, removed when dropped.
#[derive(Debug)]
struct TemporaryFile {
    drive: Arc<Drive>,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Space taken for it.
    bytes: u64,
    renamed: bool,
}

impl ShardWriter {
    pub(super) fn new(store: Arc<Inner>, meta: ShardMeta, permit: OwnedSemaphorePermit) -> Self {
        let draft = Draft {
            drive: Arc::clone(&store.drive),
            description: Description { meta, units: Vec::new() },
            gathered: Vec::new(),
            gathered_len: 0,
            written: 0,
            file: None,
        };
        let begun = store.clock.monotonic();
        Self { store, draft: Ok(draft), begun, _permit: permit }
    }

    /// Adds a unit after checking it against its checksum. Waits while the drive's queue is full. After an error,
    /// or when the future was dropped before its end, the shard can only be given up.
    pub async fn append(&mut self, unit: ShardUnit) -> Result<(), StoreError> {
        let draft = self.draft.as_mut().map_err(|error| error.clone())?;
        if let Err(error) = draft.gather(unit) {
            self.draft = Err(error.clone());
            return Err(error);
        }
        if draft.gathered_len < GATHER_LEN {
            return Ok(());
        }
        let draft = std::mem::replace(&mut self.draft, Err(StoreError::Closed))?;
        let reservation = self.reserve(draft.gathered_len).await?;
        let job = move |drive: &Drive| {
            let _reservation = reservation;
            let mut draft = draft;
            draft.flush_gathered(drive)?;
            Ok(draft)
        };
        self.draft = self.store.write_job(job).await.unwrap_or_else(Err);
        self.draft.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Makes the shard durable and visible, in place of a former one of the same id. When the future is dropped,
    /// or on `Failed`, it may or may not exist later, but only whole.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let draft = std::mem::replace(&mut self.draft, Err(StoreError::Closed))?;
        let reservation = self.reserve(draft.gathered_len).await?;
        let job = move |drive: &Drive| {
            let _reservation = reservation;
            draft.finish(drive)
        };
        self.store.write_job(job).await??;
        let took = self.store.clock.monotonic().saturating_sub(self.begun);
        self.store.drive.metrics.shard_write_seconds.record(took.as_secs_f64());
        Ok(())
    }

    async fn reserve(&self, bytes: u64) -> Result<Reservation, StoreError> {
        self.store.queue.reserve(bytes).await.map_err(|_| StoreError::TooLarge)
    }
}

impl Draft {
    fn shard(&self) -> ShardId {
        self.description.meta.id
    }

    fn gather(&mut self, unit: ShardUnit) -> Result<(), StoreError> {
        let ShardUnit { bytes, sum } = unit;
        if bytes.len() > UNIT_MAX_LEN || self.description.units.len() >= UNITS_MAX {
            return Err(StoreError::TooLarge);
        }
        if u32::try_from(bytes.len()) != Ok(sum.len) || crc64nvme(&bytes) != sum.crc64 {
            return Err(StoreError::CrcMismatch);
        }
        self.gathered_len += bytes.len() as u64;
        self.gathered.push(bytes);
        self.description.units.push(sum);
        Ok(())
    }

    /// Writes what was gathered. On an error the draft is dropped and its file with it.
    fn flush_gathered(&mut self, drive: &Drive) -> Result<(), StoreError> {
        drive.check()?;
        let shard = self.shard();
        let mut offset = HEADER_LEN as u64 + self.written;
        let bytes = self.gathered_len;
        let gathered = std::mem::take(&mut self.gathered);
        let file = self.file()?;
        file.take_space(bytes)?;
        for unit in gathered {
            file.write(&unit, offset, shard)?;
            offset += unit.len() as u64;
        }
        self.written += bytes;
        self.gathered_len = 0;
        Ok(())
    }

    /// The temporary file, made when first needed.
    fn file(&mut self) -> Result<&mut TemporaryFile, StoreError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => TemporaryFile::create(&self.drive, self.shard())?,
        };
        Ok(self.file.insert(file))
    }

    /// Data first, then the name: see the order of writes in `docs/formats/drive.md`.
    fn finish(mut self, drive: &Drive) -> Result<(), StoreError> {
        self.flush_gathered(drive)?;
        let shard = self.shard();
        let (header, description) = self.description.encode().ok_or(StoreError::TooLarge)?;
        let file_len = header.file_len().ok_or(StoreError::TooLarge)?;
        let file = self.file()?;
        file.take_space(HEADER_LEN as u64 + description.len() as u64)?;
        file.write(&description, HEADER_LEN as u64 + header.payload_len, shard)?;
        file.write(&header.encode(), 0, shard)?;
        file.file.sync_data().map_err(|error| drive.write_error(FileOperation::Flush, shard, error))?;

        let byte = first_byte(shard);
        let names = drive.lock_directory(byte);
        // The flush above proves nothing if another one failed on this drive meanwhile.
        drive.check()?;
        drive
            .disk()
            .rename(&file.path, &drive.path(shard))
            .map_err(|error| drive.write_error(FileOperation::Rename, shard, error))?;
        file.renamed = true;
        flush_directory(drive, &drive.layout.fan_out(byte), shard)?;
        let entry = Entry { file_len, payload_len: Some(header.payload_len) };
        drive.change_index(|index| index.insert(shard, entry));
        drop(names);
        drop(self);
        drive.measure();
        drive.check()
    }
}

impl TemporaryFile {
    fn create(drive: &Arc<Drive>, shard: ShardId) -> Result<Self, StoreError> {
        let path = drive.next_temporary();
        let file = drive
            .disk()
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| drive.write_error(FileOperation::Create, shard, error))?;
        Ok(Self { drive: Arc::clone(drive), file, path, bytes: 0, renamed: false })
    }

    fn take_space(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.drive.take_space(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64, shard: ShardId) -> Result<(), StoreError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| self.drive.write_error(FileOperation::Write, shard, error))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if self.renamed {
            self.drive.give_space_back(self.bytes);
        } else {
            self.drive.abandon(Abandoned { path: std::mem::take(&mut self.path), bytes: self.bytes });
        }
    }
}
