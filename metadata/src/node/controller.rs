//! Keeps the replicas of all groups as the rules want them: runs on the node that leads group 0.
//!
//! Asks every node how it is, about once a second; changes the map by what `plan` says, and has groups led elsewhere by
//! what `leaders` says. Knows no more than it heard in this tenure: another leader of group 0 begins anew. A leader that
//! was deposed without knowing changes nothing, because its proposals do not commit.

pub(super) mod leaders;
pub(super) mod plan;
pub(super) mod views;

use self::{
    leaders::{Transfer, plan_leaders},
    plan::{Patience, changed, plan, summary},
    views::{NodeReport, Views},
};
use super::{
    MetadataNode,
    peer::{Answer, Question, ask},
};
use crate::{
    command::{Command, SystemCommand},
    raft::replica::Replica,
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::ClockExt;
use ashlar_types::{GroupId, NodeId};
use futures_util::future::join_all;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// A command to group 0 that takes longer is proposed again.
const PROPOSE_LIMIT: Duration = Duration::from_secs(5);

/// How patient the controller is.
#[derive(Clone, Copy, Debug)]
pub struct ControllerSettings {
    /// Between two rounds of questions to all nodes. Default 1 s.
    pub interval: Duration,
    /// A node silent for so long is given nothing new. Default 5 s.
    pub down_after: Duration,
    /// A voter silent for so long is replaced where another node can take its vote. Default 10 min: longer than a restart of
    /// the machine.
    pub dead_after: Duration,
    /// Between two rounds in which leaders are spread. Default 30 s: a flapping node costs little.
    pub balance_interval: Duration,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            down_after: Duration::from_secs(5),
            dead_after: Duration::from_secs(600),
            balance_interval: Duration::from_secs(30),
        }
    }
}

/// From one election of this node's replica of group 0 to its end.
struct Tenure {
    term: u64,
    views: Views,
    balanced: Duration,
}

/// Runs until the node stops or is gone.
pub(super) async fn run(node: Weak<MetadataNode>) {
    let Some((env, mut stopping, settings)) = node
        .upgrade()
        .map(|node| (node.shared.env.clone(), node.stopping.subscribe(), node.config.controller))
    else {
        return;
    };
    let mut tenure = None;
    loop {
        let Some(node) = node.upgrade() else { return };
        let mut stop = stopping.clone();
        tokio::select! {
            () = round(&node, settings, &mut tenure) => {}
            () = async move { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
        drop(node);
        tokio::select! {
            () = env.clock.sleep(settings.interval) => {}
            _ = stopping.changed() => return,
        }
    }
}

async fn round(node: &Arc<MetadataNode>, settings: ControllerSettings, tenure: &mut Option<Tenure>) {
    let leading = node.replica(GroupId::SYSTEM).filter(|replica| replica.leads());
    let Some((map, replica)) = leading.and_then(|replica| Some((replica.state().map()?, replica))) else {
        *tenure = None;
        return;
    };
    let now = node.shared.env.clock.monotonic();
    let term = replica.status().term;
    if tenure.as_ref().is_none_or(|tenure| tenure.term != term) {
        *tenure = Some(Tenure { term, views: Views::new(now), balanced: now });
    }
    let Some(tenure) = tenure else { return };
    look_around(node, &map, settings, &mut tenure.views).await;

    let now = node.shared.env.clock.monotonic();
    let patience = Patience { down: settings.down_after, dead: settings.dead_after };
    let changes = plan(&map, &tenure.views, now, patience);
    if !changes.is_empty() {
        for (group, what) in summary(&changes) {
            tracing::info!(%group, epoch = %map.epoch, "{what}");
        }
        propose(node, &replica, &map, changed(&map, &changes)).await;
        return;
    }
    let due = now.saturating_sub(tenure.balanced) >= settings.balance_interval;
    let transfers = plan_leaders(&map, &tenure.views, now, patience);
    for transfer in transfers.into_iter().filter(|transfer| due || transfer.urgent) {
        hand_over(node, &map, transfer).await;
    }
    if due {
        tenure.balanced = now;
    }
}

/// Asks all nodes of the map, this one included.
async fn look_around(
    node: &Arc<MetadataNode>,
    map: &ClusterMap,
    settings: ControllerSettings,
    views: &mut Views,
) {
    // A node that takes longer is heard in a later round.
    let limit = settings.down_after.min(LOOK_LIMIT);
    let asked = map.nodes.keys().map(|id| async move {
        let report = look(node, map, *id, limit).await;
        report.map(|report| (*id, node.shared.env.clock.monotonic(), report))
    });
    for (id, at, report) in join_all(asked).await.into_iter().flatten() {
        views.hear(id, at, report);
    }
}

pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(2);

pub(super) async fn look(
    node: &Arc<MetadataNode>,
    map: &ClusterMap,
    id: NodeId,
    limit: Duration,
) -> Option<NodeReport> {
    match ask(node, map, id, &Question::View, limit).await? {
        Answer::View(report) => Some(report),
        Answer::Map(_)
        | Answer::Member(_)
        | Answer::Done(_)
        | Answer::Mark(_)
        | Answer::Reinstalling
        | Answer::NotHere => None,
    }
}

async fn propose(node: &MetadataNode, replica: &Replica, known: &ClusterMap, next: ClusterMap) {
    let command = Command::System(SystemCommand::UpdateMap { expected: known.epoch, map: Box::new(next) });
    match node.shared.env.clock.timeout(PROPOSE_LIMIT, replica.propose(None, command)).await {
        Ok(Ok(Ok(_))) => {}
        // Someone else changed it: the next round plans from there.
        Ok(Ok(Err(refusal))) => tracing::info!(?refusal, "the map was changed meanwhile"),
        Ok(Err(_)) | Err(_) => tracing::info!("a change of the map was not committed yet"),
    }
}

async fn hand_over(node: &Arc<MetadataNode>, map: &ClusterMap, transfer: Transfer) {
    let Transfer { group, from, to, urgent } = transfer;
    let question = Question::HandOver { group, to };
    if matches!(ask(node, map, from, &question, LOOK_LIMIT).await, Some(Answer::Done(true))) {
        tracing::info!(%group, %from, to = %to.node, urgent, "asked another voter to lead");
    }
}
