//! Conditional writers race while what one leader sends, or what is sent to it, does not arrive: first the one, then
//! the other. In both cases the others go on without it, and nothing that it believes meanwhile counts.
//!
//! All traffic between nodes passes proxies that hold the bytes of a cut direction back, whoever opened the connection,
//! and let them go when the cut is healed: late messages are a part of the story.

use super::race::Race;
use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{
    cluster::{Cluster, GROUPS},
    story::Story,
};

#[derive(Clone, Copy, Debug)]
enum Cut {
    /// What the leader sends is held back.
    Mute,
    /// What is sent to the leader is held back.
    Deaf,
}

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let mut cluster = Cluster::start_proxied(story, 5, 2).await?;
    let mut race = Race::begin(&cluster, &mut random).await?;
    for cut in [Cut::Mute, Cut::Deaf] {
        for group in 0..=GROUPS {
            race.progress().await?;
            let done = cut_leader(&mut cluster, group, cut, &mut race).await;
            done.with_context(|| format!("group {group}, {cut:?}"))?;
        }
    }
    race.progress().await?;
    race.judge(&cluster).await?;
    cluster.stop().await
}

async fn cut_leader(cluster: &mut Cluster, group: u32, cut: Cut, race: &mut Race) -> Result<()> {
    let leader = cluster.leader(1, group).await?;
    for other in cluster.ids().into_iter().filter(|id| *id != leader) {
        match cut {
            Cut::Mute => cluster.links().cut(leader, other),
            Cut::Deaf => cluster.links().cut(other, leader),
        }
    }
    let next = cluster.leader_without(leader, group).await?;
    ensure!(next != leader, "node {leader} leads though it is cut off");
    race.progress().await.context("while the leader is cut off")?;
    cluster.links().heal();
    cluster.settle().await
}
