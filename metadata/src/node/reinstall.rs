//! Replaces the tables of a replica here by those of another node's replica, while log and vote stay.
//!
//! ```text
//! open -mark, close-> Reinstalling -fetch, install, take the mark away-> open
//! ```
//! The mark is durable before the tables are touched and goes after the new ones are durable: a crash in between begins
//! anew. While it lasts the replica neither votes nor answers, as one that is down.

use super::{Closed, MetadataNode, chain, files};
use crate::{
    raft::{replica::ReplicaError, spool::Spool, status::Condition},
    state::{InstallError, StateError, StateMachine},
};
use ashlar_proto::metadata::{FetchRequest, SnapshotPiece, metadata_service_client::MetadataServiceClient};
use ashlar_rpc::{MAX_MESSAGE_BYTES, call_timeout, request};
use ashlar_runtime::{ClockExt, RngExt};
use ashlar_types::{GroupId, NodeId, ReplicaId};
use std::{io, sync::Arc, time::Duration};
use tonic::Status;

/// A source that sends nothing for so long is given up.
const STALL: Duration = Duration::from_secs(30);
/// Before the next source is asked.
const PAUSE: Duration = Duration::from_secs(1);
/// The source's own limit for the whole transfer.
const FETCH_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Why tables were not replaced. The next pass tries again.
#[derive(Debug, thiserror::Error)]
enum ReinstallError {
    #[error("no other node has a replica of the group")]
    NoSource,
    #[error("node {from} did not send its tables")]
    Fetch {
        from: NodeId,
        #[source]
        status: Status,
    },
    #[error("node {from} broke off")]
    Cut { from: NodeId },
    #[error("files of the replica")]
    Io(#[from] io::Error),
    #[error("tables of the group")]
    State(#[from] StateError),
    #[error("the tables received")]
    Install(#[source] InstallError<io::Error>),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

/// Begins, unless it goes on already. `false`: not now, or not this replica.
pub(super) async fn begin(
    node: &Arc<MetadataNode>,
    group: GroupId,
    id: ReplicaId,
    from: Option<NodeId>,
) -> bool {
    {
        let mut going_on = node.lock(&node.reinstalling);
        if !going_on.insert(group) {
            return false;
        }
    }
    let begun = close(node, group, id).await;
    if !begun {
        node.lock(&node.reinstalling).remove(&group);
        return false;
    }
    let task = {
        let node = Arc::clone(node);
        async move {
            let mut stop = node.stopping.subscribe();
            tokio::select! {
                () = replace_or_pause(&node, group, id, from) => {}
                () = async move { drop(stop.wait_for(|stop| *stop).await) } => {}
            }
            node.lock(&node.reinstalling).remove(&group);
        }
    };
    node.jobs.push(node.shared.env.tasks.spawn("metadata-reinstall", task));
    true
}

async fn replace_or_pause(node: &Arc<MetadataNode>, group: GroupId, id: ReplicaId, from: Option<NodeId>) {
    match replace(node, group, id, from).await {
        Ok(from) => tracing::warn!(%group, %from, "the tables of a replica were replaced"),
        Err(error) => {
            tracing::error!(%group, error = %chain(&error), "the tables of a replica are not replaced yet");
            node.shared.env.clock.sleep(PAUSE).await;
        }
    }
}

/// Marks the tables and closes the replica, if it is the one that is meant.
async fn close(node: &MetadataNode, group: GroupId, id: ReplicaId) -> bool {
    let _changing = node.changing.lock().await;
    let closed = node.lock(&node.closed).get(&group).copied();
    if closed.is_some_and(|closed| closed.id == id && closed.condition == Condition::Reinstalling) {
        return true;
    }
    if node.replica(group).is_none_or(|replica| replica.id != id) {
        return false;
    }
    let (disk, root) = (Arc::clone(&node.shared.env.disk), node.config.dir.clone());
    let marking =
        node.shared.apply_pool.run(move || files::mark(&*disk, &root, group, files::Mark::Reinstall));
    if !matches!(marking.await, Ok(Ok(()))) {
        return false;
    }
    let open = node.replicas().remove(&group);
    node.lock(&node.closed).insert(group, Closed { id, condition: Condition::Reinstalling });
    if let Some(open) = open {
        open.shut_down().await;
    }
    true
}

async fn replace(
    node: &Arc<MetadataNode>,
    group: GroupId,
    id: ReplicaId,
    from: Option<NodeId>,
) -> Result<NodeId, ReinstallError> {
    let from = from.or_else(|| other_voter(node, group)).ok_or(ReinstallError::NoSource)?;
    let dir = files::dir(&node.config.dir, group);
    let spool = fetch(node, group, id, from, &dir).await?;
    let (env, open_kv) = (node.shared.env.clone(), Arc::clone(&node.shared.open_kv));
    let installing = move || -> Result<(), ReinstallError> {
        let kv_dir = dir.join("kv");
        let open = || -> Result<_, StateError> { StateMachine::open(group, (open_kv)(&kv_dir)?) };
        // Tables that cannot even be opened are dropped before: nothing of them is wanted.
        let state = match open() {
            Ok(state) => state,
            Err(_) => {
                env.disk.remove_tree(&kv_dir)?;
                open()?
            }
        };
        state.install(&mut spool.pieces()).map_err(ReinstallError::Install)?;
        Ok(state.persist()?)
    };
    node.shared.apply_pool.run(installing).await.map_err(io::Error::other)??;
    let _changing = node.changing.lock().await;
    if *node.stopping.borrow() {
        return Err(io::Error::other("the node shuts down").into());
    }
    node.open(group, id).await?;
    let (disk, root) = (Arc::clone(&node.shared.env.disk), node.config.dir.clone());
    let unmarking =
        node.shared.apply_pool.run(move || files::unmark(&*disk, &root, group, files::Mark::Reinstall));
    unmarking.await.map_err(io::Error::other)??;
    node.lock(&node.closed).remove(&group);
    if let Some(replica) = node.replica(group) {
        replica.metrics().reinstalls.increment(1);
    }
    Ok(from)
}

/// Any voter on another node: a turn at random, because some may not answer.
fn other_voter(node: &MetadataNode, group: GroupId) -> Option<NodeId> {
    let map = Arc::clone(&node.map.borrow());
    let voters = map.groups.get(&group)?.voters.iter().map(|voter| voter.node);
    let others: Vec<NodeId> = voters.filter(|voter| Some(*voter) != node.node()).collect();
    let place = node.shared.env.rng.below(u64::try_from(others.len()).ok()?);
    others.get(usize::try_from(place).ok()?).copied()
}

/// The tables of another replica, as a whole, in a file.
async fn fetch(
    node: &MetadataNode,
    group: GroupId,
    id: ReplicaId,
    from: NodeId,
    dir: &std::path::Path,
) -> Result<Spool, ReinstallError> {
    let failed = |status| ReinstallError::Fetch { from, status };
    let clock = Arc::clone(&node.shared.env.clock);
    let address = node.map.borrow().nodes.get(&from).map(|node| node.rpc.clone());
    let address = address.ok_or(ReinstallError::NoSource)?;
    let mut client = MetadataServiceClient::new(node.shared.peers.bulk(&address))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let message = request(FetchRequest { group: group.0, asker: id.raft_id() }, FETCH_LIMIT);
    let mut pieces = call_timeout(&*clock, STALL, client.fetch_snapshot(message)).await.map_err(failed)?;
    let mut spool = {
        let (disk, dir) = (Arc::clone(&node.shared.env.disk), dir.to_owned());
        let number = node.shared.env.rng.u64();
        let creating = node.shared.apply_pool.run(move || Spool::create(disk, &dir, number));
        creating.await.map_err(io::Error::other)??
    };
    loop {
        let next = clock.timeout(STALL, pieces.message()).await;
        let next = next.map_err(|elapsed| failed(Status::deadline_exceeded(elapsed.to_string())))?;
        let Some(SnapshotPiece { data, last, .. }) = next.map_err(failed)? else {
            return Err(ReinstallError::Cut { from });
        };
        if last {
            return Ok(spool);
        }
        let pushing = node.shared.apply_pool.run(move || spool.push(&data).map(|()| spool));
        spool = pushing.await.map_err(io::Error::other)??;
    }
}
