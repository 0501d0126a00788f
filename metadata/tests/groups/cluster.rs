//! Several metadata nodes in one process, over real sockets and directories.

use ashlar_metadata::{
    MetadataApi, MetadataClient, MetadataConfig, MetadataNode,
    command::{Command, Done, JoinNode, Outcome, PartitionCommand, PutVersion, SystemCommand},
    node::{GroupStatus, Role},
    query::{Answer, Counters, Query},
};
use ashlar_placement::{ClusterMap, Group, Labels, Node, NodeState, Phase};
use ashlar_rpc::{Peers, RpcIdentity, bind, serve};
use ashlar_runtime::{Env, TaskHandle};
use ashlar_types::{
    BucketId, BucketName, ClusterId, Content, ETag, ExtentSource, FailureDomain, GroupId, Incarnation,
    Manifest, ManifestEntry, MapEpoch, NodeId, ObjectKey, ObjectMetadata, Profile, ProfileId, ReplicaId,
    RequestId, Timestamp, VersionUid, Versioning, WriteCondition, service::BucketInfo,
};
use bytes::Bytes;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(crate) const BUCKET: BucketId = BucketId(9);
pub(crate) const GROUP: GroupId = GroupId(1);

/// Polls until something holds; the deadline only ends a test that has failed.
pub(crate) async fn until<T>(what: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = Env::real().clock;
    let deadline = clock.monotonic() + LIMIT;
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(clock.monotonic() < deadline, "not within {LIMIT:?}: {what}");
        clock.sleep(Duration::from_millis(10)).await;
    }
}

/// One node: its process would be.
pub(crate) struct Member {
    pub(crate) number: NodeId,
    pub(crate) node: Arc<MetadataNode>,
    pub(crate) client: Arc<MetadataClient>,
    pub(crate) address: String,
    stop: oneshot::Sender<()>,
    serving: TaskHandle,
}

impl Member {
    pub(crate) async fn start(
        dir: &Path,
        number: Option<NodeId>,
        address: &str,
        tune: &dyn Fn(&mut MetadataConfig),
    ) -> Self {
        let env = Env::real();
        let identity = match number {
            Some(number) => RpcIdentity::of(CLUSTER, number),
            None => RpcIdentity::unformed(),
        };
        let peers = Peers::new(env.clone(), identity.clone());
        let mut config = MetadataConfig::new(dir.to_owned());
        config.reconcile_interval = Duration::from_millis(50);
        config.controller.interval = Duration::from_millis(50);
        config.controller.down_after = Duration::from_secs(2);
        // Steps of these stories wait for elections on busy machines.
        config.patience = LIMIT;
        tune(&mut config);
        let node = MetadataNode::start(config, env.clone(), peers).await.unwrap();
        let listener = bind(&env, address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let routes = node.routes();
        let serving = env.clone().tasks.spawn("serve", async move {
            serve(&env, listener, routes, identity, async { drop(stopped.await) }).await;
        });
        let client = MetadataClient::new(Arc::clone(&node));
        Self { number: number.unwrap_or(NodeId(0)), node, client, address, stop, serving }
    }

    pub(crate) fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.node.status().into_iter().find(|status| status.group == group)
    }

    /// All rows of a group here, as bytes.
    pub(crate) fn dump(&self, group: GroupId) -> Vec<Vec<u8>> {
        let mut snapshot = self.node.tables(group).unwrap().snapshot().unwrap();
        std::iter::from_fn(|| snapshot.next_piece().unwrap()).collect()
    }

    pub(crate) async fn shut_down(self) {
        // The server has ended if nobody listens.
        let _ = self.stop.send(());
        self.serving.join().await;
        self.node.shutdown().await;
    }

    /// Sockets close at once, nothing is flushed that was not.
    pub(crate) async fn kill(self) {
        self.serving.abort();
        drop(self.stop);
        self.node.halt().await;
    }
}

pub(crate) struct Cluster {
    pub(crate) dirs: Vec<TempDir>,
    pub(crate) addresses: Vec<String>,
    pub(crate) members: Vec<Option<Member>>,
    pub(crate) tune: fn(&mut MetadataConfig),
}

impl Cluster {
    /// One node, formed.
    pub(crate) async fn form(tune: fn(&mut MetadataConfig)) -> Self {
        let mut cluster = Self { dirs: vec![], addresses: vec![], members: vec![], tune };
        let mut first = cluster.start_new().await;
        let map = ClusterMap::forming(CLUSTER, node_at(&first.address));
        first.node.form(map.clone()).await.unwrap();
        first.node.form(map).await.unwrap();
        first.number = NodeId(1);
        cluster.members[0] = Some(first);
        cluster
    }

    /// Three nodes; group 0 and group 1 on all of them.
    pub(crate) async fn of_three(tune: fn(&mut MetadataConfig)) -> Self {
        let mut cluster = Self::form(tune).await;
        cluster.join().await;
        cluster.join().await;
        cluster
            .update_map(|map| {
                let voters = vec![replica(1), replica(2), replica(3)];
                map.groups.insert(GroupId::SYSTEM, Group { voters, learners: vec![] });
            })
            .await;
        cluster
            .update_map(|map| {
                let voters = vec![replica(2), replica(3), replica(1)];
                map.groups.insert(GROUP, Group { voters, learners: vec![] });
            })
            .await;
        for group in [GroupId::SYSTEM, GROUP] {
            until("all three vote", async || {
                cluster.live().all(|member| has_voters(member, group, 3)).then_some(())
            })
            .await;
        }
        cluster
    }

    pub(crate) fn member(&self, number: u32) -> &Member {
        self.members[usize::try_from(number).unwrap() - 1].as_ref().unwrap()
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    async fn start_new(&mut self) -> Member {
        let dir = tempfile::tempdir().unwrap();
        let member = Member::start(dir.path(), None, "127.0.0.1:0", &self.tune).await;
        self.dirs.push(dir);
        self.addresses.push(member.address.clone());
        self.members.push(None);
        member
    }

    /// A further node joins and becomes a learner of group 0.
    pub(crate) async fn join(&mut self) -> NodeId {
        let mut member = self.start_new().await;
        let admin = Arc::clone(&self.live().next().unwrap().client);
        let token_hash = [u8::try_from(self.members.len()).unwrap(); 32];
        let expires = Timestamp(u64::MAX);
        let token = SystemCommand::PutJoinToken { token_hash, expires };
        system(&admin, token).await.unwrap();
        let address = member.address.clone();
        let join = JoinNode {
            token_hash,
            rpc: address,
            s3: String::new(),
            labels: Labels::default(),
            drives: vec![],
        };
        let joined = system(&admin, SystemCommand::JoinNode(join)).await;
        let Ok(Done::Joined { node, map, .. }) = joined else { panic!("{joined:?}") };
        member.node.join(node, *map).await.unwrap();
        member.number = node;
        *self.members.last_mut().unwrap() = Some(member);
        node
    }

    pub(crate) async fn update_map(&self, change: impl Fn(&mut ClusterMap)) {
        let admin = Arc::clone(&self.live().next().unwrap().client);
        let query = admin.query(GroupId::SYSTEM, Query::Map, LIMIT).await.unwrap();
        let Answer::Map(Some(mut map)) = query else { panic!("{query:?}") };
        let expected = map.epoch;
        change(&mut map);
        map.epoch = MapEpoch(expected.0 + 1);
        system(&admin, SystemCommand::UpdateMap { expected, map }).await.unwrap();
    }

    /// From now on the rules decide who votes.
    pub(crate) async fn bootstrap(&self, groups: u32, m: u8) {
        self.update_map(|map| {
            map.phase = Phase::Ready;
            map.profiles.insert(ProfileId(1), Profile::new(2, m, FailureDomain::Node).unwrap());
            map.default_profile = Some(ProfileId(1));
            let first = map.groups[&GroupId::SYSTEM].voters.clone();
            for group in 1..=groups {
                let known = map.groups.entry(GroupId(group));
                known.or_insert(Group { voters: first.clone(), learners: vec![] });
            }
        })
        .await;
    }

    /// The nodes that vote in a group, as its leader says, once no change is under way.
    pub(crate) fn voters(&self, group: GroupId) -> Option<Vec<ReplicaId>> {
        let statuses = self.live().filter_map(|member| member.status(group));
        let leader =
            statuses.filter(|status| status.role == Role::Leader).max_by_key(|status| status.term)?;
        let settled = !leader.changing && (group == GroupId::SYSTEM || leader.learners.is_empty());
        let mut voters = leader.voters;
        voters.sort_unstable();
        settled.then_some(voters)
    }

    pub(crate) async fn kill(&mut self, number: NodeId) {
        self.take(number).kill().await;
    }

    pub(crate) async fn stop(&mut self, number: NodeId) {
        self.take(number).shut_down().await;
    }

    fn take(&mut self, number: NodeId) -> Member {
        self.members[place(number)].take().unwrap()
    }

    /// Starts a node again, from what its directory holds, at its old address.
    pub(crate) async fn restart(&mut self, number: NodeId) {
        let place = place(number);
        let member =
            Member::start(self.dirs[place].path(), Some(number), &self.addresses[place], &self.tune).await;
        self.members[place] = Some(member);
    }

    pub(crate) fn dir(&self, number: NodeId, group: GroupId) -> PathBuf {
        self.dirs[place(number)].path().join(format!("group-{group}"))
    }

    pub(crate) async fn leader(&self, group: GroupId) -> NodeId {
        until("a leader", async || {
            self.live().find(|member| role(member, group) == Some(Role::Leader)).map(|member| member.number)
        })
        .await
    }

    /// All live replicas have applied the same and hold the same rows.
    pub(crate) async fn settle(&self, group: GroupId) {
        until("replicas have applied the same", async || {
            let mut applied = self.live().filter_map(|member| member.status(group));
            let first = applied.next()?;
            let same = |status: &GroupStatus| {
                status.last_applied == first.last_applied && status.last_log == first.last_log
            };
            (first.last_applied == first.last_log && applied.all(|status| same(&status))).then_some(())
        })
        .await;
        let mut dumps = self.live().map(|member| member.dump(group));
        let first = dumps.next().unwrap();
        assert!(dumps.all(|dump| dump == first), "replicas of group {group} differ");
    }
}

fn place(number: NodeId) -> usize {
    usize::try_from(number.0).unwrap() - 1
}

pub(crate) fn role(member: &Member, group: GroupId) -> Option<Role> {
    member.status(group).map(|status| status.role)
}

pub(crate) fn has_voters(member: &Member, group: GroupId, count: usize) -> bool {
    member.status(group).is_some_and(|status| status.voters.len() == count && status.leader.is_some())
}

pub(crate) fn replica(node: u32) -> ReplicaId {
    ReplicaId { node: NodeId(node), incarnation: Incarnation(1) }
}

fn node_at(address: &str) -> Node {
    Node { rpc: address.to_owned(), s3: String::new(), labels: Labels::default(), state: NodeState::Member }
}

pub(crate) async fn system(client: &MetadataClient, command: SystemCommand) -> Outcome {
    let request = client.begin(GroupId::SYSTEM).await.unwrap();
    client.propose(GroupId::SYSTEM, Some(request), Command::System(command), LIMIT).await.unwrap()
}

pub(crate) async fn partition(client: &MetadataClient, command: PartitionCommand) -> Outcome {
    let request = client.begin(GROUP).await.unwrap();
    client.propose(GROUP, Some(request), Command::Partition(command), LIMIT).await.unwrap()
}

/// A versioned bucket: every applied put leaves a version behind.
pub(crate) async fn make_bucket(client: &MetadataClient) {
    let bucket = BucketInfo {
        id: BUCKET,
        name: BucketName::parse("bucket").unwrap(),
        owner: "me".to_owned(),
        created: Env::real().clock.wall(),
        location: String::new(),
        group: GROUP,
    };
    partition(client, PartitionCommand::CreateBucket { bucket }).await.unwrap();
    let versioning = PartitionCommand::SetVersioning { bucket: BUCKET, versioning: Versioning::Enabled };
    partition(client, versioning).await.unwrap();
}

pub(crate) fn put(key: &str, uid: u128) -> PartitionCommand {
    let bytes = Bytes::from(uid.to_string());
    let len = bytes.len() as u64;
    let source = ExtentSource::Inline { offset: 0 };
    let entry = ManifestEntry { part_number: 0, len, crc64: 5, source };
    PartitionCommand::PutVersion(Box::new(PutVersion {
        bucket: BUCKET,
        key: ObjectKey::parse(key).unwrap(),
        uid: VersionUid(uid),
        salt: uid,
        condition: WriteCondition::default(),
        metadata: ObjectMetadata::default(),
        size: len,
        etag: ETag::from_md5([3; 16]),
        crc64: 5,
        checksum: None,
        content: Content { manifest: Manifest { entries: vec![entry] }, inline: bytes },
    }))
}

pub(crate) async fn propose_put(
    client: &MetadataClient,
    request: RequestId,
    key: &str,
    uid: u128,
) -> Outcome {
    client.propose(GROUP, Some(request), Command::Partition(put(key, uid)), LIMIT).await.unwrap()
}

/// Versions that were ever put and not deleted.
pub(crate) async fn versions(client: &MetadataClient) -> u64 {
    let answer = client.query(GROUP, Query::Counters { bucket: BUCKET }, LIMIT).await.unwrap();
    let Answer::Counters(Counters { objects, noncurrent, .. }) = answer else { panic!("{answer:?}") };
    objects + noncurrent
}
