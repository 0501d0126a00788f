//! The version a request names, as metadata knows it.

use crate::store::{Core, WRONG_ANSWER};
use ashlar_metadata::query::{Answer, ContentWanted, Query, VersionAnswer};
use ashlar_types::{
    Content, ObjectError, ObjectKey, PartInfo, VersionId, VersionInfo, Versioning, service::BucketInfo,
};

pub(crate) struct FoundVersion {
    pub(crate) info: VersionInfo,
    pub(crate) versioning: Versioning,
    /// As asked for.
    pub(crate) content: Option<Content>,
    pub(crate) parts: Vec<PartInfo>,
}

/// Delete markers are not found: they have nothing to read.
pub(crate) async fn find_version(
    core: &Core,
    bucket: &BucketInfo,
    key: ObjectKey,
    version: Option<VersionId>,
    content: ContentWanted,
) -> Result<FoundVersion, ObjectError> {
    let query = Query::Version { bucket: bucket.id, key, version, content };
    let Answer::Version(answer) = core.query(bucket.group, query).await? else { return Err(WRONG_ANSWER) };
    match *answer {
        VersionAnswer::NoSuchBucket => Err(ObjectError::NoSuchBucket),
        VersionAnswer::NoSuchKey { delete_marker } => Err(ObjectError::NoSuchKey { delete_marker }),
        VersionAnswer::NoSuchVersion => Err(ObjectError::NoSuchVersion),
        VersionAnswer::Found { info, .. } if info.delete_marker => {
            Err(ObjectError::IsDeleteMarker { version_id: info.version_id })
        }
        VersionAnswer::Found { info, versioning, content, parts, sequence: _ } => {
            Ok(FoundVersion { info: *info, versioning, content, parts })
        }
    }
}
