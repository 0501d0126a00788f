//! New versions, and what they do to the ones before them.

use super::{
    apply::{Applied, Apply},
    fence::Fenced,
    quota::Growth,
};
use crate::{
    command::{Done, PutVersion, Refusal, WrittenVersion},
    encoding::Extensions,
    event::{Creation, EventKind, EventRecording},
    kv::Table,
    planted::{Plant, planted},
    query::Counters,
    tables::{
        self,
        record::{
            BucketRecord, CounterRecord, ManifestRecord, ObjectRecord, RepairRecord, ReverseRecord, Stored,
            VersionBody, VersionRecord,
        },
    },
};
use ashlar_types::{
    BucketId, ChunkId, Content, ETag, ExtentSource, ManifestEntry, ObjectKey, Sequence, ShardOwner,
    VersionId, Versioning, WriteCondition, condition::ConditionOutcome, limits::PUT_MAX_LEN, service::Quota,
};

/// A key of a bucket, with what every change of it needs.
pub(super) struct Place<'a> {
    pub(super) bucket: BucketId,
    pub(super) versioning: Versioning,
    pub(super) key: &'a ObjectKey,
    /// Written back by whoever opened the place.
    pub(super) counts: CounterRecord,
    pub(super) quota: Quota,
    pub(super) events: EventRecording,
}

impl Place<'_> {
    pub(super) fn next_sequence(&mut self) -> Sequence {
        let sequence = self.counts.next_sequence;
        self.counts.next_sequence = Sequence(sequence.0 + 1);
        sequence
    }

    fn version_id(&self, sequence: Sequence, salt: u128) -> VersionId {
        match self.versioning {
            Versioning::Enabled => VersionId::Id { sequence, salt },
            Versioning::Unversioned | Versioning::Suspended => VersionId::Null,
        }
    }
}

impl Apply<'_> {
    pub(super) fn place<'k>(
        &self,
        bucket: BucketId,
        record: &BucketRecord,
        key: &'k ObjectKey,
    ) -> Applied<Place<'k>> {
        let BucketRecord { versioning, quota, events, .. } = *record;
        Ok(Place { bucket, versioning, key, counts: self.counters(bucket)?, quota, events })
    }

    pub(super) fn put_version(&mut self, put: &PutVersion) -> Applied {
        let bucket = self.open_bucket(put.bucket)?;
        if put.size > PUT_MAX_LEN {
            return Err(Refusal::EntityTooLarge.into());
        }
        if put.content.manifest.len() != put.size {
            return Err(Refusal::SizeMismatch.into());
        }
        let mut place = self.place(put.bucket, &bucket, &put.key)?;
        let current = self.current(place.bucket, place.key)?;
        self.check_condition(&place, current.as_ref(), &put.condition)?;
        let replaced = self.replaced(&place, current.as_ref())?;
        place.check_quota(Growth {
            bytes_added: put.size,
            bytes_freed: replaced.as_ref().map_or(0, VersionRecord::size),
            objects_added: 1,
            objects_freed: replaced.map_or(0, |replaced| u64::from(!replaced.is_delete_marker())),
        })?;
        let fenced = self.fenced(&put.content)?;
        let object = ObjectRecord {
            uid: put.uid,
            size: put.size,
            etag: put.etag.clone(),
            crc64: put.crc64,
            metadata: put.metadata.clone(),
            checksum: put.checksum.clone(),
            upload: None,
            stored: stored(&put.content, put.crc64),
        };
        let sequence = place.next_sequence();
        self.name_content(&place, ShardOwner::Version(put.uid), &fenced);
        let Content { manifest, inline } = fenced.content.into_owned();
        self.put_content(
            &place,
            sequence,
            &object,
            ManifestRecord { manifest, ..ManifestRecord::default() },
            &inline,
        );
        let written = self.put_object(&mut place, current, sequence, put.salt, object, Creation::Put)?;
        self.put_counters(place.bucket, &place.counts);
        Ok(Done::Written(Box::new(written)))
    }

    /// Makes an object the latest version of its key. Its content is in the tables already.
    pub(super) fn put_object(
        &mut self,
        place: &mut Place<'_>,
        current: Option<VersionRecord>,
        sequence: Sequence,
        salt: u128,
        object: ObjectRecord,
        by: Creation,
    ) -> Applied<WrittenVersion> {
        self.make_room(place, current)?;
        let version_id = place.version_id(sequence, salt);
        let written = WrittenVersion {
            etag: object.etag.clone(),
            version_id: (place.versioning != Versioning::Unversioned).then_some(version_id),
            last_modified: self.now(),
            size: object.size,
            checksum: object.checksum.clone(),
        };
        place.counts.counters.objects += 1;
        place.counts.counters.bytes += object.size;
        let record = VersionRecord {
            sequence,
            version_id,
            last_modified: self.now(),
            noncurrent_since: None,
            body: VersionBody::Object(Box::new(object)),
            kept: Extensions::default(),
        };
        self.put(Table::Current, tables::object(place.bucket, place.key), &record);
        let WrittenVersion { version_id, size, etag, .. } = written.clone();
        self.record_event(place, EventKind::Created { by, version_id, size, etag })?;
        Ok(written)
    }

    /// Makes a delete marker the latest version.
    pub(super) fn put_marker(
        &mut self,
        place: &mut Place<'_>,
        current: Option<VersionRecord>,
        salt: u128,
        owner: &str,
    ) -> Applied<VersionId> {
        self.make_room(place, current)?;
        let sequence = place.next_sequence();
        let version_id = place.version_id(sequence, salt);
        place.counts.counters.delete_markers += 1;
        let record = VersionRecord {
            sequence,
            version_id,
            last_modified: self.now(),
            noncurrent_since: None,
            body: VersionBody::DeleteMarker { owner: owner.to_owned() },
            kept: Extensions::default(),
        };
        if record.is_null() {
            self.put(Table::Null, tables::object(place.bucket, place.key), &sequence);
        }
        self.put(Table::Versions, tables::version(place.bucket, place.key, sequence), &record);
        self.record_event(place, EventKind::DeleteMarkerCreated { version_id })?;
        Ok(version_id)
    }

    /// The version that a new latest one takes the place of: the null version, if the new one is to be that.
    pub(super) fn replaced(
        &self,
        place: &Place<'_>,
        current: Option<&VersionRecord>,
    ) -> Applied<Option<VersionRecord>> {
        match (place.versioning, current) {
            (Versioning::Enabled, _) => Ok(None),
            (Versioning::Unversioned | Versioning::Suspended, Some(current)) if current.is_null() => {
                Ok(Some(current.clone()))
            }
            (Versioning::Unversioned | Versioning::Suspended, _) => self.noncurrent_null(place),
        }
    }

    /// Before a new latest version: the present one steps back, or, if the new one is to be the null version, the
    /// old null version goes. Leaves no row in `Current`.
    fn make_room(&mut self, place: &mut Place<'_>, current: Option<VersionRecord>) -> Applied<()> {
        match (self.replaced(place, current.as_ref())?, current) {
            (Some(replaced), Some(current)) if replaced.sequence == current.sequence => {
                self.drop_current(place, &current)?;
            }
            (replaced, current) => {
                if let Some(null) = replaced {
                    self.drop_noncurrent(place, &null)?;
                }
                match current {
                    Some(current) => self.step_back(place, current),
                    None => self.latest_marker_ages(place)?,
                }
            }
        }
        Ok(())
    }

    /// `Current` to `Versions`.
    fn step_back(&mut self, place: &mut Place<'_>, mut current: VersionRecord) {
        current.noncurrent_since = Some(self.now());
        place.counts.counters.objects -= 1;
        place.counts.counters.noncurrent += 1;
        let object = tables::object(place.bucket, place.key);
        if current.is_null() {
            self.put(Table::Null, object.clone(), &current.sequence);
        }
        self.put(Table::Versions, tables::version(place.bucket, place.key, current.sequence), &current);
        self.remove(Table::Current, object);
    }

    /// A delete marker that was the latest version is so no more.
    fn latest_marker_ages(&mut self, place: &Place<'_>) -> Applied<()> {
        if place.versioning == Versioning::Unversioned {
            return Ok(());
        }
        if let Some(mut marker) = self.newest_noncurrent(place.bucket, place.key)? {
            marker.noncurrent_since = Some(self.now());
            self.put(Table::Versions, tables::version(place.bucket, place.key, marker.sequence), &marker);
        }
        Ok(())
    }

    /// `Versions` to `Current`, if the newest row there is an object: nothing newer is left.
    pub(super) fn promote(&mut self, place: &mut Place<'_>) -> Applied<()> {
        let Some(mut newest) = self.newest_noncurrent(place.bucket, place.key)? else { return Ok(()) };
        if newest.noncurrent_since.take().is_none() {
            return Ok(());
        }
        let version = tables::version(place.bucket, place.key, newest.sequence);
        if newest.is_delete_marker() {
            self.put(Table::Versions, version, &newest);
            return Ok(());
        }
        place.counts.counters.noncurrent -= 1;
        place.counts.counters.objects += 1;
        let object = tables::object(place.bucket, place.key);
        if newest.is_null() {
            self.remove(Table::Null, object.clone());
        }
        self.remove(Table::Versions, version);
        self.put(Table::Current, object, &newest);
        Ok(())
    }

    pub(super) fn drop_current(&mut self, place: &mut Place<'_>, record: &VersionRecord) -> Applied<()> {
        place.counts.counters.objects -= 1;
        self.remove(Table::Current, tables::object(place.bucket, place.key));
        self.drop_content(place, record)
    }

    pub(super) fn drop_noncurrent(&mut self, place: &mut Place<'_>, record: &VersionRecord) -> Applied<()> {
        let Counters { noncurrent, delete_markers, .. } = &mut place.counts.counters;
        match record.body {
            VersionBody::Object(_) => *noncurrent -= 1,
            VersionBody::DeleteMarker { .. } => *delete_markers -= 1,
        }
        if record.is_null() {
            self.remove(Table::Null, tables::object(place.bucket, place.key));
        }
        self.remove(Table::Versions, tables::version(place.bucket, place.key, record.sequence));
        self.drop_content(place, record)
    }

    fn drop_content(&mut self, place: &mut Place<'_>, record: &VersionRecord) -> Applied<()> {
        let Some(object) = record.object() else { return Ok(()) };
        place.counts.counters.bytes -= object.size;
        let row = tables::version(place.bucket, place.key, record.sequence);
        match object.stored {
            Stored::Nothing => {}
            Stored::Inline => self.remove(Table::Inline, row),
            Stored::Manifest => {
                let content: ManifestRecord = self.promised(Table::Manifest, &row)?;
                self.remove(Table::Manifest, row.clone());
                if content.has_inline() {
                    self.remove(Table::Inline, row);
                }
                self.remove(Table::Owners, tables::owner(place.bucket, place.key, object.owner(0)));
                for entry in content.manifest.entries {
                    let owner = object.owner(entry.part_number);
                    if let ExtentSource::Blob { blob, offset: _ } = entry.source {
                        self.discard_blob(owner, blob);
                    }
                }
            }
        }
        Ok(())
    }

    /// Rows with the bytes of a version, or the way to them.
    pub(super) fn put_content(
        &mut self,
        place: &Place<'_>,
        sequence: Sequence,
        object: &ObjectRecord,
        record: ManifestRecord,
        inline: &bytes::Bytes,
    ) {
        let row = tables::version(place.bucket, place.key, sequence);
        match object.stored {
            Stored::Nothing => {}
            Stored::Inline => self.tables.put(Table::Inline, row, inline.clone()),
            Stored::Manifest => {
                if record.has_inline() {
                    self.tables.put(Table::Inline, row.clone(), inline.clone());
                }
                self.put(Table::Owners, tables::owner(place.bucket, place.key, object.owner(0)), &sequence);
                self.put(Table::Manifest, row, &record);
            }
        }
    }

    /// Rows of `Reverse` and `Repair` for blobs that are new in the tables.
    pub(super) fn name_content(&mut self, place: &Place<'_>, owner: ShardOwner, fenced: &Fenced<'_>) {
        for blob in fenced.content.manifest.blobs() {
            let named = ReverseRecord { bucket: place.bucket, key: place.key.clone() };
            for (chunk, index) in blob.chunks.iter().zip(0u32..) {
                let id = ChunkId { blob: blob.id, index };
                self.put(Table::Reverse, tables::reverse(chunk.pg, owner, id), &named);
            }
            for missing in blob.missing() {
                // A late shard under an older interval does not fill a slot that was fenced.
                let superseded = fenced.superseded.get(&(missing.chunk, missing.slot)).copied();
                let repair = RepairRecord {
                    pg: missing.pg,
                    interval: superseded.unwrap_or(missing.interval),
                    bucket: place.bucket,
                    key: place.key.clone(),
                    owner,
                    bad_drive: None,
                    kept: Extensions::default(),
                };
                self.put(Table::Repair, tables::repair(missing.chunk, missing.slot), &repair);
            }
        }
    }

    pub(super) fn current(&self, bucket: BucketId, key: &ObjectKey) -> Applied<Option<VersionRecord>> {
        Ok(self.record(Table::Current, &tables::object(bucket, key))?)
    }

    /// The newest row of `Versions`: the latest version if there is none in `Current`.
    pub(super) fn newest_noncurrent(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> Applied<Option<VersionRecord>> {
        Ok(super::query::newest_noncurrent(&self.tables, bucket, key)?)
    }

    /// The null version, if it is not in `Current`.
    pub(super) fn noncurrent_null(&self, place: &Place<'_>) -> Applied<Option<VersionRecord>> {
        // A bucket that was never versioned has nothing outside `Current`.
        if place.versioning == Versioning::Unversioned {
            return Ok(None);
        }
        let object = tables::object(place.bucket, place.key);
        let Some(sequence) = self.record::<Sequence>(Table::Null, &object)? else { return Ok(None) };
        let row = tables::version(place.bucket, place.key, sequence);
        Ok(Some(self.promised(Table::Versions, &row)?))
    }

    pub(super) fn check_condition(
        &self,
        place: &Place<'_>,
        current: Option<&VersionRecord>,
        condition: &WriteCondition,
    ) -> Applied<()> {
        match condition.evaluate(current.and_then(etag)) {
            ConditionOutcome::Holds => Ok(()),
            _ if planted(Plant::ConditionOutsideLog) => Ok(()),
            ConditionOutcome::Fails => Err(Refusal::PreconditionFailed.into()),
            ConditionOutcome::Absent => {
                let marker = self.newest_noncurrent(place.bucket, place.key)?;
                let delete_marker = marker.filter(VersionRecord::is_delete_marker).map(|m| m.version_id);
                Err(Refusal::NoSuchKey { delete_marker }.into())
            }
        }
    }
}

pub(super) fn etag(record: &VersionRecord) -> Option<&ETag> {
    record.object().map(|object| &object.etag)
}

/// Where the content of a plain PUT goes.
fn stored(content: &Content, crc64: u64) -> Stored {
    match content.manifest.entries.as_slice() {
        [] => Stored::Nothing,
        [
            ManifestEntry {
                part_number: 0,
                len,
                crc64: entry_crc64,
                source: ExtentSource::Inline { offset: 0 },
            },
        ] if *len == content.inline.len() as u64 && *entry_crc64 == crc64 => Stored::Inline,
        _ => Stored::Manifest,
    }
}

impl ManifestRecord {
    /// There is a row in `Inline` too.
    pub(super) fn has_inline(&self) -> bool {
        self.manifest.entries.iter().any(|entry| matches!(entry.source, ExtentSource::Inline { .. }))
    }
}
