//! The bucket directory from a gateway's side: names to buckets, and the steps of create and delete across group 0
//! and the bucket's own group.
//!
//! A bucket that this node's copy of group 0 names is used without asking. A bucket id is never used twice, so an aged
//! copy can only lead to a group that does not know the bucket any more; the request is then refused as busy, after
//! group 0 was asked, and the retry finds the copy renewed. A negative answer always comes from group 0.

#[cfg(test)]
mod tests;

use ashlar_datapath::{object_error, propose_error, query_error};
use ashlar_metadata::{
    MetadataApi,
    command::{Command, Done, PartitionCommand, SystemCommand},
    query::{Answer, BucketPhase, Query},
};
use ashlar_runtime::{Env, RngExt};
use ashlar_types::{BucketName, GroupId, ObjectError, Versioning, service::BucketInfo};
use std::{sync::Arc, time::Duration};

/// A step of a directory change; several leaders' elections fit in it.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// Rows that one purge command drops.
const PURGE_ROWS: u32 = 1000;
/// A group answered another question than it was asked: nodes disagree about the protocol.
const ANOTHER_ANSWER: ObjectError = ObjectError::Internal("a metadata group gave another answer than asked");

#[derive(Clone)]
pub struct Buckets {
    metadata: Arc<dyn MetadataApi>,
    env: Env,
}

impl Buckets {
    pub fn new(metadata: Arc<dyn MetadataApi>, env: Env) -> Self {
        Self { metadata, env }
    }

    /// An active bucket, perhaps from this node's copy of the directory.
    pub async fn get(&self, name: &BucketName) -> Result<BucketInfo, ObjectError> {
        let query = Query::Bucket { name: name.clone() };
        active(self.metadata.local_system(query, STEP_DEADLINE).await.map_err(query_error)?)
    }

    async fn ask(&self, name: &BucketName) -> Result<BucketInfo, ObjectError> {
        active(self.query(GroupId::SYSTEM, Query::Bucket { name: name.clone() }).await?)
    }

    /// What an operation on a bucket came to. If its group does not know the bucket, the copy may have been old:
    /// group 0 tells whether the name is free now or has another bucket, for which the caller was not authorised.
    pub async fn settle<T>(
        &self,
        name: &BucketName,
        result: Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        if !matches!(result, Err(ObjectError::NoSuchBucket)) {
            return result;
        }
        self.ask(name).await.and(Err(ObjectError::BucketBusy))
    }

    pub async fn list(&self, owner: &str) -> Result<Vec<BucketInfo>, ObjectError> {
        let Answer::Buckets(rows) =
            self.query(GroupId::SYSTEM, Query::Buckets { owner: owner.to_owned() }).await?
        else {
            return Err(ANOTHER_ANSWER);
        };
        Ok(rows.into_iter().map(|row| row.info).collect())
    }

    /// Reserves the name, creates the bucket in a group, activates the name. Each step can be repeated, by this
    /// gateway or, after its death, by housekeeping.
    pub async fn create(
        &self,
        name: &BucketName,
        owner: &str,
        location: &str,
    ) -> Result<BucketInfo, ObjectError> {
        let group = self.choose_group()?;
        let reserve = SystemCommand::ReserveBucket {
            name: name.clone(),
            owner: owner.to_owned(),
            location: location.to_owned(),
            group,
        };
        let Done::Bucket(info) = self.propose(GroupId::SYSTEM, Command::System(reserve)).await? else {
            return Err(ObjectError::Internal("group 0 gave another outcome than proposed"));
        };
        self.finish_create(&info).await?;
        Ok(info)
    }

    /// The second and third step of a create.
    pub async fn finish_create(&self, info: &BucketInfo) -> Result<(), ObjectError> {
        let create = PartitionCommand::CreateBucket { bucket: info.clone() };
        self.propose(info.group, Command::Partition(create)).await?;
        let activate = SystemCommand::ActivateBucket { bucket: info.id };
        self.propose(GroupId::SYSTEM, Command::System(activate)).await?;
        Ok(())
    }

    /// Seals, frees the name, purges. Once the bucket is sealed, housekeeping finishes what this does not.
    pub async fn delete(&self, name: &BucketName) -> Result<(), ObjectError> {
        let info = self.ask(name).await?;
        let seal = PartitionCommand::SealBucket { bucket: info.id };
        match self.propose(info.group, Command::Partition(seal)).await {
            // Another delete has purged it, and freed its name before.
            Ok(_) | Err(ObjectError::NoSuchBucket) => {}
            Err(error) => return Err(error),
        }
        self.free_name(&info).await?;
        // The name is gone, which is what the client asked for; what is left is unreachable rows.
        if let Err(error) = self.purge(&info).await {
            tracing::warn!(bucket = info.id.0, %error, "bucket removed, its rows are not purged yet");
        }
        Ok(())
    }

    /// The second step of a delete: only of a sealed bucket.
    async fn free_name(&self, info: &BucketInfo) -> Result<(), ObjectError> {
        let remove = SystemCommand::RemoveBucket { bucket: info.id };
        self.propose(GroupId::SYSTEM, Command::System(remove)).await?;
        Ok(())
    }

    /// The last one: only of a bucket whose name is free.
    async fn purge(&self, info: &BucketInfo) -> Result<(), ObjectError> {
        let purge = PartitionCommand::PurgeBucket { bucket: info.id, limit: PURGE_ROWS };
        while let Done::Purged { more: true } =
            self.propose(info.group, Command::Partition(purge.clone())).await?
        {}
        Ok(())
    }

    /// Linearizable, from the bucket's group: also proves that the bucket is there.
    pub async fn versioning(&self, name: &BucketName) -> Result<Versioning, ObjectError> {
        let info = self.get(name).await?;
        let answer = self.query(info.group, Query::BucketState { bucket: info.id }).await?;
        if let Answer::BucketState(Some(state)) = answer
            && !state.sealed
        {
            return Ok(state.versioning);
        }
        self.settle(name, Err(ObjectError::NoSuchBucket)).await
    }

    pub async fn set_versioning(&self, name: &BucketName, versioning: Versioning) -> Result<(), ObjectError> {
        let info = self.get(name).await?;
        let command = PartitionCommand::SetVersioning { bucket: info.id, versioning };
        let result = self.propose(info.group, Command::Partition(command)).await;
        self.settle(name, result).await.map(|_| ())
    }

    /// Finishes creates whose gateway died between their steps; gives up those that are too old to be made.
    pub async fn finish_reserved(&self) -> Result<(), ObjectError> {
        let Answer::Buckets(rows) = self.query(GroupId::SYSTEM, Query::BucketRows).await? else {
            return Err(ANOTHER_ANSWER);
        };
        for row in rows.iter().filter(|row| row.phase == BucketPhase::Reserved) {
            match self.finish_create(&row.info).await {
                Ok(()) => tracing::info!(bucket = row.info.id.0, "finished the create of a bucket"),
                Err(ObjectError::BucketBusy) => {
                    // Does nothing to a bucket that has become active meanwhile.
                    let abandon = SystemCommand::AbandonBucket { bucket: row.info.id };
                    self.propose(GroupId::SYSTEM, Command::System(abandon)).await?;
                    tracing::info!(
                        bucket = row.info.id.0,
                        "gave up a bucket that was reserved and never made"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Finishes deletes in a group whose gateway died after it had sealed the bucket.
    pub async fn finish_sealed(&self, group: GroupId) -> Result<(), ObjectError> {
        let Answer::SealedBuckets(sealed) = self.query(group, Query::SealedBuckets).await? else {
            return Err(ANOTHER_ANSWER);
        };
        for info in sealed {
            self.free_name(&info).await?;
            self.purge(&info).await?;
            tracing::info!(bucket = info.id.0, "finished the delete of a bucket");
        }
        Ok(())
    }

    fn choose_group(&self) -> Result<GroupId, ObjectError> {
        let map = self.metadata.map();
        let groups: Vec<_> = map.groups.keys().filter(|group| **group != GroupId::SYSTEM).collect();
        let count = u64::try_from(groups.len()).expect("a map has few groups");
        let chosen = usize::try_from(self.env.rng.below(count)).expect("below the count");
        groups
            .get(chosen)
            .map(|group| **group)
            .ok_or(ObjectError::Unavailable("the cluster is not bootstrapped"))
    }

    async fn query(&self, group: GroupId, query: Query) -> Result<Answer, ObjectError> {
        self.metadata.query(group, query, STEP_DEADLINE).await.map_err(query_error)
    }

    async fn propose(&self, group: GroupId, command: Command) -> Result<Done, ObjectError> {
        let request = self.metadata.begin(group).await.map_err(query_error)?;
        let outcome = self.metadata.propose(group, Some(request), command, STEP_DEADLINE).await;
        outcome.map_err(propose_error)?.map_err(object_error)
    }
}

fn active(answer: Answer) -> Result<BucketInfo, ObjectError> {
    let Answer::Bucket(row) = answer else { return Err(ANOTHER_ANSWER) };
    let active = row.filter(|row| row.phase == BucketPhase::Active);
    active.map(|row| row.info).ok_or(ObjectError::NoSuchBucket)
}
