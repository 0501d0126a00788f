//! Puts, gets, copies and deletes of the model.

use super::{Bucket, Memory, Stored, receive, relabel};
use ashlar_hashing::ObjectDigests;
use ashlar_s3api::backend::Objects;
use ashlar_types::{
    BucketName, ByteRange, Checksum, ChecksumKind, ETag, ListPage, ListQuery, ObjectChecksum, ObjectError,
    ObjectKey, ObjectMetadata, PartInfo, VersionId, VersionInfo, VersionPage, VersionQuery, VersionUid,
    Versioning, WriteCondition,
    condition::{ConditionOutcome, ReadOutcome},
    service::{
        Copied, CopyObject, CopySource, DeleteKey, Deleted, GetObject, ObjectRead, PutObject, Selection,
        Written,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::Ordering;

pub(super) fn check(condition: &WriteCondition, bucket: &Bucket, key: &ObjectKey) -> Result<(), ObjectError> {
    match condition.evaluate(bucket.latest(key.as_str()).map(|stored| &stored.info.etag)) {
        ConditionOutcome::Holds => Ok(()),
        ConditionOutcome::Fails => Err(ObjectError::PreconditionFailed),
        ConditionOutcome::Absent => Err(ObjectError::NoSuchKey { delete_marker: None }),
    }
}

/// The bytes of a new version and what was found out about them.
pub(super) struct NewVersion {
    pub(super) bytes: Bytes,
    pub(super) etag: ETag,
    pub(super) checksum: Option<ObjectChecksum>,
    pub(super) crc64: u64,
    pub(super) parts: Vec<PartInfo>,
}

impl NewVersion {
    pub(super) fn whole(bytes: Bytes, digests: &ObjectDigests, checksum: Option<Checksum>) -> Self {
        let full = |checksum| ObjectChecksum { checksum, kind: ChecksumKind::FullObject, parts: None };
        Self {
            bytes,
            etag: ETag::from_md5(digests.md5),
            checksum: checksum.map(full),
            crc64: digests.crc64,
            parts: Vec::new(),
        }
    }
}

impl Memory {
    pub(super) fn commit(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        metadata: ObjectMetadata,
        conditions: &[&WriteCondition],
        new: NewVersion,
    ) -> Result<Written, ObjectError> {
        let mut state = self.state();
        let (sequence, last_modified) = state.next();
        let bucket = state.bucket(bucket)?;
        for condition in conditions {
            check(condition, bucket, key)?;
        }
        let version_id = bucket.new_version_id(sequence);
        let info = VersionInfo {
            key: key.clone(),
            version_id,
            uid: VersionUid(u128::from(sequence.0)),
            is_latest: true,
            delete_marker: false,
            size: new.bytes.len() as u64,
            etag: new.etag,
            last_modified,
            metadata,
            checksum: new.checksum,
            crc64: Some(new.crc64),
            parts_count: (!new.parts.is_empty()).then(|| u32::try_from(new.parts.len()).unwrap()),
        };
        let written = Written {
            etag: info.etag.clone(),
            version_id: bucket.shown(version_id),
            last_modified,
            size: info.size,
            checksum: info.checksum.clone(),
        };
        bucket.push(Stored { info, bytes: new.bytes, parts: new.parts });
        Ok(written)
    }

    fn find(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
    ) -> Result<Stored, ObjectError> {
        let mut state = self.state();
        let versions = state.bucket(bucket)?.keys.get(key.as_str());
        let absent = ObjectError::NoSuchKey { delete_marker: None };
        match (version, versions) {
            (None, versions) => {
                let latest = versions.and_then(|versions| versions.first()).ok_or(absent)?;
                if latest.info.delete_marker {
                    Err(ObjectError::NoSuchKey { delete_marker: Some(latest.info.version_id) })
                } else {
                    Ok(latest.clone())
                }
            }
            (Some(id), versions) => {
                let found = versions.into_iter().flatten().find(|stored| stored.info.version_id == id);
                let found = found.ok_or(ObjectError::NoSuchVersion)?;
                if found.info.delete_marker {
                    Err(ObjectError::IsDeleteMarker { version_id: id })
                } else {
                    Ok(found.clone())
                }
            }
        }
    }

    /// The source of a copy: its bytes, metadata and shown version id.
    pub(super) fn source(
        &self,
        source: &CopySource,
    ) -> Result<(Bytes, VersionInfo, Option<VersionId>), ObjectError> {
        let found = self.find(&source.bucket, &source.key, source.version)?;
        match source.condition.evaluate(&found.info.etag, found.info.last_modified) {
            ReadOutcome::Proceed => {}
            ReadOutcome::NotModified | ReadOutcome::PreconditionFailed => {
                return Err(ObjectError::PreconditionFailed);
            }
        }
        let shown = self.state().bucket(&source.bucket)?.shown(found.info.version_id);
        Ok((found.bytes, found.info, shown))
    }
}

#[async_trait]
impl Objects for Memory {
    async fn put_object(&self, put: PutObject) -> Result<Written, ObjectError> {
        let (bytes, digests, checksum) = receive(put.payload).await?;
        let new = NewVersion::whole(bytes, &digests, checksum);
        self.commit(&put.bucket, &put.key, put.metadata, &[&put.condition], new)
    }

    async fn get_object(&self, get: GetObject) -> Result<ObjectRead, ObjectError> {
        let found = self.find(&get.bucket, &get.key, get.version)?;
        let show_version_id = self.state().bucket(&get.bucket)?.versioning != Versioning::Unversioned;
        let size = found.info.size;
        let not_modified = match get.condition.evaluate(&found.info.etag, found.info.last_modified) {
            ReadOutcome::Proceed => false,
            ReadOutcome::NotModified => true,
            ReadOutcome::PreconditionFailed => return Err(ObjectError::PreconditionFailed),
        };
        let mut part = None;
        let range = match get.selection {
            Selection::Whole => ByteRange::whole(size),
            Selection::Range(range) => range.resolve(size).map_err(|_| ObjectError::InvalidRange)?,
            Selection::Part(1) if found.parts.is_empty() => ByteRange::whole(size),
            Selection::Part(part_number) => {
                let index = found.parts.iter().position(|part| part.part_number == part_number);
                let index = index.ok_or(ObjectError::InvalidPartNumber { part_number })?;
                part = Some(found.parts[index].clone());
                let start = found.parts[..index].iter().map(|part| part.size).sum();
                ByteRange { start, end: start + found.parts[index].size }
            }
        };
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        let piece = found.bytes.slice(start..end);
        let body = (!get.head && !not_modified).then(|| {
            // In two pieces, so that nobody relies on one.
            let (first, second) = (piece.slice(..piece.len() / 2), piece.slice(piece.len() / 2..));
            let second = if self.reads_break.load(Ordering::Relaxed) {
                Err(ObjectError::Unreadable)
            } else {
                Ok(second)
            };
            Box::pin(futures_util::stream::iter([Ok(first), second])) as ashlar_types::ReadStream
        });
        Ok(ObjectRead { info: found.info, show_version_id, range, not_modified, part, body })
    }

    async fn copy_object(&self, copy: CopyObject) -> Result<Copied, ObjectError> {
        let (bytes, info, source_version_id) = self.source(&copy.source)?;
        let metadata = copy.replace_metadata.unwrap_or(ObjectMetadata { owner: copy.owner, ..info.metadata });
        let algorithm = copy.checksum.or(info.checksum.map(|checksum| checksum.checksum.algorithm()));
        let mut hasher = ashlar_hashing::ObjectHasher::new(algorithm);
        hasher.update(&bytes);
        let digests = hasher.finish();
        let new = NewVersion::whole(bytes, &digests, digests.declared.clone());
        let written = self.commit(&copy.bucket, &copy.key, metadata, &[&copy.condition], new)?;
        Ok(Copied { written, source_version_id })
    }

    async fn delete_objects(
        &self,
        bucket: &BucketName,
        keys: Vec<DeleteKey>,
    ) -> Result<Vec<Result<Deleted, ObjectError>>, ObjectError> {
        self.state().bucket(bucket)?;
        Ok(keys.into_iter().map(|key| self.delete(bucket, key)).collect())
    }

    async fn list_objects(&self, bucket: &BucketName, query: ListQuery) -> Result<ListPage, ObjectError> {
        Ok(self.state().bucket(bucket)?.list(&query))
    }

    async fn list_versions(
        &self,
        bucket: &BucketName,
        query: VersionQuery,
    ) -> Result<VersionPage, ObjectError> {
        Ok(self.state().bucket(bucket)?.list_versions(&query))
    }
}

impl Memory {
    fn delete(&self, bucket: &BucketName, delete: DeleteKey) -> Result<Deleted, ObjectError> {
        let DeleteKey { key, version, condition } = delete;
        let mut state = self.state();
        let (sequence, last_modified) = state.next();
        let bucket = state.bucket(bucket)?;
        check(&condition, bucket, &key)?;
        let deleted = |delete_marker| Deleted { key: key.clone(), version_id: version, delete_marker };
        if version.is_some() || bucket.versioning == Versioning::Unversioned {
            let id = version.unwrap_or(VersionId::Null);
            let mut marker = None;
            if let Some(versions) = bucket.keys.get_mut(key.as_str()) {
                let found = versions.iter().position(|stored| stored.info.version_id == id);
                if let Some(stored) = found.map(|index| versions.remove(index)) {
                    marker = stored.info.delete_marker.then_some(id);
                }
                relabel(versions);
                if versions.is_empty() {
                    bucket.keys.remove(key.as_str());
                }
            }
            return Ok(deleted(marker));
        }
        let version_id = bucket.new_version_id(sequence);
        let info = VersionInfo {
            key: key.clone(),
            version_id,
            uid: VersionUid(u128::from(sequence.0)),
            is_latest: true,
            delete_marker: true,
            size: 0,
            etag: ETag::parse(""),
            last_modified,
            metadata: ObjectMetadata { owner: bucket.info.owner.clone(), ..ObjectMetadata::default() },
            checksum: None,
            crc64: None,
            parts_count: None,
        };
        bucket.push(Stored { info, bytes: Bytes::new(), parts: Vec::new() });
        Ok(deleted(Some(version_id)))
    }
}
