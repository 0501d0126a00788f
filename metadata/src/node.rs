//! The metadata side of one node: hosts its replicas of all groups and keeps them as the map wants them.
//!
//! ```text
//! <dir>/lock                     held while the node runs
//! <dir>/log/                     the Raft log of all replicas; a replica begins there
//! <dir>/group-<id>/replica.id    which incarnation this is; written before any table
//! <dir>/group-<id>/kv/           the tables
//! <dir>/group-<id>/reinstall     its tables are not to be used: see `reinstall`
//! <dir>/group-<id>/frozen        nothing is to be answered from it
//! <dir>/old-group-<id>-<n>       the last incarnation of a replica that ended here
//! <dir>/retired-<id>             which one that was
//! <dir>/map                      the newest map known
//! ```
//!
//! Lifecycle: start (opens what is on disk) -> form or join, once in a cluster's life -> shut down. In between a task
//! follows the map: see `reconcile`; where group 0 is led, another one changes it: see `controller`. A node leads,
//! votes and answers for its replicas; it does not know what commands mean, but for the map that group 0 publishes.

mod clocks;
mod controller;
mod digests;
mod files;
mod peer;
mod reconcile;
mod reinstall;

use self::{files::Mark, peer::Asked, reconcile::History};
use crate::{
    calls,
    command::{Command, Done, SystemCommand},
    kv::{FjallMemory, FjallOptions, Kv, KvError},
    log::{LogError, LogOptions, NodeLog},
    planted::{Plant, planted},
    raft::{
        network::AddressBook,
        replica::{Refused, Replica, Shared},
    },
    service::Service,
    state::StateError,
    state::StateMachine,
};
use ashlar_placement::{ClusterMap, Phase, map::READ_GRACE_MS};
use ashlar_proto::metadata::metadata_service_server::MetadataServiceServer;
use ashlar_rpc::{MAX_MESSAGE_BYTES, Peers, Routes};
use ashlar_runtime::{Env, Pool, TaskHandle, TaskSet, sync::Mutex};
use ashlar_types::{ClusterId, GroupId, MapEpoch, NodeId, ReplicaId};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

pub use self::controller::{ControllerSettings, views::NodeReport};
pub use self::digests::DigestSettings;
pub use crate::raft::{
    RaftSettings,
    clock::ClockSettings,
    replica::{OpenKv, ReplicaError},
    status::{Condition, GroupStatus, Role},
};

/// How a node hosts its replicas.
#[derive(Clone)]
pub struct MetadataConfig {
    /// Everything of the replicas lies here.
    pub dir: PathBuf,
    pub raft: RaftSettings,
    pub log: LogOptions,
    /// How often replicas are compared with the map if it does not change. Default 500 ms.
    pub reconcile_interval: Duration,
    /// Leaders raise the write epoch of their group this often. Default 10 min.
    pub write_epoch: Duration,
    /// A group that named no leader for so long is given up before a caller's deadline. Default 4 s: twice what two
    /// elections in a row take.
    pub patience: Duration,
    /// Of the node that leads group 0.
    pub controller: ControllerSettings,
    pub clock: ClockSettings,
    /// This node's copy of group 0 counts for nothing once group 0's leader was not heard for so long. Default 60 s.
    pub contact_limit: Duration,
    pub digests: DigestSettings,
    /// Engine of the tables. Default fjall, with memory for all replicas here as [`FjallOptions::default`] divides it; see
    /// `with_tables`.
    pub open_kv: OpenKv,
    /// Threads for applies and log reads, and for queries that scan. Default 2 each.
    pub threads: usize,
}

impl MetadataConfig {
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            raft: RaftSettings::default(),
            log: LogOptions::default(),
            reconcile_interval: Duration::from_millis(500),
            write_epoch: Duration::from_secs(600),
            patience: Duration::from_secs(4),
            controller: ControllerSettings::default(),
            clock: ClockSettings::default(),
            contact_limit: Duration::from_secs(60),
            digests: DigestSettings::default(),
            open_kv: opener(FjallMemory::new(FjallOptions::default())),
            threads: 2,
        }
    }

    /// The tables of all replicas here take their memory from this, as those of other nodes in the process may.
    #[must_use]
    pub fn with_tables(self, memory: FjallMemory) -> Self {
        Self { open_kv: opener(memory), ..self }
    }
}

fn opener(memory: FjallMemory) -> OpenKv {
    Arc::new(move |dir| Ok(Arc::new(memory.open(dir)?) as Arc<dyn Kv>))
}

/// The node cannot take part in metadata.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("metadata directory {dir}")]
    Dir {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the Raft log of this node")]
    Log(#[from] LogError),
    #[error("metadata directory {0} is in use by another process")]
    InUse(PathBuf),
    /// Without group 0, and without a map that was kept, the node knows nobody. Other replicas that fail are left out
    /// and reported.
    #[error("replica of group {group}")]
    Replica {
        group: GroupId,
        #[source]
        source: ReplicaError,
    },
    #[error("the replicas in {dir} belong to node {found}, not to node {expected}")]
    OtherNode { dir: PathBuf, found: NodeId, expected: NodeId },
    #[error("the map has no replica of group 0 on node {0}")]
    NotInMap(NodeId),
    #[error("this node is in cluster {0} already")]
    AlreadyFormed(ClusterId),
    #[error("the first entry of group 0 could not be written: {0}")]
    Form(&'static str),
}

/// Queue of each pool; callers beyond wait asynchronously.
const POOL_QUEUE: usize = 1024;

/// See the module.
pub struct MetadataNode {
    config: MetadataConfig,
    shared: Shared,
    map: watch::Sender<Arc<ClusterMap>>,
    replicas: Mutex<BTreeMap<GroupId, Arc<Replica>>>,
    /// Replicas that are here and cannot be open.
    closed: Mutex<BTreeMap<GroupId, Closed>>,
    /// Groups whose tables are being replaced now.
    reinstalling: Mutex<BTreeSet<GroupId>>,
    jobs: TaskSet,
    /// One change of the set of replicas at a time.
    changing: tokio::sync::Mutex<()>,
    stopping: watch::Sender<bool>,
    followers: Mutex<Vec<TaskHandle>>,
    lock: Mutex<Option<Box<dyn std::fmt::Debug + Send + Sync>>>,
}

/// A replica that is not open, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Closed {
    id: ReplicaId,
    condition: Condition,
}

impl std::fmt::Debug for MetadataNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataNode").field("dir", &self.config.dir).finish_non_exhaustive()
    }
}

impl MetadataNode {
    /// Opens the replicas found on disk and begins to follow the map.
    pub async fn start(config: MetadataConfig, env: Env, peers: Peers) -> Result<Arc<Self>, StartError> {
        let dir = config.dir.clone();
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::WouldBlock {
                StartError::InUse(dir.clone())
            } else {
                StartError::Dir { dir: dir.clone(), source }
            }
        };
        let apply_pool = Pool::new(&env.tasks, "metadata-apply", config.threads, POOL_QUEUE);
        let query_pool = Pool::new(&env.tasks, "metadata-query", config.threads, POOL_QUEUE);
        let (lock, found) = {
            let (disk, dir) = (Arc::clone(&env.disk), config.dir.clone());
            let opening = apply_pool.run(move || {
                disk.create_dir_all(&dir)?;
                let lock = disk.lock(&dir.join("lock"))?;
                Ok((lock, files::replicas(&*disk, &dir)?))
            });
            opening.await.map_err(io::Error::other).and_then(|opened| opened).map_err(failed)?
        };
        let log = {
            let (env, dir, options) = (env.clone(), config.dir.join("log"), config.log);
            let opening = apply_pool.run(move || NodeLog::open(&env, &dir, options));
            opening.await.map_err(|closed| failed(io::Error::other(closed)))??
        };
        let (map, known) = watch::channel(Arc::new(no_cluster()));
        let publish = map.clone();
        let shared = Shared {
            env: env.clone(),
            peers,
            book: AddressBook(known),
            apply_pool,
            query_pool,
            settings: config.raft.clone(),
            log,
            open_kv: Arc::clone(&config.open_kv),
            on_change: Arc::new(move |state: &StateMachine| {
                if let Some(map) = state.map() {
                    publish_newer(&publish, map);
                }
            }),
            clocks: Arc::default(),
        };
        let node = Arc::new(Self {
            config,
            shared,
            map,
            replicas: Mutex::default(),
            closed: Mutex::default(),
            reinstalling: Mutex::default(),
            jobs: TaskSet::new(),
            changing: tokio::sync::Mutex::new(()),
            stopping: watch::channel(false).0,
            followers: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        if let Err(error) = node.open_found(found).await {
            node.stop(Stop::AsACrash).await;
            return Err(error);
        }
        let follow = env.tasks.spawn("metadata-reconcile", reconcile::run(Arc::downgrade(&node)));
        let control = env.tasks.spawn("metadata-control", controller::run(Arc::downgrade(&node)));
        let clocks = env.tasks.spawn("metadata-clocks", clocks::run(Arc::downgrade(&node)));
        let compare = env.tasks.spawn("metadata-digests", digests::run(Arc::downgrade(&node)));
        let rescan = env.tasks.spawn("metadata-rescan", digests::rescan(Arc::downgrade(&node)));
        node.lock(&node.followers).extend([follow, control, clocks, compare, rescan]);
        Ok(node)
    }

    async fn open_found(&self, found: BTreeMap<GroupId, ReplicaId>) -> Result<(), StartError> {
        if !found.contains_key(&GroupId::SYSTEM) && self.node().is_some() {
            // Lost, or not made yet: the map tells which.
            self.recall_map().await;
        }
        for (group, id) in found {
            if let Some(expected) = self.node().filter(|expected| *expected != id.node) {
                let dir = self.config.dir.clone();
                return Err(StartError::OtherNode { dir, found: id.node, expected });
            }
            let opened = match self.is_marked(group, Mark::Reinstall).await {
                Ok(false) => self.open(group, id).await,
                Ok(true) => {
                    self.lock(&self.closed).insert(group, Closed { id, condition: Condition::Reinstalling });
                    continue;
                }
                Err(error) => Err(ReplicaError::Io(error)),
            };
            let Err(source) = opened else { continue };
            let condition = condition_after(&source);
            tracing::error!(%group, ?condition, error = %chain(&source), "a metadata replica cannot be opened");
            self.lock(&self.closed).insert(group, Closed { id, condition });
            if group == GroupId::SYSTEM && !self.recall_map().await {
                return Err(StartError::Replica { group, source });
            }
        }
        Ok(())
    }

    /// Takes up the map that was kept. `false`: there is none.
    async fn recall_map(&self) -> bool {
        let (disk, root) = (Arc::clone(&self.shared.env.disk), self.config.dir.clone());
        let kept = self.shared.apply_pool.run(move || files::load_map(&*disk, &root)).await;
        let Ok(Some(map)) = kept else { return false };
        self.set_map_hint(map);
        true
    }

    async fn is_marked(&self, group: GroupId, mark: Mark) -> io::Result<bool> {
        let (disk, root) = (Arc::clone(&self.shared.env.disk), self.config.dir.clone());
        let reading = self.shared.apply_pool.run(move || files::is_marked(&*disk, &root, group, mark));
        reading.await.map_err(io::Error::other)?
    }

    /// The log knows every replica that has begun. One that it does not know has lost what it promised.
    async fn open(&self, group: GroupId, id: ReplicaId) -> Result<(), ReplicaError> {
        let known = self.shared.log.replicas();
        let is_known = known.iter().any(|known| (known.group, known.raft_id) == (group, id.raft_id()));
        if !is_known && !planted(Plant::WipedVoterVotes) {
            return Err(ReplicaError::Lost);
        }
        let dir = files::dir(&self.config.dir, group);
        let replica = Replica::open(self.shared.clone(), group, id, dir).await?;
        if self.is_marked(group, Mark::Frozen).await? {
            replica.freeze();
        }
        tracing::info!(%group, node = %id.node, incarnation = %id.incarnation, "metadata replica is open");
        self.replicas().insert(group, Arc::new(replica));
        Ok(())
    }

    /// Makes a replica that is not there yet; one of an older incarnation is set aside.
    /// `map` lists it; a replica that has had a log and is gone is not made again under the same incarnation.
    async fn ensure(&self, map: &ClusterMap, group: GroupId, id: ReplicaId) -> Result<(), ReplicaError> {
        let _changing = self.changing.lock().await;
        let known = self.replica(group).map(|replica| replica.id);
        let closed = self.lock(&self.closed).get(&group).map(|closed| closed.id);
        if known.or(closed).is_some_and(|known| known.incarnation >= id.incarnation) {
            return Ok(());
        }
        let lost = || {
            self.lock(&self.closed).insert(group, Closed { id, condition: Condition::Damaged });
            Err(ReplicaError::Lost)
        };
        let retired = {
            let (disk, root) = (Arc::clone(&self.shared.env.disk), self.config.dir.clone());
            let reading = self.shared.apply_pool.run(move || files::retired(&*disk, &root, group));
            reading.await.map_err(io::Error::other)??
        };
        if retired.is_some_and(|retired| retired.incarnation >= id.incarnation) {
            return lost();
        }
        match reconcile::history(self, map, group, id).await {
            History::None => {}
            History::Unknown => return Err(ReplicaError::NotSure),
            History::Voted => return lost(),
        }
        let older = self.replicas().remove(&group);
        if let Some(older) = older {
            older.shut_down().await;
        }
        self.shared.log.begin(group, id.raft_id()).await?;
        self.lock(&self.closed).remove(&group);
        let (disk, dir) = (Arc::clone(&self.shared.env.disk), self.config.dir.clone());
        let made = self.shared.apply_pool.run(move || files::create(&*disk, &dir, group, id)).await;
        made.map_err(io::Error::other)??;
        if let Some(older) = known.or(closed) {
            self.shared.log.remove(group, older.raft_id()).await?;
        }
        self.open(group, id).await
    }

    /// Ends a replica that is not a member of its group any more.
    async fn retire(&self, group: GroupId, id: ReplicaId) -> io::Result<()> {
        let _changing = self.changing.lock().await;
        let open = {
            let mut replicas = self.replicas();
            let meant = replicas.get(&group).is_some_and(|open| open.id == id);
            if meant { replicas.remove(&group) } else { None }
        };
        if let Some(open) = open {
            open.shut_down().await;
        }
        self.lock(&self.closed).remove(&group);
        let (disk, root) = (Arc::clone(&self.shared.env.disk), self.config.dir.clone());
        let retiring = self.shared.apply_pool.run(move || files::retire(&*disk, &root, group, id));
        retiring.await.map_err(io::Error::other)??;
        self.shared.log.remove(group, id.raft_id()).await
    }

    /// Answers nothing from a replica any more, now and after a restart. `false`: it is not here.
    async fn freeze(&self, group: GroupId, id: ReplicaId) -> bool {
        let Some(replica) = self.replica(group).filter(|replica| replica.id == id) else { return false };
        replica.freeze();
        let (disk, root) = (Arc::clone(&self.shared.env.disk), self.config.dir.clone());
        let marking = self.shared.apply_pool.run(move || files::mark(&*disk, &root, group, Mark::Frozen));
        matches!(marking.await, Ok(Ok(())))
    }

    /// Makes this node the first of a cluster. Again with a map of the same cluster, it goes on where it stopped.
    pub async fn form(&self, map: ClusterMap) -> Result<(), StartError> {
        let first = map.groups.get(&GroupId::SYSTEM).and_then(|group| group.voters.first().copied());
        let first = first.ok_or(StartError::NotInMap(NodeId(1)))?;
        let known = self.map.borrow().cluster;
        if self.map.borrow().epoch > MapEpoch(0) && known != map.cluster {
            return Err(StartError::AlreadyFormed(known));
        }
        let taken = |taken: ashlar_rpc::IdentityTaken| StartError::AlreadyFormed(taken.cluster);
        self.shared.peers.identity().set(map.cluster, first.node).map_err(taken)?;
        let failed = |source| StartError::Replica { group: GroupId::SYSTEM, source };
        self.ensure(&map, GroupId::SYSTEM, first).await.map_err(failed)?;
        let replica = self.replica(GroupId::SYSTEM).ok_or(StartError::NotInMap(first.node))?;
        if !replica.is_initialized().await {
            let begun = replica.initialize(&[first]).await;
            begun.map_err(|error| failed(ReplicaError::Raft(error)))?;
        }
        let command = Command::System(SystemCommand::Form { map: Box::new(map) });
        let deadline = self.shared.env.clock.monotonic() + FORM_LIMIT;
        loop {
            match replica.propose(None, command.clone()).await {
                Ok(Ok(Done::Map(_))) => return Ok(()),
                Ok(_) => return Err(StartError::AlreadyFormed(self.map.borrow().cluster)),
                // The only voter elects itself within the election timeout.
                Err(Refused::NotLeader(_) | Refused::Busy)
                    if self.shared.env.clock.monotonic() < deadline =>
                {
                    self.shared.env.clock.sleep(FORM_POLL).await;
                }
                Err(Refused::NotLeader(_) | Refused::Busy) => {
                    return Err(StartError::Form("there is no leader"));
                }
                Err(Refused::Unknown(reason)) => return Err(StartError::Form(reason)),
            }
        }
    }

    /// Takes up the number that group 0 gave this node, with the map that came with it: an empty replica of group 0
    /// waits for its leader.
    pub async fn join(&self, node: NodeId, map: ClusterMap) -> Result<(), StartError> {
        let taken = |taken: ashlar_rpc::IdentityTaken| StartError::AlreadyFormed(taken.cluster);
        self.shared.peers.identity().set(map.cluster, node).map_err(taken)?;
        let system = map.groups.get(&GroupId::SYSTEM).ok_or(StartError::NotInMap(node))?;
        let listed = system.voters.iter().chain(&system.learners).find(|replica| replica.node == node);
        let id = *listed.ok_or(StartError::NotInMap(node))?;
        self.set_map_hint(map.clone());
        match self.ensure(&map, GroupId::SYSTEM, id).await {
            // The task that follows the map asks again.
            Ok(()) | Err(ReplicaError::NotSure) => Ok(()),
            // The group remembers a replica whose files are gone: another one will take its place.
            Err(error @ ReplicaError::Lost) => {
                tracing::error!(error = %chain(&error), "this node lost its replica of group 0");
                Ok(())
            }
            Err(source) => Err(StartError::Replica { group: GroupId::SYSTEM, source }),
        }
    }

    /// For a node whose metadata is gone and who knows the last map it had: none of its replicas of that map votes again,
    /// and the others are asked what came after it.
    pub fn rejoin(&self, node: NodeId, map: ClusterMap) -> Result<(), StartError> {
        let taken = |taken: ashlar_rpc::IdentityTaken| StartError::AlreadyFormed(taken.cluster);
        self.shared.peers.identity().set(map.cluster, node).map_err(taken)?;
        {
            let mut closed = self.lock(&self.closed);
            for (group, members) in &map.groups {
                let mut listed = members.voters.iter().chain(&members.learners);
                if self.replica(*group).is_none()
                    && let Some(id) = listed.find(|replica| replica.node == node)
                {
                    tracing::error!(%group, incarnation = %id.incarnation, "a metadata replica is gone with its files");
                    closed.entry(*group).or_insert(Closed { id: *id, condition: Condition::Damaged });
                }
            }
        }
        self.set_map_hint(map);
        Ok(())
    }

    /// A map that this node heard of elsewhere: used until group 0's replica here knows a newer one.
    pub fn set_map_hint(&self, map: ClusterMap) {
        publish_newer(&self.map, Arc::new(map));
    }

    /// Every new map, as soon as group 0's replica here has applied it. Epoch 0: no cluster yet.
    pub fn watch_map(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.map.subscribe()
    }

    /// What other nodes call.
    pub fn routes(self: &Arc<Self>) -> Routes {
        let service = Service(Arc::downgrade(self));
        let snapshots = MetadataServiceServer::new(service.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let asked = Arc::new(Asked(Arc::downgrade(self)));
        Routes::new()
            .add(snapshots)
            .calls(calls::METHODS, Arc::new(service))
            .calls(peer::ASK.0..=peer::ASK.0, asked)
    }

    pub fn status(&self) -> Vec<GroupStatus> {
        let mut status: Vec<GroupStatus> = self.replicas().values().map(|replica| replica.status()).collect();
        let closed = self.lock(&self.closed);
        status.extend(
            closed.iter().map(|(group, closed)| GroupStatus::closed(*group, closed.id, closed.condition)),
        );
        drop(closed);
        status.sort_by_key(|status| status.group);
        status
    }

    /// What this node says of itself to others.
    pub fn report(&self) -> NodeReport {
        NodeReport {
            epoch: self.map.borrow().epoch,
            groups: self.status(),
            flush_us: u64::try_from(self.shared.log.stats().flush.as_micros()).ok(),
            clock_off: clocks::is_off(self),
        }
    }

    /// What every node of the map says of itself; none: it does not answer.
    pub async fn survey(self: &Arc<Self>) -> BTreeMap<NodeId, Option<NodeReport>> {
        let map = Arc::clone(&self.map.borrow());
        let map = &map;
        let asked = map
            .nodes
            .keys()
            .map(|id| async move { (*id, controller::look(self, map, *id, controller::LOOK_LIMIT).await) });
        futures_util::future::join_all(asked).await.into_iter().collect()
    }

    /// The tables of a replica here, as far as it has applied: for digests and diagnosis, not linearizable.
    pub fn tables(&self, group: GroupId) -> Option<Arc<StateMachine>> {
        self.replica(group).map(|replica| replica.state_shared())
    }

    /// Stops following the map, then every replica, in order.
    pub async fn shutdown(&self) {
        self.stop(Stop::Orderly).await;
    }

    /// Stops without flushing the tables: what a crash of the process leaves behind.
    pub async fn halt(&self) {
        self.stop(Stop::AsACrash).await;
    }

    async fn stop(&self, how: Stop) {
        // Nobody listens if the task has ended.
        let _ = self.stopping.send(true);
        let followers = std::mem::take(&mut *self.lock(&self.followers));
        for task in followers {
            task.join().await;
        }
        self.jobs.join_all().await;
        let _changing = self.changing.lock().await;
        let replicas = std::mem::take(&mut *self.replicas());
        for replica in replicas.into_values() {
            match how {
                Stop::Orderly => replica.shut_down().await,
                Stop::AsACrash => replica.halt().await,
            }
        }
        self.shared.log.close().await;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The number of this node; `None` while it is in no cluster.
    pub fn node(&self) -> Option<NodeId> {
        self.shared.peers.identity().node()
    }

    pub fn env(&self) -> &Env {
        &self.shared.env
    }

    pub fn peers(&self) -> &Peers {
        &self.shared.peers
    }

    pub(crate) fn contact_limit(&self) -> Duration {
        self.config.contact_limit
    }

    pub(crate) fn patience(&self) -> Duration {
        self.config.patience
    }

    pub(crate) fn replica(&self, group: GroupId) -> Option<Arc<Replica>> {
        self.replicas().get(&group).cloned()
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> ashlar_runtime::sync::MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replicas(&self) -> ashlar_runtime::sync::MutexGuard<'_, BTreeMap<GroupId, Arc<Replica>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
enum Stop {
    Orderly,
    AsACrash,
}

const FORM_LIMIT: Duration = Duration::from_secs(30);
const FORM_POLL: Duration = Duration::from_millis(20);

/// What a node that is in no cluster knows.
fn no_cluster() -> ClusterMap {
    ClusterMap {
        cluster: ClusterId(0),
        epoch: MapEpoch(0),
        phase: Phase::Forming,
        nodes: BTreeMap::new(),
        drives: BTreeMap::new(),
        profiles: BTreeMap::new(),
        default_profile: None,
        pgs: BTreeMap::new(),
        groups: BTreeMap::new(),
        feature_level: 1,
        read_grace_ms: READ_GRACE_MS,
    }
}

fn publish_newer(to: &watch::Sender<Arc<ClusterMap>>, map: Arc<ClusterMap>) {
    to.send_if_modified(|known| {
        let newer = map.epoch > known.epoch;
        if newer {
            *known = map;
        }
        newer
    });
}

/// What is wrong with a replica that could not be opened.
fn condition_after(error: &ReplicaError) -> Condition {
    match error {
        // The disk did not answer, which says nothing of what it holds.
        ReplicaError::Log(
            LogError::Io { .. } | LogError::InUse { .. } | LogError::Stopped(_) | LogError::Version { .. },
        )
        | ReplicaError::Io(_) => Condition::Failed,
        ReplicaError::Log(LogError::Damaged { .. }) | ReplicaError::Lost => Condition::Damaged,
        ReplicaError::Kv(error) => tables_after(error),
        ReplicaError::State(StateError::Kv(error)) => tables_after(error),
        // Log and vote are sound: what the tables should hold, others have.
        ReplicaError::State(_) | ReplicaError::TablesBehind => Condition::Reinstalling,
        ReplicaError::Settings | ReplicaError::Raft(_) | ReplicaError::NotSure => Condition::Failed,
    }
}

fn tables_after(error: &KvError) -> Condition {
    match error {
        KvError::Engine(fjall::Error::Io(_)) | KvError::Failed => Condition::Failed,
        KvError::Engine(_) | KvError::Damaged { .. } => Condition::Reinstalling,
        KvError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Condition::Reinstalling,
        KvError::Io { .. } => Condition::Failed,
    }
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
