//! The commit thread: one batch at a time, one write and one flush for all that waits.
//!
//! Owns the tail of the log. The flush in flight is the batching window: whatever arrives meanwhile is the next batch.
//! Steps: take the queue -> plan -> flush the extents named -> write -> flush -> apply to the tables -> answer
//! Invariants:
//!  - nothing is answered before both flushes returned;
//!  - a large shard's data is durable before its record is written;
//!  - the log has no holes: the next batch begins where the last flushed one ended.

use crate::{
    drive::{Drive, Purpose},
    error::{FileOperation, StoreError},
    format::{
        BLOCK, BatchHeader, Entry, Epoch, Extent, LogPosition, RecordHeader, SegmentId, SegmentKind,
        records_crc,
    },
    planted::{Plant, planted},
    queue::{Answer, Job, NewShard, Work},
    reclaim::{self, Reclaimed},
    segment_file::SegmentFile,
    sync::{Arc, atomic::Ordering},
    tables::{Tables, Use},
    width,
};
use ashlar_runtime::AlignedBuf;
use ashlar_types::ShardId;
use std::{collections::BTreeMap, io};

/// The batch buffer grows in steps of this.
const BUFFER_STEP: usize = 256 << 10;

/// Where the log goes on.
#[derive(Debug)]
pub(crate) struct Tail {
    /// `None` before the first batch of a drive.
    pub(crate) file: Option<Arc<SegmentFile>>,
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
    pub(crate) next_record: u64,
    pub(crate) previous: u64,
    /// A batch was refused by the file system at this place, and may be there all the same.
    pub(crate) refused_batch: bool,
}

impl Tail {
    fn position(&self) -> LogPosition {
        LogPosition {
            segment: self.file.as_ref().map_or(SegmentId(0), |file| file.id),
            epoch: self.epoch,
            offset: self.offset,
            next_record: self.next_record,
            previous: self.previous,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Committer {
    drive: Arc<Drive>,
    tail: Tail,
    /// Grows to the longest batch and is used again.
    buffer: AlignedBuf,
}

/// A record of the batch being made.
struct Planned<'a> {
    header: RecordHeader,
    new: Option<&'a NewShard>,
    stored_len: u64,
}

/// What happens to the index once the batch is durable.
enum Effect {
    Insert(ShardId, Entry),
    Remove(ShardId, u64),
}

struct Plan<'a> {
    records: Vec<Planned<'a>>,
    len: u64,
}

impl Committer {
    pub(crate) fn new(drive: Arc<Drive>, tail: Tail) -> Self {
        Self { drive, tail, buffer: AlignedBuf::zeroed(0) }
    }

    pub(crate) fn batch_max(&self) -> u64 {
        self.drive.batch_max()
    }

    /// Makes the jobs durable and answers them, while `waiting` others are in the queue.
    pub(crate) fn commit(&mut self, mut jobs: Vec<Job>, waiting: usize) {
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.drive.metrics.queue_jobs.set(waiting as f64);
        let began = self.drive.clock.monotonic();
        if planted(Plant::AckBeforeFlush) {
            let (works, answers): (Vec<Work>, Vec<Answer>) =
                std::mem::take(&mut jobs).into_iter().map(|job| (job.work, job.answer)).unzip();
            answers.into_iter().for_each(|answer| answer.send(Ok(())));
            let _ = self.commit_works(&works, &mut vec![None; works.len()]);
            return;
        }
        let (works, answers): (Vec<Work>, Vec<Answer>) =
            jobs.into_iter().map(|job| (job.work, job.answer)).unzip();
        let mut refused = vec![None; works.len()];
        let outcome = self.commit_works(&works, &mut refused);
        // Claims on extents end before the answers, so that whoever was answered sees the space as it is.
        drop(works);
        for (answer, refused) in answers.into_iter().zip(refused) {
            answer.send(match (&outcome, refused) {
                (Err(error), _) => Err(error.clone()),
                (Ok(()), Some(error)) => Err(error),
                (Ok(()), None) => Ok(()),
            });
        }
        let took = self.drive.clock.monotonic().saturating_sub(began);
        self.drive.metrics.batch_seconds.record(took.as_secs_f64());
    }

    fn commit_works(&mut self, works: &[Work], refused: &mut [Option<StoreError>]) -> Result<(), StoreError> {
        let drive = Arc::clone(&self.drive);
        drive.check()?;
        let mut plan = drive.read_tables(|tables| plan(tables, works, refused, self.tail.epoch));
        if plan.records.is_empty() {
            return Ok(());
        }
        self.erase_refused_batch()?;
        if self.tail.file.is_none() || self.tail.offset + plan.len > drive.segment_bytes {
            self.switch_segment(works, refused)?;
            // The epoch is another one, and some may have been refused.
            plan = drive.read_tables(|tables| self::plan(tables, works, refused, self.tail.epoch));
            if plan.records.is_empty() {
                return Ok(());
            }
        }
        let file = self.tail.file.clone().expect("a segment was taken above");
        flush_extents(&drive, &plan)?;
        let header = self.encode(&plan);
        self.write(&drive, &file, plan.len)?;
        let effects = effects(&plan, &self.tail);
        // Another thread may have seen the drive fail meanwhile; then the flush proves nothing.
        drive.check()?;
        self.tail.offset += plan.len;
        self.tail.next_record += u64::from(header.count);
        self.tail.previous = header.crc();
        let position = self.tail.position();
        drive.change_tables(|tables| apply(tables, effects, position));
        drive.log_bytes.fetch_add(plan.len, Ordering::Relaxed);
        drive.metrics.batch_bytes.record(plan.len as f64);
        drive.metrics.batch_records.record(f64::from(header.count));
        Ok(())
    }

    /// Goes on in another segment. If the reserve is all there is, new shards are refused and the rest goes on.
    fn switch_segment(
        &mut self,
        works: &[Work],
        refused: &mut [Option<StoreError>],
    ) -> Result<(), StoreError> {
        let drive = Arc::clone(&self.drive);
        let taken = match drive.take_segment(SegmentKind::Log, Purpose::NewShards) {
            Err(StoreError::Full) => {
                for (work, refused) in works.iter().zip(refused.iter_mut()) {
                    if matches!(work, Work::Put(_)) {
                        *refused = Some(StoreError::Full);
                    }
                }
                if refused.iter().all(Option::is_some) {
                    return Ok(());
                }
                drive.take_segment(SegmentKind::Log, Purpose::Reclaiming)
            }
            taken => taken,
        };
        let taken = match taken {
            // The reserve is used up by deletes themselves: what they have written may be free already.
            Err(StoreError::Full) => {
                reclaim::free_log(&drive, &mut Reclaimed::default())?;
                drive.take_segment(SegmentKind::Log, Purpose::Reclaiming)
            }
            taken => taken,
        };
        let (file, epoch) = taken?;
        let next_record = self.tail.next_record;
        // Flushed before the first batch is written: a segment whose header is of a former use, or torn, then has no
        // batch of this one, and a batch nobody was told of is never taken for the log's next one.
        let begun =
            drive.write_header(&file, epoch, next_record, self.tail.previous).and_then(|()| file.sync());
        if let Err((operation, error)) = begun {
            drive.change_segments(|tables| tables.set_use(file.id, Use::Junk));
            return Err(drive.write_error(operation, None, error));
        }
        if let Some(former) = &self.tail.file {
            drive.change_segments(|tables| tables.seal_log(former.id, self.tail.offset, next_record));
        }
        self.tail.file = Some(file);
        self.tail.epoch = epoch;
        self.tail.offset = BLOCK;
        Ok(())
    }

    /// Makes sure that a batch which was answered with an error is not found later under record numbers that others
    /// have by then.
    fn erase_refused_batch(&mut self) -> Result<(), StoreError> {
        let Some(file) = self.tail.file.clone().filter(|_| self.tail.refused_batch) else { return Ok(()) };
        let failed = |(operation, error)| self.drive.write_error(operation, None, error);
        let writer = file.writer().map_err(|error| failed((FileOperation::Open, error)))?;
        let block = AlignedBuf::zeroed(width::memory(BLOCK));
        writer
            .write_all_at(&block, self.tail.offset)
            .map_err(|error| failed((FileOperation::Write, error)))?;
        file.sync().map_err(failed)?;
        self.tail.refused_batch = false;
        Ok(())
    }

    /// Lays the batch out in the buffer.
    fn encode(&mut self, plan: &Plan<'_>) -> BatchHeader {
        let len = width::memory(plan.len);
        if self.buffer.len() < len {
            self.buffer = AlignedBuf::zeroed(len.next_multiple_of(BUFFER_STEP));
        }
        let batch = &mut self.buffer[..len];
        let headers: Vec<_> = plan.records.iter().map(|record| record.header.encode()).collect();
        let mut at = BatchHeader::LEN;
        let mut put = |bytes: &[u8], at: &mut usize| {
            batch[*at..*at + bytes.len()].copy_from_slice(bytes);
            *at += bytes.len();
        };
        for (record, header) in plan.records.iter().zip(&headers) {
            let start = at;
            put(header, &mut at);
            if let Some(new) = record.new {
                put(&new.body, &mut at);
                for part in &new.payload {
                    put(part, &mut at);
                }
            }
            let end = start + width::memory(record.stored_len);
            put(&[0; 8][..end - at], &mut at);
        }
        batch[at..].fill(0);
        let header = BatchHeader {
            epoch: self.tail.epoch,
            first_record: self.tail.next_record,
            count: u32::try_from(headers.len()).expect("a batch has fewer records than bytes"),
            len: u32::try_from(len).expect("a batch is shorter than a segment"),
            previous: self.tail.previous,
            headers_crc: records_crc(&headers),
        };
        batch[..BatchHeader::LEN].copy_from_slice(&header.encode());
        header
    }

    /// Writes the batch and flushes it.
    fn write(&mut self, drive: &Drive, file: &SegmentFile, len: u64) -> Result<(), StoreError> {
        let failed = |(operation, error)| drive.write_error(operation, None, error);
        let writer = file.writer().map_err(|error| failed((FileOperation::Open, error)))?;
        let began = drive.clock.monotonic();
        self.tail.refused_batch = true;
        writer
            .write_all_at(&self.buffer[..width::memory(len)], self.tail.offset)
            .map_err(|error| failed((FileOperation::Write, error)))?;
        self.tail.refused_batch = false;
        let written = drive.clock.monotonic();
        drive.metrics.log_write_seconds.record(written.saturating_sub(began).as_secs_f64());
        if !planted(Plant::NoFlush) {
            file.sync().map_err(failed)?;
        }
        let flushed = drive.clock.monotonic();
        drive.metrics.flush_seconds.record(flushed.saturating_sub(written).as_secs_f64());
        Ok(())
    }
}

/// Decides what each job adds to the log. Deletes of what is not there and moves of what has changed add nothing.
fn plan<'a>(tables: &Tables, works: &'a [Work], refused: &[Option<StoreError>], epoch: Epoch) -> Plan<'a> {
    // What the records of this very batch make of a shard.
    let mut present: BTreeMap<ShardId, bool> = BTreeMap::new();
    let mut plan = Plan { records: Vec::new(), len: width::file(BatchHeader::LEN) };
    let new_record = |new: &'a NewShard| {
        let header = RecordHeader { epoch, ..new.header };
        Planned { stored_len: header.stored_len(), header, new: Some(new) }
    };
    for (work, refused) in works.iter().zip(refused) {
        if refused.is_some() {
            continue;
        }
        match work {
            Work::Put(new) => {
                present.insert(new.header.shard, true);
                plan.records.push(new_record(new));
            }
            Work::Move { new, from } => {
                let shard = new.header.shard;
                let unchanged = tables.get(shard).is_some_and(|entry| entry.record == *from);
                if planted(Plant::DeleteLostInCompaction) || (unchanged && !present.contains_key(&shard)) {
                    present.insert(shard, true);
                    plan.records.push(new_record(new));
                }
            }
            Work::Delete(shards) => {
                for shard in shards {
                    let exists = present.get(shard).copied().unwrap_or_else(|| tables.get(*shard).is_some());
                    if exists {
                        present.insert(*shard, false);
                        let header = RecordHeader::delete(*shard, epoch);
                        plan.records.push(Planned { stored_len: header.stored_len(), header, new: None });
                    }
                }
            }
        }
    }
    plan.len += plan.records.iter().map(|record| record.stored_len).sum::<u64>();
    plan.len = plan.len.next_multiple_of(BLOCK);
    plan
}

/// Data first: the extents that the batch's records name.
fn flush_extents(drive: &Drive, plan: &Plan<'_>) -> Result<(), StoreError> {
    let mut files: BTreeMap<_, &Extent> = BTreeMap::new();
    for extent in plan.records.iter().filter_map(|record| record.new).flat_map(|new| &new.extents) {
        files.insert(extent.segment, extent);
    }
    for extent in files.values() {
        let Some((file, _)) = drive.read_tables(|tables| tables.file(extent.segment)) else {
            let lost = io::Error::new(io::ErrorKind::NotFound, "the segment of an extent is gone");
            return Err(drive.fail(FileOperation::Flush, None, lost));
        };
        if !planted(Plant::LargeBeforeItsData) && !planted(Plant::NoFlush) {
            file.sync().map_err(|(operation, error)| drive.write_error(operation, None, error))?;
        }
    }
    Ok(())
}

fn effects(plan: &Plan<'_>, tail: &Tail) -> Vec<Effect> {
    let segment = tail.position().segment;
    let mut offset = tail.offset + width::file(BatchHeader::LEN);
    let mut effects = Vec::with_capacity(plan.records.len());
    for (planned, record) in plan.records.iter().zip(tail.next_record..) {
        let RecordHeader { shard, payload_len, body_len, units, .. } = planned.header;
        effects.push(match planned.new {
            None => Effect::Remove(shard, record),
            Some(new) => {
                let entry = Entry {
                    record,
                    segment,
                    offset,
                    stored_len: u32::try_from(planned.stored_len)
                        .expect("a record is shorter than a segment"),
                    body_len,
                    payload_len,
                    units,
                    damaged: false,
                    extents: new.extents.clone(),
                };
                Effect::Insert(shard, entry)
            }
        });
        offset += planned.stored_len;
    }
    effects
}

fn apply(tables: &mut Tables, effects: Vec<Effect>, position: LogPosition) {
    if let Some(segment) = tables.segments.get_mut(&position.segment) {
        segment.written = position.offset;
    }
    for effect in effects {
        match effect {
            Effect::Insert(shard, entry) => tables.insert(shard, entry),
            Effect::Remove(shard, record) => tables.remove(shard, record),
        }
    }
    tables.applied = position;
}
