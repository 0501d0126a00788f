//! What S3 keeps about a version besides its bytes.

use crate::{
    checksum::ObjectChecksum, etag::ETag, ids::VersionUid, key::ObjectKey, time::Timestamp,
    version::VersionId,
};
use serde::{Deserialize, Serialize};

/// The system headers that a client may set and gets back unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHeaders {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<String>,
    pub website_redirect: Option<String>,
}

/// What a writer says about an object: all of it comes back on GET and HEAD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMetadata {
    pub headers: ObjectHeaders,
    /// `x-amz-meta-*` without the prefix, names in lower case, in order.
    pub user: Vec<(String, String)>,
    /// Tags as sent in `x-amz-tagging`, decoded.
    pub tags: Vec<(String, String)>,
    /// `None` is STANDARD.
    pub storage_class: Option<String>,
    /// Id of the user that wrote it.
    pub owner: String,
}

/// One version as readers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    pub key: ObjectKey,
    pub version_id: VersionId,
    pub uid: VersionUid,
    pub is_latest: bool,
    pub delete_marker: bool,
    pub size: u64,
    pub etag: ETag,
    pub last_modified: Timestamp,
    pub metadata: ObjectMetadata,
    pub checksum: Option<ObjectChecksum>,
    /// CRC-64/NVME of all bytes, kept for every object whatever the client declared; `None` only for delete
    /// markers.
    pub crc64: Option<u64>,
    /// Number of parts if it was uploaded in parts.
    pub parts_count: Option<u32>,
}
