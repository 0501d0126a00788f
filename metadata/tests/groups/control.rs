//! Stories of the controller: who votes and who leads follows from the nodes there are.

use crate::cluster::{Cluster, GROUP, Member, make_bucket, partition, put, role, until, versions};
use ashlar_metadata::{
    MetadataConfig,
    node::{Condition, Role},
};
use ashlar_placement::NodeState;
use ashlar_types::{GroupId, NodeId, ReplicaId};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

fn usual(_: &mut MetadataConfig) {}

fn nodes(voters: &[ReplicaId]) -> BTreeSet<u32> {
    voters.iter().map(|voter| voter.node.0).collect()
}

async fn voters_become(cluster: &Cluster, groups: u32, what: &str, good: impl Fn(&BTreeSet<u32>) -> bool) {
    until(what, async || {
        (0..=groups)
            .all(|group| cluster.voters(GroupId(group)).is_some_and(|voters| good(&nodes(&voters))))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_grow_from_one_to_three_as_nodes_join_and_a_dead_one_is_replaced() {
    let mut cluster = Cluster::form(|config| {
        config.controller.dead_after = Duration::from_secs(3);
    })
    .await;
    cluster.bootstrap(2, 1).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    for count in 0..50 {
        partition(&client, put("key", count)).await.unwrap();
    }
    cluster.join().await;
    cluster.join().await;
    voters_become(&cluster, 2, "three vote", |voters| *voters == BTreeSet::from([1, 2, 3])).await;
    cluster.settle(GROUP).await;
    assert_eq!(versions(&cluster.member(3).client).await, 50);

    cluster.join().await;
    cluster.kill(NodeId(2)).await;
    voters_become(&cluster, 2, "the fourth votes for the dead one", |voters| {
        *voters == BTreeSet::from([1, 3, 4])
    })
    .await;
    // It is not missed: another one may go.
    cluster.kill(NodeId(3)).await;
    let survivor = Arc::clone(&cluster.member(4).client);
    partition(&survivor, put("key", 50)).await.unwrap();
    assert_eq!(versions(&survivor).await, 51);

    cluster.restart(NodeId(3)).await;
    cluster.restart(NodeId(2)).await;
    until("the one that was dead follows group 0 and holds nothing that it lost", async || {
        let follows = role(cluster.member(2), GroupId::SYSTEM)? != Role::Stopped;
        let votes: usize = (1..=2)
            .filter_map(|group| cluster.voters(GroupId(group)))
            .filter(|voters| nodes(voters).contains(&2))
            .count();
        let held = (1..=2).filter(|group| cluster.member(2).status(GroupId(*group)).is_some()).count();
        (follows && votes == held).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_of_group_0_is_replaced_while_its_node_serves() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    partition(&client, put("key", 1)).await.unwrap();
    drop(client);
    cluster.stop(NodeId(2)).await;
    // Nothing of the replica is left, but the node kept the map.
    std::fs::remove_dir_all(cluster.dir(NodeId(2), GroupId::SYSTEM)).unwrap();
    cluster.restart(NodeId(2)).await;
    assert_eq!(versions(&cluster.member(2).client).await, 1);
    until("a new incarnation votes in group 0", async || {
        let status = cluster.member(2).status(GroupId::SYSTEM)?;
        let votes = cluster.voters(GroupId::SYSTEM)?.contains(&status.replica);
        (votes && status.replica.incarnation.0 > 1 && status.condition == Condition::Sound).then_some(())
    })
    .await;
    cluster.settle(GroupId::SYSTEM).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_all_its_metadata_never_votes_as_who_it_was() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(2).client);
    make_bucket(&client).await;
    partition(&client, put("key", 1)).await.unwrap();
    drop(client);
    // The first node: it made the cluster, and began groups.
    let map = (**cluster.member(1).node.watch_map().borrow()).clone();
    cluster.stop(NodeId(1)).await;
    let metadata = cluster.dirs[0].path();
    std::fs::remove_dir_all(metadata).unwrap();
    std::fs::create_dir(metadata).unwrap();
    cluster.restart(NodeId(1)).await;
    cluster.member(1).node.rejoin(NodeId(1), map).unwrap();
    for group in [GroupId::SYSTEM, GROUP] {
        until("a new incarnation votes", async || {
            let status = cluster.member(1).status(group)?;
            let votes = cluster.voters(group)?.contains(&status.replica);
            (votes && status.replica.incarnation.0 > 1 && status.condition == Condition::Sound).then_some(())
        })
        .await;
        cluster.settle(group).await;
    }
    assert_eq!(versions(&cluster.member(1).client).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_spread_and_leave_a_draining_node() {
    let cluster =
        Cluster::of_three(|config| config.controller.balance_interval = Duration::from_millis(300)).await;
    cluster
        .update_map(|map| {
            for group in 2..=5 {
                let members = map.groups[&GROUP].clone();
                map.groups.insert(GroupId(group), members);
            }
        })
        .await;
    let leads = |cluster: &Cluster| {
        let mut leads = vec![0_usize; 3];
        for group in 0..=5 {
            let led = |member: &&Member| role(member, GroupId(group)) == Some(Role::Leader);
            let leader = cluster.live().find(led)?;
            leads[usize::try_from(leader.number.0).unwrap() - 1] += 1;
        }
        Some(leads)
    };
    // All five partition groups begin with their first voter, which is the same.
    until("each node leads two", async || (leads(&cluster)? == [2, 2, 2]).then_some(())).await;
    cluster.update_map(|map| map.nodes.get_mut(&NodeId(1)).unwrap().state = NodeState::Draining).await;
    until("the draining node leads nothing", async || (leads(&cluster)? == [0, 3, 3]).then_some(())).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    partition(&client, put("key", 1)).await.unwrap();
    assert_eq!(versions(&client).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_were_lost_come_from_another_replica_and_log_and_vote_stay() {
    let mut cluster = Cluster::of_three(|config| {
        config.raft.snapshot_entries = 20;
        config.raft.kept_entries = 5;
        config.raft.purge_entries = 5;
    })
    .await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    for count in 0..100 {
        partition(&client, put(&format!("key-{count}"), count)).await.unwrap();
    }
    until("the beginning of the log is purged", async || {
        cluster.live().all(|member| member.status(GROUP).unwrap().purged > Some(50)).then_some(())
    })
    .await;
    drop(client);
    cluster.stop(NodeId(3)).await;
    std::fs::remove_dir_all(cluster.dir(NodeId(3), GROUP).join("kv")).unwrap();
    cluster.restart(NodeId(3)).await;
    until("the replica is open again", async || {
        let status = cluster.member(3).status(GROUP)?;
        (status.condition == Condition::Sound && status.role == Role::Follower).then_some(())
    })
    .await;
    let status = cluster.member(3).status(GROUP).unwrap();
    assert_eq!(status.replica.incarnation.0, 1, "the same member: its vote is kept");
    partition(&cluster.member(3).client, put("after", 100)).await.unwrap();
    cluster.settle(GROUP).await;
    assert_eq!(versions(&cluster.member(3).client).await, 101);
}
