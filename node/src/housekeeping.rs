//! What a node does unasked: works off the garbage of groups it leads, finishes bucket creates and deletes whose
//! gateway died, raises the feature level of groups to the map's, and keeps its health view of itself fresh.

use crate::running::Running;
use ashlar_datapath::{object_error, propose_error, query_error};
use ashlar_metadata::{
    MetadataApi,
    command::Command,
    query::{Answer, Query},
};
use ashlar_runtime::TaskSet;
use ashlar_types::{GroupId, ObjectError};
use std::{sync::Arc, time::Duration};

/// Between two looks at this node's own drives and replicas.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Garbage is looked for this many times within the grace it is kept.
const GARBAGE_LOOKS_PER_GRACE: u32 = 4;
const GARBAGE_INTERVAL_MIN: Duration = Duration::from_millis(250);
const GARBAGE_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Between two looks at what groups wait for. A gateway that still works on a bucket is not disturbed by a second hand.
const GROUPS_INTERVAL: Duration = Duration::from_secs(30);
const LEVEL_DEADLINE: Duration = Duration::from_secs(10);

/// The tasks hold the node weakly: they end with it.
pub fn start(running: &Arc<Running>, tasks: &TaskSet) {
    let env = running.env.clone();

    let node = Arc::downgrade(running);
    let clock = Arc::clone(&env.clock);
    tasks.push(env.tasks.spawn("report", async move {
        while let Some(running) = node.upgrade() {
            running.report();
            drop(running);
            clock.sleep(REPORT_INTERVAL).await;
        }
    }));

    let node = Arc::downgrade(running);
    let clock = Arc::clone(&env.clock);
    tasks.push(env.tasks.spawn("garbage", async move {
        while let Some(running) = node.upgrade() {
            let grace = Duration::from_millis(running.map.borrow().read_grace_ms);
            collect(&running, grace).await;
            drop(running);
            let interval = grace / GARBAGE_LOOKS_PER_GRACE;
            clock.sleep(interval.clamp(GARBAGE_INTERVAL_MIN, GARBAGE_INTERVAL_MAX)).await;
        }
    }));

    let node = Arc::downgrade(running);
    let clock = Arc::clone(&env.clock);
    tasks.push(env.tasks.spawn("groups", async move {
        loop {
            clock.sleep(GROUPS_INTERVAL).await;
            let Some(running) = node.upgrade() else { return };
            for group in groups(&running).into_iter().filter(|group| running.leads(*group)) {
                if let Err(error) = finish_buckets(&running, group).await {
                    tracing::warn!(%error, group = group.0, "half-made buckets could not be finished; trying again");
                }
                if let Err(error) = raise_level(&running, group).await {
                    tracing::warn!(%error, group = group.0, "the feature level could not be raised; trying again");
                }
            }
        }
    }));
}

fn groups(running: &Running) -> Vec<GroupId> {
    running.map.borrow().groups.keys().copied().collect()
}

/// Creates are finished where the directory is led, deletes where the bucket is.
async fn finish_buckets(running: &Running, group: GroupId) -> Result<(), ObjectError> {
    if group == GroupId::SYSTEM {
        running.buckets.finish_reserved().await
    } else {
        running.buckets.finish_sealed(group).await
    }
}

/// The map says what the whole cluster understands; each group is told by its leader.
async fn raise_level(running: &Running, group: GroupId) -> Result<(), ObjectError> {
    let level = running.map.borrow().feature_level;
    let answer = running.metadata.query(group, Query::GroupState, LEVEL_DEADLINE).await;
    let Answer::GroupState(state) = answer.map_err(query_error)? else {
        return Err(ObjectError::Internal("a group gave another answer than asked"));
    };
    if state.feature_level < level {
        let command = Command::SetFeatureLevel { level };
        let outcome = running.metadata.propose(group, None, command, LEVEL_DEADLINE).await;
        outcome.map_err(propose_error)?.map_err(object_error)?;
        tracing::info!(group = group.0, level, "feature level raised");
    }
    Ok(())
}

/// Until nothing is due in any group that this node leads.
async fn collect(running: &Running, grace: Duration) {
    for group in groups(running).into_iter().filter(|group| *group != GroupId::SYSTEM) {
        while running.leads(group) {
            match running.store.collect_garbage(group, grace).await {
                Ok(0) => break,
                Ok(rows) => tracing::debug!(group = group.0, rows, "garbage collected"),
                Err(error) => {
                    tracing::debug!(group = group.0, %error, "garbage stays for the next pass");
                    break;
                }
            }
        }
    }
}
