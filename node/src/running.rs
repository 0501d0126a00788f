//! A node that belongs to a cluster: its drives, its metadata replicas, its data path, and the tasks that keep them.

use crate::{
    buckets::Buckets,
    budgets::Budgets,
    config::{Config, DriveConfig},
    drives::Drives,
    entry::{self, Entry},
    health::{GroupView, Health},
    housekeeping,
    identity::Identity,
    node_service::NodeService,
    shard_client::ShardClient,
    shard_service::ShardService,
    start::StartError,
    tls::Renewal,
};
use ashlar_datapath::{ObjectStore, Settings};
use ashlar_metadata::{MetadataApi, MetadataClient, MetadataConfig, MetadataNode, query::Query};
use ashlar_placement::{ClusterMap, Phase};
use ashlar_proto::{
    node::node_service_server::NodeServiceServer, shard::shard_service_server::ShardServiceServer,
};
use ashlar_rpc::{MapEpochs, Peers, Routes, RpcIdentity};
use ashlar_runtime::{Env, Listener, TaskSet};
use ashlar_storage::{DriveIdentity, DriveOptions, DriveStore};
use ashlar_types::{DriveId, GroupId, MapEpoch};
use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Reader threads of a drive: one a core, because each keeps buffers of its own in the allocator; enough at the least
/// that one slow read does not hold up the next.
const READERS_MIN: usize = 2;
/// A drive serves no more reads at once any faster.
const READERS_MAX: usize = 8;
/// One try of a group that may still be electing.
const READY_STEP: Duration = Duration::from_secs(5);
const READY_PAUSE: Duration = Duration::from_millis(50);

pub struct Running {
    pub identity: Identity,
    pub env: Env,
    pub metadata: Arc<MetadataClient>,
    pub metadata_node: Arc<MetadataNode>,
    pub map: watch::Receiver<Arc<ClusterMap>>,
    pub drives: Drives,
    pub health: Health,
    pub shards: ShardClient,
    pub store: ObjectStore,
    pub buckets: Buckets,
    pub peers: Peers,
    pub renewal: Arc<Renewal>,
    stop: watch::Sender<bool>,
    tasks: TaskSet,
}

/// Who this node is to others, and how it goes on proving it.
pub struct Secured {
    pub identity: RpcIdentity,
    pub renewal: Arc<Renewal>,
}

impl Running {
    /// Opens everything and begins to serve its peers on `rpc`.
    pub async fn start(
        config: &Config,
        env: &Env,
        budgets: &Budgets,
        secured: Secured,
        identity: Identity,
        rpc: Box<dyn Listener>,
    ) -> Result<Arc<Self>, StartError> {
        let drives = open_drives(config, env, &identity).await?;
        let Secured { identity: rpc_identity, renewal } = secured;
        let peers = Peers::new(env.clone(), rpc_identity.clone());
        let metadata_config =
            MetadataConfig::new(config.data_dir.join("metadata")).with_tables(budgets.tables.clone());
        let metadata_node = MetadataNode::start(metadata_config, env.clone(), peers.clone()).await?;
        let map = metadata_node.watch_map();
        let epochs = MapEpochs::of(map.clone(), |map| map.epoch);
        peers.map_epoch(epochs.clone());
        let health = Health::new(identity.node);
        drives.report(&health);

        let shard_service = ShardService {
            drives: drives.clone(),
            map: map.clone(),
            env: env.clone(),
            budget: budgets.shards.clone(),
        };
        let node_service = NodeService {
            node: identity.node,
            drives: drives.clone(),
            metadata: Arc::clone(&metadata_node),
            map: map.clone(),
        };
        let metadata = MetadataClient::new(Arc::clone(&metadata_node));
        let api: Arc<dyn MetadataApi> = Arc::clone(&metadata) as Arc<dyn MetadataApi>;
        let routes = Routes::new()
            .add(
                ShardServiceServer::new(shard_service)
                    .max_decoding_message_size(ashlar_rpc::MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(ashlar_rpc::MAX_MESSAGE_BYTES),
            )
            // Shards are placed by the map; all else here brings it or does not look at it.
            .map_epoch(&epochs)
            .add(NodeServiceServer::new(node_service))
            .add_open(crate::join::service(
                Arc::clone(&api),
                env.clone(),
                identity.cluster,
                Arc::clone(&renewal),
            ))
            .merge(metadata_node.routes());

        let (stop, stopped) = watch::channel(false);
        let tasks = TaskSet::new();
        {
            let env = env.clone();
            let served = env.clone();
            tasks.push(env.tasks.spawn("rpc", async move {
                ashlar_rpc::serve(&served, rpc, routes, rpc_identity, until(stopped)).await;
            }));
        }
        if map.borrow().epoch == MapEpoch(0) {
            // Forming or joining has not come to its end, now or before a crash.
            match Entry::load(&*env.disk, &config.data_dir)? {
                Entry::Form(first) => metadata_node.form(*first).await?,
                Entry::Joined(first) => metadata_node.join(identity.node, *first).await?,
                Entry::Member(last) => metadata_node.rejoin(identity.node, *last)?,
            }
        }

        let shards = ShardClient {
            drives: drives.clone(),
            map: map.clone(),
            peers: peers.clone(),
            health: health.clone(),
            env: env.clone(),
        };
        let settings = Settings { node: identity.node, ..Settings::new(budgets.gateway.clone()) };
        let store = ObjectStore::new(env.clone(), Arc::clone(&api), Arc::new(shards.clone()), settings);
        let buckets = Buckets::new(api, env.clone());
        let running = Arc::new(Self {
            identity,
            env: env.clone(),
            metadata,
            metadata_node,
            map: map.clone(),
            drives,
            health: health.clone(),
            shards,
            store,
            buckets,
            peers: peers.clone(),
            renewal: Arc::clone(&renewal),
            stop,
            tasks,
        });
        running.tasks.push(env.tasks.spawn("health", health.watch(env.clone(), peers, map)));
        running.tasks.push(env.tasks.spawn("certificate", renewal.run()));
        housekeeping::start(&running, &running.tasks);
        let following = entry::follow(
            env.clone(),
            config.data_dir.clone(),
            running.identity.clone(),
            running.map.clone(),
        );
        running.tasks.push(env.tasks.spawn("entry", following));
        Ok(running)
    }

    /// Waits until the cluster is bootstrapped and every group answers this node. The caller sets the deadline.
    pub async fn wait_until_ready(&self) {
        let mut map = self.map.clone();
        // An error means that the node is being stopped, which ends the wait as well.
        let _ = map.wait_for(|map| map.phase == Phase::Ready).await;
        let groups: Vec<_> = self.map.borrow().groups.keys().copied().collect();
        for group in groups {
            while self.metadata.query(group, Query::GroupState, READY_STEP).await.is_err() {
                self.env.clock.sleep(READY_PAUSE).await;
            }
        }
    }

    /// Waits until no node of the cluster counts as down here: what was started after this node does until the next
    /// ping. The caller sets the deadline.
    pub async fn wait_until_all_are_up(&self) {
        let all_up = || self.map.borrow().nodes.keys().all(|id| self.health.is_up(*id));
        while !all_up() {
            self.env.clock.sleep(READY_PAUSE).await;
        }
    }

    /// What this node knows of the groups, for peers and for status.
    pub fn report(&self) {
        self.drives.report(&self.health);
        for group in self.metadata_node.status() {
            let view = GroupView {
                leader: group.leader,
                term: group.term,
                last_applied: group.last_applied.unwrap_or(0),
            };
            self.health.set_group(group.group, view);
        }
    }

    /// Whether this node's replica leads the group now.
    pub fn leads(&self, group: GroupId) -> bool {
        let this = Some(self.identity.node);
        self.metadata_node.status().iter().any(|status| status.group == group && status.leader == this)
    }

    /// Leads away, stops serving, closes what is open; in this order, so that nothing acknowledged is in flight.
    pub async fn shutdown(&self) {
        let _ = self.stop.send(true);
        self.metadata_node.shutdown().await;
        self.tasks.abort_all();
        self.drives.close().await;
    }
}

/// Ends when the flag is raised or its owner is gone.
pub async fn until(mut flag: watch::Receiver<bool>) {
    // An error means that the owner was dropped, which ends the wait as well.
    let _ = flag.wait_for(|raised| *raised).await;
}

/// The configured drives as the cluster knows them, in the order of the configuration. Changes nothing.
pub fn recognise(
    config: &Config,
    env: &Env,
    identity: &Identity,
) -> Result<Vec<(DriveId, DriveIdentity)>, StartError> {
    let recognise = |drive: &DriveConfig| {
        let path = || drive.path.clone();
        let found = DriveStore::identity(&env.disk, &drive.path)
            .map_err(|source| StartError::Drive { path: path(), source })?
            .ok_or_else(|| StartError::DriveMissing { path: path() })?;
        if found.cluster != identity.cluster {
            return Err(StartError::ForeignDrive {
                path: path(),
                found: found.cluster,
                ours: identity.cluster,
            });
        }
        let known = identity.drives.iter().find(|known| known.uuid == found.drive);
        let known = known.ok_or_else(|| StartError::UnknownDrive { path: path(), uuid: found.drive })?;
        Ok((known.id, found))
    };
    config.drives.iter().map(recognise).collect()
}

async fn open_drives(config: &Config, env: &Env, identity: &Identity) -> Result<Drives, StartError> {
    let recognised = recognise(config, env, identity)?;
    let capacities = crate::capacity::capacities(config, env)?;
    let cores = std::thread::available_parallelism().map_or(READERS_MIN, NonZeroUsize::get);
    let readers = cores.clamp(READERS_MIN, READERS_MAX);
    let mut stores = BTreeMap::new();
    for ((drive, (id, expect)), capacity) in config.drives.iter().zip(recognised).zip(capacities) {
        let options = DriveOptions { capacity: Some(capacity), readers, ..DriveOptions::default() };
        let store = DriveStore::open(env, &drive.path, expect, options)
            .await
            .map_err(|source| StartError::Drive { path: drive.path.clone(), source })?;
        crate::drives::log_opened(id, &drive.path, expect.drive, &store);
        stores.insert(id, store);
    }
    Ok(Drives::new(stores))
}
