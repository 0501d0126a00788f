//! Shards of a drive on another node, over a real socket: the service and the client that the data path uses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_datapath::{ShardError, ShardIo, Unit};
use ashlar_hashing::crc64nvme;
use ashlar_node::{drives::Drives, health::Health, shard_client::ShardClient, shard_service::ShardService};
use ashlar_placement::{ClusterMap, Drive, DriveState, Labels, Node, NodeState};
use ashlar_proto::shard::shard_service_server::ShardServiceServer;
use ashlar_rpc::{Peers, Routes, RpcIdentity};
use ashlar_runtime::{ByteBudget, Env, TaskHandle};
use ashlar_storage::{DriveIdentity, DriveOptions, DriveStore, FormatOptions};
use ashlar_types::{
    BlobId, BucketId, ChunkId, ClusterId, DriveId, DriveUuid, FailureDomain, GroupId, Interval, NodeId,
    ObjectKey, PgId, Profile, ShardId, ShardMeta, ShardOwner, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

const CLUSTER: ClusterId = ClusterId(7);
/// On node 2, which serves it.
const SERVED: DriveId = DriveId(2);
/// On node 2 by the map, but not there.
const PULLED: DriveId = DriveId(3);

/// Node 2 with one drive, and node 1 as its client.
struct Pair {
    client: ShardClient,
    store: DriveStore,
    _map: watch::Sender<Arc<ClusterMap>>,
    _server: TaskHandle,
    _dir: tempfile::TempDir,
}

async fn pair() -> Pair {
    let env = Env::real();
    let dir = tempfile::tempdir().unwrap();
    let identity = DriveIdentity { cluster: CLUSTER, drive: DriveUuid(2) };
    DriveStore::format(&env.disk, dir.path(), identity, FormatOptions { segment_bytes: 4 << 20 }).unwrap();
    let store = DriveStore::open(&env, dir.path(), identity, DriveOptions::default()).await.unwrap();

    let listener = ashlar_rpc::bind(&env, "127.0.0.1:0").await.unwrap();
    let node =
        |rpc: String| Node { rpc, s3: String::new(), labels: Labels::default(), state: NodeState::Member };
    let mut map = ClusterMap::forming(CLUSTER, node("127.0.0.1:1".into()));
    map.nodes.insert(NodeId(2), node(listener.local_addr().unwrap().to_string()));
    for id in [SERVED, PULLED] {
        let uuid = DriveUuid(u128::from(id.0));
        map.drives
            .insert(id, Drive { uuid, node: NodeId(2), capacity_bytes: 1 << 30, state: DriveState::In });
    }
    let (map, watched) = watch::channel(Arc::new(map));

    let service = ShardService {
        drives: Drives::new(BTreeMap::from([(SERVED, store.clone())])),
        map: watched.clone(),
        env: env.clone(),
        budget: ByteBudget::new(64 << 20),
    };
    let routes = Routes::new().add(ShardServiceServer::new(service));
    let served = env.clone();
    let server = env.tasks.spawn("server", async move {
        let identity = RpcIdentity::of(CLUSTER, NodeId(2));
        ashlar_rpc::serve(&served, listener, routes, identity, std::future::pending()).await;
    });
    let client = ShardClient {
        drives: Drives::new(BTreeMap::new()),
        map: watched,
        peers: Peers::new(env.clone(), RpcIdentity::of(CLUSTER, NodeId(1))),
        health: Health::new(NodeId(1)),
        env,
    };
    Pair { client, store, _map: map, _server: server, _dir: dir }
}

fn meta(slot: u8) -> ShardMeta {
    ShardMeta {
        id: ShardId { chunk: ChunkId { blob: BlobId(9), index: 0 }, slot: SlotIndex(slot) },
        pg: PgId(1),
        interval: Interval(1),
        profile: Profile::new(4, 2, FailureDomain::Node).unwrap(),
        chunk_len: 3000,
        group: GroupId(1),
        write_epoch: WriteEpoch(0),
        owner: ShardOwner::Version(VersionUid(5)),
        bucket: BucketId(1),
        key: ObjectKey::parse("k").unwrap(),
    }
}

fn unit(byte: u8) -> Unit {
    let bytes = Bytes::from(vec![byte; 1000]);
    Unit { sum: UnitSum { len: 1000, crc64: crc64nvme(&bytes), data: vec![1, 2] }, bytes }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_goes_to_another_node_and_comes_back() {
    let pair = pair().await;
    let mut sink = pair.client.put(SERVED, meta(0)).await.unwrap();
    for byte in 0..3 {
        sink.append(unit(byte)).await.unwrap();
    }
    sink.commit().await.unwrap();

    let mut source = pair.client.get(SERVED, meta(0).id, 1..3).await.unwrap();
    assert_eq!(source.next().await.unwrap(), Some(unit(1)));
    assert_eq!(source.next().await.unwrap(), Some(unit(2)));
    assert_eq!(source.next().await.unwrap(), None);
    assert_eq!(pair.client.stat(SERVED, meta(0).id).await.unwrap().unwrap().meta, meta(0));
    assert_eq!(pair.client.list(SERVED, None, 10).await.unwrap().len(), 1);

    pair.client.delete(SERVED, vec![meta(0).id]).await.unwrap();
    let gone = pair.client.get(SERVED, meta(0).id, 0..1).await;
    assert_eq!(gone.err(), Some(ShardError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_does_not_take_a_shard_says_so_before_any_of_it_is_sent() {
    let pair = pair().await;
    let refused = pair.client.put(PULLED, meta(0)).await;
    assert_eq!(refused.err(), Some(ShardError::NotMine));
    assert!(pair.client.is_usable(SERVED), "a refusal is an answer: the node is up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_was_not_committed_is_not_kept() {
    let pair = pair().await;
    let mut sink = pair.client.put(SERVED, meta(1)).await.unwrap();
    sink.append(unit(0)).await.unwrap();
    drop(sink);
    // A later shard of the same drive is there; the one that was dropped never is.
    let mut sink = pair.client.put(SERVED, meta(2)).await.unwrap();
    sink.append(unit(0)).await.unwrap();
    sink.commit().await.unwrap();
    assert_eq!(pair.store.stat(meta(1).id).await.unwrap(), None);
    assert!(pair.store.stat(meta(2).id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_changed_on_its_way_is_not_acknowledged() {
    let pair = pair().await;
    let mut sink = pair.client.put(SERVED, meta(3)).await.unwrap();
    let mut wrong = unit(0);
    wrong.sum.crc64 ^= 1;
    // The refusal may come with this call or with the next.
    let appended = sink.append(wrong).await;
    assert!(appended.is_err() || sink.commit().await.is_err());
    assert_eq!(pair.store.stat(meta(3).id).await.unwrap(), None);
}
