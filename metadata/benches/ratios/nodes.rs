//! Three metadata nodes in this process, over loopback sockets and real directories.

use crate::objects::{BUCKET, GROUP};
use anyhow::{Context, Result, bail, ensure};
use ashlar_metadata::{
    MetadataApi, MetadataClient, MetadataConfig, MetadataNode,
    command::{Command, Done, JoinNode, Outcome, PartitionCommand, SystemCommand},
    query::{Answer, Query},
};
use ashlar_placement::{ClusterMap, Group, Labels, Node, NodeState};
use ashlar_rpc::{Peers, RpcIdentity, bind, serve};
use ashlar_runtime::{Env, TaskHandle};
use ashlar_types::{
    BucketName, ClusterId, GroupId, Incarnation, MapEpoch, NodeId, ReplicaId, Timestamp, service::BucketInfo,
};
use std::{future::Future, path::Path, sync::Arc, time::Duration};
use tokio::sync::oneshot;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
const NODES: u32 = 3;
const POLL: Duration = Duration::from_millis(20);

/// All vote in group 0 and in the group of the objects, which has one bucket.
pub(crate) struct Nodes {
    env: Env,
    members: Vec<Member>,
}

struct Member {
    node: Arc<MetadataNode>,
    client: Arc<MetadataClient>,
    address: String,
    _serving: TaskHandle,
}

impl Nodes {
    pub(crate) async fn start(env: &Env, dir: &Path) -> Result<Self> {
        let mut nodes = Self { env: env.clone(), members: Vec::new() };
        for number in 1..=NODES {
            let member = Member::start(env, &dir.join(number.to_string())).await?;
            nodes.members.push(member);
        }
        nodes.form().await?;
        Ok(nodes)
    }

    /// A client of one of the nodes, in turn.
    pub(crate) fn client(&self, number: usize) -> Arc<MetadataClient> {
        Arc::clone(&self.members[number % self.members.len()].client)
    }

    pub(crate) async fn stop(self) {
        for member in self.members {
            member.node.halt().await;
        }
    }

    async fn form(&self) -> Result<()> {
        let first = self.members.first().context("a first node")?;
        let node = Node {
            rpc: first.address.clone(),
            s3: String::new(),
            labels: Labels::default(),
            state: NodeState::Member,
        };
        first.node.form(ClusterMap::forming(ClusterId(1), node)).await?;
        for (number, member) in self.members.iter().enumerate().skip(1) {
            let token_hash = [u8::try_from(number)?; 32];
            let token = SystemCommand::PutJoinToken { token_hash, expires: Timestamp(u64::MAX) };
            ensure!(system(&first.client, token).await?.is_ok(), "no token for a node");
            let (rpc, s3, labels) = (member.address.clone(), String::new(), Labels::default());
            let join = JoinNode { token_hash, rpc, s3, labels, drives: Vec::new() };
            let joined = system(&first.client, SystemCommand::JoinNode(join)).await?;
            let Ok(Done::Joined { node, map, .. }) = joined else { bail!("not joined: {joined:?}") };
            member.node.join(node, *map).await?;
        }
        for group in [GroupId::SYSTEM, GROUP] {
            self.give(group).await?;
        }
        let bucket = BucketInfo {
            id: BUCKET,
            name: BucketName::parse("bench").context("a bucket name")?,
            owner: "bench".into(),
            created: self.env.clock.wall(),
            location: String::new(),
            group: GROUP,
        };
        propose(&first.client, Command::Partition(PartitionCommand::CreateBucket { bucket })).await
    }

    /// Lets all nodes vote in a group, and waits until they do.
    async fn give(&self, group: GroupId) -> Result<()> {
        let first = self.members.first().context("a first node")?;
        let replica = |node| ReplicaId { node: NodeId(node), incarnation: Incarnation(1) };
        loop {
            let answer = first.client.query(GroupId::SYSTEM, Query::Map, LIMIT).await?;
            let Answer::Map(Some(mut map)) = answer else { bail!("no map") };
            let expected = map.epoch;
            map.epoch = MapEpoch(expected.0 + 1);
            let voters = (1..=NODES).map(replica).collect();
            map.groups.insert(group, Group { voters, learners: Vec::new() });
            if system(&first.client, SystemCommand::UpdateMap { expected, map }).await?.is_ok() {
                break;
            }
        }
        let votes = |member: &Member| {
            let mut status = member.node.status().into_iter();
            status.any(|status| {
                status.group == group && status.voters.len() == self.members.len() && status.leader.is_some()
            })
        };
        while !self.members.iter().all(votes) {
            self.env.clock.sleep(POLL).await;
        }
        Ok(())
    }
}

impl Member {
    async fn start(env: &Env, dir: &Path) -> Result<Self> {
        let identity = RpcIdentity::unformed();
        let peers = Peers::new(env.clone(), identity.clone());
        let mut config = MetadataConfig::new(dir.to_owned());
        config.patience = LIMIT;
        let node = MetadataNode::start(config, env.clone(), peers).await?;
        let listener = bind(env, "127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (routes, of) = (node.routes(), env.clone());
        let serving = env.tasks.spawn("serve", async move {
            serve(&of, listener, routes, identity, std::future::pending()).await;
        });
        let client = MetadataClient::new(Arc::clone(&node));
        Ok(Self { node, client, address, _serving: serving })
    }
}

async fn system(client: &MetadataClient, command: SystemCommand) -> Result<Outcome> {
    let request = client.begin(GroupId::SYSTEM).await?;
    Ok(client.propose(GroupId::SYSTEM, Some(request), Command::System(command), LIMIT).await?)
}

/// To the group of the objects; a refusal is an error.
pub(crate) async fn propose(client: &MetadataClient, command: Command) -> Result<()> {
    let request = client.begin(GROUP).await?;
    match client.propose(GROUP, Some(request), command, LIMIT).await? {
        Ok(_) => Ok(()),
        Err(refusal) => bail!("refused: {refusal:?}"),
    }
}

/// Runs each in a task of its own; the first error counts.
pub(crate) async fn side_by_side<T, F>(env: &Env, work: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let running: Vec<_> = work
        .into_iter()
        .map(|work| {
            let (done, result) = oneshot::channel();
            let task = env.tasks.spawn("bench-client", async move {
                // Nobody waits after another's error.
                let _ = done.send(work.await);
            });
            (task, result)
        })
        .collect();
    let mut results = Vec::new();
    for (_task, result) in running {
        results.push(result.await.context("a task ended without a result")??);
    }
    Ok(results)
}
