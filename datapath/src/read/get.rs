//! GetObject and HeadObject.

use super::{FoundVersion, ReadPlan, find_version, open_stream, select::select};
use crate::store::ObjectStore;
use ashlar_metadata::query::ContentWanted;
use ashlar_types::{
    ByteRange, ObjectError, Versioning,
    condition::ReadOutcome,
    service::{BucketInfo, GetObject, ObjectRead, Selection},
};

impl ObjectStore {
    /// Answers after the first bytes are verified, so that an object that cannot be read is an error and not a broken
    /// answer.
    pub async fn get_object(&self, bucket: &BucketInfo, get: GetObject) -> Result<ObjectRead, ObjectError> {
        let core = &self.0;
        let needs_parts = matches!(get.selection, Selection::Part(_));
        let wanted = if get.head && !needs_parts { ContentWanted::No } else { ContentWanted::Yes };
        let found = find_version(core, bucket, get.key, get.version, wanted).await?;
        let FoundVersion { info, versioning, content, parts } = found;
        let show_version_id = versioning != Versioning::Unversioned;
        let not_modified = match get.condition.evaluate(&info.etag, info.last_modified) {
            ReadOutcome::Proceed => false,
            ReadOutcome::NotModified => true,
            ReadOutcome::PreconditionFailed => return Err(ObjectError::PreconditionFailed),
        };
        if not_modified {
            let range = ByteRange::whole(info.size);
            return Ok(ObjectRead { info, show_version_id, range, not_modified, part: None, body: None });
        }
        let manifest = content.as_ref().map(|content| &content.manifest);
        let (range, part) = select(get.selection, &info, manifest, &parts)?;
        let body = if get.head {
            None
        } else {
            let content = content.ok_or(ObjectError::Internal("metadata left out the content"))?;
            Some(open_stream(core, ReadPlan::new(bucket, &info, content, range)?).await?)
        };
        Ok(ObjectRead { info, show_version_id, range, not_modified, part, body })
    }
}
