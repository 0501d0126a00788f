//! A cluster in memory with a bucket, and the calls that most tests make.

use crate::{
    clock::{SeededRng, TestClock},
    cluster::{Drives, WATCHDOG},
    metadata::Metadata,
};
use ashlar_datapath::{ObjectStore, Settings};
use ashlar_metadata::{
    command::PartitionCommand,
    query::{Answer, Query, RepairRow},
};
use ashlar_placement::{ClusterMap, Drive, DriveState, Labels, Node, NodeState, plan_initial};
use ashlar_runtime::{ByteBudget, Env, RealDisk, RealNet, Tasks};
use ashlar_types::{
    BodyError, BodyFrame, BodyStream, BucketId, BucketName, ClusterId, DriveId, DriveUuid, FailureDomain,
    GroupId, NodeId, ObjectError, ObjectKey, ObjectMetadata, PgId, Profile, ProfileId, RangeRequest,
    ReadCondition, ReadStream, Timestamp, Versioning, WriteCondition,
    service::{BucketInfo, DeleteKey, GetObject, ObjectRead, Payload, PutObject, Selection, Written},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::{sync::Arc, time::Duration};

pub const GROUP: GroupId = GroupId(1);
pub const MEMORY: u64 = 64 << 20;

pub struct World {
    pub store: ObjectStore,
    pub drives: Drives,
    pub metadata: Arc<Metadata>,
    pub clock: Arc<TestClock>,
    pub rng: Arc<SeededRng>,
    pub memory: ByteBudget,
    pub bucket: BucketInfo,
    pub profile: Profile,
}

/// What a test may choose.
pub struct Choice {
    pub profile: Profile,
    pub drives: u32,
    pub seed: u64,
    pub memory: u64,
    pub tune: fn(&mut Settings),
}

impl Choice {
    pub fn of(profile: Profile) -> Self {
        Self { profile, drives: u32::from(profile.slots()), seed: 1, memory: MEMORY, tune: |_| {} }
    }
}

/// Small units and chunks, so that small objects have many: units of 1 KiB, chunks of `rows` rows and `more` bytes.
pub fn profile(k: u8, m: u8, rows: u64, more: u64) -> Profile {
    let profile = Profile::new(k, m, FailureDomain::Drive).unwrap().with_stripe_unit(1024).unwrap();
    profile.with_chunk_size(profile.row_len() * rows + more).unwrap()
}

/// 4+2 over 8 drives, chunks of two and a half rows.
pub fn world() -> World {
    World::new(Choice { drives: 8, ..Choice::of(profile(4, 2, 2, 2048)) })
}

/// As many drives as slots.
pub fn world_of(profile: Profile) -> World {
    World::new(Choice::of(profile))
}

fn map(profile: Profile, drives: u32) -> ClusterMap {
    let node =
        Node { rpc: String::new(), s3: String::new(), labels: Labels::default(), state: NodeState::Member };
    let mut map = ClusterMap::forming(ClusterId(1), node.clone());
    map.nodes.insert(NodeId(1), node);
    for id in 1..=drives {
        let drive = Drive {
            uuid: DriveUuid(u128::from(id)),
            node: NodeId(1),
            capacity_bytes: 1 << 40,
            state: DriveState::In,
        };
        map.drives.insert(DriveId(id), drive);
    }
    map.profiles.insert(ProfileId(1), profile);
    map.default_profile = Some(ProfileId(1));
    map.pgs = (1..).map(PgId).zip(plan_initial(&map, ProfileId(1), 16)).collect();
    map
}

impl World {
    pub fn new(choice: Choice) -> Self {
        let map = map(choice.profile, choice.drives);
        let drives = Drives::new(map.drives.keys().copied());
        let metadata = Arc::new(Metadata::new(GROUP, map));
        let bucket = BucketInfo {
            id: BucketId(1),
            name: BucketName::parse("bucket").unwrap(),
            owner: "owner".to_owned(),
            created: Timestamp(0),
            location: String::new(),
            group: GROUP,
        };
        metadata.apply(None, PartitionCommand::CreateBucket { bucket: bucket.clone() }).unwrap();
        let clock = Arc::new(TestClock::new());
        let rng = Arc::new(SeededRng::new(choice.seed));
        let env = Env {
            clock: clock.clone(),
            rng: rng.clone(),
            tasks: Tasks::real(),
            disk: Arc::new(RealDisk),
            net: Arc::new(RealNet),
        };
        let memory = ByteBudget::new(choice.memory);
        let mut settings = Settings::new(memory.clone());
        (choice.tune)(&mut settings);
        let store = ObjectStore::new(env, metadata.clone(), Arc::new(drives.clone()), settings);
        Self { store, drives, metadata, clock, rng, memory, bucket, profile: choice.profile }
    }

    pub fn bytes(&self, len: usize) -> Bytes {
        (0..len).map(|_| self.rng.next().to_le_bytes()[0]).collect()
    }

    pub async fn put(&self, key: &str, bytes: &Bytes) -> Result<Written, ObjectError> {
        self.store.put_object(&self.bucket, put(key, body(vec![bytes.clone()], Some(bytes.len())))).await
    }

    pub async fn open(&self, key: &str, selection: Selection) -> Result<ObjectRead, ObjectError> {
        self.store.get_object(&self.bucket, get(key, selection)).await
    }

    pub async fn read(&self, key: &str) -> Result<Bytes, ObjectError> {
        collect(self.open(key, Selection::Whole).await?.body.unwrap()).await
    }

    pub async fn read_range(&self, key: &str, range: RangeRequest) -> Result<Bytes, ObjectError> {
        collect(self.open(key, Selection::Range(range)).await?.body.unwrap()).await
    }

    pub async fn delete(&self, key: &str) {
        let delete = DeleteKey { key: self::key(key), version: None, condition: WriteCondition::default() };
        let results = self.store.delete_objects(&self.bucket, vec![delete], "owner").await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    pub fn set_versioning(&self, versioning: Versioning) {
        let command = PartitionCommand::SetVersioning { bucket: self.bucket.id, versioning };
        self.metadata.apply(None, command).unwrap();
    }

    pub fn repairs(&self) -> Vec<RepairRow> {
        let answer = self.metadata.ask(&Query::Repairs { after: None, limit: 1000 });
        let Answer::Repairs(rows) = answer else { panic!("{answer:?}") };
        rows
    }

    pub fn garbage_rows(&self) -> usize {
        let answer = self.metadata.ask(&Query::Garbage { before: Timestamp(u64::MAX), limit: 1000 });
        let Answer::Garbage(rows) = answer else { panic!("{answer:?}") };
        rows.len()
    }

    /// Waits until no shard is left, and nothing of a write is in memory.
    pub async fn until_nothing_is_left(&self) {
        self.drives.until(|drives| drives.shards().is_empty()).await;
        self.until_memory_is_free().await;
    }

    /// Waits for the ends of background work, which hold memory.
    pub async fn until_memory_is_free(&self) {
        let free = async {
            while self.store.live_row_bytes() > 0 || self.memory.available() < self.memory.limit() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WATCHDOG, free).await.expect("all memory is given back");
    }
}

pub fn key(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn body(pieces: Vec<Bytes>, len: Option<usize>) -> Payload {
    let frames = pieces.into_iter().map(|bytes| Ok(BodyFrame::Data(bytes)));
    payload(Box::pin(stream::iter(frames.collect::<Vec<_>>())), len)
}

pub fn payload(body: BodyStream, len: Option<usize>) -> Payload {
    Payload { body, len: len.map(|len| len as u64), content_md5: None, checksum: None }
}

/// A body that ends with an error after some bytes.
pub fn broken_body(bytes: Bytes, len: usize, error: BodyError) -> Payload {
    payload(Box::pin(stream::iter([Ok(BodyFrame::Data(bytes)), Err(error)])), Some(len))
}

pub fn put(key: &str, payload: Payload) -> PutObject {
    PutObject {
        bucket: BucketName::parse("bucket").unwrap(),
        key: self::key(key),
        metadata: ObjectMetadata { owner: "owner".to_owned(), ..Default::default() },
        condition: WriteCondition::default(),
        payload,
    }
}

pub fn get(key: &str, selection: Selection) -> GetObject {
    GetObject {
        bucket: BucketName::parse("bucket").unwrap(),
        key: self::key(key),
        version: None,
        selection,
        condition: ReadCondition::default(),
        head: false,
    }
}

pub async fn collect(mut body: ReadStream) -> Result<Bytes, ObjectError> {
    let mut out = Vec::new();
    while let Some(piece) = body.next().await {
        out.extend_from_slice(&piece?);
    }
    Ok(out.into())
}
