//! Questions and answers of the three listings.

use crate::{
    key::ObjectKey,
    object::VersionInfo,
    upload::{UploadId, UploadInfo},
    version::VersionId,
};
use serde::{Deserialize, Serialize};

/// ListObjects V1 and V2: live latest versions in byte order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListQuery {
    pub prefix: String,
    /// Empty: none.
    pub delimiter: String,
    /// Entries strictly after this text, compared as bytes. It need not be a key; where it is a common prefix, the
    /// whole group under it is skipped.
    pub after: String,
    /// Keys plus common prefixes, at most 1000.
    pub max_entries: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListEntry {
    Object(Box<VersionInfo>),
    /// A group of keys that agree up to the delimiter.
    CommonPrefix(String),
}

/// One snapshot's worth of entries, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPage {
    pub entries: Vec<ListEntry>,
    /// Where the next page begins (`after`), if there may be more. It can be set on a page with fewer than
    /// `max_entries` entries: the step budget ended it.
    pub next: Option<String>,
}

/// ListObjectVersions: all versions and delete markers, by key, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionQuery {
    pub prefix: String,
    pub delimiter: String,
    /// Entries of keys strictly after this, or, with `version_after`, older versions of this very key too.
    pub key_after: String,
    pub version_after: Option<VersionId>,
    pub max_entries: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionPage {
    pub entries: Vec<ListEntry>,
    /// `key_after` and `version_after` of the next page, if there may be more.
    pub next: Option<(String, Option<VersionId>)>,
}

/// ListMultipartUploads: by key, then by initiation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadQuery {
    pub prefix: String,
    pub delimiter: String,
    pub key_after: String,
    /// With it, later uploads of `key_after` itself too.
    pub upload_after: Option<UploadId>,
    pub max_entries: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPage {
    pub uploads: Vec<UploadInfo>,
    pub common_prefixes: Vec<String>,
    pub next: Option<(String, Option<UploadId>)>,
}

/// A version of a key that is to be deleted or read: the latest, or one by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    pub key: ObjectKey,
    pub version: Option<VersionId>,
}
