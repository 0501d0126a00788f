//! CopyObject: a read of the source becomes the body of a write. Copies copy bytes.

use crate::{
    read::{FoundVersion, ReadPlan, find_version, open_stream},
    store::{Core, ObjectStore},
    write::{Expected, Intake, put_version},
};
use ashlar_metadata::query::ContentWanted;
use ashlar_types::{
    ByteRange, ChecksumAlgorithm, ObjectError, ObjectMetadata, RangeRequest, VersionId, VersionInfo,
    Versioning,
    condition::ReadOutcome,
    limits::PUT_MAX_LEN,
    service::{BucketInfo, Copied, CopyObject, CopySource},
};
use std::sync::Arc;

/// A source that is being read.
pub(crate) struct OpenSource {
    pub(crate) info: VersionInfo,
    /// Shown if the source's bucket was versioned at some time.
    pub(crate) version_id: Option<VersionId>,
    pub(crate) intake: Intake,
}

impl ObjectStore {
    pub async fn copy_object(
        &self,
        source_bucket: &BucketInfo,
        bucket: &BucketInfo,
        copy: CopyObject,
    ) -> Result<Copied, ObjectError> {
        let core = &self.0;
        let source = open_source(core, source_bucket, copy.source, None).await?;
        let metadata = copy
            .replace_metadata
            .unwrap_or_else(|| ObjectMetadata { owner: copy.owner, ..source.info.metadata.clone() });
        // The copy is one piece, whatever the source was, so its checksum covers all bytes.
        let kept = source.info.checksum.as_ref().map(|checksum| checksum.checksum.algorithm());
        let algorithm = copy.checksum.or(kept).unwrap_or(ChecksumAlgorithm::Crc64Nvme);
        let expected = Expected::new(None, None, algorithm);
        let written =
            put_version(core, bucket, copy.key, metadata, copy.condition, source.intake, &expected).await?;
        Ok(Copied { written, source_version_id: source.version_id })
    }
}

/// Begins to read a source. A range must lie within it.
pub(crate) async fn open_source(
    core: &Arc<Core>,
    bucket: &BucketInfo,
    source: CopySource,
    range: Option<RangeRequest>,
) -> Result<OpenSource, ObjectError> {
    let found = find_version(core, bucket, source.key, source.version, ContentWanted::Yes).await?;
    let FoundVersion { info, versioning, content, parts: _ } = found;
    match source.condition.evaluate(&info.etag, info.last_modified) {
        ReadOutcome::Proceed => {}
        ReadOutcome::NotModified | ReadOutcome::PreconditionFailed => {
            return Err(ObjectError::PreconditionFailed);
        }
    }
    let range = match range {
        None => ByteRange::whole(info.size),
        Some(range) => within(range, info.size)?,
    };
    if range.len() > PUT_MAX_LEN {
        return Err(ObjectError::EntityTooLarge);
    }
    let content = content.ok_or(ObjectError::Internal("metadata left out the content"))?;
    let body = open_stream(core, ReadPlan::new(bucket, &info, content, range)?).await?;
    Ok(OpenSource {
        version_id: (versioning != Versioning::Unversioned).then_some(info.version_id),
        intake: Intake::from_read(body, range.len())?,
        info,
    })
}

/// Unlike the range of a GET, that of a copy is not cut at the end of the source.
fn within(range: RangeRequest, size: u64) -> Result<ByteRange, ObjectError> {
    match range {
        RangeRequest::Between { last, .. } if last >= size => Err(ObjectError::InvalidRange),
        RangeRequest::Between { .. } | RangeRequest::From(_) | RangeRequest::Last(_) => {
            range.resolve(size).map_err(|_| ObjectError::InvalidRange)
        }
    }
}
