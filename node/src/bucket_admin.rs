//! `ashlar bucket`: exact counters and quotas, for operators.

use crate::running::Running;
use ashlar_datapath::{object_error, propose_error, query_error};
use ashlar_metadata::{
    MetadataApi,
    command::{Command, PartitionCommand},
    query::{Answer, BucketStats, Counters, Query},
};
use ashlar_proto::admin as wire;
use ashlar_types::{BucketName, ObjectError, service::BucketInfo, service::Quota};
use std::time::Duration;

/// Several leaders' elections fit in it.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// Linearizable.
pub(crate) async fn stats(
    running: &Running,
    name: &BucketName,
) -> Result<wire::BucketStatsReply, ObjectError> {
    let info = running.buckets.get(name).await?;
    let result = counted(running, &info).await;
    let stats = running.buckets.settle(name, result).await?;
    let BucketStats { counters, quota } = stats;
    let Counters { objects, noncurrent, delete_markers, bytes, uploads, upload_bytes } = counters;
    Ok(wire::BucketStatsReply {
        bucket: name.to_string(),
        id: info.id.0,
        group: info.group.0,
        objects,
        noncurrent_versions: noncurrent,
        delete_markers,
        bytes,
        uploads,
        upload_bytes,
        quota_bytes: quota.bytes,
        quota_objects: quota.objects,
    })
}

/// In force for every write that is applied after it returns.
pub(crate) async fn set_quota(running: &Running, name: &BucketName, quota: Quota) -> Result<(), ObjectError> {
    let info = running.buckets.get(name).await?;
    let result = propose(running, &info, quota).await;
    running.buckets.settle(name, result).await
}

async fn counted(running: &Running, info: &BucketInfo) -> Result<BucketStats, ObjectError> {
    let query = Query::BucketStats { bucket: info.id };
    let answer = running.metadata.query(info.group, query, STEP_DEADLINE).await.map_err(query_error)?;
    if answer == Answer::NoSuchBucket {
        return Err(ObjectError::NoSuchBucket);
    }
    let Answer::BucketStats(stats) = answer else {
        return Err(ObjectError::Internal("a metadata group gave another answer than asked"));
    };
    Ok(stats)
}

async fn propose(running: &Running, info: &BucketInfo, quota: Quota) -> Result<(), ObjectError> {
    let request = running.metadata.begin(info.group).await.map_err(query_error)?;
    let command = Command::Partition(PartitionCommand::SetQuota { bucket: info.id, quota });
    let outcome = running.metadata.propose(info.group, Some(request), command, STEP_DEADLINE).await;
    outcome.map_err(propose_error)?.map_err(object_error).map(|_| ())
}
