//! One machine: what outlives its processes, and the process that runs on it.
//!
//! Lifecycle: made -> boots -> (dies by power cut or kill, or ends in order) -> boots again. What is on its disk and in its
//! stores outlives every life; whatever else there is belongs to one.

use super::{
    clock::{SimClock, SimTime, Skew},
    disk::HostDisk,
    kv::Stores,
    net::SimNet,
    rng::{Seed, SimRng},
    tasks::SimSpawner,
    trace::Trace,
};
use crate::{Settings, check::replicas::Rows, setup::Setup, workload::Workload};
use ashlar_metadata::{MetadataClient, MetadataConfig, MetadataNode, node::GroupStatus};
use ashlar_placement::{ClusterMap, Labels, Node, NodeState};
use ashlar_rpc::{Peers, RpcIdentity, serve};
use ashlar_runtime::{Disk, Env, SimDisk, TaskHandle, Tasks, disk::sim::Survivors};
use ashlar_types::{ClusterId, GroupId, NodeId};
use std::{
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// Of every simulated cluster.
pub const CLUSTER: ClusterId = ClusterId(0x51);
/// Where metadata lies on every host.
const DIR: &str = "/meta";

/// What all hosts of a run share.
pub struct Shared {
    pub settings: Settings,
    pub time: SimTime,
    pub trace: Trace,
    pub setup: Setup,
    pub workload: Workload,
}

pub struct Host {
    /// From 0.
    pub index: usize,
    pub name: String,
    pub address: SocketAddr,
    pub skew: Skew,
    shared: Arc<Shared>,
    stores: Stores,
    state: Mutex<State>,
}

struct State {
    seed: Seed,
    disk: SimDisk,
    number: Option<NodeId>,
    boots: u32,
    life: Option<Arc<Life>>,
    /// Why the process of the last life ended by itself.
    ended: Option<String>,
}

/// One process.
pub struct Life {
    disk: HostDisk,
    stop: Notify,
    orders: Mutex<Vec<Order>>,
    node: Mutex<Weak<MetadataNode>>,
    client: Mutex<Weak<MetadataClient>>,
}

/// What the one who steps the simulation asks of a process.
#[derive(Clone)]
pub enum Order {
    /// An operator's change of the map.
    ChangeMap(Arc<dyn Fn(&mut ClusterMap) -> bool + Send + Sync>),
    /// Counts every bucket anew and reads everything once more.
    Recount,
    /// All timers of the process fire at once, as after a suspension.
    Skip(Duration),
}

impl Host {
    pub(crate) fn new(index: usize, address: SocketAddr, shared: Arc<Shared>, mut seed: Seed) -> Self {
        let disk = new_disk();
        let skew = Skew::default();
        skew.set(i64::try_from(seed.below(200)).unwrap_or(0) - 100);
        let state = State { seed, disk, number: None, boots: 0, life: None, ended: None };
        Self {
            index,
            name: format!("n{}", index + 1),
            address,
            skew,
            shared,
            stores: Stores::default(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_up(&self) -> bool {
        self.state().life.is_some()
    }

    /// The number in the cluster, once it has joined.
    pub fn number(&self) -> Option<NodeId> {
        self.state().number
    }

    pub fn boots(&self) -> u32 {
        self.state().boots
    }

    /// Why its last process ended by itself, told once.
    pub fn take_ended(&self) -> Option<String> {
        self.state().ended.take()
    }

    pub fn snapshots_installed(&self) -> u64 {
        self.stores.installed()
    }

    /// The node as it runs now. Not to be kept.
    pub fn node(&self) -> Option<Arc<MetadataNode>> {
        let life = self.state().life.clone()?;
        life.node.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// All rows of its replica of a group.
    pub fn rows(&self, group: GroupId) -> Option<Rows> {
        let path = Path::new(DIR).join(format!("group-{group}")).join("kv");
        self.stores.rows(&self.disk(), &path)
    }

    pub fn status(&self) -> Vec<GroupStatus> {
        self.node().map(|node| node.status()).unwrap_or_default()
    }

    pub fn order(&self, order: Order) {
        if let Some(life) = &self.state().life {
            life.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        }
    }

    /// Ends the process in order; it is gone a little later.
    pub fn stop(&self) {
        if let Some(life) = &self.state().life {
            life.stop.notify_one();
        }
    }

    /// From here on nothing of the process reaches the disk.
    pub(crate) fn die(&self) {
        if let Some(life) = &self.state().life {
            life.disk.die();
        }
    }

    /// The power was cut, and the process is gone: what the disk and the stores hold now.
    pub(crate) fn cut_power(&self) {
        let mut state = self.state();
        state.life = None;
        let survivors = match state.seed.below(8) {
            0 => Survivors::None,
            1 => Survivors::All,
            _ => Survivors::Random { seed: state.seed.number() },
        };
        let history = state.disk.history();
        state.disk = SimDisk::with_image(history.crash(history.events.len(), survivors));
        let mut seed = state.seed.fork();
        self.stores.cut_power(&mut seed);
    }

    /// The process was killed; the machine keeps what it had written.
    pub(crate) fn killed(&self) {
        let mut state = self.state();
        state.life = None;
        let history = state.disk.history();
        state.disk = history.kill(history.events.len());
        self.stores.kill();
    }

    /// The process ended by itself; the machine keeps what it had written.
    pub(crate) fn gone(&self) {
        self.die();
        self.killed();
    }

    /// The last writes of the process: path, offset, length.
    pub(crate) fn recent_writes(&self) -> Vec<(PathBuf, u64, usize)> {
        self.state().life.as_ref().map(|life| life.disk.recent_writes()).unwrap_or_default()
    }

    /// What lies on the disk of a host that is down, or faults of one that is up.
    pub fn disk(&self) -> SimDisk {
        self.state().disk.clone()
    }

    /// So that a long run does not keep all that was ever written.
    pub(crate) fn forget_history(&self) {
        self.state().disk.forget_history();
    }

    fn boot(&self) -> (Env, Arc<Life>, Option<NodeId>) {
        let mut state = self.state();
        state.boots += 1;
        let disk = HostDisk::new(state.disk.clone(), state.seed.fork());
        let env = Env {
            clock: Arc::new(SimClock::new(self.shared.time.clone(), self.skew.clone())),
            rng: Arc::new(SimRng::new(state.seed.fork())),
            tasks: Tasks::new(Arc::new(SimSpawner)),
            disk: Arc::new(disk.clone()),
            net: Arc::new(SimNet { host: self.index, trace: self.shared.trace.clone() }),
        };
        let life = Arc::new(Life {
            disk,
            stop: Notify::new(),
            orders: Mutex::default(),
            node: Mutex::default(),
            client: Mutex::default(),
        });
        state.life = Some(Arc::clone(&life));
        (env, life, state.number)
    }

    /// What turmoil runs on the host. An end by itself is remembered, and no error of the simulation.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let (env, life, number) = self.boot();
        if let Err(error) = Arc::clone(&self).live(env, &life, number).await {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            self.shared.trace.event(format_args!("{} ended: {text}", self.name));
            self.state().ended = Some(text);
        }
        Ok(())
    }

    async fn live(
        self: Arc<Self>,
        env: Env,
        life: &Arc<Life>,
        number: Option<NodeId>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let identity = match number {
            Some(number) => RpcIdentity::of(CLUSTER, number),
            None => RpcIdentity::unformed(),
        };
        let peers = Peers::new(env.clone(), identity.clone());
        let node = MetadataNode::start(self.config(), env.clone(), peers).await?;
        let listener = env.net.listen(self.address).await?;
        let serving = {
            let (env, routes) = (env.clone(), node.routes());
            env.clone().tasks.spawn("serve", async move {
                serve(&env, listener, routes, identity, std::future::pending()).await;
            })
        };
        let client = MetadataClient::new(Arc::clone(&node));
        *life.node.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&node);
        *life.client.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&client);
        if number.is_none() {
            let number = self.shared.setup.enter(&self, &env, &node, &client).await?;
            self.state().number = Some(number);
        }
        let mut owned: Vec<TaskHandle> = Vec::new();
        if self.index == 0 {
            owned.extend(self.shared.setup.complete(&env, &client));
        }
        owned.extend(self.shared.workload.start(self.index, &env, &client));
        loop {
            tokio::select! {
                biased;
                () = life.stop.notified() => break,
                () = env.clock.sleep(ORDERS_POLL) => {}
            }
            let orders = std::mem::take(&mut *life.orders.lock().unwrap_or_else(PoisonError::into_inner));
            for order in orders {
                match order {
                    Order::ChangeMap(change) => {
                        let (client, trace) = (Arc::clone(&client), self.shared.trace.clone());
                        env.tasks
                            .spawn(
                                "operator",
                                async move { crate::setup::operate(&client, &trace, change).await },
                            )
                            .detach();
                    }
                    Order::Recount => {
                        owned.push(self.shared.workload.recount(self.index, &env, &client));
                    }
                    Order::Skip(duration) => tokio::time::advance(duration).await,
                }
            }
        }
        drop(owned);
        drop(client);
        drop(serving);
        node.shutdown().await;
        drop(node);
        self.state().ended = Some("in order".to_owned());
        Ok(())
    }

    fn config(&self) -> MetadataConfig {
        let mut config = MetadataConfig::new(PathBuf::from(DIR));
        let settings = &self.shared.settings;
        config.raft.snapshot_entries = settings.snapshot_entries;
        config.raft.kept_entries = settings.snapshot_entries / 5;
        config.raft.purge_entries = 10;
        // Small, so that segments are used again and lagging replicas are moved out of them.
        config.log.segment_bytes = settings.segment_bytes;
        config.log.first_segment_bytes = settings.segment_bytes / 2;
        config.log.cache_bytes = 16 << 10;
        config.reconcile_interval = Duration::from_millis(200);
        config.write_epoch = settings.write_epoch;
        config.controller.down_after = Duration::from_secs(3);
        config.controller.dead_after = Duration::from_secs(25);
        config.controller.balance_interval = Duration::from_secs(20);
        config.threads = 2;
        let (stores, disk) = (self.stores.clone(), self.state().disk.clone());
        config.open_kv = Arc::new(move |path| stores.open(&disk, path));
        config
    }

    /// How the cluster map tells where it is.
    pub(crate) fn in_map(&self) -> Node {
        Node {
            rpc: self.address.to_string(),
            s3: String::new(),
            labels: Labels::default(),
            state: NodeState::Member,
        }
    }
}

const ORDERS_POLL: Duration = Duration::from_millis(50);

/// Empty but for the directory that an installation makes.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).expect("an empty disk takes a directory");
    disk.sync_dir(Path::new("/")).expect("no fault is planned yet");
    disk
}
