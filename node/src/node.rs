//! A node of the cluster, from its configuration to its orderly end.
//!
//! Lifecycle: Unformed -init-> Running, Unformed -join-> Running; a node with an identity starts Running. All of its
//! listeners are bound before anything else happens, so that a port in use changes nothing.

use crate::{
    backend::NodeBackend,
    budgets::Budgets,
    config::Config,
    identity::Identity,
    running::{Running, Secured, recognise, until},
    start::StartError,
    tls::Renewal,
};
use ashlar_rpc::RpcIdentity;
use ashlar_runtime::{Env, Listener, TaskSet};
use ashlar_s3api::{ConnectionLimits, S3Config, S3Service};
use ashlar_storage::DriveStore;
use std::{
    fmt::Debug,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
};
use tokio::sync::{Mutex, watch};

/// File name of the admin socket in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

pub struct Node {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: TaskSet,
    _lock: Box<dyn Debug + Send + Sync>,
}

/// What admin calls work on.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) budgets: Budgets,
    pub(crate) rpc_identity: RpcIdentity,
    pub(crate) running: Arc<OnceLock<Arc<Running>>>,
    pub(crate) addresses: Addresses,
    /// Taken by whoever forms the node; held so that two never do.
    pub(crate) rpc: Mutex<Option<Box<dyn Listener>>>,
}

/// Where a node really listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub s3: SocketAddr,
    pub rpc: SocketAddr,
    pub admin: PathBuf,
    pub metrics: Option<SocketAddr>,
}

impl Addresses {
    pub fn s3_url(&self) -> String {
        format!("http://{}", self.s3)
    }
}

impl Shared {
    /// `host:port` under which other nodes reach this one.
    pub(crate) fn advertised_rpc(&self) -> String {
        self.config.rpc_advertise.clone().unwrap_or_else(|| self.addresses.rpc.to_string())
    }

    /// URL under which clients reach this node.
    pub(crate) fn advertised_s3(&self) -> String {
        if let Some(url) = &self.config.s3_advertise {
            return url.clone();
        }
        let rpc = self.advertised_rpc();
        match rpc.rsplit_once(':') {
            Some((host, _)) if self.addresses.s3.ip().is_unspecified() => {
                format!("http://{host}:{}", self.addresses.s3.port())
            }
            Some(_) | None => self.addresses.s3_url(),
        }
    }
}

impl Node {
    /// Binds, opens and serves. `budgets` may be shared by several nodes of one process.
    pub async fn start(config: Config, env: Env, budgets: Budgets) -> Result<Self, StartError> {
        let unusable = |source| StartError::DataDir { path: config.data_dir.clone(), source };
        // Looked at before anything is made, and again under the lock.
        check(&config, &env)?;
        let s3 = listen(&env, config.s3_listen, "S3", "s3_listen").await?;
        let rpc_identity = RpcIdentity::secured(&env);
        let rpc = ashlar_rpc::bind_for(&env, &config.rpc_listen.to_string(), &rpc_identity)
            .await
            .map_err(|source| StartError::Rpc { source })?;
        let metrics = match config.metrics_listen {
            Some(address) => Some(listen(&env, address, "metrics", "metrics_listen").await?),
            None => None,
        };

        env.disk.create_dir_all(&config.data_dir).map_err(unusable)?;
        let lock = env.disk.lock(&config.data_dir.join("lock")).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                StartError::DataDirLocked { path: config.data_dir.clone() }
            } else {
                unusable(error)
            }
        })?;
        let identity = check(&config, &env)?;
        let admin_path = config.data_dir.join(ADMIN_SOCKET);
        let admin = env.net.listen_unix(&admin_path).await.map_err(unusable)?;

        let bound = |listener: &dyn Listener| listener.local_addr().map_err(unusable);
        let addresses = Addresses {
            s3: bound(&*s3)?,
            rpc: bound(&*rpc)?,
            admin: admin_path,
            metrics: metrics.as_deref().map(bound).transpose()?,
        };
        let running = Arc::new(OnceLock::new());
        let shared = Arc::new(Shared {
            config,
            env: env.clone(),
            budgets,
            rpc_identity,
            running: Arc::clone(&running),
            addresses,
            rpc: Mutex::new(Some(rpc)),
        });
        if let Some(identity) = identity
            && let Err(error) = shared.run(identity).await
        {
            // A socket that is left is replaced by the next start.
            let _ = env.disk.unlink(&shared.addresses.admin);
            return Err(error);
        }

        let (stop, stopped) = watch::channel(false);
        let tasks = TaskSet::new();
        let backend = Arc::new(NodeBackend::new(running));
        let s3_config = S3Config {
            node: shared.addresses.s3.to_string().into(),
            host_id: format!("ashlar-{}", shared.addresses.s3),
            region: shared.config.region.clone(),
            conformance: shared.config.conformance,
            connections: ConnectionLimits { open_max: shared.budgets.connections, ..Default::default() },
            ..S3Config::default()
        };
        let service = Arc::new(S3Service::new(backend, env.clone(), s3_config));
        tasks.push(env.tasks.spawn("s3", {
            let stopped = until(stopped.clone());
            async move { service.serve(s3, stopped).await }
        }));
        tasks.push(env.tasks.spawn("admin", {
            let (env, shared, stopped) = (env.clone(), Arc::clone(&shared), until(stopped.clone()));
            async move {
                let routes = ashlar_rpc::Routes::new().add_open(crate::admin::service(shared));
                ashlar_rpc::serve(&env, admin, routes, RpcIdentity::unformed(), stopped).await;
            }
        }));
        if let Some(metrics) = metrics {
            let serving = crate::metrics_server::serve(env.clone(), metrics, until(stopped));
            tasks.push(env.tasks.spawn("metrics", serving));
        }
        Ok(Self { shared, stop, tasks, _lock: lock })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.shared.addresses
    }

    pub fn drive_paths(&self) -> Vec<PathBuf> {
        self.shared.config.drives.iter().map(|drive| drive.path.clone()).collect()
    }

    /// `None` while unformed.
    pub fn running(&self) -> Option<Arc<Running>> {
        self.shared.running.get().cloned()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Requests in flight end first, then replicas and drives are closed.
    pub async fn shutdown(self) {
        // Without a receiver nothing is left to stop.
        let _ = self.stop.send(true);
        self.tasks.join_all().await;
        if let Some(running) = self.running() {
            running.shutdown().await;
        }
        // A socket that is left is replaced by the next start.
        let _ = self.shared.env.disk.unlink(&self.shared.addresses.admin);
    }
}

impl Shared {
    /// From an identity to a running node; once.
    pub(crate) async fn run(&self, identity: Identity) -> Result<Arc<Running>, StartError> {
        let mut slot = self.rpc.lock().await;
        let Some(listener) = slot.take() else {
            return Err(StartError::DataDirLocked { path: self.config.data_dir.clone() });
        };
        // An identity once taken is never another: `run` is called once.
        let _ = self.rpc_identity.set(identity.cluster, identity.node);
        let (data_dir, rpc_identity) = (&self.config.data_dir, &self.rpc_identity);
        let renewal = Renewal::begin(&self.env, data_dir, rpc_identity, identity.cluster, identity.node)?;
        let running = Running::start(
            &self.config,
            &self.env,
            &self.budgets,
            Secured { identity: self.rpc_identity.clone(), renewal: Arc::new(renewal) },
            identity,
            listener,
        )
        .await?;
        Ok(Arc::clone(self.running.get_or_init(|| running)))
    }
}

/// Who the node is, with its drives in place: its own, or empty directories for one that is nobody yet. Changes
/// nothing.
fn check(config: &Config, env: &Env) -> Result<Option<Identity>, StartError> {
    let identity = Identity::load(&*env.disk, &config.data_dir)?;
    match &identity {
        Some(identity) => {
            recognise(config, env, identity)?;
        }
        None => {
            for drive in &config.drives {
                let found = DriveStore::identity(&env.disk, &drive.path)
                    .map_err(|source| StartError::Drive { path: drive.path.clone(), source })?;
                if let Some(found) = found {
                    return Err(StartError::UnknownDrive { path: drive.path.clone(), uuid: found.drive });
                }
            }
        }
    }
    Ok(identity)
}

async fn listen(
    env: &Env,
    address: SocketAddr,
    role: &'static str,
    key: &'static str,
) -> Result<Box<dyn Listener>, StartError> {
    env.net.listen(address).await.map_err(|source| StartError::Listen {
        role,
        key,
        address: address.to_string(),
        source,
    })
}
