//! Proposals and linearizable queries from this node to any group, wherever its leader is.
//!
//! A call goes to the leader that answered last, follows hints of others, and otherwise tries the group's replicas
//! in turn with short pauses, until it has an answer or its deadline is over. A proposal keeps its request id over all
//! attempts, so the group applies it at most once; whether some attempt may have reached a leader decides between
//! `Ambiguous` and `Unavailable`.

mod attempt;

use crate::{
    MetadataApi, MetadataError,
    command::{Command, Outcome},
    node::MetadataNode,
    query::{Answer, Query},
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::{Env, RngExt, sync::Mutex};
use ashlar_types::{GroupId, NodeId, RequestId, SessionId, WriteEpoch};
use async_trait::async_trait;
use attempt::{Ask, AskPropose, AskQuery, Tried, attempt};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// An attempt without an answer is given up for the next replica: longer than an election, so that it is rarely in
/// vain.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);
/// Pause between attempts: random in this range, so that many callers do not come in step.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Hints followed without a pause: two nodes that name each other must not spin.
const HINTS_IN_A_ROW: u32 = 2;
/// For the write epoch that `begin` needs.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);

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
    write_epoch: Option<WriteEpoch>,
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
        let write_epoch = match self.0.known(group).write_epoch {
            Some(epoch) => epoch,
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
        let ask = AskPropose::new(request, command);
        let task = async move {
            // The caller may have gone; the proposal went on without it.
            let _ = answer.send(inner.ask(group, ask, deadline).await);
        };
        self.0.env().tasks.spawn("metadata-propose", task).detach();
        let gone = MetadataError::Ambiguous { group };
        let outcome = answered.await.map_err(|_| gone)??;
        if outcome == Err(crate::command::Refusal::Expired) {
            self.0.learn(group, |known| known.write_epoch = None);
        }
        Ok(outcome)
    }

    async fn query(&self, group: GroupId, query: Query, deadline: Duration) -> Result<Answer, MetadataError> {
        self.0.ask(group, AskQuery::new(query), deadline).await
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

    /// Cancel-safe for queries; a dropped proposal may or may not be applied.
    async fn ask<A: Ask>(&self, group: GroupId, ask: A, limit: Duration) -> Result<A::Answer, MetadataError> {
        let clock = &self.env().clock;
        let deadline = clock.monotonic() + limit;
        let mut turn = self.env().rng.below(u64::from(u16::MAX));
        let mut hint = self.known(group).leader;
        let mut hints = 0;
        let mut maybe_done = false;
        let mut reason = "no node of the group is known";
        loop {
            let left = deadline.saturating_sub(clock.monotonic());
            if left.is_zero() {
                break;
            }
            let target = hint.take().or_else(|| self.candidate(group, &mut turn));
            if let Some(target) = target {
                match attempt(&ask, &self.node, group, target, left.min(ATTEMPT_LIMIT)).await {
                    Tried::Done { value, write_epoch } => {
                        self.learn(group, |known| {
                            known.leader = Some(target);
                            known.write_epoch = known.write_epoch.max(Some(write_epoch));
                        });
                        return Ok(value);
                    }
                    Tried::NotLeader(leader) => {
                        reason = "the group has no leader";
                        hint = leader.filter(|leader| *leader != target);
                        self.learn(group, |known| known.leader = hint);
                        if hint.is_some() && hints < HINTS_IN_A_ROW {
                            hints += 1;
                            continue;
                        }
                    }
                    Tried::NotSent => {
                        reason = "the group's leader cannot be reached";
                        self.learn(group, |known| known.leader = None);
                    }
                    Tried::Unknown => {
                        reason = "the group's leader does not answer";
                        maybe_done = true;
                        self.learn(group, |known| known.leader = None);
                    }
                    Tried::Malformed => return Err(MetadataError::Failed("a reply could not be read")),
                }
            }
            hints = 0;
            let spread = u64::try_from((PAUSE_MAX - PAUSE_MIN).as_millis()).unwrap_or(0);
            let pause = PAUSE_MIN + Duration::from_millis(self.env().rng.below(spread));
            clock.sleep(pause.min(deadline.saturating_sub(clock.monotonic()))).await;
        }
        Err(if maybe_done && A::CHANGES {
            MetadataError::Ambiguous { group }
        } else {
            MetadataError::Unavailable { group, reason }
        })
    }

    /// The next voter in turn.
    fn candidate(&self, group: GroupId, turn: &mut u64) -> Option<NodeId> {
        let map = Arc::clone(&self.map.borrow());
        let voters = &map.groups.get(&group)?.voters;
        let place = turn.checked_rem(u64::try_from(voters.len()).ok()?)?;
        *turn += 1;
        voters.get(usize::try_from(place).ok()?).map(|voter| voter.node)
    }
}
