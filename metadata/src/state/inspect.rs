//! Rows for those who look after data rather than objects: rebuild, drain, sweep, explain, event readers.

use super::{
    StateError, decode, for_each,
    query::{Reader, rows_max},
    record, repair,
};
use crate::{
    event::Event,
    kv::{KeyRange, Table},
    query::{ChunkAnswer, DueRow, OutboxPage, OutboxRow, ReversePosition, ReverseRow},
    tables::{
        self,
        record::{BucketRecord, FenceRecord, RepairRecord, ReverseRecord},
    },
};
use ashlar_types::{BucketId, ChunkId, ObjectKey, PgId, ShardOwner, SlotIndex, service::BucketInfo};
use std::ops::ControlFlow;

impl Reader<'_> {
    /// Chunks of a placement group, in the order of the index.
    pub(super) fn reverse(
        &self,
        pg: PgId,
        after: Option<ReversePosition>,
        limit: u32,
    ) -> Result<Vec<ReverseRow>, StateError> {
        let mut range = KeyRange::prefix(&tables::pg(pg));
        if let Some(ReversePosition { owner, chunk }) = after {
            range.from = tables::reverse(pg, owner, chunk);
            range.from.push(0);
        }
        self.collect(Table::Reverse, &range, limit, |row, record: ReverseRecord| {
            let (_, owner, chunk) = tables::parse_reverse(row)?;
            let ReverseRecord { bucket, key } = record;
            Some(ReverseRow { position: ReversePosition { owner, chunk }, bucket, key })
        })
    }

    /// A chunk as its version or part names it now, with the slots that are to be repaired.
    pub(super) fn chunk(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        owner: ShardOwner,
        id: ChunkId,
    ) -> Result<Option<ChunkAnswer>, StateError> {
        let Some(mut named) = repair::named(self.kv, bucket, key, owner)? else { return Ok(None) };
        let Some((blob, chunk)) = named.blob(id.blob).map(|blob| blob.clone()).and_then(|blob| {
            let chunk = blob.chunks.get(usize::try_from(id.index).ok()?)?.clone();
            Some((blob, chunk))
        }) else {
            return Ok(None);
        };
        let mut repairs = Vec::new();
        for (_, slot) in chunk.slots.iter().zip(0u8..) {
            let slot = SlotIndex(slot);
            let row: Option<RepairRecord> = record(self.kv, Table::Repair, &tables::repair(id, slot))?;
            repairs.extend(row.map(|row| (slot, row.interval)));
        }
        Ok(Some(ChunkAnswer { profile: blob.profile, blob_len: blob.len, chunk, repairs }))
    }

    pub(super) fn fence(&self, pg: PgId) -> Result<Option<FenceRecord>, StateError> {
        record(self.kv, Table::Fences, &tables::pg(pg))
    }

    pub(super) fn due(&self, limit: u32) -> Result<Vec<DueRow>, StateError> {
        let (limit, mut rows) = (rows_max(limit), Vec::new());
        for_each(self.kv, Table::Due, &KeyRange::all(), |row, _| {
            if rows.len() == limit {
                return Ok(ControlFlow::Break(()));
            }
            rows.push(due_row(row).ok_or(StateError::Key { table: Table::Due })?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    pub(super) fn sealed_buckets(&self) -> Result<Vec<BucketInfo>, StateError> {
        let mut sealed = Vec::new();
        for_each(self.kv, Table::Buckets, &KeyRange::all(), |_, value| {
            let record: BucketRecord = decode(Table::Buckets, value)?;
            if record.sealed {
                sealed.push(record.info);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(sealed)
    }

    pub(super) fn outbox(&self, after: u64, limit: u32) -> Result<OutboxPage, StateError> {
        let range = KeyRange { from: tables::outbox(after.saturating_add(1)), to: None };
        let events = self.collect(Table::Outbox, &range, limit, |row, event: Event| {
            Some(OutboxRow { number: tables::parse_outbox(row)?, event })
        })?;
        let outbox = self.group()?.outbox;
        Ok(OutboxPage { events, trimmed: outbox.trimmed, last: outbox.last, lost: outbox.lost })
    }
}

fn due_row(row: &[u8]) -> Option<DueRow> {
    if let Some((purged, bucket)) = tables::parse_due_purged(row) {
        return Some(DueRow::PurgedBucket { purged, bucket });
    }
    let (epoch, completed) = tables::parse_due_completed(row)?;
    let (key, after) = tables::parse_escaped(completed)?;
    let bucket = tables::parse_bucket(completed)?;
    Some(DueRow::CompletedUpload { epoch, bucket, key, upload: tables::parse_upload(after)? })
}
