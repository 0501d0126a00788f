//! Conditional writers race while the leader of each group in turn is killed and comes back.

use super::race::Race;
use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{
    cluster::{Cluster, GROUPS},
    story::Story,
};

const ROUNDS: usize = 2;

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let mut cluster = Cluster::start(story, 6, 2).await?;
    let mut race = Race::begin(&cluster, &mut random).await?;
    for _ in 0..ROUNDS {
        // Group 0 holds buckets and keys: without it a gateway cannot know who may do what.
        for group in 0..=GROUPS {
            race.progress().await?;
            kill_leader(&mut cluster, group, &mut race).await.with_context(|| format!("group {group}"))?;
        }
    }
    race.progress().await?;
    race.judge(&cluster).await?;
    cluster.stop().await
}

/// Kills the node that leads `group`, waits for another leader and for writes under it, and brings the node back.
async fn kill_leader(cluster: &mut Cluster, group: u32, race: &mut Race) -> Result<()> {
    let leader = cluster.leader(1, group).await?;
    cluster.kill(&[leader]).await?;
    let witness = *cluster.living().first().context("five are alive")?;
    let next = cluster.leader(witness, group).await?;
    ensure!(next != leader, "node {leader} leads though it is dead");
    race.progress().await.context("after the kill")?;
    cluster.restart(&[leader]).await
}
