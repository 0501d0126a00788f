//! Reading shards: the record, its body, the units asked for, each verified.
//!
//! A segment may be used again while it is read: what does not verify is looked up once more before it is called
//! damaged, and read from the device itself before that.

use crate::{
    drive::Drive,
    error::{DriveFailure, FileOperation, Severity, StoreError, severity},
    format::{BLOCK, Body, Entry, Epoch, RecordHeader, RecordKind},
    planted::{Plant, planted},
    segment_file::{Access, SegmentFile},
    store::UnitRead,
    sync::Arc,
    width,
};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::AlignedBuf;
use ashlar_types::{ShardId, ShardStat, UnitSum};
use bytes::Bytes;
use std::{io, ops::Range};

/// Records up to this length are read whole.
const WHOLE_RECORD_MAX: u64 = 32 * 1024;
/// Payload of at least this length is read past the page cache.
const DIRECT_PAYLOAD_MIN: u64 = 1 << 20;
/// How often a shard that moves is looked up again.
const LOOKUPS_MAX: usize = 8;

/// Why a read of one place did not give what was asked for.
#[derive(Debug)]
pub(crate) enum ReadFault {
    /// Not in memory: the device has to be asked.
    Cold,
    /// The record or its body does not verify.
    BadRecord,
    BadUnit(u32),
    NoSuchUnit(u32),
    Io(FileOperation, io::Error),
}

/// A record that verified, as far as it was read.
struct ReadRecord {
    body: Body,
    /// What was read of a small shard's payload.
    payload: Option<Bytes>,
}

impl Drive {
    /// Reads consecutive units. `Ok(None)` if the access is warm and the device has to be asked.
    pub(crate) fn read_units(
        &self,
        shard: ShardId,
        units: Range<u32>,
        access: Access,
    ) -> Result<Option<Vec<UnitRead>>, StoreError> {
        let first = units.start;
        let read = self.settle(shard, first, access, |entry, file, epoch, access| {
            self.units_at(shard, entry, file, epoch, units.clone(), access)
        })?;
        if let Some(units) = &read {
            let bytes: usize = units.iter().map(|unit| unit.bytes.len()).sum();
            self.metrics.shard_read_bytes.increment(width::file(bytes));
        }
        Ok(read)
    }

    /// What the shard says of itself.
    pub(crate) fn read_stat(&self, shard: ShardId) -> Result<ShardStat, StoreError> {
        let stat = self.settle(shard, 0, Access::Any, |entry, file, epoch, access| {
            let record = record_at(shard, entry, file, epoch, false, access)?;
            let units = entry.units;
            Ok(ShardStat { meta: record.body.meta, len: entry.payload_len, units })
        })?;
        stat.ok_or(StoreError::NotFound)
    }

    /// The body of a shard's record and all its payload, verified from the device, for compaction and scrubbing.
    /// Fails with the fault of this very entry.
    pub(crate) fn read_whole(&self, shard: ShardId, entry: &Entry) -> Result<(Body, Vec<Bytes>), ReadFault> {
        let (file, epoch) =
            self.read_tables(|tables| tables.file(entry.segment)).ok_or(ReadFault::BadRecord)?;
        let record = record_at(shard, entry, &file, epoch, true, Access::Device)?;
        let read = self.units_of(&record, entry, 0..entry.units, Access::Device)?;
        Ok((record.body, read.into_iter().map(|unit| unit.bytes).collect()))
    }

    /// The body of a shard's record alone.
    pub(crate) fn read_body(&self, shard: ShardId, entry: &Entry) -> Result<Body, ReadFault> {
        let (file, epoch) =
            self.read_tables(|tables| tables.file(entry.segment)).ok_or(ReadFault::BadRecord)?;
        record_at(shard, entry, &file, epoch, false, Access::Device).map(|record| record.body)
    }

    /// Looks the shard up and reads; again if it moved meanwhile, and from the device if it does not verify.
    fn settle<T>(
        &self,
        shard: ShardId,
        first: u32,
        access: Access,
        read: impl Fn(&Entry, &Arc<SegmentFile>, Epoch, Access) -> Result<T, ReadFault>,
    ) -> Result<Option<T>, StoreError> {
        let mut access = access;
        let mut former: Option<u64> = None;
        for _ in 0..LOOKUPS_MAX {
            let found = self.read_tables(|tables| {
                let entry = tables.get(shard)?.clone();
                let file = tables.file(entry.segment);
                Some((entry, file))
            });
            let (entry, file) = found.ok_or(StoreError::NotFound)?;
            let again = former.replace(entry.record) == Some(entry.record);
            let outcome = match &file {
                Some((file, epoch)) => read(&entry, file, *epoch, access),
                None => Err(ReadFault::BadRecord),
            };
            match outcome {
                Ok(read) => return Ok(Some(read)),
                Err(ReadFault::Cold) => return Ok(None),
                Err(ReadFault::NoSuchUnit(units)) => return Err(StoreError::NoSuchUnit { units }),
                // The same record did not verify as the device has it: it is damaged.
                Err(fault) if again && access == Access::Device => {
                    return Err(self.read_error(shard, first, fault));
                }
                Err(ReadFault::Io(_, error)) if severity(&error) == Severity::NoResources => {
                    return Err(StoreError::Overloaded);
                }
                Err(ReadFault::BadRecord | ReadFault::BadUnit(_) | ReadFault::Io(..)) => {
                    if access == Access::Warm {
                        return Ok(None);
                    }
                    access = Access::Device;
                }
            }
        }
        Err(StoreError::Overloaded)
    }

    /// What a failed read is to the caller; damage is counted. The drive goes on serving.
    fn read_error(&self, shard: ShardId, first: u32, fault: ReadFault) -> StoreError {
        let drive = self.identity.drive;
        let unit = match fault {
            ReadFault::BadUnit(unit) => unit,
            ReadFault::NoSuchUnit(units) => return StoreError::NoSuchUnit { units },
            ReadFault::Io(operation, error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                tracing::warn!(%drive, %shard, %operation, %error, "a shard cannot be read");
                return DriveFailure { operation, shard: Some(shard), source: Arc::new(error) }.into();
            }
            ReadFault::Cold | ReadFault::BadRecord | ReadFault::Io(..) => first,
        };
        self.metrics.corrupt_units.increment(1);
        tracing::warn!(%drive, %shard, unit, "a unit does not verify");
        StoreError::Corrupt { unit }
    }

    fn units_at(
        &self,
        shard: ShardId,
        entry: &Entry,
        file: &SegmentFile,
        epoch: Epoch,
        units: Range<u32>,
        access: Access,
    ) -> Result<Vec<UnitRead>, ReadFault> {
        if units.end > entry.units {
            return Err(ReadFault::NoSuchUnit(entry.units));
        }
        let record = record_at(shard, entry, file, epoch, true, access)?;
        self.units_of(&record, entry, units, access)
    }

    fn units_of(
        &self,
        record: &ReadRecord,
        entry: &Entry,
        units: Range<u32>,
        access: Access,
    ) -> Result<Vec<UnitRead>, ReadFault> {
        let table = &record.body.units;
        if units.is_empty() {
            return Ok(Vec::new());
        }
        let (start, end) = (width::memory(units.start.into()), width::memory(units.end.into()));
        let (before, wanted) = match (table.get(..start), table.get(start..end)) {
            (Some(before), Some(wanted)) => (before, wanted),
            _ => return Err(ReadFault::NoSuchUnit(entry.units)),
        };
        let len_of = |sums: &[UnitSum]| sums.iter().map(|sum| u64::from(sum.len)).sum::<u64>();
        let (offset, len) = (len_of(before), len_of(wanted));
        let payload = match &record.payload {
            Some(payload) => {
                let range = width::memory(offset)..width::memory(offset + len);
                if payload.len() < range.end {
                    return Err(ReadFault::BadUnit(units.start));
                }
                payload.slice(range)
            }
            None => self.payload(entry, offset, len, access).map_err(|fault| match fault {
                ReadFault::BadRecord => ReadFault::BadUnit(units.start),
                ReadFault::Cold | ReadFault::BadUnit(_) | ReadFault::NoSuchUnit(_) | ReadFault::Io(..) => {
                    fault
                }
            })?,
        };
        let mut at = 0;
        let mut read = Vec::with_capacity(wanted.len());
        for (sum, unit) in wanted.iter().zip(units) {
            let bytes = payload.slice(at..at + width::memory(sum.len.into()));
            at += bytes.len();
            let skipped = planted(Plant::ChecksumOverWrongRange) && !read.is_empty();
            if !skipped && !verifies(&bytes, sum) {
                return Err(ReadFault::BadUnit(unit));
            }
            read.push(UnitRead { sum: sum.clone(), bytes });
        }
        Ok(read)
    }

    /// Bytes `offset..offset + len` of a payload that was not read with its record.
    fn payload(&self, entry: &Entry, offset: u64, len: u64, access: Access) -> Result<Bytes, ReadFault> {
        if entry.extents.is_empty() {
            let (file, _) =
                self.read_tables(|tables| tables.file(entry.segment)).ok_or(ReadFault::BadRecord)?;
            let mut bytes = vec![0; width::memory(len)];
            let start = entry.offset + width::file(RecordHeader::LEN) + u64::from(entry.body_len) + offset;
            fill(&file, &mut bytes, start, access)?;
            return Ok(bytes.into());
        }
        // Long reads go past the page cache, and never keep an async worker.
        if access == Access::Warm && len >= DIRECT_PAYLOAD_MIN {
            return Err(ReadFault::Cold);
        }
        // Blocks around what is wanted, so that long reads go straight into the buffer.
        let blocks = offset / BLOCK * BLOCK..(offset + len).next_multiple_of(BLOCK);
        let direct = access == Access::Device || (access == Access::Any && len >= DIRECT_PAYLOAD_MIN);
        let mut buffer = AlignedBuf::zeroed(width::memory(blocks.end - blocks.start));
        let mut extent_start = 0;
        for extent in &entry.extents {
            let extent_end = extent_start + extent.len.next_multiple_of(BLOCK);
            let (from, to) = (blocks.start.max(extent_start), blocks.end.min(extent_end));
            if from < to {
                let (file, epoch) =
                    self.read_tables(|tables| tables.file(extent.segment)).ok_or(ReadFault::BadRecord)?;
                if epoch != extent.epoch {
                    return Err(ReadFault::BadRecord);
                }
                let out = &mut buffer[width::memory(from - blocks.start)..width::memory(to - blocks.start)];
                let at = extent.offset + (from - extent_start);
                if direct {
                    file.read_blocks(out, at).map_err(|error| ReadFault::Io(FileOperation::Read, error))?;
                } else {
                    fill(&file, out, at, access)?;
                }
            }
            extent_start = extent_end;
        }
        if extent_start < blocks.end {
            return Err(ReadFault::BadRecord);
        }
        let skip = width::memory(offset - blocks.start);
        Ok(buffer.freeze().slice(skip..skip + width::memory(len)))
    }
}

fn verifies(bytes: &[u8], sum: &UnitSum) -> bool {
    planted(Plant::NoChecksumOnRead) || crc64nvme(bytes) == sum.crc64
}

fn fill(file: &SegmentFile, out: &mut [u8], offset: u64, access: Access) -> Result<(), ReadFault> {
    match file.read(out, offset, access) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ReadFault::Cold),
        Err(error) => Err(ReadFault::Io(FileOperation::Read, error)),
    }
}

/// Reads and verifies a shard's record; a short one with its payload if that is wanted.
fn record_at(
    shard: ShardId,
    entry: &Entry,
    file: &SegmentFile,
    epoch: Epoch,
    with_payload: bool,
    access: Access,
) -> Result<ReadRecord, ReadFault> {
    let described = width::file(RecordHeader::LEN) + u64::from(entry.body_len);
    let whole = with_payload && u64::from(entry.stored_len) <= WHOLE_RECORD_MAX;
    let len = if whole { u64::from(entry.stored_len).max(described) } else { described };
    let mut bytes = vec![0; width::memory(len)];
    fill(file, &mut bytes, entry.offset, access)?;
    let header = RecordHeader::decode(&bytes).ok_or(ReadFault::BadRecord)?;
    let right = header.shard == shard
        && header.epoch == epoch
        && header.body_len == entry.body_len
        && header.payload_len == entry.payload_len
        && header.units == entry.units
        && header.kind != RecordKind::Delete;
    if !right {
        return Err(ReadFault::BadRecord);
    }
    let described = width::memory(described);
    let body = bytes.get(RecordHeader::LEN..described).and_then(|body| Body::decode(body, &header));
    let body = body.ok_or(ReadFault::BadRecord)?;
    let payload = (whole && entry.extents.is_empty()).then(|| Bytes::from(bytes).slice(described..));
    Ok(ReadRecord { body, payload })
}
