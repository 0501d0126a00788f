//! Slots without a good shard: filled late or repaired, and reported by readers.
//!
//! A row of `Repair` is made with the chunk that lacks the slot, or by a report; it carries the interval at which
//! the slot was known bad. A fill counts only against a row that is not newer than itself, so that a report is
//! never answered by a shard that was written before it.

use super::{
    StateError,
    apply::{Applied, Apply, Halt},
    overlay::Overlay,
    record,
};
use crate::{
    command::{Done, FillSlot, Refusal},
    kv::{KvRead, Table},
    tables::{
        self,
        record::{ManifestRecord, PartRecord, RepairRecord},
    },
};
use ashlar_types::{
    Blob, BlobId, BucketId, Chunk, ChunkId, ExtentSource, Manifest, MissingSlot, ObjectKey, Sequence,
    ShardOwner, SlotIndex,
};

/// Where the chunk of a shard is named now.
pub(super) enum Named {
    Part { row: Vec<u8>, part: Box<PartRecord> },
    Version { row: Vec<u8>, content: ManifestRecord },
}

impl Named {
    fn manifest(&mut self) -> &mut Manifest {
        match self {
            Self::Part { part, .. } => &mut part.content.manifest,
            Self::Version { content, .. } => &mut content.manifest,
        }
    }

    pub(super) fn blob(&mut self, id: BlobId) -> Option<&mut Blob> {
        self.manifest().entries.iter_mut().find_map(|entry| match &mut entry.source {
            ExtentSource::Blob { blob, .. } if blob.id == id => Some(blob),
            ExtentSource::Blob { .. } | ExtentSource::Inline { .. } => None,
        })
    }

    fn chunk(&mut self, id: ChunkId) -> Option<&mut Chunk> {
        self.blob(id.blob)?.chunks.get_mut(usize::try_from(id.index).ok()?)
    }

    fn write(self, tables: &mut Overlay<'_>) {
        match self {
            Self::Part { row, part } => tables.put_record(Table::Parts, row, &*part),
            Self::Version { row, content } => tables.put_record(Table::Manifest, row, &content),
        }
    }
}

impl Apply<'_> {
    /// Refused with `NoSuchVersion` when nothing needs the shard: its writer deletes it.
    pub(super) fn fill_slot(&mut self, fill: &FillSlot) -> Applied {
        let unwanted = || Halt::Refused(Refusal::NoSuchVersion);
        let mut named = named(&self.tables, fill.bucket, &fill.key, fill.owner)?.ok_or_else(unwanted)?;
        let chunk = named.chunk(fill.chunk).ok_or_else(unwanted)?;
        if self.is_superseded(chunk.pg, fill.slot, fill.drive, fill.interval)? {
            return Err(unwanted());
        }
        let slot = chunk.slots.get_mut(usize::from(fill.slot.0)).ok_or_else(unwanted)?;
        let row = tables::repair(fill.chunk, fill.slot);
        match self.record::<RepairRecord>(Table::Repair, &row)? {
            // A repetition.
            None if *slot == Some(fill.drive) => return Ok(Done::Nothing),
            Some(repair) if repair.interval <= fill.interval => {
                *slot = Some(fill.drive);
            }
            Some(_) | None => return Err(unwanted()),
        }
        named.write(&mut self.tables);
        self.remove_repair(fill.chunk, fill.slot);
        Ok(Done::Nothing)
    }

    /// Slots that the chunk does not have are passed over. The manifest keeps naming the drive: a false report
    /// then costs a repair, and never the last good shard.
    pub(super) fn report_slots(
        &mut self,
        bucket: BucketId,
        key: &ObjectKey,
        owner: ShardOwner,
        slots: &[MissingSlot],
    ) -> Applied {
        let mut named =
            named(&self.tables, bucket, key, owner)?.ok_or(Halt::Refused(Refusal::NoSuchVersion))?;
        for missing in slots {
            let drive = named
                .chunk(missing.chunk)
                .filter(|chunk| chunk.pg == missing.pg)
                .and_then(|chunk| chunk.slots.get(usize::from(missing.slot.0)).copied());
            let Some(bad_drive) = drive else { continue };
            let row = tables::repair(missing.chunk, missing.slot);
            let known = self.record::<RepairRecord>(Table::Repair, &row)?;
            let (interval, kept) = known.map(|known| (known.interval, known.kept)).unwrap_or_default();
            let repair = RepairRecord {
                pg: missing.pg,
                interval: interval.max(missing.interval),
                bucket,
                key: key.clone(),
                owner,
                bad_drive,
                kept,
            };
            self.put(Table::Repair, row, &repair);
        }
        Ok(Done::Nothing)
    }

    pub(super) fn remove_repair(&mut self, chunk: ChunkId, slot: SlotIndex) {
        self.remove(Table::Repair, tables::repair(chunk, slot));
    }
}

/// The part or the version that names the blobs of an owner.
pub(super) fn named(
    kv: &dyn KvRead,
    bucket: BucketId,
    key: &ObjectKey,
    owner: ShardOwner,
) -> Result<Option<Named>, StateError> {
    if let ShardOwner::Part { upload, part_number } = owner {
        let row = tables::part(bucket, key, upload, part_number);
        if let Some(part) = record::<PartRecord>(kv, Table::Parts, &row)? {
            return Ok(Some(Named::Part { row, part: Box::new(part) }));
        }
    }
    let Some(sequence) = record::<Sequence>(kv, Table::Owners, &tables::owner(bucket, key, owner))? else {
        return Ok(None);
    };
    let row = tables::version(bucket, key, sequence);
    let content = record(kv, Table::Manifest, &row)?;
    let content = content.ok_or(StateError::MissingRow { table: Table::Manifest })?;
    Ok(Some(Named::Version { row, content }))
}
