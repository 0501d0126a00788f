//! The object service that the S3 front end calls: names resolved to buckets, then the data path.

use crate::{buckets::Buckets, running::Running};
use ashlar_datapath::query_error;
use ashlar_metadata::{
    MetadataApi,
    query::{Answer, Query},
};
use ashlar_s3api::backend;
use ashlar_types::{
    BucketName, ListPage, ListQuery, ObjectError, ObjectKey, PartInfo, UploadId, UploadInfo, UploadPage,
    UploadQuery, VersionPage, VersionQuery, Versioning,
    service::{
        AccessKey, BucketInfo, CompleteUpload, Copied, CopyObject, CreateUpload, DeleteKey, Deleted,
        GetObject, ListParts, ObjectRead, PartPage, PutObject, UploadPart, UploadPartCopy, Written,
    },
};
use async_trait::async_trait;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

const KEY_DEADLINE: Duration = Duration::from_secs(5);

/// Answers 503 until the node belongs to a cluster.
#[derive(Clone)]
pub struct NodeBackend {
    running: Arc<OnceLock<Arc<Running>>>,
}

impl NodeBackend {
    pub fn new(running: Arc<OnceLock<Arc<Running>>>) -> Self {
        Self { running }
    }

    fn running(&self) -> Result<&Running, ObjectError> {
        self.running.get().map(|running| &**running).ok_or(ObjectError::Unavailable(
            "this node belongs to no cluster yet: run `ashlar cluster init` or `ashlar cluster join`",
        ))
    }

    fn buckets(&self) -> Result<&Buckets, ObjectError> {
        self.running().map(|running| &running.buckets)
    }
}

#[async_trait]
impl backend::Identities for NodeBackend {
    async fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ObjectError> {
        let running = self.running()?;
        let query = Query::AccessKey { id: id.to_owned() };
        let answer = running.metadata.local_system(query, KEY_DEADLINE).await;
        let Answer::AccessKey(key) = answer.map_err(query_error)? else {
            return Err(ObjectError::Internal("group 0 gave another answer than asked"));
        };
        Ok(key)
    }
}

#[async_trait]
impl backend::Buckets for NodeBackend {
    async fn list_buckets(&self, owner: &str) -> Result<Vec<BucketInfo>, ObjectError> {
        self.buckets()?.list(owner).await
    }

    async fn create_bucket(
        &self,
        name: &BucketName,
        owner: &str,
        location: &str,
    ) -> Result<BucketInfo, ObjectError> {
        self.buckets()?.create(name, owner, location).await
    }

    async fn bucket(&self, name: &BucketName) -> Result<BucketInfo, ObjectError> {
        self.buckets()?.get(name).await
    }

    async fn delete_bucket(&self, name: &BucketName) -> Result<(), ObjectError> {
        self.buckets()?.delete(name).await
    }

    async fn versioning(&self, name: &BucketName) -> Result<Versioning, ObjectError> {
        self.buckets()?.versioning(name).await
    }

    async fn set_versioning(&self, name: &BucketName, versioning: Versioning) -> Result<(), ObjectError> {
        self.buckets()?.set_versioning(name, versioning).await
    }
}

#[async_trait]
impl backend::Objects for NodeBackend {
    async fn put_object(&self, put: PutObject) -> Result<Written, ObjectError> {
        let running = self.running()?;
        let name = put.bucket.clone();
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.put_object(&bucket, put).await).await
    }

    async fn get_object(&self, get: GetObject) -> Result<ObjectRead, ObjectError> {
        let running = self.running()?;
        let name = get.bucket.clone();
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.get_object(&bucket, get).await).await
    }

    async fn copy_object(&self, copy: CopyObject) -> Result<Copied, ObjectError> {
        let running = self.running()?;
        let name = copy.bucket.clone();
        let source = running.buckets.get(&copy.source.bucket).await?;
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.copy_object(&source, &bucket, copy).await).await
    }

    async fn delete_objects(
        &self,
        name: &BucketName,
        keys: Vec<DeleteKey>,
    ) -> Result<Vec<Result<Deleted, ObjectError>>, ObjectError> {
        let running = self.running()?;
        let bucket = running.buckets.get(name).await?;
        running.buckets.settle(name, running.store.delete_objects(&bucket, keys, &bucket.owner).await).await
    }

    async fn list_objects(&self, name: &BucketName, query: ListQuery) -> Result<ListPage, ObjectError> {
        let running = self.running()?;
        let bucket = running.buckets.get(name).await?;
        running.buckets.settle(name, running.store.list_objects(&bucket, query).await).await
    }

    async fn list_versions(
        &self,
        name: &BucketName,
        query: VersionQuery,
    ) -> Result<VersionPage, ObjectError> {
        let running = self.running()?;
        let bucket = running.buckets.get(name).await?;
        running.buckets.settle(name, running.store.list_versions(&bucket, query).await).await
    }
}

#[async_trait]
impl backend::Uploads for NodeBackend {
    async fn create_upload(&self, create: CreateUpload) -> Result<UploadInfo, ObjectError> {
        let running = self.running()?;
        let name = create.bucket.clone();
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.create_upload(&bucket, create).await).await
    }

    async fn upload_part(&self, part: UploadPart) -> Result<PartInfo, ObjectError> {
        let running = self.running()?;
        let name = part.bucket.clone();
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.upload_part(&bucket, part).await).await
    }

    async fn upload_part_copy(&self, part: UploadPartCopy) -> Result<PartInfo, ObjectError> {
        let running = self.running()?;
        let name = part.bucket.clone();
        let source = running.buckets.get(&part.source.bucket).await?;
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.upload_part_copy(&source, &bucket, part).await).await
    }

    async fn complete_upload(&self, complete: CompleteUpload) -> Result<Written, ObjectError> {
        let running = self.running()?;
        let name = complete.bucket.clone();
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.complete_upload(&bucket, complete).await).await
    }

    async fn abort_upload(
        &self,
        name: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<(), ObjectError> {
        let running = self.running()?;
        let bucket = running.buckets.get(name).await?;
        running.buckets.settle(name, running.store.abort_upload(&bucket, key, upload).await).await
    }

    async fn list_parts(&self, list: ListParts) -> Result<PartPage, ObjectError> {
        let running = self.running()?;
        let name = list.bucket.clone();
        let bucket = running.buckets.get(&name).await?;
        running.buckets.settle(&name, running.store.list_parts(&bucket, list).await).await
    }

    async fn list_uploads(&self, name: &BucketName, query: UploadQuery) -> Result<UploadPage, ObjectError> {
        let running = self.running()?;
        let bucket = running.buckets.get(name).await?;
        running.buckets.settle(name, running.store.list_uploads(&bucket, query).await).await
    }
}
