//! Two of six nodes are killed in the middle of uploads. Whatever was acknowledged can be read while they are dead,
//! new writes succeed (on other drives than the dead ones: handoff), and all is well when they come back.

use anyhow::{Context, Result, bail, ensure};
use ashlar_cluster_tests::{
    client::{self, Answer, check_whole, put},
    cluster::Cluster,
    content::Content,
    ledger::Ledger,
    random::Random,
    story::Story,
    until::{Probe, pause, until},
    workers,
};
use aws_sdk_s3::Client;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const BUCKET: &str = "dead-nodes";
const UPLOADERS: usize = 6;
const READERS: usize = 12;
/// Inline, one stripe, several stripes.
const SIZES: [u64; 5] = [900, 16 << 10, 100 << 10, 300 << 10, 2 << 20];
/// Above this an object is in shards.
const INLINE_MAX: u64 = 16 << 10;
const ACKED_BEFORE: usize = 40;
const ACKED_WHILE_DEAD: usize = 60;
/// Objects whose placement is looked at.
const EXPLAINED: usize = 8;
/// Until enough writes are acknowledged; the cluster itself is to need seconds.
const PROGRESS_WITHIN: Duration = Duration::from_secs(90);

#[derive(Default)]
struct Progress {
    ledger: Ledger,
    acked: AtomicUsize,
    /// Attempts that were not acknowledged and tried again on another node.
    repeated: AtomicUsize,
    /// Set when the nodes are dead.
    dead: AtomicBool,
    /// Keys of objects in shards whose writing began after that.
    begun_while_dead: Mutex<Vec<String>>,
    stop: AtomicBool,
}

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let mut cluster = Cluster::start(story, 6, 2).await?;
    let clients = Arc::new(cluster.exact_clients());
    client::create_bucket(&cluster.client(1), BUCKET).await?;

    let progress = Arc::new(Progress::default());
    let mut uploaders = JoinSet::new();
    for n in 0..UPLOADERS {
        uploaders.spawn(upload(n, Arc::clone(&clients), Arc::clone(&progress), random.fork()));
    }
    reach(&progress, &mut uploaders, ACKED_BEFORE).await?;

    let dead = random.sample(&cluster.ids(), 2);
    cluster.kill(&dead).await?;
    progress.dead.store(true, Ordering::SeqCst);
    let at_kill = progress.acked.load(Ordering::SeqCst);
    reach(&progress, &mut uploaders, at_kill + ACKED_WHILE_DEAD).await?;
    progress.stop.store(true, Ordering::SeqCst);
    workers::join_all(uploaders).await?;
    ensure!(progress.repeated.load(Ordering::SeqCst) > 0, "no upload met a dead node: nothing was tested");

    let living: Vec<u32> = cluster.living().into_iter().collect();
    ensure!(living.len() == 4, "{living:?} are alive");
    read_all(&progress.ledger, &living, &cluster).await?;

    let begun = progress.begun_while_dead.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(!begun.is_empty(), "no object in shards was written while nodes were dead");
    for (key, witness) in begun.iter().zip(living.iter().cycle()).take(EXPLAINED) {
        check_placement(&cluster, *witness, key, &dead).await?;
    }

    cluster.restart(&dead).await?;
    read_all(&progress.ledger, &dead, &cluster).await?;
    for (n, id) in dead.iter().enumerate() {
        let content = Content::new(random.next(), SIZES[3]);
        let key = format!("after/{n}");
        client::put_now(&cluster.client(*id), BUCKET, &key, content).await?;
        check_whole(&cluster.client(living[n]), BUCKET, &key, content).await?;
    }
    cluster.stop().await
}

/// Writes one object after another, each through all nodes until one acknowledges it.
async fn upload(
    uploader: usize,
    clients: Arc<BTreeMap<u32, Client>>,
    progress: Arc<Progress>,
    mut random: Random,
) -> Result<()> {
    for n in 0.. {
        if progress.stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("{uploader}/{n:05}");
        let content = Content::new(random.next(), random.pick(&SIZES));
        let dead = progress.dead.load(Ordering::SeqCst);
        let mut nodes: Vec<&Client> = clients.values().collect();
        nodes.rotate_left(random.index(clients.len()));
        let put = put_through_any(&nodes, &key, content, &progress.repeated);
        tokio::time::timeout(PROGRESS_WITHIN, put)
            .await
            .with_context(|| format!("{key} of {} bytes was never acknowledged", content.len))??;
        progress.ledger.acked(BUCKET, &key, content);
        progress.acked.fetch_add(1, Ordering::SeqCst);
        if dead && content.len > INLINE_MAX {
            progress.begun_while_dead.lock().unwrap_or_else(PoisonError::into_inner).push(key);
        }
    }
    Ok(())
}

/// Tries one node after another until one acknowledges the write.
async fn put_through_any(
    nodes: &[&Client],
    key: &str,
    content: Content,
    repeated: &AtomicUsize,
) -> Result<()> {
    for client in nodes.iter().cycle() {
        match put(client, BUCKET, key, content).await? {
            Answer::Acked(()) => return Ok(()),
            Answer::Unknown(_) => repeated.fetch_add(1, Ordering::SeqCst),
            other @ (Answer::Refused | Answer::Absent) => bail!("putting {key}: {other:?}"),
        };
        pause().await;
    }
    bail!("there are no nodes")
}

/// Waits until this many writes are acknowledged; an uploader that fails ends the wait.
async fn reach(progress: &Progress, uploaders: &mut JoinSet<Result<()>>, goal: usize) -> Result<()> {
    until(&format!("{goal} acknowledged writes"), PROGRESS_WITHIN, async || {
        if let Some(ended) = uploaders.try_join_next() {
            ended??;
            bail!("an uploader ended though nobody asked it to");
        }
        let acked = progress.acked.load(Ordering::SeqCst);
        Ok(if acked >= goal { Probe::Done(()) } else { Probe::NotYet(format!("{acked} are")) })
    })
    .await
}

/// Every acknowledged object, through each of these nodes.
async fn read_all(ledger: &Ledger, through: &[u32], cluster: &Cluster) -> Result<()> {
    let mut reads = Vec::new();
    for ((_, key), record) in ledger.records() {
        let content = record.acked.context("every upload was acknowledged in the end")?;
        reads.extend(through.iter().map(|id| (*id, key.clone(), content)));
    }
    let clients: BTreeMap<u32, Client> = through.iter().map(|id| (*id, cluster.client(*id))).collect();
    workers::for_each(reads, READERS, move |(id, key, content)| {
        let client = clients[&id].clone();
        async move { check_whole(&client, BUCKET, &key, content).await.with_context(|| format!("node {id}")) }
    })
    .await
}

/// What was written while nodes were dead lies on distinct drives of living ones, with a loss to spare.
async fn check_placement(cluster: &Cluster, witness: u32, key: &str, dead: &[u32]) -> Result<()> {
    let explain = cluster.explain(witness, BUCKET, key).await?;
    ensure!(!explain.inline && !explain.chunks.is_empty(), "{key} is in shards: {explain:?}");
    for chunk in &explain.chunks {
        let drives: Vec<u32> =
            chunk.slots.iter().map(|slot| slot.drive).filter(|drive| *drive != 0).collect();
        let distinct: BTreeSet<u32> = drives.iter().copied().collect();
        ensure!(distinct.len() == drives.len(), "{key} has two slots on one drive: {chunk:?}");
        // k + ceil(m/2) is the quorum of an acknowledgement.
        let spare = i32::try_from(chunk.m.div_ceil(2))?;
        ensure!(chunk.margin_at_ack >= spare, "{key} was acknowledged below the quorum: {chunk:?}");
        let readable = chunk.slots.iter().filter(|slot| slot.state == "ok" && !dead.contains(&slot.node));
        let readable = u32::try_from(readable.count())?;
        ensure!(readable >= chunk.k + chunk.m.div_ceil(2), "{key} has {readable} shards alive: {chunk:?}");
    }
    ensure!(explain.margin >= 1, "{key} survives {} more losses", explain.margin);
    Ok(())
}
