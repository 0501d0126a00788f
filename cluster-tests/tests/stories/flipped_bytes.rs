//! Bytes of shards are flipped on the drives. Up to m bad shards are read around, more are an error, and wrong bytes
//! are never sent.

use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{
    client::{self, Compared, compare},
    cluster::Cluster,
    content::Content,
    random::Random,
    status::{ChunkStatus, SlotStatus},
    story::Story,
    tree,
    until::{Probe, until},
};
use std::{collections::BTreeSet, fs::OpenOptions, os::unix::fs::FileExt, time::Duration};

const BUCKET: &str = "flipped";
const UNIT: u64 = 64 << 10;
/// Twelve stripes and a short one: shards that lie in extents.
const LARGE: u64 = (3 << 20) + 12_345;
/// One stripe and a short one: shards that lie in the log of their drive.
const SMALL: u64 = (256 << 10) + 1234;
const EXPLAINED_WITHIN: Duration = Duration::from_secs(30);

/// Which slots of an object are damaged: as many data and parity slots as said.
struct Damage {
    len: u64,
    data: usize,
    parity: usize,
    extent: Extent,
}

#[derive(Clone, Copy)]
enum Extent {
    /// A few bytes anywhere.
    SomeBytes,
    /// One byte of every unit, so that every stripe has lost the shard.
    EveryUnit,
}

const READABLE: [Damage; 7] = [
    Damage { len: LARGE, data: 1, parity: 0, extent: Extent::SomeBytes },
    Damage { len: LARGE, data: 0, parity: 1, extent: Extent::SomeBytes },
    Damage { len: LARGE, data: 2, parity: 0, extent: Extent::EveryUnit },
    Damage { len: LARGE, data: 1, parity: 1, extent: Extent::EveryUnit },
    Damage { len: LARGE, data: 2, parity: 0, extent: Extent::SomeBytes },
    Damage { len: SMALL, data: 1, parity: 1, extent: Extent::SomeBytes },
    Damage { len: SMALL, data: 2, parity: 0, extent: Extent::EveryUnit },
];
const UNREADABLE: [Damage; 3] = [
    Damage { len: LARGE, data: 3, parity: 0, extent: Extent::EveryUnit },
    Damage { len: LARGE, data: 1, parity: 2, extent: Extent::EveryUnit },
    Damage { len: SMALL, data: 3, parity: 0, extent: Extent::EveryUnit },
];

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let cluster = Cluster::start(story, 6, 2).await?;
    client::create_bucket(&cluster.client(1), BUCKET).await?;
    for (n, damage) in READABLE.iter().enumerate() {
        let key = format!("readable/{n}");
        let content = Content::new(random.next(), damage.len);
        let slots = damage_object(&cluster, &key, content, damage, &mut random).await?;
        read_around(&cluster, &key, content, slots, &mut random).await.with_context(|| key.clone())?;
    }
    for (n, damage) in UNREADABLE.iter().enumerate() {
        let key = format!("unreadable/{n}");
        let content = Content::new(random.next(), damage.len);
        let slots = damage_object(&cluster, &key, content, damage, &mut random).await?;
        fail_loudly(&cluster, &key, content, slots, &mut random).await.with_context(|| key.clone())?;
    }
    cluster.stop().await
}

async fn chunk(cluster: &Cluster, node: u32, key: &str) -> Result<ChunkStatus> {
    let explain = cluster.explain(node, BUCKET, key).await?;
    ensure!(explain.chunks.len() == 1, "{key} is one chunk: {explain:?}");
    explain.chunks.into_iter().next().context("it has one")
}

/// Writes an object, waits for all its shards, damages some of them, and says which slots.
async fn damage_object(
    cluster: &Cluster,
    key: &str,
    content: Content,
    damage: &Damage,
    random: &mut Random,
) -> Result<BTreeSet<u32>> {
    client::put_now(&cluster.client(1), BUCKET, key, content).await?;
    // A shard that came too late for the acknowledgement is finished or repaired without being asked.
    let whole = until("all shards to be there", EXPLAINED_WITHIN, async || {
        let chunk = chunk(cluster, 1, key).await?;
        let missing = chunk.slots.iter().find(|slot| slot.state != "ok");
        Ok(match missing {
            Some(slot) => Probe::NotYet(format!("{slot:?}")),
            None => Probe::Done(chunk),
        })
    })
    .await?;
    let slots = whole.k + whole.m;
    ensure!((whole.k, whole.m) == (4, 2) && whole.slots.len() == usize::try_from(slots)?, "{whole:?}");
    let mut chosen = random.sample(&(0..whole.k).collect::<Vec<_>>(), damage.data);
    chosen.extend(random.sample(&(whole.k..slots).collect::<Vec<_>>(), damage.parity));
    for slot in &chosen {
        let slot = whole.slot(*slot).context("every slot is explained")?;
        let kind = if damage.len == LARGE { "extents" } else { "log" };
        ensure!(slot.file.parent().is_some_and(|dir| dir.ends_with(kind)), "not in {kind}: {slot:?}");
        // Only the first extent of a shard is told: it has to hold all units that are to be damaged.
        let rows = damage.len / (UNIT * u64::from(whole.k));
        ensure!(slot.len >= rows * UNIT, "the shard is in several extents: {slot:?}");
        flip(slot, damage.extent, random).with_context(|| format!("{slot:?}"))?;
    }
    Ok(chosen.into_iter().collect())
}

/// Changes payload bytes of one shard in its file.
fn flip(slot: &SlotStatus, extent: Extent, random: &mut Random) -> Result<()> {
    ensure!(slot.len > 0, "the shard is empty");
    let places: Vec<u64> = match extent {
        Extent::SomeBytes => (0..3).map(|_| random.below(slot.len)).collect(),
        Extent::EveryUnit => (0..slot.len)
            .step_by(usize::try_from(UNIT)?)
            .map(|start| start + random.below(UNIT.min(slot.len - start)))
            .collect(),
    };
    let file = OpenOptions::new().read(true).write(true).open(&slot.file)?;
    // Two flips of one byte could give back what was there.
    for place in places.into_iter().collect::<BTreeSet<_>>() {
        let mut byte = [0];
        file.read_exact_at(&mut byte, slot.offset + place)?;
        let mask = u8::try_from(1 + random.below(255))?;
        file.write_all_at(&[byte[0] ^ mask], slot.offset + place)?;
    }
    file.sync_all()?;
    Ok(())
}

/// Through every node, whole and in ranges: the right bytes. And the damage is known by then.
async fn read_around(
    cluster: &Cluster,
    key: &str,
    content: Content,
    damaged: BTreeSet<u32>,
    random: &mut Random,
) -> Result<()> {
    // A repair may be quicker than the last look, so what was seen corrupt once counts.
    let mut seen = chunk(cluster, 1, key).await?.in_state("corrupt");
    for id in cluster.ids() {
        let client = cluster.client(id);
        let whole = compare(&client, BUCKET, key, content, None).await?;
        ensure!(whole == Compared::Right, "node {id}: {whole:?}");
        for range in tree::ranges(random, content.len, 6) {
            let part = compare(&client, BUCKET, key, content, Some(range)).await?;
            ensure!(part == Compared::Right, "node {id}, {range:?}: {part:?}");
        }
    }
    until("the damage to be known", EXPLAINED_WITHIN, async || {
        seen.extend(chunk(cluster, 2, key).await?.in_state("corrupt"));
        Ok(if seen.is_superset(&damaged) {
            Probe::Done(())
        } else {
            Probe::NotYet(format!("slots {damaged:?} are damaged, {seen:?} were seen corrupt"))
        })
    })
    .await?;
    ensure!(seen == damaged, "slots {damaged:?} are damaged, {seen:?} were seen corrupt");
    Ok(())
}

/// More than m shards are bad: whole reads fail, ranges give the right bytes or fail, and `explain` says why.
async fn fail_loudly(
    cluster: &Cluster,
    key: &str,
    content: Content,
    damaged: BTreeSet<u32>,
    random: &mut Random,
) -> Result<()> {
    for id in cluster.ids() {
        let client = cluster.exact_client(id);
        match compare(&client, BUCKET, key, content, None).await? {
            Compared::Failed(_) => {}
            Compared::Right => anyhow::bail!("node {id} read what cannot be read: {damaged:?} are damaged"),
        }
        for range in tree::ranges(random, content.len, 6) {
            // Wrong bytes are an error of `compare` itself.
            compare(&client, BUCKET, key, content, Some(range)).await?;
        }
    }
    until("the damage to be known", EXPLAINED_WITHIN, async || {
        let explain = cluster.explain(3, BUCKET, key).await?;
        let corrupt = explain.chunks.first().context("it is one chunk")?.in_state("corrupt");
        Ok(if corrupt == damaged && explain.margin < 0 {
            Probe::Done(())
        } else {
            Probe::NotYet(format!(
                "slots {damaged:?} are damaged, {corrupt:?} are seen corrupt, margin {}",
                explain.margin
            ))
        })
    })
    .await
}
