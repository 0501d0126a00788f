//! A cluster of processes on loopback: formed as an operator forms one, killed as the world kills one.
//!
//! Nodes are named by their number in the cluster, which counts from 1.

use crate::{
    cli,
    client::Access,
    node::Node,
    process::{Signal, signal_all},
    proxy::Links,
    status::{Explain, Status},
    story::Story,
    until::{Probe, until},
};
use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Metadata groups besides the system group: the fewest that show that there is more than one.
pub const GROUPS: u32 = 2;
/// Elections, membership changes and replay of six nodes on two cores.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Cluster {
    nodes: BTreeMap<u32, Node>,
    access: Access,
    links: Links,
}

impl Cluster {
    /// Starts, forms and settles a cluster with the default profile: 4+2 over six nodes.
    pub async fn start(story: &Story, nodes: usize, drives_per_node: usize) -> Result<Self> {
        Self::started(Self::prepare(story, nodes, drives_per_node)?).await
    }

    /// The same with a proxy before each node: see [`Self::links`].
    pub async fn start_proxied(story: &Story, nodes: usize, drives_per_node: usize) -> Result<Self> {
        let links = Links::default();
        let mut proxied = Vec::new();
        // Nodes get their numbers in the order in which they join.
        for (node, number) in Self::prepare(story, nodes, drives_per_node)?.into_iter().zip(1..) {
            proxied.push(node.behind_proxy(number, &links).await?);
        }
        Ok(Self { links, ..Self::started(proxied).await? })
    }

    fn prepare(story: &Story, nodes: usize, drives_per_node: usize) -> Result<Vec<Node>> {
        (1..=nodes).map(|n| Node::prepare(story.dir().join(format!("n{n}")), drives_per_node)).collect()
    }

    async fn started(mut nodes: Vec<Node>) -> Result<Self> {
        for node in &mut nodes {
            node.spawn()?;
        }
        for node in &mut nodes {
            node.wait_ready().await?;
        }
        let mut cluster = Self::form(nodes, GROUPS).await?;
        cluster.settle().await?;
        Ok(cluster)
    }

    /// What lies between nodes that were started with proxies before them.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Makes one cluster out of started nodes that belong to none.
    pub async fn form(nodes: Vec<Node>, groups: u32) -> Result<Self> {
        let first = nodes.first().context("a cluster has a node")?;
        let (admin, rpc) = (first.admin(), first.rpc_address());
        let init = cli::admin(&admin, &["cluster", "init"]).await?;
        let access = Access::new(&cli::text(&init, "access_key")?, &cli::text(&init, "secret_key")?);
        let mut token = Some(cli::text(&init, "join_token")?);
        let mut formed = BTreeMap::new();
        for (node, position) in nodes.into_iter().zip(0..) {
            let reply = if position == 0 {
                init.clone()
            } else {
                // A token admits one node.
                let token = match token.take() {
                    Some(token) => token,
                    None => cli::text(&cli::admin(&admin, &["cluster", "token"]).await?, "join_token")?,
                };
                let join = ["cluster", "join", "--peer", &rpc, "--token", &token];
                cli::admin(&node.admin(), &join).await?
            };
            let id = u32::try_from(cli::number(&reply, "node")?)?;
            ensure!(formed.insert(id, node).is_none(), "two nodes were given the number {id}");
        }
        let groups = groups.to_string();
        cli::admin(&admin, &["cluster", "bootstrap", "--groups", &groups]).await?;
        Ok(Self { nodes: formed, access, links: Links::default() })
    }

    pub fn ids(&self) -> Vec<u32> {
        self.nodes.keys().copied().collect()
    }

    /// Those whose process runs.
    pub fn living(&self) -> BTreeSet<u32> {
        self.nodes.iter().filter(|(_, node)| node.is_running()).map(|(id, _)| *id).collect()
    }

    pub fn node(&self, id: u32) -> &Node {
        self.nodes.get(&id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    pub fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    /// Retries as a careful application would.
    pub fn client(&self, id: u32) -> Client {
        self.access.patient(&self.node(id).s3_url())
    }

    /// One attempt a call: for stories that have to know what became of each.
    pub fn exact_client(&self, id: u32) -> Client {
        self.access.exact(&self.node(id).s3_url())
    }

    pub fn exact_clients(&self) -> BTreeMap<u32, Client> {
        self.nodes.keys().map(|id| (*id, self.exact_client(*id))).collect()
    }

    pub async fn status(&self, id: u32) -> Result<Status> {
        self.node(id).status().await
    }

    pub async fn explain(&self, id: u32, bucket: &str, key: &str) -> Result<Explain> {
        self.node(id).explain(bucket, key).await
    }

    /// Waits until every living node is ready, sees the other living ones up, and names a living leader for
    /// every group.
    pub async fn settle(&mut self) -> Result<()> {
        let living = self.living();
        until("the cluster to settle", SETTLED_WITHIN, async || {
            for id in &living {
                self.node_mut(*id).check_alive()?;
                let reason = match self.status(*id).await {
                    Ok(status) => status.unsettled(&living),
                    Err(error) => Some(format!("{error:#}")),
                };
                if let Some(reason) = reason {
                    return Ok(Probe::NotYet(reason));
                }
            }
            Ok(Probe::Done(()))
        })
        .await
    }

    /// Waits until node `witness` names a living leader of `group`.
    pub async fn leader(&self, witness: u32, group: u32) -> Result<u32> {
        let living = self.living();
        self.leader_among(witness, group, &living).await
    }

    /// Waits until another node than `excluded` is named as the leader of `group` by one that is not `excluded` either.
    pub async fn leader_without(&self, excluded: u32, group: u32) -> Result<u32> {
        let mut living = self.living();
        living.remove(&excluded);
        let witness = *living.first().context("another node is alive")?;
        self.leader_among(witness, group, &living).await
    }

    async fn leader_among(&self, witness: u32, group: u32, candidates: &BTreeSet<u32>) -> Result<u32> {
        until(&format!("a leader of group {group}"), SETTLED_WITHIN, async || {
            let leader = match self.status(witness).await {
                Ok(status) => status.leader_of(group),
                Err(error) => return Ok(Probe::NotYet(format!("{error:#}"))),
            };
            Ok(match leader.filter(|leader| candidates.contains(leader)) {
                Some(leader) => Probe::Done(leader),
                None => Probe::NotYet(format!("node {witness} names {leader:?}")),
            })
        })
        .await
    }

    /// SIGKILL to all of these at the same moment.
    pub async fn kill(&mut self, ids: &[u32]) -> Result<()> {
        let mut dying = Vec::new();
        for id in ids {
            self.node_mut(*id).check_alive()?;
            dying.push(self.node_mut(*id).take_process()?);
        }
        let pids: Vec<u32> = dying.iter().map(|process| process.pid()).collect();
        signal_all(Signal::Kill, &pids)?;
        for mut process in dying {
            process.wait(SETTLED_WITHIN).await?;
        }
        Ok(())
    }

    pub async fn kill_all(&mut self) -> Result<()> {
        let ids = self.ids();
        self.kill(&ids).await
    }

    /// Starts these again, with the configuration they had, and settles.
    pub async fn restart(&mut self, ids: &[u32]) -> Result<()> {
        for id in ids {
            self.node_mut(*id).spawn()?;
        }
        for id in ids {
            let ready = self.node_mut(*id).wait_ready().await?;
            ensure!(ready.id == *id, "node {id} came back as node {}", ready.id);
        }
        self.settle().await
    }

    pub async fn restart_all(&mut self) -> Result<()> {
        let ids = self.ids();
        self.restart(&ids).await
    }

    /// SIGTERM to every living node; each must end in order.
    pub async fn stop(mut self) -> Result<()> {
        for id in self.living() {
            self.node_mut(id).stop().await.with_context(|| format!("node {id}"))?;
        }
        Ok(())
    }
}
