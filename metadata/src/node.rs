//! The metadata side of one node: hosts its replicas of all groups and keeps them as the map wants them.
//!
//! ```text
//! <dir>/lock                     held while the node runs
//! <dir>/group-<id>/replica.id    which incarnation this is; written before anything else of the replica
//! <dir>/group-<id>/log, kv/      the replica itself
//! ```
//!
//! Lifecycle: start (opens what is on disk) -> form or join, once in a cluster's life -> shut down. In between a task
//! follows the map: see `reconcile`. A node leads, votes and answers for its replicas; it does not know what commands
//! mean, but for the map that group 0 publishes.

mod files;
mod reconcile;

use self::reconcile::History;
use crate::{
    calls,
    command::{Command, Done, SystemCommand},
    kv::{FjallKv, FjallOptions, Kv},
    log::LogOptions,
    raft::{
        network::AddressBook,
        replica::{Refused, Replica, Shared},
    },
    service::Service,
    state::StateMachine,
};
use ashlar_placement::{ClusterMap, Phase, map::READ_GRACE_MS};
use ashlar_proto::metadata::metadata_service_server::MetadataServiceServer;
use ashlar_rpc::{MAX_MESSAGE_BYTES, Peers, Routes};
use ashlar_runtime::{Env, Pool, TaskHandle, sync::Mutex};
use ashlar_types::{ClusterId, GroupId, MapEpoch, NodeId, ReplicaId};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

pub use crate::raft::{
    RaftSettings,
    replica::{GroupStatus, OpenKv, ReplicaError, Role},
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
    /// A leader that is not the first listed voter on a node in service hands over to that one, at most this often.
    /// Default 30 s: leaders spread again after a restart, and a flapping node costs little.
    pub balance_interval: Duration,
    /// A group that named no leader for so long is given up before a caller's deadline. Default 4 s: twice what two
    /// elections in a row take.
    pub patience: Duration,
    /// Engine of the tables. Default fjall.
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
            balance_interval: Duration::from_secs(30),
            patience: Duration::from_secs(4),
            open_kv: Arc::new(
                |dir| Ok(Arc::new(FjallKv::open(dir, FjallOptions::default())?) as Arc<dyn Kv>),
            ),
            threads: 2,
        }
    }
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
    #[error("metadata directory {0} is in use by another process")]
    InUse(PathBuf),
    /// Without group 0 the node knows no map. Replicas of other groups that fail are left out and reported.
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
    /// Replicas that could not be opened or were lost; they are not tried again while the process runs.
    broken: Mutex<BTreeMap<GroupId, ReplicaId>>,
    /// One change of the set of replicas at a time.
    changing: tokio::sync::Mutex<()>,
    stopping: watch::Sender<bool>,
    reconciler: Mutex<Option<TaskHandle>>,
    lock: Mutex<Option<Box<dyn std::fmt::Debug + Send + Sync>>>,
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
        let (map, known) = watch::channel(Arc::new(no_cluster()));
        let publish = map.clone();
        let shared = Shared {
            env: env.clone(),
            peers,
            book: AddressBook(known),
            apply_pool,
            query_pool,
            settings: config.raft.clone(),
            log: config.log,
            open_kv: Arc::clone(&config.open_kv),
            on_change: Arc::new(move |state: &StateMachine| {
                if let Some(map) = state.map() {
                    publish_newer(&publish, map);
                }
            }),
        };
        let node = Arc::new(Self {
            config,
            shared,
            map,
            replicas: Mutex::default(),
            broken: Mutex::default(),
            changing: tokio::sync::Mutex::new(()),
            stopping: watch::channel(false).0,
            reconciler: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        node.open_found(found).await?;
        let task = {
            let node = Arc::downgrade(&node);
            env.tasks.spawn("metadata-reconcile", reconcile::run(node))
        };
        *node.reconciler.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(node)
    }

    async fn open_found(&self, found: BTreeMap<GroupId, ReplicaId>) -> Result<(), StartError> {
        for (group, id) in found {
            if let Some(expected) = self.node().filter(|expected| *expected != id.node) {
                let dir = self.config.dir.clone();
                return Err(StartError::OtherNode { dir, found: id.node, expected });
            }
            match self.open(group, id).await {
                Ok(()) => {}
                Err(source) if group == GroupId::SYSTEM => return Err(StartError::Replica { group, source }),
                Err(error) => {
                    tracing::error!(%group, error = %chain(&error), "a metadata replica cannot be opened");
                    self.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(group, id);
                }
            }
        }
        Ok(())
    }

    async fn open(&self, group: GroupId, id: ReplicaId) -> Result<(), ReplicaError> {
        let dir = files::dir(&self.config.dir, group);
        let replica = Replica::open(self.shared.clone(), group, id, dir).await?;
        tracing::info!(%group, node = %id.node, incarnation = %id.incarnation, "metadata replica is open");
        self.replicas().insert(group, Arc::new(replica));
        Ok(())
    }

    /// Makes a replica that is not there yet; one of an older incarnation is set aside.
    /// `map` lists it; a replica that has had a log and is gone is not made again under the same incarnation.
    async fn ensure(&self, map: &ClusterMap, group: GroupId, id: ReplicaId) -> Result<(), ReplicaError> {
        let _changing = self.changing.lock().await;
        let known = self.replica(group).map(|replica| replica.id);
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).get(&group).copied();
        if known.or(broken).is_some_and(|known| known.incarnation >= id.incarnation) {
            return Ok(());
        }
        match reconcile::history(self, map, group, id).await {
            History::None => {}
            History::Unknown => return Err(ReplicaError::NotSure),
            History::Voted => {
                self.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(group, id);
                return Err(ReplicaError::Lost);
            }
        }
        let older = self.replicas().remove(&group);
        if let Some(older) = older {
            older.shut_down().await;
        }
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
        let (disk, dir) = (Arc::clone(&self.shared.env.disk), self.config.dir.clone());
        let made = self.shared.apply_pool.run(move || files::create(&*disk, &dir, group, id)).await;
        made.map_err(io::Error::other)??;
        self.open(group, id).await
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
            Err(source) => Err(StartError::Replica { group: GroupId::SYSTEM, source }),
        }
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
        Routes::new().add(snapshots).calls(calls::METHODS, Arc::new(service))
    }

    pub fn status(&self) -> Vec<GroupStatus> {
        let mut status: Vec<GroupStatus> = self.replicas().values().map(|replica| replica.status()).collect();
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        status.extend(broken.iter().map(|(group, id)| GroupStatus {
            group: *group,
            replica: *id,
            role: Role::Stopped,
            leader: None,
            term: 0,
            last_log: None,
            last_applied: None,
            voters: Vec::new(),
            learners: Vec::new(),
            purged: None,
        }));
        status.sort_by_key(|status| status.group);
        status
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
        let task = self.reconciler.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.join().await;
        }
        let _changing = self.changing.lock().await;
        let replicas = std::mem::take(&mut *self.replicas());
        for replica in replicas.into_values() {
            match how {
                Stop::Orderly => replica.shut_down().await,
                Stop::AsACrash => replica.halt().await,
            }
        }
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

    pub(crate) fn patience(&self) -> Duration {
        self.config.patience
    }

    pub(crate) fn replica(&self, group: GroupId) -> Option<Arc<Replica>> {
        self.replicas().get(&group).cloned()
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
