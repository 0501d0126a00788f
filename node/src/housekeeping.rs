//! What a node does unasked: works off the garbage of groups it leads, finishes bucket creates whose gateway died,
//! and keeps its health view of itself fresh.

use crate::running::Running;
use ashlar_runtime::TaskSet;
use ashlar_types::GroupId;
use std::{sync::Arc, time::Duration};

/// Between two looks at this node's own drives and replicas.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Garbage is looked for this many times within the grace it is kept.
const GARBAGE_LOOKS_PER_GRACE: u32 = 4;
const GARBAGE_INTERVAL_MIN: Duration = Duration::from_millis(250);
const GARBAGE_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Between two looks for half-made buckets; long after any gateway that still works on one.
const BUCKETS_INTERVAL: Duration = Duration::from_secs(60);

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
    tasks.push(env.tasks.spawn("buckets", async move {
        loop {
            clock.sleep(BUCKETS_INTERVAL).await;
            let Some(running) = node.upgrade() else { return };
            if running.leads(GroupId::SYSTEM)
                && let Err(error) = running.buckets.finish_reserved().await
            {
                tracing::warn!(%error, "half-made buckets could not be finished; trying again");
            }
        }
    }));
}

/// Until nothing is due in any group that this node leads.
async fn collect(running: &Running, grace: Duration) {
    let groups: Vec<_> = running.map.borrow().groups.keys().copied().collect();
    for group in groups.into_iter().filter(|group| *group != GroupId::SYSTEM) {
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
