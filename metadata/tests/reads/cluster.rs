//! Metadata nodes in one process, each with its own clock and wires that can be cut.

use crate::faults::{CuttableNet, SkewedClock, Wires};
use ashlar_metadata::{
    MetadataApi, MetadataClient, MetadataConfig, MetadataError, MetadataNode,
    command::{Command, Done, JoinNode, Outcome, PartitionCommand, PutVersion, SystemCommand},
    node::{GroupStatus, Role},
    query::{Answer, ContentWanted, Query, VersionAnswer},
};
use ashlar_placement::{ClusterMap, Group, Labels, Node, NodeState};
use ashlar_rpc::{Peers, RpcIdentity, bind, serve};
use ashlar_runtime::{Env, TaskHandle};
use ashlar_types::{
    BucketId, BucketName, ClusterId, Content, ETag, ExtentSource, GroupId, Incarnation, Manifest,
    ManifestEntry, MapEpoch, NodeId, ObjectKey, ObjectMetadata, ReplicaId, Timestamp, VersionUid,
    WriteCondition, service::BucketInfo,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const GROUP: GroupId = GroupId(1);
const CLUSTER: ClusterId = ClusterId(0xc2);
const BUCKET: BucketId = BucketId(9);

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

pub(crate) struct Member {
    pub(crate) number: NodeId,
    pub(crate) node: Arc<MetadataNode>,
    pub(crate) client: Arc<MetadataClient>,
    pub(crate) clock: Arc<SkewedClock>,
    address: String,
    stop: oneshot::Sender<()>,
    serving: TaskHandle,
    _dir: TempDir,
}

impl Member {
    async fn start(number: NodeId, wires: &Wires, tune: fn(&mut MetadataConfig), skew_ms: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let real = Env::real();
        let clock = Arc::new(SkewedClock::new(skew_ms));
        let env = Env {
            clock: Arc::clone(&clock) as _,
            net: Arc::new(CuttableNet::new(number, wires.clone())),
            ..real
        };
        let identity = RpcIdentity::unformed();
        let peers = Peers::new(env.clone(), identity.clone());
        let mut config = MetadataConfig::new(dir.path().to_owned());
        config.reconcile_interval = Duration::from_millis(50);
        config.patience = LIMIT;
        config.controller.interval = Duration::from_millis(50);
        config.clock.interval = Duration::from_millis(200);
        tune(&mut config);
        let node = MetadataNode::start(config, env.clone(), peers).await.unwrap();
        let listener = bind(&env, "127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        wires.name(address, number);
        let (stop, stopped) = oneshot::channel();
        let routes = node.routes();
        let serving = env.clone().tasks.spawn("serve", async move {
            serve(&env, listener, routes, identity, async { drop(stopped.await) }).await;
        });
        let client = MetadataClient::new(Arc::clone(&node));
        Self { number, node, client, clock, address: address.to_string(), stop, serving, _dir: dir }
    }

    pub(crate) fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.node.status().into_iter().find(|status| status.group == group)
    }

    pub(crate) fn leads(&self, group: GroupId) -> bool {
        self.status(group).is_some_and(|status| status.role == Role::Leader)
    }

    /// What is under a key, as a linearizable read through this node has it.
    pub(crate) async fn read(&self, key: &str, limit: Duration) -> Result<Option<Found>, MetadataError> {
        let query = Query::Version {
            bucket: BUCKET,
            key: ObjectKey::parse(key).unwrap(),
            version: None,
            content: ContentWanted::Yes,
        };
        let Answer::Version(answer) = self.client.query(GROUP, query, limit).await? else {
            panic!("another answer")
        };
        Ok(match *answer {
            VersionAnswer::Found { info, content, .. } => {
                let value = String::from_utf8(content.unwrap().inline.to_vec()).unwrap();
                Some(Found { value: value.parse().unwrap(), modified: info.last_modified })
            }
            VersionAnswer::NoSuchKey { .. } | VersionAnswer::NoSuchVersion | VersionAnswer::NoSuchBucket => {
                None
            }
        })
    }

    pub(crate) async fn write(
        &self,
        key: &str,
        value: u64,
        limit: Duration,
    ) -> Result<Outcome, MetadataError> {
        let request = self.client.begin(GROUP).await?;
        self.client.propose(GROUP, Some(request), Command::Partition(put(key, value)), limit).await
    }

    pub(crate) async fn system(&self, command: SystemCommand) -> Outcome {
        let request = self.client.begin(GroupId::SYSTEM).await.unwrap();
        self.client.propose(GroupId::SYSTEM, Some(request), Command::System(command), LIMIT).await.unwrap()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: u64,
    pub(crate) modified: Timestamp,
}

pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) wires: Wires,
}

impl Cluster {
    /// One node a clock, each this many milliseconds ahead. All vote in group 0; the first three in group 1, the second
    /// first; a bucket is there.
    pub(crate) async fn of(skews: &[i64], tune: fn(&mut MetadataConfig)) -> Self {
        let wires = Wires::default();
        let mut members = Vec::new();
        for (place, skew) in skews.iter().enumerate() {
            let number = NodeId(u32::try_from(place + 1).unwrap());
            members.push(Member::start(number, &wires, tune, *skew).await);
        }
        let cluster = Self { members, wires };
        cluster.form().await;
        cluster
    }

    async fn form(&self) {
        let first = &self.members[0];
        let node = Node {
            rpc: first.address.clone(),
            s3: String::new(),
            labels: Labels::default(),
            state: NodeState::Member,
        };
        first.node.form(ClusterMap::forming(CLUSTER, node)).await.unwrap();
        for member in &self.members[1..] {
            let token_hash = [u8::try_from(member.number.0).unwrap(); 32];
            let token = SystemCommand::PutJoinToken { token_hash, expires: Timestamp(u64::MAX) };
            first.system(token).await.unwrap();
            let join = JoinNode {
                token_hash,
                rpc: member.address.clone(),
                s3: String::new(),
                labels: Labels::default(),
                drives: vec![],
            };
            let joined = first.system(SystemCommand::JoinNode(join)).await;
            let Ok(Done::Joined { node, map, .. }) = joined else { panic!("{joined:?}") };
            assert_eq!(node, member.number);
            member.node.join(node, *map).await.unwrap();
        }
        let replica = |member: &Member| ReplicaId { node: member.number, incarnation: Incarnation(1) };
        let voters: Vec<_> = self.members.iter().map(replica).collect();
        let (own, learners) = voters.split_at(voters.len().min(3));
        let mut own = own.to_vec();
        let second = 1 % own.len();
        own.rotate_left(second);
        self.update_map(|map| {
            map.groups.insert(GroupId::SYSTEM, Group { voters: voters.clone(), learners: vec![] });
        })
        .await;
        self.update_map(|map| {
            map.groups.insert(GROUP, Group { voters: own.clone(), learners: learners.to_vec() });
        })
        .await;
        for (group, count) in [(GroupId::SYSTEM, voters.len()), (GROUP, own.len())] {
            until("all vote", async || {
                let ready = |member: &Member| {
                    member
                        .status(group)
                        .is_some_and(|status| status.voters.len() == count && status.leader.is_some())
                };
                self.members.iter().all(ready).then_some(())
            })
            .await;
        }
        let bucket = BucketInfo {
            id: BUCKET,
            name: BucketName::parse("bucket").unwrap(),
            owner: "me".to_owned(),
            created: Env::real().clock.wall(),
            location: String::new(),
            group: GROUP,
        };
        let request = first.client.begin(GROUP).await.unwrap();
        let create = Command::Partition(PartitionCommand::CreateBucket { bucket });
        first.client.propose(GROUP, Some(request), create, LIMIT).await.unwrap().unwrap();
    }

    pub(crate) async fn update_map(&self, change: impl Fn(&mut ClusterMap)) {
        let first = &self.members[0];
        let query = first.client.query(GroupId::SYSTEM, Query::Map, LIMIT).await.unwrap();
        let Answer::Map(Some(mut map)) = query else { panic!("{query:?}") };
        let expected = map.epoch;
        change(&mut map);
        map.epoch = MapEpoch(expected.0 + 1);
        first.system(SystemCommand::UpdateMap { expected, map }).await.unwrap();
    }

    pub(crate) async fn leader(&self, group: GroupId) -> &Member {
        until("a leader", async || self.members.iter().find(|member| member.leads(group))).await
    }

    /// Those that do not lead.
    pub(crate) fn others(&self, number: NodeId) -> Vec<&Member> {
        self.members.iter().filter(|member| member.number != number).collect()
    }

    pub(crate) async fn shut_down(self) {
        for member in self.members {
            // The server has ended if nobody listens.
            let _ = member.stop.send(());
            member.serving.abort();
            member.node.halt().await;
        }
    }
}

fn put(key: &str, value: u64) -> PartitionCommand {
    let bytes = Bytes::from(value.to_string());
    let len = bytes.len() as u64;
    let source = ExtentSource::Inline { offset: 0 };
    let entry = ManifestEntry { part_number: 0, len, crc64: 5, source };
    PartitionCommand::PutVersion(Box::new(PutVersion {
        bucket: BUCKET,
        key: ObjectKey::parse(key).unwrap(),
        uid: VersionUid(u128::from(value)),
        salt: u128::from(value),
        condition: WriteCondition::default(),
        metadata: ObjectMetadata::default(),
        size: len,
        etag: ETag::from_md5([3; 16]),
        crc64: 5,
        checksum: None,
        content: Content { manifest: Manifest { entries: vec![entry] }, inline: bytes },
    }))
}
