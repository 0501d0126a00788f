//! Creates and deletes that are cut off after any number of steps, by a gateway that dies: housekeeping brings each to an
//! end, and nothing is left behind.

use super::*;
use ashlar_metadata::{
    MetadataError,
    command::{Entry, Outcome},
    kv::{Direction, KeyRange, KvRead, MemKv, Table},
    state::StateMachine,
};
use ashlar_placement::{ClusterMap, Group, Labels, Node, NodeState};
use ashlar_types::{ClusterId, RequestId, SessionId, Timestamp};
use async_trait::async_trait;
use std::{collections::BTreeMap, ops::ControlFlow, sync::Mutex};

const PARTITION: GroupId = GroupId(1);
const DAY_MS: u64 = 86_400_000;

/// Group 0 and one partition group, without Raft.
struct Metadata {
    groups: BTreeMap<GroupId, (StateMachine, MemKv)>,
    map: Arc<ClusterMap>,
    inner: Mutex<Inner>,
}

struct Inner {
    now: u64,
    sequence: u64,
    /// Proposals that are applied before the gateway dies, and whether it hears of the last one.
    left: Option<usize>,
}

impl Metadata {
    fn new() -> Arc<Self> {
        let open = |group| {
            let kv = MemKv::new();
            (group, (StateMachine::open(group, Arc::new(kv.clone())).unwrap(), kv))
        };
        let node = Node {
            rpc: String::new(),
            s3: String::new(),
            labels: Labels::default(),
            state: NodeState::Member,
        };
        let mut map = ClusterMap::forming(ClusterId(1), node);
        map.groups.insert(PARTITION, Group { voters: vec![], learners: vec![] });
        Arc::new(Self {
            groups: BTreeMap::from([open(GroupId::SYSTEM), open(PARTITION)]),
            map: Arc::new(map),
            inner: Mutex::new(Inner { now: 1_000, sequence: 0, left: None }),
        })
    }

    /// Another gateway; the first `proposals` of this one are applied, the rest fails.
    fn gateway(self: &Arc<Self>, proposals: Option<usize>) -> Buckets {
        self.inner.lock().unwrap().left = proposals;
        Buckets::new(Arc::clone(self) as Arc<dyn MetadataApi>, Env::real())
    }

    fn pass(&self, millis: u64) {
        self.inner.lock().unwrap().now += millis;
    }

    /// What is stored of buckets, in both groups; group 0's rows are two for each name.
    fn rows(&self) -> (usize, usize) {
        let count = |group, table| {
            let mut count = 0;
            let (_, kv) = &self.groups[&group];
            kv.scan(table, &KeyRange::all(), Direction::Forward, &mut |_, _| {
                count += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
            count
        };
        (count(GroupId::SYSTEM, Table::Directory), count(PARTITION, Table::Buckets))
    }
}

#[async_trait]
impl MetadataApi for Metadata {
    fn map(&self) -> Arc<ClusterMap> {
        Arc::clone(&self.map)
    }

    async fn begin(&self, group: GroupId) -> Result<RequestId, MetadataError> {
        let mut inner = self.inner.lock().unwrap();
        inner.sequence += 1;
        let write_epoch = self.groups[&group].0.group_state().write_epoch;
        Ok(RequestId { write_epoch, session: SessionId(1), sequence: inner.sequence })
    }

    async fn propose(
        &self,
        group: GroupId,
        request: Option<RequestId>,
        command: Command,
        _: Duration,
    ) -> Result<Outcome, MetadataError> {
        let mut inner = self.inner.lock().unwrap();
        if let Some(left) = &mut inner.left {
            *left = left.checked_sub(1).ok_or(MetadataError::Ambiguous { group })?;
        }
        inner.now += 1;
        let entry = Entry { request, stamp: Timestamp(inner.now), command };
        Ok(self.groups[&group].0.apply(&[entry], b"").unwrap().remove(0))
    }

    async fn query(&self, group: GroupId, query: Query, _: Duration) -> Result<Answer, MetadataError> {
        Ok(self.groups[&group].0.query(&query).unwrap())
    }
}

fn name() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

async fn housekeeping(metadata: &Arc<Metadata>) {
    let buckets = metadata.gateway(None);
    buckets.finish_reserved().await.unwrap();
    buckets.finish_sealed(PARTITION).await.unwrap();
}

#[tokio::test]
async fn a_create_that_was_cut_off_is_finished_or_given_up() {
    for days in [0, 2] {
        for steps in 0..=3 {
            let metadata = Metadata::new();
            let created = metadata.gateway(Some(steps)).create(&name(), "me", "").await;
            assert_eq!(created.is_ok(), steps == 3);
            metadata.pass(days * DAY_MS);
            housekeeping(&metadata).await;
            let found = metadata.gateway(None).get(&name()).await;
            // The name was reserved by the first step, the bucket made by the second.
            let usable = if days == 0 { steps >= 1 } else { steps >= 2 };
            assert_eq!(found.is_ok(), usable, "{steps} steps, {days} days");
            assert_eq!(metadata.rows(), if usable { (2, 1) } else { (0, 0) });
            // The name is of use afterwards.
            let again = metadata.gateway(None).create(&name(), "me", "").await.unwrap();
            assert!(found.is_err() || found == Ok(again));
            assert_eq!(metadata.rows(), (2, 1));
        }
    }
}

#[tokio::test]
async fn a_delete_that_was_cut_off_is_finished() {
    for steps in 0..=3 {
        let metadata = Metadata::new();
        let info = metadata.gateway(None).create(&name(), "me", "").await.unwrap();
        let deleted = metadata.gateway(Some(steps)).delete(&name()).await;
        // After the second step the name is free, which is all that the client is told.
        assert_eq!(deleted.is_ok(), steps >= 2);
        if steps == 1 {
            // Sealed: neither used nor made until housekeeping was there.
            let again = metadata.gateway(None).create(&name(), "me", "").await;
            assert_eq!(again, Err(ObjectError::BucketBusy));
        }
        housekeeping(&metadata).await;
        assert_eq!(metadata.rows(), if steps == 0 { (2, 1) } else { (0, 0) });
        if steps > 0 {
            let again = metadata.gateway(None).create(&name(), "me", "").await.unwrap();
            assert_ne!(again.id, info.id);
        }
        housekeeping(&metadata).await;
        assert_eq!(metadata.rows(), (2, 1), "what is in use is left alone");
    }
}

#[tokio::test]
async fn a_finisher_that_comes_late_does_not_bring_a_deleted_bucket_back() {
    let metadata = Metadata::new();
    let slow = metadata.gateway(None);
    let info = metadata.gateway(None).create(&name(), "me", "").await.unwrap();
    metadata.gateway(None).delete(&name()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(slow.finish_create(&info).await, Err(ObjectError::BucketBusy));
        assert_eq!(metadata.rows(), (0, 0));
        metadata.pass(DAY_MS);
        let advance =
            Command::AdvanceWriteEpoch { from: metadata.groups[&PARTITION].0.group_state().write_epoch };
        metadata.propose(PARTITION, None, advance, STEP_DEADLINE).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn two_deletes_at_once_both_succeed() {
    let metadata = Metadata::new();
    let info = metadata.gateway(None).create(&name(), "me", "").await.unwrap();
    let (one, other) = (metadata.gateway(None), metadata.gateway(None));
    // The other one has looked the name up before this one is done.
    one.delete(&name()).await.unwrap();
    other.free_name(&info).await.unwrap();
    other.purge(&info).await.unwrap();
    assert_eq!(metadata.rows(), (0, 0));
    assert_eq!(other.delete(&name()).await, Err(ObjectError::NoSuchBucket));
}
