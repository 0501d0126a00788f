//! Giving space back: empty segments are used again, mostly dead ones are emptied, dead runs of the others are punched.
//!
//! A pass works beside the drive's users: what it moves goes through the commit queue like any shard, a little at a
//! time, and a move is void if the shard was replaced or deleted meanwhile.

use crate::{
    checkpoint,
    drive::{Drive, Purpose},
    error::{FileOperation, StoreError},
    extents,
    format::{BLOCK, Body, Entry, RecordKind, SegmentId, SegmentKind},
    queue::{NewShard, Queue, Work},
    reading::ReadFault,
    sync::{Arc, atomic::Ordering, locked, receive},
    tables::{Segment, Tables, Use, extent_weight},
    width,
    writer::new_shard,
};
use ashlar_types::{ShardId, limits::GIB};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// The shortest dead run worth a hole.
const HOLE_MIN: u64 = 64 * 1024;
/// Holes made in one pass.
const HOLES_MAX: usize = 256;
/// Bytes of spare segments kept of a kind, as far as that is not much of the drive: writing into them again costs no
/// allocation, making new ones costs writing them twice. The files of others are removed.
const SPARE_BYTES: u64 = 4 * GIB;
const SPARE_SHARE: u64 = 16;
const SPARES_MIN: u64 = 2;
/// Segments emptied in one pass.
const VICTIMS_MAX: usize = 8;
/// Bytes moved between two looks at whether the drive is being closed, all of them on their way at once.
const MOVE_BYTES: u64 = 1 << 20;
/// Entries looked at while the tables are held still.
const ENTRIES_AT_ONCE: usize = 4096;

/// What a pass of reclaiming did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Segments that can be used again, or whose files were removed.
    pub segments: u64,
    /// Shards written elsewhere, with those that were replaced or deleted before that counted.
    pub moved_shards: u64,
    pub moved_bytes: u64,
    /// Bytes given back to the file system by holes.
    pub punched_bytes: u64,
}

pub(crate) fn pass(drive: &Arc<Drive>, queue: &Queue) -> Result<Reclaimed, StoreError> {
    drive.check()?;
    let mut reclaimed = Reclaimed::default();
    recycle(drive, &mut reclaimed)?;
    let victims = victims(drive);
    let holders = if victims.is_empty() { Vec::new() } else { shards_in(drive, &victims) };
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
    drive.metrics.compaction_debt_bytes.set(debt(drive) as f64);
    empty(drive, queue, &victims, holders, &mut reclaimed)?;
    free_log(drive, &mut reclaimed)?;
    punch(drive, &mut reclaimed)?;
    Ok(reclaimed)
}

/// Takes back log segments that hold nothing but what checkpoints still need: they can be used again once both
/// checkpoints are behind them. Does not wait for the commit thread, which calls it when only the reserve is left.
pub(crate) fn free_log(drive: &Drive, reclaimed: &mut Reclaimed) -> Result<(), StoreError> {
    for _ in 0..2 {
        if !log_waits_for_checkpoint(drive) {
            break;
        }
        checkpoint::write(drive)?;
    }
    recycle(drive, reclaimed)
}

/// Takes back segments in which nothing is live.
fn recycle(drive: &Drive, reclaimed: &mut Reclaimed) -> Result<(), StoreError> {
    let keep_from = locked(&drive.checkpoints).older_from;
    let spares_max = (SPARE_BYTES.min(drive.capacity / SPARE_SHARE) / drive.segment_bytes).max(SPARES_MIN);
    let spares_max = width::memory(spares_max);
    let mut unlink = Vec::new();
    drive.change_segments(|tables| {
        let mut spares = BTreeMap::from([
            (SegmentKind::Log, tables.spares(SegmentKind::Log)),
            (SegmentKind::Extents, tables.spares(SegmentKind::Extents)),
        ]);
        for (id, segment) in &mut tables.segments {
            let empty = is_empty(segment) && !is_needed(segment, keep_from);
            if segment.using == Use::Junk {
                unlink.push(*id);
            } else if empty {
                let spares = spares.entry(segment.kind).or_insert(0);
                reclaimed.segments += 1;
                // A file with holes is not written again: that would allocate in the middle of flushes.
                if segment.allocated >= drive.segment_bytes && *spares < spares_max {
                    *spares += 1;
                    segment.using = Use::Spare;
                    segment.written = BLOCK;
                } else {
                    unlink.push(*id);
                }
            }
        }
    });
    for id in unlink {
        drive.unlink_segment(id)?;
    }
    Ok(())
}

fn is_empty(segment: &Segment) -> bool {
    segment.using == Use::Sealed && segment.live == 0 && segment.pending == 0
}

/// Whether a checkpoint would read the log from this segment on.
fn is_needed(segment: &Segment, keep_from: u64) -> bool {
    segment.kind == SegmentKind::Log && segment.end_record > keep_from
}

fn log_waits_for_checkpoint(drive: &Drive) -> bool {
    let keep_from = locked(&drive.checkpoints).older_from;
    let newest_from = locked(&drive.checkpoints).newest_from;
    drive.read_tables(|tables| {
        // Without a batch since the newest checkpoint, or the one before, another one would change nothing.
        let moves_on = tables.applied.next_record > newest_from || newest_from > keep_from;
        moves_on && tables.segments.values().any(|segment| is_empty(segment) && is_needed(segment, keep_from))
    })
}

/// Whether moving what is live out of a segment is worth it.
fn is_victim(segment: &Segment, short: bool) -> bool {
    let used = segment.written.saturating_sub(BLOCK);
    let worth = if short { segment.live < used - used / 8 } else { segment.live < used / 2 };
    segment.using == Use::Sealed && segment.pending == 0 && segment.live > 0 && !segment.stuck && worth
}

/// Segments to empty, those with the least in them first.
fn victims(drive: &Drive) -> BTreeSet<SegmentId> {
    let short = drive.is_short();
    drive.read_tables(|tables| {
        let mut victims: Vec<(u64, SegmentId)> = tables
            .segments
            .iter()
            .filter(|(_, segment)| is_victim(segment, short))
            .map(|(id, segment)| (segment.live, *id))
            .collect();
        victims.sort_unstable();
        victims.into_iter().take(VICTIMS_MAX).map(|(_, id)| id).collect()
    })
}

/// Live bytes that should be moved.
fn debt(drive: &Drive) -> u64 {
    drive.read_tables(|tables| {
        let victims = tables.segments.values().filter(|segment| is_victim(segment, false));
        victims.map(|segment| segment.live).sum()
    })
}

fn is_in(entry: &Entry, segments: &BTreeSet<SegmentId>) -> bool {
    segments.contains(&entry.segment) || entry.extents.iter().any(|extent| segments.contains(&extent.segment))
}

/// Calls `each` for all entries, without holding the tables for long.
fn for_each_entry(drive: &Drive, mut each: impl FnMut(ShardId, &Entry)) {
    let mut after: Option<ShardId> = None;
    loop {
        let last = drive.read_tables(|tables: &Tables| {
            let mut last = None;
            for (shard, entry) in tables.after(after).take(ENTRIES_AT_ONCE) {
                each(*shard, entry);
                last = Some(*shard);
            }
            last
        });
        if last.is_none() {
            return;
        }
        after = last;
    }
}

fn shards_in(drive: &Drive, segments: &BTreeSet<SegmentId>) -> Vec<(ShardId, Entry)> {
    let mut shards = Vec::new();
    for_each_entry(drive, |shard, entry| {
        if is_in(entry, segments) {
            shards.push((shard, entry.clone()));
        }
    });
    // In the order in which they lie on the drive.
    shards.sort_unstable_by_key(|(_, entry)| (entry.segment, entry.offset));
    shards
}

/// Moves the shards elsewhere.
fn empty(
    drive: &Arc<Drive>,
    queue: &Queue,
    victims: &BTreeSet<SegmentId>,
    holders: Vec<(ShardId, Entry)>,
    reclaimed: &mut Reclaimed,
) -> Result<(), StoreError> {
    let mut waiting = Vec::new();
    let mut bytes = 0;
    for (shard, entry) in holders {
        if drive.stopping.load(Ordering::Relaxed) {
            break;
        }
        let new = match copy(drive, victims, shard, &entry) {
            Ok(new) => new,
            Err(CopyFault::Unreadable(fault)) => {
                leave_alone(drive, victims, shard, &entry, &fault);
                continue;
            }
            // Not enough room to move anything now.
            Err(CopyFault::Store(StoreError::Full)) => break,
            Err(CopyFault::Store(error)) => return Err(error),
        };
        let len = new.header.stored_len() + entry.extents.iter().map(extent_weight).sum::<u64>();
        waiting.push(queue.push(Work::Move { new, from: entry.record }, None)?);
        bytes += len;
        reclaimed.moved_shards += 1;
        reclaimed.moved_bytes += len;
        if bytes >= MOVE_BYTES {
            bytes = 0;
            settle(&mut waiting)?;
        }
    }
    match settle(&mut waiting) {
        Err(StoreError::Full) => Ok(()),
        settled => settled,
    }
}

type Outcome = tokio::sync::oneshot::Receiver<Result<(), StoreError>>;

/// Waits for all of them, whatever becomes of some: a move that is still on its way would come after what follows.
/// The first error counts.
fn settle(waiting: &mut Vec<Outcome>) -> Result<(), StoreError> {
    let mut settled = Ok(());
    for outcome in waiting.drain(..) {
        let outcome = receive(outcome).unwrap_or(Err(StoreError::Closed));
        settled = settled.and(outcome);
    }
    settled
}

enum CopyFault {
    Unreadable(ReadFault),
    Store(StoreError),
}

impl From<StoreError> for CopyFault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ReadFault> for CopyFault {
    fn from(fault: ReadFault) -> Self {
        Self::Unreadable(fault)
    }
}

/// A new record of the shard, verified, its extents written elsewhere if they have to move.
fn copy(
    drive: &Arc<Drive>,
    victims: &BTreeSet<SegmentId>,
    shard: ShardId,
    entry: &Entry,
) -> Result<NewShard, CopyFault> {
    if entry.damaged {
        return Err(ReadFault::BadRecord.into());
    }
    if entry.extents.is_empty() {
        let (body, payload) = drive.read_whole(shard, entry)?;
        let mut new = new_shard(drive, RecordKind::Small, entry.payload_len, &body)?;
        new.payload = payload;
        return Ok(new);
    }
    let moves = entry.extents.iter().any(|extent| victims.contains(&extent.segment));
    if !moves {
        let body = drive.read_body(shard, entry)?;
        return Ok(new_shard(drive, RecordKind::Large, entry.payload_len, &body)?);
    }
    let (body, payload) = drive.read_whole(shard, entry)?;
    let mut claims = Vec::new();
    for piece in pieces(payload, drive.piece_max()) {
        claims.push(extents::write_piece(drive, shard, &piece, Purpose::Reclaiming)?);
    }
    let extents = extents::merge(claims.iter().map(|claim| claim.extent));
    let body = Body { extents: extents.to_vec(), ..body };
    let mut new = new_shard(drive, RecordKind::Large, entry.payload_len, &body)?;
    new.claims = claims;
    Ok(new)
}

/// Cuts a payload into pieces of `len` bytes.
fn pieces(payload: Vec<Bytes>, len: u64) -> Vec<Vec<Bytes>> {
    let len = width::memory(len);
    let mut pieces: Vec<Vec<Bytes>> = Vec::new();
    let mut room = 0;
    for mut part in payload {
        while !part.is_empty() {
            if room == 0 {
                pieces.push(Vec::new());
                room = len;
            }
            let taken = part.split_to(part.len().min(room));
            room -= taken.len();
            if let Some(piece) = pieces.last_mut() {
                piece.push(taken);
            }
        }
    }
    pieces
}

/// What cannot be read stays where it is until it is repaired from other drives; its segments are not tried again.
fn leave_alone(
    drive: &Drive,
    victims: &BTreeSet<SegmentId>,
    shard: ShardId,
    entry: &Entry,
    fault: &ReadFault,
) {
    // It may have been deleted or replaced while it was read.
    let unchanged = drive.change_tables(|tables| {
        let unchanged = tables.get(shard).is_some_and(|now| now.record == entry.record);
        if unchanged {
            let segments = entry.extents.iter().map(|extent| extent.segment).chain([entry.segment]);
            for id in segments.filter(|id| victims.contains(id)) {
                if let Some(segment) = tables.segments.get_mut(&id) {
                    segment.stuck = true;
                }
            }
        }
        unchanged
    });
    if unchanged {
        drive.metrics.corrupt_units.increment(1);
        tracing::warn!(drive = %drive.identity.drive, %shard, ?fault, "a shard cannot be moved: it does not verify");
    }
}

/// Punches dead runs out of sealed segments.
fn punch(drive: &Drive, reclaimed: &mut Reclaimed) -> Result<(), StoreError> {
    let keep_from = locked(&drive.checkpoints).older_from;
    let candidate = |segment: &Segment| {
        segment.using == Use::Sealed
            && segment.sealed_durably
            && segment.pending == 0
            && segment.live > 0
            && !is_needed(segment, keep_from)
            && segment.dead() >= segment.searched_dead + HOLE_MIN
    };
    let candidates: BTreeMap<SegmentId, Segment> = drive.read_tables(|tables| {
        let chosen = tables.segments.iter().filter(|(_, segment)| candidate(segment));
        chosen.map(|(id, segment)| (*id, segment.clone())).collect()
    });
    if candidates.is_empty() {
        return Ok(());
    }
    let mut live: BTreeMap<SegmentId, Vec<Range<u64>>> = BTreeMap::new();
    for_each_entry(drive, |_, entry| {
        let record = (entry.segment, entry.offset..entry.offset + u64::from(entry.stored_len));
        let extents =
            entry.extents.iter().map(|extent| (extent.segment, extent.offset..extent.offset + extent.len));
        for (segment, range) in std::iter::once(record).chain(extents) {
            if candidates.contains_key(&segment) {
                live.entry(segment).or_default().push(range);
            }
        }
    });
    let mut holes_left = HOLES_MAX;
    for (id, segment) in candidates {
        let holes = dead_runs(live.remove(&id).unwrap_or_default(), segment.written);
        let all = holes.len() <= holes_left;
        for hole in holes.into_iter().take(holes_left) {
            holes_left -= 1;
            let len = hole.end - hole.start;
            let failed = |operation, error| drive.write_error(operation, None, error);
            let writer = segment.file.writer().map_err(|error| failed(FileOperation::Open, error))?;
            writer.punch(hole.start, len).map_err(|error| failed(FileOperation::Punch, error))?;
        }
        let allocated = segment.file.cached().and_then(|file| file.allocated_bytes());
        let allocated = allocated.unwrap_or(segment.allocated);
        reclaimed.punched_bytes += segment.allocated.saturating_sub(allocated);
        drive.change_segments(|tables| {
            if let Some(now) = tables.segments.get_mut(&id) {
                now.allocated = allocated;
                if all {
                    now.searched_dead = segment.dead();
                }
            }
        });
        if holes_left == 0 {
            break;
        }
    }
    Ok(())
}

/// Whole blocks between the live ranges, in runs worth a hole. The segment's header stays.
fn dead_runs(mut live: Vec<Range<u64>>, written: u64) -> Vec<Range<u64>> {
    live.sort_unstable_by_key(|range| range.start);
    live.push(written..written);
    let mut runs = Vec::new();
    let mut from = BLOCK;
    for range in live {
        let run = from..range.start / BLOCK * BLOCK;
        if run.end >= run.start + HOLE_MIN {
            runs.push(run);
        }
        from = from.max(range.end.next_multiple_of(BLOCK));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_runs_are_whole_blocks_between_what_is_live() {
        const K: u64 = 1024;
        assert_eq!(dead_runs(Vec::new(), 1024 * K), vec![4 * K..1024 * K]);
        assert_eq!(dead_runs(Vec::new(), 67 * K), vec![]);
        let live = vec![300 * K + 1..301 * K, 100 * K..101 * K + 7];
        assert_eq!(dead_runs(live, 340 * K), vec![4 * K..100 * K, 104 * K..300 * K]);
    }

    #[test]
    fn a_payload_is_cut_at_multiples_of_the_piece() {
        let payload =
            vec![Bytes::from(vec![1; 10]), Bytes::from(vec![2; 3]), Bytes::new(), Bytes::from(vec![3; 5])];
        let lens: Vec<Vec<usize>> =
            pieces(payload, 4).into_iter().map(|piece| piece.iter().map(Bytes::len).collect()).collect();
        assert_eq!(lens, [vec![4], vec![4], vec![2, 2], vec![1, 3], vec![2]]);
    }
}
