//! The segment files of a drive when it is opened: which there are, and what each is used for.

use super::{RecoveryReport, log::Replayed};
use crate::{
    error::{FileOperation, OpenError, Severity, severity},
    format::{
        BLOCK, BatchHeader, Epoch, SegmentHeader, SegmentId, SegmentKind, SegmentRow, SegmentState,
        Superblock,
    },
    layout::{Layout, at, names},
    segment_file::{Opener, SegmentFile},
    sync::Arc,
    tables::{Segment, Tables, Use, extent_weight},
    width,
};
use ashlar_runtime::OpenMode;
use ashlar_types::ShardId;
use std::{collections::BTreeMap, io};

/// Bytes read at once when a segment is searched.
const SEARCH_LEN: u64 = 1 << 20;

/// A segment file as it was found.
pub(super) struct Found {
    pub(super) file: Arc<SegmentFile>,
    pub(super) len: u64,
    pub(super) allocated: u64,
    /// Whether the header verifies.
    pub(super) known: bool,
    pub(super) epoch: Epoch,
    /// 0 if it was not used yet, or is not a log segment.
    pub(super) first_record: u64,
    pub(super) previous: u64,
}

impl Found {
    pub(super) fn is_log(&self) -> bool {
        self.file.kind == SegmentKind::Log
    }

    /// Whether it has been used again since a use that had this epoch and records below `next_record`.
    pub(super) fn is_used_again(&self, epoch: Epoch, next_record: u64) -> bool {
        self.epoch != epoch && (self.known || self.first_record >= next_record)
    }
}

pub(super) fn find(
    opener: &Arc<Opener>,
    layout: &Layout,
    superblock: &Superblock,
) -> Result<Vec<Found>, OpenError> {
    let mut found = Vec::new();
    for kind in [SegmentKind::Log, SegmentKind::Extents] {
        let dir = layout.segments(kind);
        for name in names(opener.disk().as_ref(), &dir)?.unwrap_or_default() {
            let Some(id) = SegmentId::parse_file_name(&name) else {
                tracing::warn!(path = %dir.join(&name).display(), "not a segment; left alone");
                continue;
            };
            let file = Arc::new(SegmentFile::new(opener, id, kind, layout.segment(kind, id)));
            found.push(look(opener, file, superblock)?);
        }
    }
    Ok(found)
}

fn look(opener: &Opener, file: Arc<SegmentFile>, superblock: &Superblock) -> Result<Found, OpenError> {
    let mut found =
        Found { file, len: 0, allocated: 0, known: false, epoch: Epoch(0), first_record: 0, previous: 0 };
    match read_front(opener, &mut found) {
        Ok((header, batch)) => understand(&mut found, &header, batch, superblock),
        Err(error) if severity(&error) == Severity::NoResources => {
            return Err(at(FileOperation::Read, &found.file.path)(error));
        }
        // Not a reason to refuse the other segments.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => {
            tracing::warn!(path = %found.file.path.display(), %error, "a segment cannot be read");
        }
    }
    Ok(found)
}

/// The header's block and the first batch. If the header is not what it should be, all of the segment is searched for
/// the first batch of its latest use, so that what is behind the damage is not overlooked.
fn read_front(opener: &Opener, found: &mut Found) -> io::Result<(Vec<u8>, Option<BatchHeader>)> {
    // Handles of segments are kept once opened; this one is not, as most segments are not used soon.
    let file = opener.disk().open(&found.file.path, OpenMode::Read)?;
    found.len = file.len()?;
    found.allocated = file.allocated_bytes()?;
    let block = width::memory(BLOCK);
    let mut front = vec![0; 2 * block];
    file.read_exact_at(&mut front, 0)?;
    let batch = front.split_off(block);
    if !found.is_log() {
        return Ok((front, None));
    }
    if SegmentHeader::decode(&front).is_ok() {
        return Ok((front, BatchHeader::decode(&batch)));
    }
    let mut first: Option<BatchHeader> = None;
    let mut highest = 0;
    let mut offset = BLOCK;
    let mut blocks = vec![0; width::memory(SEARCH_LEN)];
    while offset < found.len / BLOCK * BLOCK {
        let len = width::memory((found.len / BLOCK * BLOCK - offset).min(SEARCH_LEN));
        file.read_exact_at(&mut blocks[..len], offset)?;
        for header in blocks[..len].chunks_exact(block).filter_map(BatchHeader::decode) {
            if header.first_record > highest {
                highest = header.first_record;
                first = first.filter(|first| first.epoch == header.epoch).or(Some(header));
            }
        }
        offset += width::file(len);
    }
    Ok((front, first))
}

fn understand(found: &mut Found, header: &[u8], batch: Option<BatchHeader>, superblock: &Superblock) {
    let expected = |header: &SegmentHeader| {
        header.kind == found.file.kind
            && header.id == found.file.id
            && header.drive == superblock.identity.drive
            && header.segment_bytes == superblock.segment_bytes
    };
    let header = SegmentHeader::decode(header).ok().filter(expected);
    if let Some(header) = &header {
        found.known = true;
        found.epoch = header.epoch;
        found.first_record = header.first_record;
        found.previous = header.previous;
    }
    // The first batch says as much. It has the header's numbers, or lower ones of a former use; where it has higher
    // ones, the header is damaged or its last write was lost.
    // One of the same use is merely in the wrong place.
    let is_later = |batch: &BatchHeader| {
        batch.first_record > found.first_record && (!found.known || batch.epoch != found.epoch)
    };
    let later = batch.filter(is_later);
    if header.is_none() || later.is_some() {
        tracing::warn!(path = %found.file.path.display(), "the header of a segment is not the one it should have");
    }
    if let Some(batch) = later {
        found.known = false;
        found.epoch = batch.epoch;
        found.first_record = batch.first_record;
        found.previous = batch.previous;
    }
}

/// Enters the segments into the tables, with what each is used for.
pub(super) fn settle(
    tables: &mut Tables,
    found: Vec<Found>,
    rows: &[SegmentRow],
    replayed: &Replayed,
    keep_from: u64,
    superblock: &Superblock,
    report: &mut RecoveryReport,
) {
    let rows: BTreeMap<SegmentId, &SegmentRow> = rows.iter().map(|row| (row.id, row)).collect();
    let mut firsts: Vec<u64> =
        found.iter().filter(|found| found.first_record > 0).map(|found| found.first_record).collect();
    firsts.sort_unstable();
    let highest = found.iter().map(|found| found.file.id.0).max().unwrap_or(0);
    tables.next_segment = tables.next_segment.max(SegmentId(highest + 1));
    let mut whole = BTreeMap::new();
    for found in found {
        // What a sound header says is later than the checkpoint; so is a batch that the log went on with. A batch in
        // front of which the header is lost may be of any former use.
        let read = replayed.applied.get(&found.file.id).map(|(epoch, _)| *epoch);
        let row = rows.get(&found.file.id).copied();
        let epoch = match (found.known, read, row) {
            (true, _, _) | (false, None, None) => found.epoch,
            (false, Some(read), _) => read,
            (false, None, Some(row)) => row.epoch,
        };
        let row = row.filter(|row| row.epoch == epoch);
        let next_first = firsts.iter().find(|first| **first > found.first_record).copied();
        let segment = Segment {
            kind: found.file.kind,
            epoch,
            using: Use::Sealed,
            written: written(&found, row, epoch, replayed, superblock.segment_bytes),
            live: 0,
            pending: 0,
            end_record: next_first.unwrap_or(replayed.position.next_record),
            allocated: found.allocated,
            sealed_durably: row.is_some_and(|row| row.state == SegmentState::Sealed),
            searched_dead: 0,
            stuck: false,
            file: Arc::clone(&found.file),
        };
        whole.insert(found.file.id, (found.len == superblock.segment_bytes, found.known, found.first_record));
        tables.segments.insert(found.file.id, segment);
    }
    let impossible = drop_impossible(tables, superblock.segment_bytes);
    trust_records(tables, &mut whole, superblock.segment_bytes);
    tables.weigh_all();
    drop_lost(tables, report);
    report.lost.extend(impossible);
    choose_open(tables, &rows, replayed, &whole, superblock.segment_bytes);
    for (id, segment) in &mut tables.segments {
        let (whole, known, first_record) = whole.get(id).copied().unwrap_or((false, false, 0));
        let needed = match segment.kind {
            SegmentKind::Log => {
                (first_record > 0 && segment.end_record > keep_from) || replayed.read.contains(id)
            }
            SegmentKind::Extents => false,
        };
        if segment.using == Use::Open || segment.live > 0 || needed {
            continue;
        }
        let full = segment.allocated >= superblock.segment_bytes;
        segment.using = if whole && known && full { Use::Spare } else { Use::Junk };
        segment.written = BLOCK;
    }
    tables.recount();
}

fn written(
    found: &Found,
    row: Option<&SegmentRow>,
    epoch: Epoch,
    replayed: &Replayed,
    segment_bytes: u64,
) -> u64 {
    let known = row.map_or(BLOCK, |row| row.written);
    match found.file.kind {
        SegmentKind::Log if found.file.id == replayed.position.segment => replayed.position.offset,
        SegmentKind::Log => match (replayed.applied.get(&found.file.id), row) {
            (Some((_, end)), _) => *end,
            // Left at the position where the checkpoint found it, or long before.
            (None, Some(_)) => known,
            (None, None) => segment_bytes,
        },
        SegmentKind::Extents => {
            let read = replayed.extents.get(&(found.file.id, epoch)).map_or(BLOCK, |(end, _)| *end);
            known.max(read)
        }
    }
}

/// Records are verified and later than a header can be: if they name another epoch than the header of an extent
/// segment has, the header's last write was lost.
fn trust_records(
    tables: &mut Tables,
    whole: &mut BTreeMap<SegmentId, (bool, bool, u64)>,
    segment_bytes: u64,
) {
    let mut named: BTreeMap<SegmentId, (u64, Epoch)> = BTreeMap::new();
    for (_, entry) in tables.after(None) {
        for extent in &entry.extents {
            let latest = named.entry(extent.segment).or_insert((entry.record, extent.epoch));
            *latest = (*latest).max((entry.record, extent.epoch));
        }
    }
    for (id, (_, epoch)) in named {
        let other_use =
            |segment: &&mut Segment| segment.kind == SegmentKind::Extents && segment.epoch != epoch;
        if let Some(segment) = tables.segments.get_mut(&id).filter(other_use) {
            segment.epoch = epoch;
            segment.written = segment_bytes;
            if let Some((_, known, _)) = whole.get_mut(&id) {
                *known = false;
            }
        }
    }
}

/// Entries that cannot be, though all checksums are right: what wrote them was not this store. They are given up.
fn drop_impossible(tables: &mut Tables, segment_bytes: u64) -> Vec<ShardId> {
    let fits = |start: u64, len: u64| start.checked_add(len).is_some_and(|end| end <= segment_bytes);
    let is_kind = |id: SegmentId, kind: SegmentKind| {
        tables.segments.get(&id).is_none_or(|segment| segment.kind == kind)
    };
    let impossible = tables.after(None).filter(|(_, entry)| {
        let record_fits =
            fits(entry.offset, entry.stored_len.into()) && is_kind(entry.segment, SegmentKind::Log);
        let extents_fit = entry.extents.iter().all(|extent| {
            fits(extent.offset, extent_weight(extent)) && is_kind(extent.segment, SegmentKind::Extents)
        });
        !record_fits || !extents_fit
    });
    let impossible: Vec<ShardId> = impossible.map(|(shard, _)| *shard).collect();
    for shard in &impossible {
        tables.remove(*shard, u64::MAX);
    }
    impossible
}

/// Shards whose segments are gone or were used again are lost, and said to be.
fn drop_lost(tables: &mut Tables, report: &mut RecoveryReport) {
    let mut lost: Vec<ShardId> = Vec::new();
    for (shard, entry) in tables.after(None) {
        let record_gone = !tables.segments.contains_key(&entry.segment);
        let extent_gone = entry.extents.iter().any(|extent| {
            tables.segments.get(&extent.segment).is_none_or(|segment| segment.epoch != extent.epoch)
        });
        if (record_gone || extent_gone) && !entry.damaged {
            lost.push(*shard);
        }
    }
    for shard in lost {
        tables.mark_lost(shard);
        report.lost.push(shard);
    }
    report.lost.sort_unstable();
    report.lost.dedup();
    // What was lost in the log and written again later is not lost.
    report.lost.retain(|shard| tables.get(*shard).is_some_and(|entry| entry.damaged));
}

/// The tail of the log goes on where it ended; extents go on in the segment that was used last, if it is known to be
/// without holes.
fn choose_open(
    tables: &mut Tables,
    rows: &BTreeMap<SegmentId, &SegmentRow>,
    replayed: &Replayed,
    whole: &BTreeMap<SegmentId, (bool, bool, u64)>,
    segment_bytes: u64,
) {
    let usable = |id: &SegmentId| whole.get(id).is_some_and(|(whole, known, _)| *whole && *known);
    if let Some(tail) = tables.segments.get_mut(&replayed.position.segment)
        && usable(&replayed.position.segment)
        && !replayed.end_unknown
    {
        tail.using = Use::Open;
        tail.end_record = u64::MAX;
    }
    let candidate = |(id, segment): (&SegmentId, &Segment)| {
        let row = rows.get(id).filter(|row| row.epoch == segment.epoch);
        let sealed = row.is_some_and(|row| row.state == SegmentState::Sealed);
        let last = replayed.extents.get(&(*id, segment.epoch)).map(|(_, last)| *last);
        let open_before = row.is_some_and(|row| row.state == SegmentState::Open);
        let fits = segment.kind == SegmentKind::Extents
            && !sealed
            && segment.allocated >= segment_bytes
            && segment.written < segment_bytes
            && usable(id);
        (fits && (open_before || last.is_some())).then_some((last.unwrap_or(0), *id))
    };
    let chosen = tables.segments.iter().filter_map(candidate).max();
    if let Some((_, id)) = chosen {
        tables.open_extents = Some(id);
        if let Some(segment) = tables.segments.get_mut(&id) {
            segment.using = Use::Open;
        }
    }
}
