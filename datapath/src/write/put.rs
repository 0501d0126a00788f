//! PutObject, and the commit of a version that a copy shares with it.

use super::{Body, Expected, Intake, Target, commit, digests::of_whole, write};
use crate::store::{Core, ObjectStore, WRONG_ANSWER};
use ashlar_metadata::command::{Done, PartitionCommand, PutVersion, WrittenVersion};
use ashlar_runtime::RngExt;
use ashlar_types::{
    ChecksumAlgorithm, ETag, ObjectError, ObjectKey, ObjectMetadata, ShardOwner, VersionUid, WriteCondition,
    service::{BucketInfo, PutObject, Written},
};
use std::sync::Arc;

impl ObjectStore {
    pub async fn put_object(&self, bucket: &BucketInfo, put: PutObject) -> Result<Written, ObjectError> {
        let payload = put.payload;
        let intake = Intake::from_body(payload.body, payload.len)?;
        let expected = Expected::new(payload.content_md5, payload.checksum, ChecksumAlgorithm::Crc64Nvme);
        put_version(&self.0, bucket, put.key, put.metadata, put.condition, intake, &expected).await
    }
}

/// Writes a whole object and commits it as a new version.
pub(crate) async fn put_version(
    core: &Arc<Core>,
    bucket: &BucketInfo,
    key: ObjectKey,
    metadata: ObjectMetadata,
    condition: WriteCondition,
    intake: Intake,
    expected: &Expected,
) -> Result<Written, ObjectError> {
    let uid = VersionUid(core.env.rng.u128());
    let target = Target {
        bucket: bucket.id,
        group: bucket.group,
        key,
        owner: ShardOwner::Version(uid),
        request: core.begin(bucket.group).await?,
    };
    let Body { content, digests, checksum, blob } = write(core, &target, 0, intake, expected).await?;
    let inline = blob.is_none();
    let version = PutVersion {
        bucket: target.bucket,
        key: target.key.clone(),
        uid,
        salt: core.env.rng.u128(),
        condition,
        metadata,
        size: digests.len,
        etag: ETag::from_md5(digests.md5),
        crc64: digests.crc64,
        checksum: Some(of_whole(checksum)),
        content,
    };
    let command = PartitionCommand::PutVersion(Box::new(version));
    let Done::Written(written) = commit(core, &target, command, blob).await? else {
        return Err(WRONG_ANSWER);
    };
    core.metrics.put_bytes.increment(written.size);
    if inline {
        core.metrics.inline_puts.increment(1);
    }
    Ok(written_version(*written))
}

pub(crate) fn written_version(written: WrittenVersion) -> Written {
    Written {
        etag: written.etag,
        version_id: written.version_id,
        last_modified: written.last_modified,
        size: written.size,
        checksum: written.checksum,
    }
}
