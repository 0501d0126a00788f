//! One replica of one group: log, tables and Raft together, and what the rest of the crate may ask of them.
//!
//! Lifecycle: open -> (initialize, once per group) -> propose, query, answer messages -> shut down. A replica whose log or
//! engine failed stays in place, answers nothing and says so in its status.

use super::{
    catch_up::{CatchUp, Progress},
    clock::{GroupClock, WallClocks},
    contact::Contact,
    machine::{Machine, OnChange, SnapshotData},
    network::{AddressBook, Network, SnapshotHead},
    propose::Admission,
    read::{self, Reads, Seat},
    settings::RaftSettings,
    spool::Spool,
    status::{Condition, GroupStatus, Role},
    types::{RaftTypes, Runtime, replica},
};
use crate::{
    calls,
    encoding::{decode, encode},
    kv::{Kv, KvError},
    log::{LogError, LogStore, NodeLog},
    metrics::GroupMetrics,
    state::{StateError, StateMachine, StateSnapshot},
};
use ashlar_rpc::{Method, Peers};
use ashlar_runtime::{Env, Pool, RngExt, sync::Mutex};
use ashlar_types::{GroupId, NodeId, ReplicaId};
use openraft::{
    ChangeMembers, EmptyNode, Raft, ServerState, Snapshot,
    async_runtime::watch::WatchReceiver as _,
    errors::{ForwardToLeader, InitializeError, RaftError},
    storage::RaftLogStorage as _,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Makes or opens the tables of a group in a directory. Blocks.
pub type OpenKv = Arc<dyn Fn(&Path) -> Result<Arc<dyn Kv>, KvError> + Send + Sync>;

/// What all replicas of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) peers: Peers,
    pub(crate) book: AddressBook,
    /// Applies, snapshots and reads of the log.
    pub(crate) apply_pool: Pool,
    /// Queries that may scan.
    pub(crate) query_pool: Pool,
    pub(crate) settings: RaftSettings,
    pub(crate) log: NodeLog,
    pub(crate) open_kv: OpenKv,
    pub(crate) on_change: OnChange,
    /// The wall clocks of other nodes.
    pub(crate) clocks: Arc<Mutex<WallClocks>>,
}

/// Why a replica could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("tables of the group")]
    Kv(#[from] KvError),
    #[error("tables of the group")]
    State(#[from] StateError),
    #[error("files of the replica")]
    Io(#[from] io::Error),
    #[error("the times of the Raft settings contradict each other")]
    Settings,
    #[error("Raft did not start: {0}")]
    Raft(String),
    /// It has voted, and what it promised is gone with its files: the map has to list a new incarnation.
    #[error("the group counts on a replica whose files are gone")]
    Lost,
    /// Too few of the group's other replicas answer.
    /// What lies between cannot be applied any more: the tables have to come from another replica.
    #[error("the tables end before the log begins")]
    TablesBehind,
    #[error("it cannot be told yet whether the replica has existed before")]
    NotSure,
}

/// Why a proposal or a query has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Surely nothing was done.
    NotLeader(Option<NodeId>),
    /// Surely nothing was done: too much waits here already.
    Busy,
    /// The replica failed or lost its place meanwhile; a proposal may have been or yet be applied.
    Unknown(&'static str),
}

/// Whether a replica is a member of its group, by what took effect last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Membership {
    Member,
    NotMember,
}

/// How the Raft members of a group differ from what the map wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberChange {
    AddLearner(u64),
    SetVoters(BTreeSet<u64>),
    Remove(BTreeSet<u64>),
}

pub(crate) struct Replica {
    pub(crate) group: GroupId,
    pub(crate) id: ReplicaId,
    pub(super) raft: Raft<RaftTypes, Machine>,
    pub(super) state: Arc<StateMachine>,
    log: LogStore,
    pub(super) shared: Shared,
    pub(super) reads: Reads,
    dir: PathBuf,
    pub(super) clock: Mutex<GroupClock>,
    pub(super) admission: Admission,
    pub(super) contact: Mutex<Contact>,
    /// Until when this replica helps nobody to an election, by the timer.
    pub(super) quiet_until: Option<Duration>,
    /// No majority agrees with these tables: nothing is answered from them.
    frozen: AtomicBool,
    /// The rows are known not to be what was applied.
    suspect: AtomicBool,
    seen: Mutex<Seen>,
    pub(super) catch_up: Arc<CatchUp>,
    metrics: GroupMetrics,
}

/// When something was first seen, by the monotonic clock.
#[derive(Debug, Default)]
struct Seen {
    /// The term that this replica leads.
    leading: Option<(u64, Duration)>,
    /// The index of the last snapshot.
    snapshot: Option<(u64, Duration)>,
    /// Entries covered when the replica was opened.
    opened: u64,
}

impl Replica {
    /// Opens what is in `dir`, which exists, or begins with nothing.
    pub(crate) async fn open(
        shared: Shared,
        group: GroupId,
        id: ReplicaId,
        dir: PathBuf,
    ) -> Result<Self, ReplicaError> {
        let config = shared.settings.config().ok_or(ReplicaError::Settings)?;
        let (state, machine, log) = {
            let (shared, dir) = (shared.clone(), dir.clone());
            let pool = shared.apply_pool.clone();
            pool.run(move || open_parts(&shared, group, id, &dir)).await.map_err(io::Error::other)??
        };
        let purged = log.clone().get_log_state().await?.last_purged_log_id.map(|id| id.index);
        if machine.applied_index() < purged {
            return Err(ReplicaError::TablesBehind);
        }
        let opened = entries(machine.applied_index());
        let RaftSettings { kept_entries, pinned_entries, .. } = shared.settings;
        let catch_up = Arc::new(CatchUp::new(kept_entries, pinned_entries));
        let machine = machine.waits_for(Arc::clone(&catch_up));
        let network = Network {
            group,
            raft_id: id.raft_id(),
            peers: shared.peers.clone(),
            book: shared.book.clone(),
            pool: shared.query_pool.clone(),
        };
        let starting = Raft::new(id.raft_id(), config, network, log.clone(), machine);
        let raft = Runtime::scope(shared.env.rng.u64(), Box::pin(starting))
            .await
            .map_err(|error| ReplicaError::Raft(error.to_string()))?;
        let (clock, admission, contact) = (Mutex::default(), Admission::new(), Mutex::default());
        let quiet_until = read::quiet(&shared, &raft);
        let seat = Seat {
            group,
            id,
            raft: raft.clone(),
            env: shared.env.clone(),
            peers: shared.peers.clone(),
            book: shared.book.clone(),
            ack_age: shared.settings.lease().unwrap_or_default(),
        };
        let reads = Reads::start(&shared.env, seat);
        Ok(Self {
            group,
            id,
            raft,
            state,
            log,
            shared,
            reads,
            dir,
            clock,
            admission,
            contact,
            quiet_until,
            frozen: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            seen: Mutex::new(Seen { opened, ..Seen::default() }),
            catch_up,
            metrics: GroupMetrics::new(id.node, group),
        })
    }

    /// From now on nothing is answered from here; the Raft member goes on, so that nothing is lost either.
    pub(crate) fn freeze(&self) {
        if !self.frozen.swap(true, Ordering::Relaxed) {
            tracing::error!(group = %self.group, "the replicas of a metadata group differ and no majority agrees: the group is frozen");
        }
    }

    /// The rows here are not what was applied: to be replaced when the group's leader compares.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    pub(crate) fn metrics(&self) -> &GroupMetrics {
        &self.metrics
    }

    /// From time to time: looks after members that are being brought up, and shows how the replica is.
    pub(crate) fn tend(&self) {
        let now = self.shared.env.clock.monotonic();
        let progress = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.replication.as_ref().map(|members| Progress {
                last: entries(metrics.last_log_index),
                purged: entries(metrics.purged.map(|id| id.index)),
                members: members.iter().map(|(id, matched)| (*id, matched.map(|id| id.index))).collect(),
            })
        };
        self.catch_up.observe(now, progress.as_ref());
        self.status();
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self) -> &StateMachine {
        &self.state
    }

    pub(crate) fn state_shared(&self) -> Arc<StateMachine> {
        Arc::clone(&self.state)
    }

    pub(crate) fn leads(&self) -> bool {
        self.not_leader().is_none()
    }

    /// Openraft draws and spawns inside a seed scope only. Boxed: its futures take tens of kilobytes.
    pub(super) async fn scoped<F: Future>(&self, call: F) -> F::Output {
        Runtime::scope(self.shared.env.rng.u64(), Box::pin(call)).await
    }

    /// Whether the group has begun, as far as this replica knows.
    pub(crate) async fn is_initialized(&self) -> bool {
        // A replica that failed has begun, or nobody could tell.
        self.scoped(self.raft.is_initialized()).await.unwrap_or(true)
    }

    /// Begins a new group with these voters. Beginning twice is refused by Raft and fine.
    pub(crate) async fn initialize(&self, voters: &[ReplicaId]) -> Result<(), String> {
        let members: BTreeMap<u64, EmptyNode> =
            voters.iter().map(|voter| (voter.raft_id(), EmptyNode {})).collect();
        match self.scoped(self.raft.initialize(members)).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Openraft queues for the leader; asking it first spares the round trip.
    pub(super) fn not_leader(&self) -> Option<Refused> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if self.is_frozen() {
            return Some(Refused::NotLeader(None));
        }
        let leads = metrics.state == ServerState::Leader;
        (!leads).then(|| Refused::NotLeader(metrics.current_leader.map(|leader| replica(leader).node)))
    }

    /// Answers a Raft message; `None` if this replica cannot.
    pub(crate) async fn message(&self, method: Method, payload: &[u8]) -> Option<Vec<u8>> {
        match method {
            calls::APPEND => self.append(payload).await,
            calls::VOTE | calls::PRE_VOTE if self.is_quiet() => None,
            calls::VOTE => self.reply(payload, |rpc| self.raft.vote(rpc)).await,
            calls::PRE_VOTE => self.reply(payload, |rpc| self.raft.pre_vote(rpc)).await,
            calls::TRANSFER_LEADER => self.reply(payload, |rpc| self.raft.handle_transfer_leader(rpc)).await,
            Method(_) => None,
        }
    }

    pub(super) async fn reply<Q, A, E, F>(&self, payload: &[u8], call: impl FnOnce(Q) -> F) -> Option<Vec<u8>>
    where
        Q: DeserializeOwned,
        A: Serialize,
        F: Future<Output = Result<A, E>>,
    {
        let message = decode(payload).ok()?;
        self.scoped(call(message)).await.ok().map(|answer| encode(&answer))
    }

    /// Where a snapshot is received into.
    pub(crate) async fn spool(&self) -> io::Result<Spool> {
        let (disk, dir) = (Arc::clone(&self.shared.env.disk), self.dir.clone());
        let number = self.shared.env.rng.u64();
        self.blocking(move || Spool::create(disk, &dir, number)).await
    }

    pub(crate) async fn spool_piece(&self, mut spool: Spool, piece: bytes::Bytes) -> io::Result<Spool> {
        self.blocking(move || spool.push(&piece).map(|()| spool)).await
    }

    /// The tables as they are now, for a replica that lost its own.
    pub(crate) async fn dump(&self) -> io::Result<StateSnapshot> {
        let state = Arc::clone(&self.state);
        self.blocking(move || state.snapshot().map_err(io::Error::other)).await
    }

    pub(crate) async fn next_piece(
        &self,
        mut snapshot: StateSnapshot,
    ) -> io::Result<(StateSnapshot, Option<Vec<u8>>)> {
        self.blocking(move || {
            let piece = snapshot.next_piece().map_err(io::Error::other)?;
            Ok((snapshot, piece))
        })
        .await
    }

    /// Installs a snapshot that was received as a whole.
    pub(crate) async fn install(&self, head: SnapshotHead, spool: Spool) -> Option<Vec<u8>> {
        let snapshot = Snapshot { meta: head.meta, snapshot: SnapshotData::Incoming(spool) };
        let reply = self.scoped(self.raft.install_full_snapshot(head.vote, snapshot)).await;
        reply.ok().map(|reply| encode(&reply))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.shared.apply_pool.run(call).await.map_err(io::Error::other)?
    }

    pub(crate) fn status(&self) -> GroupStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let role = match (&metrics.running_state, metrics.state) {
            (Err(_), _) | (Ok(()), ServerState::Shutdown) => Role::Stopped,
            (Ok(()), ServerState::Learner) => Role::Learner,
            (Ok(()), ServerState::Follower) => Role::Follower,
            (Ok(()), ServerState::Candidate) => Role::Candidate,
            (Ok(()), ServerState::Leader) => Role::Leader,
        };
        let condition = match role {
            Role::Stopped => Condition::Failed,
            Role::Learner | Role::Follower | Role::Candidate | Role::Leader if self.is_frozen() => {
                Condition::Frozen
            }
            Role::Learner | Role::Follower | Role::Candidate | Role::Leader => Condition::Sound,
        };
        let committed = metrics.local_committed.map(|id| id.index);
        let last_applied = metrics.last_applied.map(|id| id.index);
        let lag = match &metrics.replication {
            Some(members) => {
                let slowest = members.values().map(|matched| entries(matched.map(|id| id.index))).min();
                entries(metrics.last_log_index).saturating_sub(slowest.unwrap_or(u64::MAX))
            }
            None => entries(committed).saturating_sub(entries(last_applied)),
        };
        let changing = members.get_joint_config().len() > 1
            || metrics.membership_config.log_id() != metrics.committed_membership_config.log_id();
        let status = GroupStatus {
            role,
            leader: metrics.current_leader.map(|leader| replica(leader).node),
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            committed,
            last_applied,
            voters: members.voter_ids().map(replica).collect(),
            learners: members.learner_ids().map(replica).collect(),
            changing,
            purged: metrics.purged.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            lag,
            log_bytes: self.shared.log.replica_stats(self.group).map(|stats| stats.bytes),
            ..GroupStatus::closed(self.group, self.id, condition)
        };
        self.metrics.complete(self.since(status))
    }

    /// Fills in since when things are as they are.
    fn since(&self, status: GroupStatus) -> GroupStatus {
        let now = self.shared.env.clock.monotonic();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let follow = |known: Option<(u64, Duration)>, value: Option<u64>| {
            value.map(|value| known.filter(|(known, _)| *known == value).unwrap_or((value, now)))
        };
        seen.leading = follow(seen.leading, (status.role == Role::Leader).then_some(status.term));
        seen.snapshot = follow(seen.snapshot, status.snapshot);
        let age = |since: Option<(u64, Duration)>| {
            since.and_then(|(_, since)| u64::try_from(now.saturating_sub(since).as_millis()).ok())
        };
        GroupStatus {
            leading_ms: age(seen.leading),
            snapshot_age_ms: age(seen.snapshot),
            log_bytes: self.shared.log.replica_stats(self.group).map(|stats| stats.bytes),
            applied_entries: entries(status.last_applied).saturating_sub(seen.opened),
            ..status
        }
    }

    /// Leader only: whether a replica is a member; `None` if that is not known or being changed.
    pub(crate) async fn membership_of(&self, id: ReplicaId) -> Option<Membership> {
        if self.not_leader().is_some() {
            return None;
        }
        // A majority confirms that this replica leads.
        self.reads.index().await.ok()?;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let settled = metrics.membership_config.log_id() == metrics.committed_membership_config.log_id()
            && metrics.membership_config.membership().get_joint_config().len() == 1;
        let member = metrics.membership_config.membership().get_node(&id.raft_id()).is_some();
        settled.then_some(if member { Membership::Member } else { Membership::NotMember })
    }

    /// Leader only: the next step that brings the Raft members closer to what the map wants.
    pub(crate) fn next_change(
        &self,
        voters: &BTreeSet<u64>,
        learners: &BTreeSet<u64>,
    ) -> Option<MemberChange> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let members = metrics.membership_config.membership();
        let present: BTreeSet<u64> = members.nodes().map(|(id, _)| *id).collect();
        if let Some(missing) = voters.union(learners).find(|id| !present.contains(id)) {
            return Some(MemberChange::AddLearner(*missing));
        }
        let voting: BTreeSet<u64> = members.voter_ids().collect();
        if voting != *voters || members.get_joint_config().len() > 1 {
            // A voter that has yet to catch up would stall every commit that needs it.
            let last = metrics.last_log_index.unwrap_or(0);
            let caught_up = |id: &u64| {
                let matched = metrics.replication.as_ref().and_then(|known| known.get(id).copied().flatten());
                matched.is_some_and(|matched| matched.index + CAUGHT_UP_ENTRIES >= last)
            };
            let ready = |id: &u64| voting.contains(id) || *id == self.id.raft_id() || caught_up(id);
            let go = !voters.is_empty() && voters.iter().all(ready);
            return go.then(|| MemberChange::SetVoters(voters.clone()));
        }
        let extra: BTreeSet<u64> =
            present.iter().filter(|id| !voters.contains(id) && !learners.contains(id)).copied().collect();
        (!extra.is_empty()).then_some(MemberChange::Remove(extra))
    }

    pub(crate) async fn change_members(&self, change: MemberChange) -> Result<(), String> {
        let changed = match change {
            MemberChange::AddLearner(id) => self.scoped(self.raft.add_learner(id, EmptyNode {}, false)).await,
            MemberChange::SetVoters(voters) => {
                let change = ChangeMembers::ReplaceAllVoters(voters);
                self.scoped(self.raft.change_membership(change, true)).await
            }
            MemberChange::Remove(ids) => {
                self.scoped(self.raft.change_membership(ChangeMembers::RemoveNodes(ids), true)).await
            }
        };
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Leader only: asks a voter that has the whole log to take over. `false`: it is not ready.
    pub(crate) async fn hand_over(&self, to: ReplicaId) -> bool {
        let to = to.raft_id();
        let ready = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let votes = metrics.membership_config.voter_ids().any(|voter| voter == to);
            let matched = metrics.replication.as_ref().and_then(|known| known.get(&to).copied().flatten());
            metrics.state == ServerState::Leader
                && votes
                && matched
                    .is_some_and(|matched| Some(matched.index + HAND_OVER_ENTRIES) >= metrics.last_log_index)
        };
        ready && self.scoped(self.raft.trigger().transfer_leader(to)).await.is_ok()
    }

    /// Stops Raft, flushes the tables and lets go of all files.
    pub(crate) async fn shut_down(&self) {
        self.halt().await;
        let state = Arc::clone(&self.state);
        let flushed = self.shared.apply_pool.run(move || state.persist()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(group = %self.group, %error, "the tables could not be flushed at shutdown");
        }
        // Openraft's workers end on their own a moment after its core; they hold the tables until then.
        let deadline = self.shared.env.clock.monotonic() + RELEASE_LIMIT;
        while Arc::strong_count(&self.state) > 1 && self.shared.env.clock.monotonic() < deadline {
            self.shared.env.clock.sleep(RELEASE_POLL).await;
        }
    }

    /// Stops without flushing the tables, as a crash would.
    pub(crate) async fn halt(&self) {
        self.reads.stop();
        if self.scoped(self.raft.shutdown()).await.is_err() {
            tracing::warn!(group = %self.group, "Raft had ended with a panic");
        }
        self.log.close().await;
    }
}

/// Indexes begin at 0: how many entries end with one.
fn entries(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index + 1)
}

/// A learner this close to the leader's log may vote.
const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// A voter this close to the leader's log has the rest before it stands for election.
const HAND_OVER_ENTRIES: u64 = 16;
const RELEASE_LIMIT: Duration = Duration::from_secs(10);
const RELEASE_POLL: Duration = Duration::from_millis(5);

pub(super) fn forward(to: &ForwardToLeader<RaftTypes>) -> Refused {
    Refused::NotLeader(to.leader_id.map(|leader| replica(leader).node))
}

/// Opens tables, position and log. Blocks.
fn open_parts(
    shared: &Shared,
    group: GroupId,
    id: ReplicaId,
    dir: &Path,
) -> Result<(Arc<StateMachine>, Machine, LogStore), ReplicaError> {
    Spool::remove_remains(&*shared.env.disk, dir)?;
    let kv = (shared.open_kv)(&dir.join("kv"))?;
    let state = Arc::new(StateMachine::open(group, kv)?);
    let machine = Machine::new(Arc::clone(&state), shared.apply_pool.clone(), Arc::clone(&shared.on_change))?;
    // Weak: the log must not keep the tables open.
    let purged = Arc::downgrade(&state);
    let before_purge = Arc::new(move || match purged.upgrade() {
        Some(state) => state.persist().map_err(io::Error::other),
        None => Err(io::Error::other("the tables are closed")),
    });
    let log = shared.log.replica(group, id.raft_id(), shared.apply_pool.clone(), before_purge)?;
    Ok((state, machine, log))
}
