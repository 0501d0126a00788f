//! Answers from one view of the tables.

use super::{StateError, decode, for_each, group_state, listing, record};
use crate::{
    command::GarbageId,
    encoding::Row,
    kv::{KeyRange, KvRead, Table},
    query::{
        Answer, BucketPhase, BucketRow, BucketState, BucketStats, ContentWanted, Counters, GarbageRow,
        PartsAnswer, Query, RepairRow, VersionAnswer,
    },
    tables::{
        self,
        record::{
            BucketRecord, CounterRecord, GroupRecord, ManifestRecord, ObjectRecord, PartRecord, RepairRecord,
            Stored, UploadRecord, VersionRecord,
        },
    },
};
use ashlar_types::{
    BucketId, Content, ExtentSource, GroupId, Manifest, ManifestEntry, MissingSlot, ObjectKey, PartInfo,
    Sequence, Timestamp, UploadId, VersionId,
    service::{AccessKey, User},
};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::ControlFlow};

/// Rows of one answer, whatever was asked for.
const ROWS_MAX: usize = 10_000;

pub(super) struct Reader<'a> {
    id: GroupId,
    pub(super) kv: &'a dyn KvRead,
}

impl<'a> Reader<'a> {
    pub(super) fn new(id: GroupId, kv: &'a dyn KvRead) -> Self {
        Self { id, kv }
    }

    pub(super) fn answer(&self, query: &Query) -> Result<Answer, StateError> {
        Ok(match query {
            Query::Map => Answer::Map(self.record(Table::Map, tables::MAP)?.map(Box::new)),
            Query::Bucket { name } => {
                Answer::Bucket(self.record(Table::Directory, &tables::directory_name(name))?)
            }
            Query::Buckets { owner } => Answer::Buckets(
                self.directory(|row| row.phase == BucketPhase::Active && row.info.owner == *owner)?,
            ),
            Query::BucketRows => Answer::Buckets(self.directory(|_| true)?),
            Query::AccessKey { id } => Answer::AccessKey(self.record(Table::Identities, id.as_bytes())?),
            Query::Users => Answer::Users(self.users()?),
            Query::BucketState { bucket } => Answer::BucketState(self.bucket_state(*bucket)?),
            Query::Version { bucket, key, version, content } => {
                Answer::Version(Box::new(self.version(*bucket, key, *version, *content)?))
            }
            Query::List { bucket, query } => match self.bucket(*bucket)? {
                Some(_) => Answer::List(listing::objects(self.kv, *bucket, query)?),
                None => Answer::NoSuchBucket,
            },
            Query::Versions { bucket, query } => match self.bucket(*bucket)? {
                Some(_) => Answer::Versions(listing::versions(self.kv, *bucket, query)?),
                None => Answer::NoSuchBucket,
            },
            Query::Uploads { bucket, query } => match self.bucket(*bucket)? {
                Some(_) => Answer::Uploads(listing::uploads(self.kv, *bucket, query)?),
                None => Answer::NoSuchBucket,
            },
            Query::Upload { bucket, key, upload } => {
                let found =
                    self.record::<UploadRecord>(Table::Uploads, &tables::upload(*bucket, key, *upload))?;
                Answer::Upload(found.map(|record| Box::new(record.into_info(key.clone(), *upload))))
            }
            Query::Parts { bucket, key, upload, after, limit } => {
                Answer::Parts(self.parts(*bucket, key, *upload, *after, *limit)?)
            }
            Query::Counters { bucket } => match self.bucket(*bucket)? {
                Some(_) => Answer::Counters(self.counters(*bucket)?),
                None => Answer::NoSuchBucket,
            },
            Query::BucketStats { bucket } => match self.bucket(*bucket)? {
                Some(record) => Answer::BucketStats(BucketStats {
                    counters: self.counters(*bucket)?,
                    quota: record.quota,
                }),
                None => Answer::NoSuchBucket,
            },
            Query::SealedBuckets => Answer::SealedBuckets(self.sealed_buckets()?),
            Query::Reverse { pg, after, limit } => Answer::Reverse(self.reverse(*pg, *after, *limit)?),
            Query::Chunk { bucket, key, owner, chunk } => {
                Answer::Chunk(self.chunk(*bucket, key, *owner, *chunk)?.map(Box::new))
            }
            Query::Fence { pg } => Answer::Fence(self.fence(*pg)?.map(Box::new)),
            Query::Due { limit } => Answer::Due(self.due(*limit)?),
            Query::Outbox { after, limit } => Answer::Outbox(Box::new(self.outbox(*after, *limit)?)),
            Query::Garbage { before, limit } => Answer::Garbage(self.garbage(*before, *limit)?),
            Query::Repairs { after, limit } => Answer::Repairs(self.repairs(*after, *limit)?),
            Query::GroupState => Answer::GroupState(group_state(&self.group()?)),
        })
    }

    fn record<T: Row>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StateError> {
        record(self.kv, table, key)
    }

    pub(super) fn group(&self) -> Result<GroupRecord, StateError> {
        Ok(self.record(Table::Meta, tables::GROUP)?.unwrap_or_else(|| GroupRecord::new(self.id)))
    }

    fn bucket(&self, bucket: BucketId) -> Result<Option<BucketRecord>, StateError> {
        self.record(Table::Buckets, &tables::bucket(bucket))
    }

    fn counters(&self, bucket: BucketId) -> Result<Counters, StateError> {
        let record: Option<CounterRecord> = self.record(Table::Counters, &tables::bucket(bucket))?;
        Ok(record.unwrap_or_default().counters)
    }

    fn bucket_state(&self, bucket: BucketId) -> Result<Option<BucketState>, StateError> {
        let Some(record) = self.bucket(bucket)? else { return Ok(None) };
        let write_epoch = self.group()?.write_epoch;
        Ok(Some(BucketState { versioning: record.versioning, sealed: record.sealed, write_epoch }))
    }

    fn directory(&self, wanted: impl Fn(&BucketRow) -> bool) -> Result<Vec<BucketRow>, StateError> {
        let mut rows: Vec<BucketRow> = Vec::new();
        for_each(self.kv, Table::Directory, &KeyRange::prefix(tables::DIRECTORY_NAMES), |_, value| {
            rows.push(decode(Table::Directory, value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        rows.retain(wanted);
        Ok(rows)
    }

    /// Each once, whatever number of keys it has.
    fn users(&self) -> Result<Vec<User>, StateError> {
        let mut users = BTreeMap::new();
        for_each(self.kv, Table::Identities, &KeyRange::all(), |_, value| {
            let key: AccessKey = decode(Table::Identities, value)?;
            users.insert(key.user.id.clone(), key.user);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(users.into_values().collect())
    }

    fn version(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        version: Option<VersionId>,
        wanted: ContentWanted,
    ) -> Result<VersionAnswer, StateError> {
        let Some(BucketRecord { versioning, .. }) = self.bucket(bucket)? else {
            return Ok(VersionAnswer::NoSuchBucket);
        };
        let current: Option<VersionRecord> = self.record(Table::Current, &tables::object(bucket, key))?;
        let (found, is_latest) = match (current, version) {
            (Some(current), None) => (current, true),
            (Some(current), Some(version)) if current.version_id == version => (current, true),
            (None, None) => {
                let newest = newest_noncurrent(self.kv, bucket, key)?;
                return Ok(VersionAnswer::NoSuchKey {
                    delete_marker: newest.map(|marker| marker.version_id),
                });
            }
            (current, Some(version)) => {
                let Some(found) = noncurrent(self.kv, bucket, key, version)? else {
                    return Ok(VersionAnswer::NoSuchVersion);
                };
                let is_latest = current.is_none() && found.noncurrent_since.is_none();
                (found, is_latest)
            }
        };
        let sequence = found.sequence;
        let (content, parts) = match (wanted, found.object()) {
            (ContentWanted::Yes, Some(object)) => {
                let (content, parts) = self.content(bucket, key, sequence, object)?;
                (Some(content), parts)
            }
            (ContentWanted::Yes, None) | (ContentWanted::No, _) => (None, Vec::new()),
        };
        let info = Box::new(found.into_info(key.clone(), is_latest));
        Ok(VersionAnswer::Found { info, sequence, versioning, content, parts })
    }

    fn content(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        sequence: Sequence,
        object: &ObjectRecord,
    ) -> Result<(Content, Vec<PartInfo>), StateError> {
        let row = tables::version(bucket, key, sequence);
        let inline =
            || self.kv.get(Table::Inline, &row)?.ok_or(StateError::MissingRow { table: Table::Inline });
        Ok(match object.stored {
            Stored::Nothing => (Content::default(), Vec::new()),
            Stored::Inline => {
                let entry = ManifestEntry {
                    part_number: 0,
                    len: object.size,
                    crc64: object.crc64,
                    source: ExtentSource::Inline { offset: 0 },
                };
                (Content { manifest: Manifest { entries: vec![entry] }, inline: inline()? }, Vec::new())
            }
            Stored::Manifest => {
                let record: ManifestRecord = self
                    .record(Table::Manifest, &row)?
                    .ok_or(StateError::MissingRow { table: Table::Manifest })?;
                let inline = if record.has_inline() { inline()? } else { Bytes::new() };
                (Content { manifest: record.manifest, inline }, record.parts)
            }
        })
    }

    fn parts(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        upload: UploadId,
        after: u16,
        limit: u32,
    ) -> Result<Option<Box<PartsAnswer>>, StateError> {
        let row = tables::upload(bucket, key, upload);
        let Some(record) = self.record::<UploadRecord>(Table::Uploads, &row)? else { return Ok(None) };
        let limit = rows_max(limit);
        let mut range = KeyRange::prefix(&row);
        range.from.extend_from_slice(&after.saturating_add(1).to_be_bytes());
        let (mut parts, mut truncated) = (Vec::new(), false);
        for_each(self.kv, Table::Parts, &range, |row, value| {
            if parts.len() == limit {
                truncated = true;
                return Ok(ControlFlow::Break(()));
            }
            let part: PartRecord = decode(Table::Parts, value)?;
            let number = tables::parse_part_number(row).ok_or(StateError::Key { table: Table::Parts })?;
            parts.push(part.info(number));
            Ok(ControlFlow::Continue(()))
        })?;
        let upload = record.into_info(key.clone(), upload);
        Ok(Some(Box::new(PartsAnswer { upload, parts, truncated })))
    }

    fn garbage(&self, before: Timestamp, limit: u32) -> Result<Vec<GarbageRow>, StateError> {
        let to = Timestamp(before.0.saturating_add(1));
        let range =
            KeyRange { from: Vec::new(), to: Some(tables::garbage(GarbageId { since: to, number: 0 })) };
        self.collect(Table::Gc, &range, limit, |row, blobs| {
            tables::parse_garbage(row).map(|id| GarbageRow { id, blobs })
        })
    }

    fn repairs(&self, after: Option<MissingSlot>, limit: u32) -> Result<Vec<RepairRow>, StateError> {
        let mut range = KeyRange::all();
        if let Some(after) = after {
            range.from = tables::repair(after.chunk, after.slot);
            range.from.push(0);
        }
        self.collect(Table::Repair, &range, limit, |row, record| {
            let RepairRecord { pg, interval, bucket, key, owner, bad_drive: _, kept: _ } = record;
            let (chunk, slot) = tables::parse_repair(row)?;
            Some(RepairRow { slot: MissingSlot { chunk, slot, pg, interval }, bucket, key, owner })
        })
    }

    pub(super) fn collect<R: Row, T>(
        &self,
        table: Table,
        range: &KeyRange,
        limit: u32,
        row_of: impl Fn(&[u8], R) -> Option<T>,
    ) -> Result<Vec<T>, StateError> {
        let (limit, mut rows) = (rows_max(limit), Vec::new());
        for_each(self.kv, table, range, |key, value| {
            if rows.len() == limit {
                return Ok(ControlFlow::Break(()));
            }
            rows.push(row_of(key, decode(table, value)?).ok_or(StateError::Key { table })?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }
}

pub(super) fn rows_max(limit: u32) -> usize {
    usize::try_from(limit).map_or(ROWS_MAX, |limit| limit.min(ROWS_MAX))
}

/// The newest row of `Versions` of a key.
pub(super) fn newest_noncurrent(
    kv: &dyn KvRead,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Option<VersionRecord>, StateError> {
    let mut newest = None;
    for_each(kv, Table::Versions, &KeyRange::prefix(&tables::escaped(bucket, key)), |_, value| {
        newest = Some(decode(Table::Versions, value)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(newest)
}

/// A row of `Versions` by its id.
pub(super) fn noncurrent(
    kv: &dyn KvRead,
    bucket: BucketId,
    key: &ObjectKey,
    version: VersionId,
) -> Result<Option<VersionRecord>, StateError> {
    let sequence = match version {
        VersionId::Id { sequence, .. } => Some(sequence),
        VersionId::Null => record(kv, Table::Null, &tables::object(bucket, key))?,
    };
    let Some(sequence) = sequence else { return Ok(None) };
    let found: Option<VersionRecord> = record(kv, Table::Versions, &tables::version(bucket, key, sequence))?;
    Ok(found.filter(|record| record.version_id == version))
}
