//! Stories of reads and stamps: which replica answers what, and when nobody may.
//!
//! Nodes share this process; clocks are set and wires cut by hand.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

mod cluster;
mod faults;

use ashlar_metadata::{
    MetadataApi, MetadataConfig, MetadataError,
    command::SystemCommand,
    query::{Answer, Query},
};
use ashlar_runtime::Env;
use ashlar_types::{
    GroupId, Timestamp,
    service::{AccessKey, User},
};
use cluster::{Cluster, GROUP, LIMIT, until};
use std::time::Duration;

fn usual(_: &mut MetadataConfig) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_reads_what_was_written_through_any_other() {
    // The fourth holds a learner of the group.
    let cluster = Cluster::of(&[0, 0, 0, 0], usual).await;
    for round in 0..60 {
        let writer = &cluster.members[round % 4];
        let value = 100 + round as u64;
        writer.write("key", value, LIMIT).await.unwrap().unwrap();
        let reads = cluster.members.iter().map(|member| member.read("key", LIMIT));
        for found in futures_util::future::join_all(reads).await {
            assert_eq!(found.unwrap().unwrap().value, value);
        }
    }
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_beside_writers_never_see_a_value_older_than_one_acknowledged() {
    let cluster = Cluster::of(&[0, 0, 0], usual).await;
    cluster.members[0].write("key", 1, LIMIT).await.unwrap().unwrap();
    let acknowledged = std::sync::atomic::AtomicU64::new(1);
    let order = std::sync::atomic::Ordering::SeqCst;
    let writing = async {
        for value in 2..200 {
            cluster.members[usize::try_from(value % 3).unwrap()]
                .write("key", value, LIMIT)
                .await
                .unwrap()
                .unwrap();
            acknowledged.store(value, order);
        }
        acknowledged.store(u64::MAX, order);
    };
    let reading = (0..24).map(|reader| {
        let (member, acknowledged) = (&cluster.members[reader % 3], &acknowledged);
        async move {
            loop {
                let before = acknowledged.load(order);
                if before == u64::MAX {
                    return;
                }
                let found = member.read("key", LIMIT).await.unwrap().unwrap();
                assert!(found.value >= before, "read {} after {before} was acknowledged", found.value);
            }
        }
    });
    tokio::join!(writing, futures_util::future::join_all(reading));
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_refuses_quickly_and_never_answers_from_its_old_tables() {
    let cluster = Cluster::of(&[0, 0, 0], |config| config.patience = Duration::from_secs(3)).await;
    let old = cluster.leader(GROUP).await;
    old.write("key", 1, LIMIT).await.unwrap().unwrap();
    let others = cluster.others(old.number);
    for other in &others {
        cluster.wires.cut(old.number, other.number);
    }
    until("the others have a leader", async || others.iter().any(|other| other.leads(GROUP)).then_some(()))
        .await;
    until("a new value is written", async || {
        others[0].write("key", 2, LIMIT).await.is_ok_and(|outcome| outcome.is_ok()).then_some(())
    })
    .await;
    assert_eq!(others[1].read("key", LIMIT).await.unwrap().unwrap().value, 2);

    let clock = Env::real().clock;
    let begun = clock.monotonic();
    let refused = old.read("key", LIMIT).await.unwrap_err();
    assert!(matches!(refused, MetadataError::Unavailable { .. }), "{refused}");
    let refused = old.write("key", 3, LIMIT).await.unwrap_err();
    assert!(matches!(refused, MetadataError::Unavailable { .. }), "nothing was sent: {refused}");
    assert!(clock.monotonic() - begun < LIMIT / 2, "the deadline was not waited for");
    // Once it is known, every further call hears so at once.
    let begun = clock.monotonic();
    for _ in 0..5 {
        old.read("key", LIMIT).await.unwrap_err();
    }
    assert!(clock.monotonic() - begun < Duration::from_secs(10), "{:?}", clock.monotonic() - begun);

    cluster.wires.heal();
    until("it reads the new value", async || {
        let found = old.read("key", LIMIT).await.ok()??;
        assert_eq!(found.value, 2);
        Some(())
    })
    .await;
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_does_not_reach_the_leader_reads_through_another() {
    let cluster = Cluster::of(&[0, 0, 0], usual).await;
    let leader = cluster.leader(GROUP).await.number;
    let others = cluster.others(leader);
    cluster.wires.cut(leader, others[0].number);
    for value in 1..20 {
        others[1].write("key", value, LIMIT).await.unwrap().unwrap();
        assert_eq!(others[0].read("key", LIMIT).await.unwrap().unwrap().value, value);
    }
    cluster.shut_down().await;
}

fn near(stamp: Timestamp, wall: Timestamp) -> bool {
    stamp.0.abs_diff(wall.0) < 10_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_an_hour_off_stamps_nothing_wrong_and_leads_nothing() {
    const HOUR: i64 = 3_600_000;
    // The second begins group 1 and leads it first. Balancing must not bring it back.
    let cluster =
        Cluster::of(&[0, HOUR, 0], |config| config.controller.balance_interval = Duration::from_millis(200))
            .await;
    let wall = || Env::real().clock.wall();
    let off = &cluster.members[1];
    let mut last = Timestamp(0);
    for value in 1..40 {
        off.write("key", value, LIMIT).await.unwrap().unwrap();
        let found = off.read("key", LIMIT).await.unwrap().unwrap();
        assert!(near(found.modified, wall()), "{:?} at {:?}", found.modified, wall());
        assert!(found.modified >= last);
        last = found.modified;
    }
    for group in [GROUP, GroupId::SYSTEM] {
        until("another leads", async || {
            cluster.others(off.number).iter().any(|other| other.leads(group)).then_some(())
        })
        .await;
    }
    // The clocks of two of three are set back: what was stamped is not undone.
    for member in cluster.others(off.number) {
        member.clock.set(-HOUR);
    }
    off.clock.set(-HOUR);
    let clock = Env::real().clock;
    clock.sleep(Duration::from_millis(500)).await;
    off.write("key", 100, LIMIT).await.unwrap().unwrap();
    let found = off.read("key", LIMIT).await.unwrap().unwrap();
    assert!(found.modified >= last && near(found.modified, last), "{:?} after {last:?}", found.modified);
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_answered_locally_for_a_while_and_what_is_not_by_the_leader() {
    let cluster = Cluster::of(&[0, 0, 0], |config| config.contact_limit = Duration::from_millis(1_500)).await;
    let key = |id: &str| AccessKey {
        id: id.to_owned(),
        secret: "secret".to_owned(),
        user: User { id: "me".to_owned(), display_name: "me".to_owned(), email: String::new() },
    };
    let leader = cluster.leader(GroupId::SYSTEM).await;
    leader.system(SystemCommand::PutAccessKey { key: key("known") }).await.unwrap();
    let others = cluster.others(leader.number);
    let query = |id: &str| Query::AccessKey { id: id.to_owned() };
    // Not there yet in this copy or there: either way the answer is right, because a miss asks further.
    for other in &others {
        let answer = other.client.local_system(query("known"), LIMIT).await.unwrap();
        assert_eq!(answer, Answer::AccessKey(Some(key("known"))));
        let answer = other.client.local_system(query("unknown"), LIMIT).await.unwrap();
        assert_eq!(answer, Answer::AccessKey(None));
    }
    let cut = others[0];
    for other in cluster.others(cut.number) {
        cluster.wires.cut(cut.number, other.number);
    }
    let short = Duration::from_millis(300);
    assert_eq!(
        cut.client.local_system(query("known"), short).await,
        Ok(Answer::AccessKey(Some(key("known")))),
        "the leader was heard a moment ago"
    );
    let refused = cut.client.local_system(query("unknown"), short).await;
    assert!(matches!(refused, Err(MetadataError::Unavailable { .. })), "{refused:?}");
    until("the copy is too old", async || cut.client.local_system(query("known"), short).await.err()).await;
    cluster.wires.heal();
    until("the leader is heard again", async || cut.client.local_system(query("known"), short).await.ok())
        .await;
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_spare_the_majority_and_end_with_it() {
    let cluster = Cluster::of(&[0, 0, 0], |config| {
        config.raft.lease_drift = Some(Duration::from_millis(200));
        config.patience = Duration::from_secs(3);
    })
    .await;
    let old = cluster.leader(GROUP).await;
    for value in 1..50 {
        old.write("key", value, LIMIT).await.unwrap().unwrap();
        for member in &cluster.members {
            assert_eq!(member.read("key", LIMIT).await.unwrap().unwrap().value, value);
        }
    }
    let others = cluster.others(old.number);
    for other in &others {
        cluster.wires.cut(old.number, other.number);
    }
    until("a new value is written", async || {
        others[0].write("key", 1_000, LIMIT).await.is_ok_and(|outcome| outcome.is_ok()).then_some(())
    })
    .await;
    let stale = old.read("key", LIMIT).await;
    assert!(stale.is_err(), "{stale:?}");
    cluster.shut_down().await;
}
