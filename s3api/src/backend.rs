//! The object service as the S3 front end sees it. `s3api` owns these traits, `node` implements them; nothing here
//! knows shards, drives or groups.
//!
//! Every call is made after authentication and authorisation. Dropping a future abandons the request: a write whose
//! future is dropped leaves nothing visible unless its commit was already under way.

use ashlar_types::PartInfo;
use ashlar_types::{
    BucketName, ListPage, ListQuery, ObjectError, ObjectKey, UploadId, UploadInfo, UploadPage, UploadQuery,
    VersionPage, VersionQuery, Versioning,
    service::{
        AccessKey, BucketInfo, CompleteUpload, Copied, CopyObject, CreateUpload, DeleteKey, Deleted,
        GetObject, ListParts, ObjectRead, PartPage, PutObject, UploadPart, UploadPartCopy, Written,
    },
};
use async_trait::async_trait;

/// All that the front end needs.
pub trait Backend: Identities + Buckets + Objects + Uploads {}

impl<T: Identities + Buckets + Objects + Uploads> Backend for T {}

#[async_trait]
pub trait Identities: Send + Sync + 'static {
    /// `None`: there is no such key, confirmed by group 0.
    async fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ObjectError>;
}

#[async_trait]
pub trait Buckets: Send + Sync + 'static {
    /// All buckets of an owner, by name.
    async fn list_buckets(&self, owner: &str) -> Result<Vec<BucketInfo>, ObjectError>;

    async fn create_bucket(
        &self,
        name: &BucketName,
        owner: &str,
        location: &str,
    ) -> Result<BucketInfo, ObjectError>;

    /// To find out whose it is and where. It may have been deleted a moment ago: whatever is then asked of it says so.
    async fn bucket(&self, name: &BucketName) -> Result<BucketInfo, ObjectError>;

    async fn delete_bucket(&self, name: &BucketName) -> Result<(), ObjectError>;

    /// Linearizable; also tells for certain whether the bucket is there.
    async fn versioning(&self, name: &BucketName) -> Result<Versioning, ObjectError>;

    /// Never back to `Unversioned`.
    async fn set_versioning(&self, name: &BucketName, versioning: Versioning) -> Result<(), ObjectError>;
}

#[async_trait]
pub trait Objects: Send + Sync + 'static {
    async fn put_object(&self, put: PutObject) -> Result<Written, ObjectError>;

    /// GET and HEAD.
    async fn get_object(&self, get: GetObject) -> Result<ObjectRead, ObjectError>;

    async fn copy_object(&self, copy: CopyObject) -> Result<Copied, ObjectError>;

    /// At most 1000 keys, one result each, in order. Not atomic.
    async fn delete_objects(
        &self,
        bucket: &BucketName,
        keys: Vec<DeleteKey>,
    ) -> Result<Vec<Result<Deleted, ObjectError>>, ObjectError>;

    async fn list_objects(&self, bucket: &BucketName, query: ListQuery) -> Result<ListPage, ObjectError>;

    async fn list_versions(
        &self,
        bucket: &BucketName,
        query: VersionQuery,
    ) -> Result<VersionPage, ObjectError>;
}

#[async_trait]
pub trait Uploads: Send + Sync + 'static {
    async fn create_upload(&self, create: CreateUpload) -> Result<UploadInfo, ObjectError>;

    async fn upload_part(&self, part: UploadPart) -> Result<PartInfo, ObjectError>;

    async fn upload_part_copy(&self, part: UploadPartCopy) -> Result<PartInfo, ObjectError>;

    /// A repeated Complete of the same parts answers the same.
    async fn complete_upload(&self, complete: CompleteUpload) -> Result<Written, ObjectError>;

    async fn abort_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<(), ObjectError>;

    async fn list_parts(&self, list: ListParts) -> Result<PartPage, ObjectError>;

    async fn list_uploads(&self, bucket: &BucketName, query: UploadQuery) -> Result<UploadPage, ObjectError>;
}
