//! Version ids in queries and headers.

use super::plain;
use crate::{
    error::{S3Error, S3Result},
    target::Query,
};
use ashlar_types::VersionId;
use http::{HeaderMap, HeaderName};

pub(crate) const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
pub(crate) const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");

/// The version that `?versionId=` names.
pub(crate) fn asked(query: &Query) -> S3Result<Option<VersionId>> {
    match query.get("versionId") {
        None => Ok(None),
        Some("") => Err(S3Error::invalid_argument("versionId", "", "Version id cannot be the empty string")),
        Some(id) => match id.parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(S3Error::invalid_argument("versionId", id, "Invalid version id specified")),
        },
    }
}

pub(crate) fn show(id: Option<VersionId>, out: &mut HeaderMap) {
    if let Some(id) = id {
        out.insert(VERSION_ID, plain(id.to_string()));
    }
}
