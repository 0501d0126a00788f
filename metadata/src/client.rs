//! Proposals and linearizable queries from this node to any group, wherever its leader is.
//!
//! A proposal goes to the leader that answered last, a query to this node's own replica; both follow hints and
//! otherwise try the group's replicas in turn (see `ask`), until there is an answer or the deadline is over. A
//! proposal keeps its request id over all attempts, so the group applies it at most once; whether some attempt may
//! have reached a leader decides between `Ambiguous` and `Unavailable`.

mod ask;
mod attempt;
mod local;
mod turn;

use crate::{
    MetadataApi, MetadataError,
    command::{Command, Outcome, Refusal},
    node::MetadataNode,
    query::{Answer, Query},
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::{Env, RngExt, sync::Mutex};
use ashlar_types::{GroupId, NodeId, RequestId, SessionId, WriteEpoch};
use async_trait::async_trait;
use attempt::{Ask, AskPropose, AskQuery};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// For the write epoch that `begin` needs.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
/// A write epoch heard longer ago is asked for again. Any answer of the group renews it; a gateway that was idle or
/// suspended must not begin under an epoch that has expired meanwhile.
const EPOCH_FRESH: Duration = Duration::from_secs(60);

/// Cheap to share; all clones of the `Arc` are one session.
#[derive(Debug)]
pub struct MetadataClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Arc<MetadataNode>,
    map: watch::Receiver<Arc<ClusterMap>>,
    session: SessionId,
    sequence: AtomicU64,
    known: Mutex<BTreeMap<GroupId, Known>>,
}

/// What earlier replies told about a group.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    leader: Option<NodeId>,
    write_epoch: Option<Heard>,
    /// Since when no node of the group could answer, by the monotonic clock.
    silent_since: Option<Duration>,
}

/// A write epoch, and when the group last told it.
#[derive(Clone, Copy, Debug)]
struct Heard {
    epoch: WriteEpoch,
    at: Duration,
}

impl MetadataClient {
    /// A new session over the node's own replicas and its peers.
    pub fn new(node: Arc<MetadataNode>) -> Arc<Self> {
        let session = SessionId(node.env().rng.u128());
        let map = node.watch_map();
        let (sequence, known) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Self(Arc::new(Inner { node, map, session, sequence, known })))
    }

    pub fn watch_map(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.0.map.clone()
    }
}

#[async_trait]
impl MetadataApi for MetadataClient {
    fn map(&self) -> Arc<ClusterMap> {
        Arc::clone(&self.0.map.borrow())
    }

    async fn begin(&self, group: GroupId) -> Result<RequestId, MetadataError> {
        let now = self.0.env().clock.monotonic();
        let known = self.0.known(group).write_epoch;
        let write_epoch = match known.filter(|heard| now.saturating_sub(heard.at) < EPOCH_FRESH) {
            Some(heard) => heard.epoch,
            None => {
                let answer = self.query(group, Query::GroupState, BEGIN_LIMIT).await?;
                let Answer::GroupState(state) = answer else {
                    return Err(MetadataError::Failed("a question for the group's state got another answer"));
                };
                state.write_epoch
            }
        };
        let sequence = self.0.sequence.fetch_add(1, Ordering::Relaxed);
        Ok(RequestId { write_epoch, session: self.0.session, sequence })
    }

    async fn propose(
        &self,
        group: GroupId,
        request: Option<RequestId>,
        command: Command,
        deadline: Duration,
    ) -> Result<Outcome, MetadataError> {
        let (answer, answered) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        let ask = AskPropose::new(group, request, command);
        let task = async move {
            // The caller may have gone; the proposal went on without it.
            let _ = answer.send(inner.ask(group, ask, deadline).await);
        };
        self.0.env().tasks.spawn("metadata-propose", task).detach();
        let gone = MetadataError::Ambiguous { group };
        let outcome = answered.await.map_err(|_| gone)??;
        if outcome == Err(Refusal::Expired) {
            self.0.learn(group, |known| known.write_epoch = None);
        }
        Ok(outcome)
    }

    async fn query(&self, group: GroupId, query: Query, deadline: Duration) -> Result<Answer, MetadataError> {
        self.0.ask(group, AskQuery::new(group, query), deadline).await
    }

    async fn local_system(&self, query: Query, deadline: Duration) -> Result<Answer, MetadataError> {
        match self.0.local_system(&query)? {
            Some(answer) => Ok(answer),
            None => self.query(GroupId::SYSTEM, query, deadline).await,
        }
    }
}

impl Inner {
    fn env(&self) -> &Env {
        self.node.env()
    }

    fn known(&self, group: GroupId) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&group).copied().unwrap_or_default()
    }

    fn learn(&self, group: GroupId, change: impl FnOnce(&mut Known)) {
        change(self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(group).or_default());
    }

    fn answered<A: Ask>(&self, group: GroupId, target: NodeId, write_epoch: WriteEpoch) {
        let at = self.env().clock.monotonic();
        self.learn(group, |known| {
            if A::CHANGES {
                known.leader = Some(target);
            }
            known.silent_since = None;
            let epoch = known.write_epoch.map_or(write_epoch, |heard| heard.epoch.max(write_epoch));
            known.write_epoch = Some(Heard { epoch, at });
        });
    }
}
