//! Conditional writers race while the leader of each group in turn is suspended, for longer than elections take, and
//! goes on as if nothing had happened: what it believes then is old, and nothing of it may count.

use super::race::Race;
use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{
    cluster::{Cluster, GROUPS},
    process::Signal,
    story::Story,
};

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let mut cluster = Cluster::start(story, 6, 2).await?;
    let mut race = Race::begin(&cluster, &mut random).await?;
    for group in 0..=GROUPS {
        race.progress().await?;
        suspend_leader(&mut cluster, group, &mut race).await.with_context(|| format!("group {group}"))?;
    }
    race.progress().await?;
    race.judge(&cluster).await?;
    cluster.stop().await
}

/// Clients that ask the suspended node get no answer and treat their requests as unknown; some of them are carried
/// out when it wakes.
async fn suspend_leader(cluster: &mut Cluster, group: u32, race: &mut Race) -> Result<()> {
    let leader = cluster.leader(1, group).await?;
    cluster.node(leader).signal(Signal::Stop)?;
    let next = cluster.leader_without(leader, group).await?;
    ensure!(next != leader, "node {leader} leads though it is suspended");
    race.progress().await.context("while the leader is suspended")?;
    cluster.node(leader).signal(Signal::Continue)?;
    cluster.settle().await
}
