//! Stories of replicas that come to differ: rows are changed behind the state machine's back, as a bad disk or a bug of
//! the engine would.

use crate::cluster::{BUCKET, Cluster, GROUP, LIMIT, make_bucket, partition, put, role, until, versions};
use ashlar_metadata::{
    MetadataApi, MetadataConfig, MetadataError,
    kv::{Batch, FjallKv, FjallOptions, Kv, Table},
    node::{Condition, Role},
    query::Query,
};
use ashlar_types::NodeId;
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

/// Engines that are open, by their directories.
static STORES: Mutex<BTreeMap<PathBuf, Weak<dyn Kv>>> = Mutex::new(BTreeMap::new());

fn compared(config: &mut MetadataConfig) {
    config.digests.interval = Duration::from_millis(300);
    config.open_kv = Arc::new(|dir: &Path| {
        let kv: Arc<dyn Kv> = Arc::new(FjallKv::open(dir, FjallOptions::default())?);
        STORES.lock().unwrap().insert(dir.to_owned(), Arc::downgrade(&kv));
        Ok(kv)
    });
}

fn rescanned(config: &mut MetadataConfig) {
    compared(config);
    config.digests.rescan_interval = Duration::from_millis(300);
    config.digests.rescan_pause = Duration::from_millis(1);
    config.digests.rescan_rows = 7;
}

fn store(cluster: &Cluster, number: NodeId) -> Arc<dyn Kv> {
    STORES.lock().unwrap()[&cluster.dir(number, GROUP).join("kv")].upgrade().unwrap()
}

fn counters() -> Vec<u8> {
    BUCKET.0.to_be_bytes().to_vec()
}

/// The counters of the bucket as a replica stored them.
fn counted(cluster: &Cluster, number: NodeId) -> Bytes {
    store(cluster, number).get(Table::Counters, &counters()).unwrap().unwrap()
}

fn change(cluster: &Cluster, number: NodeId, key: &[u8], table: Table, value: Bytes) {
    let mut batch = Batch::default();
    batch.put(table, key.to_vec(), value);
    store(cluster, number).write(batch).unwrap();
}

/// Three nodes whose counters have had several values: those after one put, after two, ...
async fn counted_cluster(tune: fn(&mut MetadataConfig)) -> (Cluster, Vec<Bytes>) {
    let cluster = Cluster::of_three(tune).await;
    make_bucket(&cluster.member(1).client).await;
    let mut values = Vec::new();
    for count in 0..5 {
        partition(&cluster.member(1).client, put("key", count)).await.unwrap();
        cluster.settle(GROUP).await;
        values.push(counted(&cluster, NodeId(1)));
    }
    (cluster, values)
}

async fn heals(cluster: &Cluster, number: NodeId) {
    until("the replica has the tables of the majority", async || {
        let status = cluster.member(number.0).status(GROUP)?;
        let same = cluster
            .live()
            .all(|member| counted_or_none(cluster, member.number) == counted_or_none(cluster, number));
        (status.condition == Condition::Sound
            && same
            && role(cluster.member(number.0), GROUP)? != Role::Stopped)
            .then_some(())
    })
    .await;
    let status = cluster.member(number.0).status(GROUP).unwrap();
    assert_eq!(status.replica.incarnation.0, 1, "its log and its vote stay");
    cluster.settle(GROUP).await;
    assert_eq!(versions(&cluster.member(number.0).client).await, 6);
    partition(&cluster.member(number.0).client, put("key", 100)).await.unwrap();
    cluster.settle(GROUP).await;
}

fn counted_or_none(cluster: &Cluster, number: NodeId) -> Option<Bytes> {
    let kv = STORES.lock().unwrap().get(&cluster.dir(number, GROUP).join("kv"))?.upgrade()?;
    kv.get(Table::Counters, &counters()).ok()?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_differs_takes_the_tables_of_the_majority() {
    let (cluster, values) = counted_cluster(compared).await;
    let leader = cluster.leader(GROUP).await;
    let follower = cluster.live().map(|member| member.number).find(|number| *number != leader).unwrap();
    change(&cluster, follower, &counters(), Table::Counters, values[0].clone());
    partition(&cluster.member(1).client, put("key", 5)).await.unwrap();
    heals(&cluster, follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_differs_gives_way_and_takes_the_tables_of_the_majority() {
    let (cluster, values) = counted_cluster(compared).await;
    let leader = cluster.leader(GROUP).await;
    change(&cluster, leader, &counters(), Table::Counters, values[0].clone());
    partition(&cluster.member(1).client, put("key", 5)).await.unwrap();
    heals(&cluster, leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_changed_at_rest_is_found_and_the_tables_are_replaced() {
    let (cluster, _) = counted_cluster(rescanned).await;
    let leader = cluster.leader(GROUP).await;
    let follower = cluster.live().map(|member| member.number).find(|number| *number != leader).unwrap();
    partition(&cluster.member(1).client, put("key", 5)).await.unwrap();
    cluster.settle(GROUP).await;
    change(&cluster, follower, b"nobody put this", Table::Completed, Bytes::from_static(b"here"));
    until("the row is gone", async || {
        let kv = STORES.lock().unwrap().get(&cluster.dir(follower, GROUP).join("kv"))?.upgrade()?;
        kv.get(Table::Completed, b"nobody put this").ok()?.is_none().then_some(())
    })
    .await;
    heals(&cluster, follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_a_majority_is_frozen_and_stays_so() {
    let (mut cluster, values) = counted_cluster(compared).await;
    change(&cluster, NodeId(1), &counters(), Table::Counters, values[0].clone());
    change(&cluster, NodeId(2), &counters(), Table::Counters, values[1].clone());
    partition(&cluster.member(1).client, put("key", 5)).await.unwrap();
    let frozen = async |cluster: &Cluster| {
        until("all replicas are frozen", async || {
            let is_frozen = |condition| condition == Condition::Frozen;
            cluster
                .live()
                .all(|member| member.status(GROUP).is_some_and(|status| is_frozen(status.condition)))
                .then_some(())
        })
        .await;
    };
    frozen(&cluster).await;
    let short = Duration::from_millis(500);
    let client = Arc::clone(&cluster.member(3).client);
    let unread = client.query(GROUP, Query::Counters { bucket: BUCKET }, short).await;
    assert!(matches!(unread, Err(MetadataError::Unavailable { .. })), "{unread:?}");
    let command = ashlar_metadata::command::Command::Nothing;
    let refused = client.propose(GROUP, None, command, short).await;
    assert!(matches!(refused, Err(MetadataError::Unavailable { .. })), "{refused:?}");
    drop(client);
    cluster.stop(NodeId(2)).await;
    cluster.restart(NodeId(2)).await;
    frozen(&cluster).await;
    // Other groups go on.
    let map = cluster.member(2).client.query(ashlar_types::GroupId::SYSTEM, Query::Map, LIMIT).await;
    assert!(map.is_ok(), "{map:?}");
}
