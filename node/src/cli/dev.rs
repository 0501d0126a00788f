//! `ashlar dev`: a whole cluster in this process, over real loopback sockets.
//!
//! Nothing is special about its nodes: it writes their configurations, starts them, and does what an operator does
//! with `cluster init`, `join` and `bootstrap`.

use super::parse_duration;
use crate::{
    budgets::Budgets,
    config::{Config, DriveConfig, default_memory_limit},
    forming::Choices,
    identity::write_durably,
    node::Node,
    ready,
};
use anyhow::{Context, bail};
use ashlar_placement::{Labels, Phase};
use ashlar_runtime::{ClockExt, Env, OpenMode};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Nodes that one machine is asked to simulate.
const NODES_MAX: u16 = 32;
/// RPC ports lie this far above the S3 ports, metrics ports twice as far.
const PORT_STEP: u16 = 100;
/// Two groups show that there are several; more would only cost heartbeats on one machine.
const GROUPS: u32 = 2;
/// Small segments: a drive of a try-out takes little space before it holds anything.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Within which the cluster must be able to answer.
const READY_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(super) struct Dev {
    /// Where everything is kept; used again by the next run.
    #[arg(long, value_name = "DIR", default_value = "./ashlar-data")]
    dir: PathBuf,
    /// Nodes, each with its own ports, directories and Raft membership.
    #[arg(long, default_value_t = 1)]
    nodes: u16,
    /// Drive directories a node. Default: six for one node, two for several.
    #[arg(long)]
    drives: Option<u16>,
    /// S3 endpoint of the first node; the others follow on the next ports.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Default: generated at the first run.
    #[arg(long)]
    access_key: Option<String>,
    #[arg(long)]
    secret_key: Option<String>,
    /// Written when the cluster answers.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// k+m of a new cluster. Default: by the number of nodes and drives.
    #[arg(long, value_name = "K+M")]
    profile: Option<String>,
    /// How long deleted bytes of a new cluster stay for reads that run. Default: 1h.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    read_grace: Option<Duration>,
    /// Which compatibility switches are on.
    #[arg(long, value_enum, default_value_t = S3Profile::Default)]
    s3_profile: S3Profile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum S3Profile {
    Default,
    /// As the conformance suite wants it.
    Conformance,
}

/// Kept in the directory, so that the next run answers to the same key.
#[derive(Clone, Serialize, Deserialize)]
struct Saved {
    access_key: String,
    secret_key: String,
}

impl Dev {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if self.nodes == 0 || self.nodes > NODES_MAX {
            bail!("--nodes takes 1 to {NODES_MAX}");
        }
        if !self.listen.ip().is_loopback() {
            bail!("`dev` listens on loopback only; use `ashlar server` for other addresses");
        }
        let env = Env::real();
        let dir = std::path::absolute(&self.dir)?;
        env.disk.create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let budgets = Budgets::of(default_memory_limit());

        let mut nodes = Vec::new();
        for number in 0..self.nodes {
            let config = self.config(&env, &dir, number)?;
            match Node::start(config, env.clone(), budgets.clone()).await {
                Ok(node) => nodes.push(node),
                Err(error) => {
                    stop(nodes).await;
                    return Err(error.into());
                }
            }
        }
        let up = self.bring_up(&env, &dir, &nodes).await;
        let saved = match up {
            Ok(saved) => saved,
            Err(error) => {
                stop(nodes).await;
                return Err(error);
            }
        };
        if let Some(path) = &self.ready_file {
            let keys = Some((saved.access_key.as_str(), saved.secret_key.as_str()));
            ready::write(&*env.disk, path, &nodes, keys)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        self.greet(&nodes, &saved);
        super::stop_signal().await?;
        println!("stopping");
        stop(nodes).await;
        Ok(())
    }

    fn config(&self, env: &Env, dir: &Path, number: u16) -> anyhow::Result<Config> {
        let base = dir.join(format!("node-{}", number + 1));
        let drives = self.drives.unwrap_or(if self.nodes == 1 { 6 } else { 2 });
        // All directories of all nodes are on one device.
        let directories = u64::from(self.nodes) * u64::from(drives.max(1));
        let capacity = env.disk.usage(dir)?.total_bytes / directories;
        let port = |step: u16| {
            self.listen
                .port()
                .checked_add(step * PORT_STEP)
                .and_then(|port| port.checked_add(number))
                .context("--listen leaves no room for the ports above it")
        };
        let at = |step| port(step).map(|port| SocketAddr::new(self.listen.ip(), port));
        Ok(Config {
            data_dir: base.join("data"),
            drives: (1..=drives)
                .map(|drive| DriveConfig {
                    path: base.join(format!("drive-{drive}")),
                    capacity: Some(capacity),
                })
                .collect(),
            s3_listen: at(0)?,
            rpc_listen: at(1)?,
            rpc_advertise: None,
            s3_advertise: None,
            metrics_listen: Some(at(2)?),
            labels: Labels::default(),
            memory_limit: default_memory_limit(),
            segment_bytes_max: SEGMENT_BYTES_MAX,
            region: "us-east-1".into(),
            conformance: self.s3_profile == S3Profile::Conformance,
        })
    }

    /// Forms the cluster where that is still to be done, and waits until it answers.
    async fn bring_up(&self, env: &Env, dir: &Path, nodes: &[Node]) -> anyhow::Result<Saved> {
        let first = &nodes[0];
        let path = dir.join("credentials.json");
        let saved = match first.running() {
            Some(_) => load(env, &path)?,
            None => {
                let access = self.access_key.clone().unwrap_or_default();
                let secret = self.secret_key.clone().unwrap_or_default();
                let formed = first.shared().init(&access, &secret).await?;
                let saved = Saved { access_key: formed.root.id, secret_key: formed.root.secret };
                let bytes = serde_json::to_vec_pretty(&saved)?;
                write_durably(&*env.disk, &dir.join("credentials.json.new"), &path, &bytes)?;
                saved
            }
        };
        let running = first.running().context("the first node is not running")?;
        for node in &nodes[1..] {
            if node.running().is_none() {
                let token = running.new_token().await?;
                node.shared().join(&first.addresses().rpc.to_string(), &token).await?;
            }
        }
        if running.map.borrow().phase == Phase::Forming {
            let choices =
                Choices { profile: self.profile.clone(), groups: Some(GROUPS), read_grace: self.read_grace };
            let settled = running.bootstrap(&choices).await?;
            for warning in &settled.warnings {
                println!("warning: {warning}");
            }
        }
        let all_answer = async {
            for node in nodes {
                if let Some(running) = node.running() {
                    running.wait_until_ready().await;
                    // Else the first writes would be refused for want of drives.
                    running.wait_until_all_are_up().await;
                }
            }
        };
        env.clock
            .timeout(READY_DEADLINE, all_answer)
            .await
            .context("the cluster did not answer in time; run again with ASHLAR_LOG=info")?;

        let given = (self.access_key.as_ref(), self.secret_key.as_ref());
        if let (Some(access), Some(secret)) = given
            && (*access != saved.access_key || *secret != saved.secret_key)
        {
            let user = crate::credentials::root_user();
            running.create_user(user, access, secret).await?;
            return Ok(Saved { access_key: access.clone(), secret_key: secret.clone() });
        }
        Ok(saved)
    }

    fn greet(&self, nodes: &[Node], saved: &Saved) {
        let endpoint = nodes[0].addresses().s3_url();
        let (access, secret) = (&saved.access_key, &saved.secret_key);
        println!("Ashlar is up: {} node(s) in {}", nodes.len(), self.dir.display());
        for node in nodes {
            println!("  S3 {}   admin {}", node.addresses().s3_url(), node.addresses().admin.display());
        }
        println!("  access key {access}");
        println!("  secret key {secret}");
        println!("\nAWS CLI:");
        println!(
            "  AWS_ACCESS_KEY_ID={access} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION=us-east-1 \
             aws --endpoint-url {endpoint} s3 mb s3://demo"
        );
        println!("\nboto3:");
        println!(
            "  python3 -c \"import boto3; print(boto3.client('s3', endpoint_url='{endpoint}', \
             region_name='us-east-1', aws_access_key_id='{access}', \
             aws_secret_access_key='{secret}').list_buckets()['Buckets'])\""
        );
        println!("\nrclone:");
        println!(
            "  rclone lsd \":s3,provider=Other,endpoint='{endpoint}',access_key_id={access},\
             secret_access_key={secret},region=us-east-1:\""
        );
        println!("\nCtrl-C stops it; the data stays.");
    }
}

fn load(env: &Env, path: &Path) -> anyhow::Result<Saved> {
    let lost = || {
        format!(
            "{} is missing or damaged; make a new key with `ashlar user create --id root`",
            path.display()
        )
    };
    let file = env.disk.open(path, OpenMode::Read).with_context(lost)?;
    let mut bytes = vec![0; usize::try_from(file.len()?)?];
    file.read_exact_at(&mut bytes, 0)?;
    serde_json::from_slice(&bytes).with_context(lost)
}

/// In the reverse order, all of them.
async fn stop(nodes: Vec<Node>) {
    for node in nodes.into_iter().rev() {
        node.shutdown().await;
    }
}
