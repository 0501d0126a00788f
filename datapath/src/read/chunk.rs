//! One chunk being read: its slots, the streams that are open on them, and what is known of each.
//!
//! Owns opening and continuing shard streams and the verification of every unit that arrives. Which slots a stripe is
//! made of is decided in `stripe`.

use super::{
    drives::{Suspects, candidates},
    plan::ChunkRange,
    report::{Damaged, Subject},
};
use crate::{
    shard_io::{ShardError, ShardSource, Unit},
    store::Core,
    write::Coding,
};
use ashlar_erasure::SlotSet;
use ashlar_hashing::crc64nvme;
use ashlar_types::{Blob, Chunk, ChunkId, DriveId, MissingSlot, ObjectError, ShardId, SlotIndex};
use std::{sync::Arc, time::Duration};

/// Corrupt units of one shard after which it is not asked first any more.
const CORRUPT_MAX: u32 = 2;

pub(crate) struct ChunkReader {
    pub(crate) core: Arc<Core>,
    pub(crate) coding: Coding,
    pub(crate) chunk: ChunkId,
    pub(crate) range: ChunkRange,
    subject: Subject,
    placed: Chunk,
    slots: Vec<SlotReader>,
    /// The last stripe wanted, and the data slots wanted of it.
    last: (u32, SlotSet),
}

struct SlotReader {
    drives: Vec<DriveId>,
    standing: Standing,
    open: Option<OpenSource>,
    corrupt: u32,
}

/// How far a slot is trusted to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// Slow, down or damaged: asked when nothing else is left.
    Suspect,
    /// There is no such shard.
    Absent,
}

struct OpenSource {
    source: Box<dyn ShardSource>,
    next_unit: u32,
    /// Where the stream was asked to end: past it the shard may well go on.
    end_unit: u32,
}

/// Why a slot gave no unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The drive answers, and has no such shard or too few units.
    Missing,
    Corrupt,
    /// The drive does not answer as it should; the shard may be there.
    Away,
}

/// What a fetch brings back.
pub(crate) struct Fetched {
    pub(crate) slot: u8,
    open: Option<OpenSource>,
    outcome: Result<Unit, Fault>,
    pub(crate) latency: Duration,
}

impl ChunkReader {
    pub(crate) fn new(
        core: &Arc<Core>,
        coding: &Coding,
        subject: &Subject,
        blob: &Blob,
        range: ChunkRange,
        suspects: &Suspects,
    ) -> Result<Self, ObjectError> {
        let placed = usize::try_from(range.index).ok().and_then(|index| blob.chunks.get(index));
        let slots = usize::from(coding.profile.slots());
        let placed = placed
            .filter(|chunk| chunk.slots.len() == slots)
            .ok_or(ObjectError::Internal("a blob without the chunks of its length"))?
            .clone();
        let map = core.map();
        let slots = (0..slots)
            .map(|slot| {
                let drives = candidates(&map, &placed, slot);
                let standing = if drives.is_empty() {
                    Standing::Absent
                } else if suspects.contains_all(&drives)
                    || !drives.iter().any(|drive| core.shards.is_usable(*drive))
                {
                    Standing::Suspect
                } else {
                    Standing::Good
                };
                SlotReader { drives, standing, open: None, corrupt: 0 }
            })
            .collect();
        let geometry = coding.geometry;
        let row_len = geometry.row_len();
        let last_stripe = u32::try_from((range.range.end - 1) / row_len)
            .map_err(|_| ObjectError::Internal("a chunk too long"))?;
        let last_start = (u64::from(last_stripe) * row_len).max(range.range.start);
        let last_slots =
            geometry.locate(range.chunk_len, last_start, range.range.end).map(|piece| piece.slot).collect();
        Ok(Self {
            core: Arc::clone(core),
            coding: coding.clone(),
            chunk: ChunkId { blob: blob.id, index: range.index },
            range,
            subject: subject.clone(),
            placed,
            slots,
            last: (last_stripe, last_slots),
        })
    }

    /// Stripes that hold the wanted bytes, first and end.
    pub(crate) fn stripes(&self) -> std::ops::Range<u32> {
        let first = self.range.range.start / self.coding.geometry.row_len();
        u32::try_from(first).unwrap_or(u32::MAX)..self.last.0 + 1
    }

    /// Slots that are likely to answer.
    pub(crate) fn good(&self) -> SlotSet {
        self.standing(Standing::Good)
    }

    /// Slots to ask when the good ones do not suffice.
    pub(crate) fn suspect(&self) -> SlotSet {
        self.standing(Standing::Suspect)
    }

    fn standing(&self, standing: Standing) -> SlotSet {
        self.slots
            .iter()
            .zip(0..)
            .filter(|(slot, _)| slot.standing == standing)
            .map(|(_, index)| index)
            .collect()
    }

    /// Asks a slot for its unit of a stripe. `helper`: the slot is asked in the place of another, and is likely to be
    /// needed to the end. The future owns what it needs; dropping it closes the slot's stream.
    pub(crate) fn fetch(
        &mut self,
        slot: u8,
        stripe: u32,
        helper: bool,
    ) -> impl Future<Output = Fetched> + Send + use<> {
        let (last, last_slots) = self.last;
        let end = if helper || stripe == last || last_slots.contains(slot) { last + 1 } else { last };
        let shard = ShardId { chunk: self.chunk, slot: SlotIndex(slot) };
        let expected_len = self.coding.geometry.unit_data_len(self.range.chunk_len, stripe, slot);
        let core = Arc::clone(&self.core);
        let reader = &mut self.slots[usize::from(slot)];
        let drives = reader.drives.clone();
        let open = reader.open.take().filter(|open| open.next_unit == stripe && stripe < open.end_unit);
        async move {
            let started = core.now();
            let (open, outcome) = match open {
                Some(open) => continue_source(open, expected_len).await,
                None => open_any(&core, shard, &drives, stripe..end, expected_len).await,
            };
            Fetched { slot, open, outcome, latency: core.now().saturating_sub(started) }
        }
    }

    /// Takes note of what a slot answered; the unit, if there is one.
    pub(crate) fn absorb(&mut self, fetched: Fetched, suspects: &mut Suspects) -> Option<Unit> {
        let reader = &mut self.slots[usize::from(fetched.slot)];
        reader.open = fetched.open;
        let fault = match fetched.outcome {
            Ok(unit) => return Some(unit),
            Err(fault) => fault,
        };
        match fault {
            Fault::Missing => reader.standing = Standing::Absent,
            Fault::Corrupt => {
                reader.corrupt += 1;
                if reader.corrupt >= CORRUPT_MAX {
                    reader.standing = Standing::Suspect;
                }
                self.core.metrics.corrupt_units.increment(1);
            }
            Fault::Away => {
                reader.standing = Standing::Suspect;
                suspects.add(&reader.drives);
            }
        }
        if fault != Fault::Away {
            let slot = MissingSlot {
                chunk: self.chunk,
                slot: SlotIndex(fetched.slot),
                pg: self.placed.pg,
                interval: self.placed.interval,
            };
            let others = self.others(fetched.slot);
            self.core.reporter.report(&self.core, &self.subject, Damaged { slot, others });
        }
        None
    }

    /// The shards of the other slots, where they were written.
    fn others(&self, slot: u8) -> Vec<(DriveId, ShardId)> {
        let placed = self.placed.slots.iter().zip(0..).filter(|(_, index)| *index != slot);
        placed
            .filter_map(|(drive, index)| {
                Some(((*drive)?, ShardId { chunk: self.chunk, slot: SlotIndex(index) }))
            })
            .collect()
    }

    /// A slot has kept a stripe waiting for too long.
    pub(crate) fn overdue(&mut self, slot: u8, suspects: &mut Suspects) {
        let reader = &mut self.slots[usize::from(slot)];
        reader.standing = Standing::Suspect;
        suspects.add(&reader.drives);
    }

    /// Closes streams of slots that healthy stripes do not need, so that their drives do not hold units ready.
    pub(crate) fn rest_helpers(&mut self, needed: SlotSet) {
        for (reader, index) in self.slots.iter_mut().zip(0..) {
            if !needed.contains(index) {
                reader.open = None;
            }
        }
    }
}

/// Opens the shard on the first drive that has it and takes its first unit.
async fn open_any(
    core: &Core,
    shard: ShardId,
    drives: &[DriveId],
    units: std::ops::Range<u32>,
    expected_len: u32,
) -> (Option<OpenSource>, Result<Unit, Fault>) {
    let mut fault = Fault::Missing;
    for drive in drives {
        let (next_unit, end_unit) = (units.start, units.end);
        let found = match core.shards.get(*drive, shard, units.clone()).await {
            Ok(source) => continue_source(OpenSource { source, next_unit, end_unit }, expected_len).await,
            Err(error) => (None, Err(fault_of(&error))),
        };
        match found {
            (open, Ok(unit)) => return (open, Ok(unit)),
            (_, Err(Fault::Missing)) => {}
            (_, Err(other)) => fault = other,
        }
    }
    (None, Err(fault))
}

async fn continue_source(
    mut open: OpenSource,
    expected_len: u32,
) -> (Option<OpenSource>, Result<Unit, Fault>) {
    match open.source.next().await {
        Ok(Some(unit)) if is_intact(&unit, expected_len) => {
            open.next_unit += 1;
            (Some(open), Ok(unit))
        }
        Ok(Some(_)) => (None, Err(Fault::Corrupt)),
        Ok(None) => (None, Err(Fault::Missing)),
        Err(error) => (None, Err(fault_of(&error))),
    }
}

/// The drive has verified the unit; what came since (memory, network) is verified here.
fn is_intact(unit: &Unit, expected_len: u32) -> bool {
    unit.sum.len == expected_len
        && unit.bytes.len() as u64 == u64::from(expected_len)
        && crc64nvme(&unit.bytes) == unit.sum.crc64
}

fn fault_of(error: &ShardError) -> Fault {
    match error {
        ShardError::NotFound => Fault::Missing,
        ShardError::Corrupt { .. } => Fault::Corrupt,
        ShardError::NotMine
        | ShardError::StaleInterval { .. }
        | ShardError::Overloaded
        | ShardError::Failed
        | ShardError::Unreachable => Fault::Away,
    }
}
