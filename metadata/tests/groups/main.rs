//! Stories of metadata groups: forming, growing, losing leaders, restarting, catching up.
//!
//! Nodes share this process, but sockets, directories and flushes are real. Killing a node here loses what it had
//! not handed to the system; it proves replay, not flushing.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

mod cluster;
mod control;
mod divergence;

use ashlar_metadata::{
    MetadataApi, MetadataConfig, MetadataError,
    command::Refusal,
    node::{Condition, Role},
    query::Query,
};
use ashlar_placement::Group;
use ashlar_types::{GroupId, NodeId};
use cluster::{
    Cluster, GROUP, LIMIT, Member, has_voters, make_bucket, partition, propose_put, put, replica, role,
    until, versions,
};
use std::{sync::Arc, time::Duration};

fn usual(_: &mut MetadataConfig) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_forms_grows_and_survives_the_loss_of_a_leader() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;

    // Two clients write at the same time.
    let writers = [1, 3].map(|number| {
        let client = Arc::clone(&cluster.member(number).client);
        async move {
            for count in 0..250 {
                let uid = u128::from(number) << 64 | count;
                partition(&client, put(&format!("{number}/{}", count % 7), uid)).await.unwrap();
            }
        }
    });
    let [first, second] = writers;
    tokio::join!(first, second);
    assert_eq!(versions(&client).await, 500);
    cluster.settle(GROUP).await;

    let leader = cluster.leader(GROUP).await;
    cluster.kill(leader).await;
    let survivor = Arc::clone(&cluster.live().next().unwrap().client);
    for count in 0..50 {
        partition(&survivor, put("after", 1 << 100 | count)).await.unwrap();
    }
    assert_eq!(versions(&survivor).await, 550);
    assert_ne!(cluster.leader(GROUP).await, leader);

    cluster.restart(leader).await;
    until("the old leader follows", async || {
        (role(cluster.member(leader.0), GROUP) == Some(Role::Follower)).then_some(())
    })
    .await;
    cluster.settle(GROUP).await;
    cluster.settle(GroupId::SYSTEM).await;
    assert_eq!(versions(&cluster.member(leader.0).client).await, 550);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_applied_once_even_by_another_leader() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    let request = client.begin(GROUP).await.unwrap();
    let first = propose_put(&client, request, "key", 1).await;
    let again = propose_put(&client, request, "key", 1).await;
    assert_eq!((first.is_ok(), &first), (true, &again));

    let leader = cluster.leader(GROUP).await;
    cluster.kill(leader).await;
    let other = Arc::clone(&cluster.live().next().unwrap().client);
    assert_eq!(propose_put(&other, request, "key", 1).await, first);
    assert_eq!(versions(&other).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_nodes_were_restarted() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(2).client);
    make_bucket(&client).await;
    for count in 0..40 {
        partition(&client, put("key", count)).await.unwrap();
    }
    drop(client);
    let epoch = cluster.member(1).node.watch_map().borrow().epoch;
    // Two end in order, the third as by a crash.
    cluster.stop(NodeId(1)).await;
    cluster.stop(NodeId(2)).await;
    cluster.kill(NodeId(3)).await;
    for number in 1..=3 {
        cluster.restart(NodeId(number)).await;
        assert_eq!(cluster.member(number).node.watch_map().borrow().epoch, epoch, "the map is known at once");
    }
    assert_eq!(versions(&cluster.member(3).client).await, 40);
    partition(&cluster.member(1).client, put("key", 41)).await.unwrap();
    cluster.settle(GROUP).await;
    cluster.settle(GroupId::SYSTEM).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_catches_up_by_snapshot_and_its_predecessor_is_dropped() {
    let mut cluster = Cluster::of_three(|config| {
        config.raft.snapshot_entries = 50;
        config.raft.kept_entries = 5;
        config.raft.purge_entries = 10;
        config.log.segment_bytes = 64 << 10;
        config.log.first_segment_bytes = 64 << 10;
    })
    .await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    for count in 0..200 {
        partition(&client, put(&format!("key-{count}"), count)).await.unwrap();
    }
    until("the beginning of the log is purged", async || {
        cluster.live().all(|member| member.status(GROUP).unwrap().purged > Some(100)).then_some(())
    })
    .await;
    let fourth = cluster.join().await;
    cluster
        .update_map(|map| {
            let voters = vec![replica(1), replica(2), replica(fourth.0)];
            map.groups.insert(GROUP, Group { voters, learners: vec![] });
        })
        .await;
    until("the fourth node votes in place of the third", async || {
        let status = cluster.member(fourth.0).status(GROUP)?;
        let mut voters: Vec<u32> = status.voters.iter().map(|voter| voter.node.0).collect();
        voters.sort_unstable();
        (voters == [1, 2, fourth.0] && status.learners.is_empty()).then_some(())
    })
    .await;
    until("the third node lets go of its replica", async || {
        let files = cluster.dir(NodeId(3), GROUP).exists();
        (cluster.member(3).status(GROUP).is_none() && !files).then_some(())
    })
    .await;
    cluster.stop(NodeId(3)).await;
    partition(&client, put("after", 1000)).await.unwrap();
    cluster.settle(GROUP).await;
    assert_eq!(versions(&cluster.member(fourth.0).client).await, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_promised() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    cluster.kill(NodeId(2)).await;
    cluster.kill(NodeId(3)).await;
    let short = Duration::from_secs(3);
    let request = client.begin(GROUP).await.unwrap();
    let command = ashlar_metadata::command::Command::Partition(put("key", 1));
    let refused = client.propose(GROUP, Some(request), command, short).await.unwrap_err();
    assert!(matches!(refused, MetadataError::Ambiguous { .. } | MetadataError::Unavailable { .. }));
    let unread = client.query(GROUP, Query::GroupState, short).await.unwrap_err();
    assert!(matches!(unread, MetadataError::Unavailable { .. }), "{unread}");
    let unknown = client.query(GroupId(77), Query::GroupState, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(unknown, MetadataError::Unavailable { .. }), "{unknown}");

    cluster.restart(NodeId(2)).await;
    propose_put(&client, request, "key", 1).await.unwrap();
    assert_eq!(versions(&client).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_raise_the_write_epoch_and_old_requests_expire_by_it() {
    let cluster = Cluster::form(|config| config.write_epoch = Duration::from_millis(1)).await;
    let client = Arc::clone(&cluster.member(1).client);
    let request = client.begin(GroupId::SYSTEM).await.unwrap();
    until("the epoch was raised", async || {
        let later = client.begin(GroupId::SYSTEM).await.unwrap();
        client.query(GroupId::SYSTEM, Query::GroupState, LIMIT).await.unwrap();
        (later.write_epoch > request.write_epoch).then_some(())
    })
    .await;
    let mut ancient = request;
    ancient.write_epoch.0 = 0;
    let nothing = ashlar_metadata::command::Command::Nothing;
    until("requests below the floor are refused", async || {
        let outcome = client.propose(GroupId::SYSTEM, Some(ancient), nothing.clone(), LIMIT).await.unwrap();
        (outcome == Err(Refusal::Expired)).then_some(())
    })
    .await;
}

/// Changes a byte of the first record of a group in the Raft log of a node, as `docs/formats/raft-log.md` describes it.
fn damage_a_record(log: &std::path::Path, group: GroupId) {
    let segment = log.join("0000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let records = (4096..bytes.len()).step_by(4096).find_map(|batch| {
        let sections = if bytes[batch..].starts_with(b"aLgBatch") { number(batch + 60) } else { 0 };
        let table = batch + 64..batch + 64 + 32 * sections as usize;
        let mut records = table.end;
        for section in table.step_by(32) {
            let len = number(section + 16) as usize;
            if number(section) == group.0 && len > 40 {
                return Some(records);
            }
            records += len;
        }
        None
    });
    bytes[records.unwrap() + 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_log_is_damaged_comes_back_as_another_and_no_other_is_touched() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    for count in 0..20 {
        partition(&client, put("key", count)).await.unwrap();
    }
    cluster.settle(GROUP).await;
    cluster.stop(NodeId(3)).await;
    damage_a_record(&cluster.dir(NodeId(3), GROUP).with_file_name("log"), GROUP);
    cluster.restart(NodeId(3)).await;
    let status = cluster.member(3).status(GROUP).unwrap();
    assert_eq!((status.role, status.condition), (Role::Stopped, Condition::Damaged));
    until("its other replica works", async || {
        has_voters(cluster.member(3), GroupId::SYSTEM, 3).then_some(())
    })
    .await;
    // The node still reaches the group through the others.
    assert_eq!(versions(&cluster.member(3).client).await, 20);

    // A new incarnation takes the place of the damaged one.
    until("the new incarnation votes", async || {
        let status = cluster.member(3).status(GROUP)?;
        let voting = status.voters.iter().any(|voter| voter.node == NodeId(3) && voter.incarnation.0 > 1);
        (voting && status.voters.len() == 3 && status.learners.is_empty()).then_some(())
    })
    .await;
    cluster.settle(GROUP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_files_neither_votes_again_nor_begins_its_group_anew() {
    let mut cluster = Cluster::of_three(usual).await;
    let client = Arc::clone(&cluster.member(1).client);
    make_bucket(&client).await;
    partition(&client, put("key", 1)).await.unwrap();
    // Node 2 is listed first: it began the group.
    cluster.stop(NodeId(2)).await;
    std::fs::remove_dir_all(cluster.dir(NodeId(2), GROUP)).unwrap();
    cluster.restart(NodeId(2)).await;
    until("a new incarnation follows", async || {
        let status = cluster.member(2).status(GROUP)?;
        let votes = status.voters.contains(&status.replica);
        (votes && status.replica.incarnation.0 > 1 && status.role != Role::Stopped).then_some(())
    })
    .await;
    cluster.settle(GROUP).await;
    assert_eq!(versions(&cluster.member(2).client).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path(), None, "127.0.0.1:0", &usual).await;
    let env = ashlar_runtime::Env::real();
    let peers = ashlar_rpc::Peers::new(env.clone(), ashlar_rpc::RpcIdentity::unformed());
    let config = MetadataConfig::new(dir.path().to_owned());
    let second = ashlar_metadata::MetadataNode::start(config, env, peers).await;
    assert!(matches!(second, Err(ashlar_metadata::node::StartError::InUse(_))));
    member.shut_down().await;
}
