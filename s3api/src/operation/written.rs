//! Headers that answer a write.

use crate::headers::{checksum, plain, version};
use ashlar_types::{ETag, ObjectChecksum, VersionId};
use http::{HeaderMap, header};

/// What the client checks and keeps of a write.
pub(super) fn show(
    etag: &ETag,
    version_id: Option<VersionId>,
    object_checksum: Option<&ObjectChecksum>,
    out: &mut HeaderMap,
) {
    out.insert(header::ETAG, plain(etag.quoted()));
    version::show(version_id, out);
    if let Some(object_checksum) = object_checksum {
        checksum::show(object_checksum, out);
    }
}
