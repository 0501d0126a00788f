//! Reading the log from a position on: what is whole is applied, a torn tail ends it, damage in the middle is
//! reported.
//!
//! The log is one chain of batches over segments. At a place where no batch continues the chain, either the log ends
//! (nothing later follows), or it went on in another segment, or bytes are damaged (something later follows).

use super::{DamagedRegion, RecoveryReport, segments::Found, window::Window};
use crate::{
    format::{
        BLOCK, BatchFault, BatchHeader, Body, Entry, Epoch, LogPosition, ParsedBatch, RecordHeader,
        RecordKind, SegmentId, parse_batch, salvage_batch,
    },
    planted::{Plant, planted},
    tables::Tables,
    width,
};
use std::collections::{BTreeMap, BTreeSet};

/// Record numbers left out behind an end of the log that could not be read: more than a segment holds.
const UNREADABLE_GAP: u64 = 1 << 32;

/// What reading the log said about segments.
pub(super) struct Replayed {
    /// Where the log ends.
    pub(super) position: LogPosition,
    /// Log segments that were read.
    pub(super) read: BTreeSet<SegmentId>,
    /// The epoch under which batches of a log segment were applied, and where they end.
    pub(super) applied: BTreeMap<SegmentId, (Epoch, u64)>,
    /// Extent segments, under the epoch that records gave: the end of the last extent, and the last record.
    pub(super) extents: BTreeMap<(SegmentId, Epoch), (u64, u64)>,
    /// The last segment cannot be written on: the end of the log in it is not known.
    pub(super) end_unknown: bool,
}

struct Replay<'a> {
    tables: &'a mut Tables,
    report: &'a mut RecoveryReport,
    replayed: Replayed,
}

pub(super) fn replay(
    found: &[Found],
    start: LogPosition,
    tables: &mut Tables,
    report: &mut RecoveryReport,
) -> Replayed {
    let replayed = Replayed {
        position: start,
        read: BTreeSet::new(),
        applied: BTreeMap::new(),
        extents: BTreeMap::new(),
        end_unknown: false,
    };
    let mut replay = Replay { tables, report, replayed };
    loop {
        let current = replay.replayed.position.segment;
        // Used again since: the position was at the very end of the former use.
        let LogPosition { epoch, next_record, .. } = replay.replayed.position;
        let is_current = |found: &&Found| {
            found.is_log() && found.file.id == current && !found.is_used_again(epoch, next_record)
        };
        let file = found.iter().find(is_current);
        let mut window = file.map(|found| Window::new(&found.file, found.len));
        if let Some(window) = &mut window {
            replay.replayed.read.insert(current);
            replay.segment(window);
        }
        let Some(next) = next_segment(found, &replay.replayed) else {
            if let Some(window) = &mut window {
                replay.end(window);
            }
            break;
        };
        replay.enter(next, window.as_mut());
    }
    replay.tables.applied = replay.replayed.position;
    replay.replayed
}

/// The segment with the lowest records at or after the position.
fn next_segment<'a>(found: &'a [Found], replayed: &Replayed) -> Option<&'a Found> {
    let later = |found: &&Found| {
        found.is_log()
            && found.first_record >= replayed.position.next_record
            && !replayed.read.contains(&found.file.id)
    };
    found.iter().filter(later).min_by_key(|found| (found.first_record, found.file.id))
}

impl Replay<'_> {
    /// Reads batches until none continues the log in this segment.
    fn segment(&mut self, window: &mut Window<'_>) {
        loop {
            let position = self.replayed.position;
            if let Some(batch) = self.batch_at(window, position) {
                self.apply(&batch, position);
                continue;
            }
            match later_batch(window, position) {
                Some((offset, header)) if !planted(Plant::TornTailSwallowsMiddle) => {
                    self.damage(window, position, offset);
                    self.replayed.position.offset = offset;
                    self.replayed.position.next_record = header.first_record;
                    self.replayed.position.previous = header.previous;
                    if parse_batch(window.at(offset, header.len.into()), header.epoch).is_err() {
                        // Damaged as well: go on behind it, or to what is later still.
                        self.step_over(window, header);
                    }
                }
                Some(_) | None => return,
            }
        }
    }

    /// A batch whose header is right and whose content is not, which is not the last.
    fn step_over(&mut self, window: &mut Window<'_>, header: BatchHeader) {
        let position = self.replayed.position;
        if later_batch(window, position).is_none() {
            return;
        }
        let end = (position.offset + u64::from(header.len)).min(window.end());
        self.damage(window, position, end);
        self.replayed.position.offset = end;
        self.replayed.position.next_record = header.next_record();
        self.replayed.position.previous = header.crc();
    }

    fn batch_at(&self, window: &mut Window<'_>, position: LogPosition) -> Option<ParsedBatch> {
        if position.offset >= window.end() {
            return None;
        }
        let bytes = window.at(position.offset, BLOCK);
        let header = BatchHeader::decode(bytes)?;
        let bytes = window.at(position.offset, header.len.into());
        if planted(Plant::StaleRecordAccepted) {
            return parse_batch(bytes, header.epoch).ok();
        }
        let continues = header.first_record == position.next_record && header.previous == position.previous;
        if continues { parse_batch(bytes, position.epoch).ok() } else { None }
    }

    fn apply(&mut self, batch: &ParsedBatch, position: LogPosition) {
        for (record, number) in batch.records.iter().zip(batch.header.first_record..) {
            let place = (position.segment, position.offset + u64::from(record.offset));
            self.record(&record.header, record.body.as_ref(), true, number, place);
        }
        let end = position.offset + u64::from(batch.header.len);
        self.replayed.applied.insert(position.segment, (position.epoch, end));
        let position = &mut self.replayed.position;
        position.offset = end;
        position.next_record = batch.header.next_record();
        position.previous = batch.header.crc();
        self.report.replayed_bytes += u64::from(batch.header.len);
    }

    fn record(
        &mut self,
        header: &RecordHeader,
        body: Option<&Body>,
        sound: bool,
        number: u64,
        (segment, offset): (SegmentId, u64),
    ) {
        self.report.replayed_records += 1;
        if header.kind == RecordKind::Delete {
            self.tables.remove(header.shard, number);
            return;
        }
        let extents: Box<[_]> = body.map(|body| body.extents.clone().into()).unwrap_or_default();
        for extent in &extents {
            let end = extent.offset + extent.len.next_multiple_of(BLOCK);
            let known = self.replayed.extents.entry((extent.segment, extent.epoch)).or_insert((0, 0));
            *known = (known.0.max(end), known.1.max(number));
        }
        let entry = Entry {
            record: number,
            segment,
            offset,
            stored_len: u32::try_from(header.stored_len()).unwrap_or(u32::MAX),
            body_len: header.body_len,
            payload_len: header.payload_len,
            units: header.units,
            damaged: !sound,
            extents,
        };
        if !entry.is_sound() {
            return;
        }
        if !sound {
            self.report.lost.push(header.shard);
        }
        self.tables.insert(header.shard, entry);
    }

    /// Takes what verifies from bytes in the middle of the log and reports the rest.
    fn damage(&mut self, window: &mut Window<'_>, position: LogPosition, end: u64) {
        let len = end.saturating_sub(position.offset);
        if len == 0 {
            return;
        }
        self.report.damaged.push(DamagedRegion { segment: position.segment.0, offset: position.offset, len });
        let bytes = window.at(position.offset, len);
        let bytes = bytes.get(..width::memory(len)).unwrap_or(bytes);
        for (salvaged, number) in salvage_batch(bytes, position.epoch).iter().zip(position.next_record..) {
            let place = (position.segment, position.offset + u64::from(salvaged.offset));
            self.record(&salvaged.header, salvaged.body.as_ref(), salvaged.sound, number, place);
        }
    }

    /// Goes on in the next segment; what is missing between is damage.
    fn enter(&mut self, next: &Found, current: Option<&mut Window<'_>>) {
        let position = self.replayed.position;
        let seamless = next.first_record == position.next_record && next.previous == position.previous;
        if !seamless && !self.report.rebuilt {
            match current {
                Some(window) if position.offset < window.end() => {
                    let end = window.end();
                    self.damage(window, position, end);
                }
                // A whole segment is missing, or the chain is broken at its very end.
                Some(_) | None => self.report.damaged.push(DamagedRegion {
                    segment: position.segment.0,
                    offset: position.offset,
                    len: 0,
                }),
            }
        }
        self.replayed.position = LogPosition {
            segment: next.file.id,
            epoch: next.epoch,
            offset: BLOCK,
            next_record: next.first_record,
            previous: next.previous,
        };
    }

    /// Nothing later was found: the log ends here.
    fn end(&mut self, window: &mut Window<'_>) {
        let position = self.replayed.position;
        if position.offset >= window.end() {
            return;
        }
        if window.is_unreadable_after(position.offset) {
            // Acknowledged batches may be where the device gives nothing. Should it do so later, their numbers must
            // not have been given to others.
            let end = window.end();
            self.damage(window, position, end);
            self.replayed.end_unknown = true;
            self.replayed.position.next_record += UNREADABLE_GAP;
            return;
        }
        let bytes = window.at(position.offset, BLOCK);
        let torn = match parse_batch(bytes, position.epoch) {
            Ok(_) | Err(BatchFault::Cut { .. } | BatchFault::Damaged { .. }) => true,
            // Records of this use without their batch's header.
            Err(BatchFault::NoHeader | BatchFault::OtherEpoch { .. }) => {
                !salvage_batch(bytes.get(..width::memory(BLOCK)).unwrap_or(bytes), position.epoch).is_empty()
            }
        };
        self.report.torn_tail = torn;
    }
}

/// The first batch of this use behind the position that is later in the log.
fn later_batch(window: &mut Window<'_>, position: LogPosition) -> Option<(u64, BatchHeader)> {
    let mut offset = position.offset + BLOCK;
    while offset < window.end() {
        let bytes = window.at(offset, BLOCK);
        let held = width::file(bytes.len()) / BLOCK * BLOCK;
        for (block, at) in
            bytes.chunks_exact(width::memory(BLOCK)).zip((offset..).step_by(width::memory(BLOCK)))
        {
            let later = BatchHeader::decode(block).filter(|header| {
                header.epoch == position.epoch && header.first_record >= position.next_record
            });
            if let Some(header) = later {
                return Some((at, header));
            }
        }
        offset += held.max(BLOCK);
    }
    None
}
