//! Deletes and listings: one command or query each, decided by metadata.

use crate::{
    refusal::object_error,
    store::{ObjectStore, WRONG_ANSWER},
};
use ashlar_metadata::{
    command::{Done, PartitionCommand},
    query::{Answer, Query},
};
use ashlar_runtime::RngExt;
use ashlar_types::{
    ListPage, ListQuery, ObjectError, VersionPage, VersionQuery,
    service::{BucketInfo, DeleteKey, Deleted},
};

impl ObjectStore {
    /// At most 1000 keys, one result each, in order. Not atomic. `owner` owns the delete markers made.
    pub async fn delete_objects(
        &self,
        bucket: &BucketInfo,
        keys: Vec<DeleteKey>,
        owner: &str,
    ) -> Result<Vec<Result<Deleted, ObjectError>>, ObjectError> {
        let core = &self.0;
        let request = core.begin(bucket.group).await?;
        let command = PartitionCommand::DeleteVersions {
            bucket: bucket.id,
            keys,
            owner: owner.to_owned(),
            salt: core.env.rng.u128(),
        };
        let Done::Deleted(results) = core.propose(bucket.group, Some(request), command).await? else {
            return Err(WRONG_ANSWER);
        };
        Ok(results.into_iter().map(|result| result.map_err(object_error)).collect())
    }

    pub async fn list_objects(&self, bucket: &BucketInfo, query: ListQuery) -> Result<ListPage, ObjectError> {
        let query = Query::List { bucket: bucket.id, query };
        let Answer::List(page) = self.0.query(bucket.group, query).await? else { return Err(WRONG_ANSWER) };
        Ok(page)
    }

    pub async fn list_versions(
        &self,
        bucket: &BucketInfo,
        query: VersionQuery,
    ) -> Result<VersionPage, ObjectError> {
        let query = Query::Versions { bucket: bucket.id, query };
        let Answer::Versions(page) = self.0.query(bucket.group, query).await? else {
            return Err(WRONG_ANSWER);
        };
        Ok(page)
    }
}
