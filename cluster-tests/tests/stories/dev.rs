//! `ashlar dev` keeps what it holds over a restart, what is deleted leaves the drives, and several nodes take the first
//! write as soon as they say that they are ready.

use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{
    client::{self, Answer, check_whole, get},
    content::Content,
    dev::{Dev, RunningDev, inspect},
    process::Signal,
    random::Random,
    story::Story,
    until::{Probe, until},
};
use std::time::Duration;

const BUCKET: &str = "dev";
/// Its shards are large enough for extents.
const LARGE: u64 = 1 << 20;
/// Its shards travel in the log.
const SMALL: u64 = 200_000;
/// It stays with the metadata.
const INLINE: u64 = 4000;
/// Six drives: 4+2.
const SHARDS_PER_OBJECT: u64 = 6;
/// The grace is a second; deletion works in batches behind it.
const GONE_WITHIN: Duration = Duration::from_secs(60);

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    one_node_keeps_what_is_there_and_nothing_else(story, &mut random).await?;
    several_nodes_take_the_first_write(story, &mut random).await
}

async fn one_node_keeps_what_is_there_and_nothing_else(story: &Story, random: &mut Random) -> Result<()> {
    let mut content = |len| Content::new(random.next(), len);
    let (kept, deleted, old, new) = (content(LARGE), content(LARGE), content(LARGE), content(LARGE));
    let (kept_small, deleted_small, inline) = (content(SMALL), content(SMALL), content(INLINE));
    let written = [
        ("kept", kept),
        ("deleted", deleted),
        ("replaced", old),
        ("kept-small", kept_small),
        ("deleted-small", deleted_small),
        ("inline", inline),
    ];
    let side = story.dir().join("dev");
    let dev = Dev::prepare(story.dir().join("data"), &side, 1, &["--read-grace", "1s"])?;

    let running = dev.start().await?;
    let client = running.client()?;
    client::create_bucket(&client, BUCKET).await?;
    for (key, content) in written {
        client::put_now(&client, BUCKET, key, content).await?;
    }
    running.stop(Signal::Term).await?;

    let running = dev.start().await?;
    let client = running.client()?;
    for (key, content) in written {
        check_whole(&client, BUCKET, key, content).await.context("after the restart")?;
    }
    let drives = running.node()?.drives.clone();
    ensure!(drives.len() == 6, "one node has six drives: {drives:?}");
    let before = shards(&running).await?;
    ensure!(before == 5 * SHARDS_PER_OBJECT, "five objects are on the drives, with {before} shards");
    for key in ["deleted", "deleted-small"] {
        client.delete_object().bucket(BUCKET).key(key).send().await.map_err(client::told)?;
    }
    client::put_now(&client, BUCKET, "replaced", new).await?;
    // The bytes themselves are dead space in an append-only log until their segment is used again: a drive without
    // the shard neither reads nor lists them.
    let left = 3 * SHARDS_PER_OBJECT;
    until("deleted shards to leave the drives", GONE_WITHIN, async || {
        let shards = shards(&running).await?;
        ensure!(shards >= left, "shards of living objects are gone: {shards} of {left}");
        Ok(if shards == left { Probe::Done(()) } else { Probe::NotYet(format!("{shards} shards")) })
    })
    .await?;
    running.stop(Signal::Interrupt).await?;
    let shards: u64 = inspect(&drives).await?.iter().map(|drive| drive.shards).sum();
    ensure!(shards == left, "the drives list {shards} shards once the node is stopped, it saw {left}");

    let running = dev.start().await?;
    let client = running.client()?;
    for (key, content) in [("kept", kept), ("replaced", new), ("kept-small", kept_small), ("inline", inline)]
    {
        check_whole(&client, BUCKET, key, content).await?;
    }
    for key in ["deleted", "deleted-small"] {
        let answer = get(&client, BUCKET, key).await?;
        ensure!(answer == Answer::Absent, "a deleted object came back: {answer:?}");
    }
    running.stop(Signal::Term).await
}

/// On all drives.
async fn shards(running: &RunningDev) -> Result<u64> {
    Ok(running.status().await?.drives.iter().map(|drive| drive.shards).sum())
}

async fn several_nodes_take_the_first_write(story: &Story, random: &mut Random) -> Result<()> {
    let dev = Dev::prepare(story.dir().join("three"), &story.dir().join("dev-three"), 3, &[])?;
    let running = dev.start().await?;
    client::create_bucket(&running.exact_client()?, BUCKET).await?;
    client::put_now(&running.exact_client()?, BUCKET, "new", Content::new(random.next(), LARGE)).await?;
    running.stop(Signal::Term).await?;
    let running = dev.start().await?;
    client::put_now(&running.exact_client()?, BUCKET, "again", Content::new(random.next(), LARGE)).await?;
    running.stop(Signal::Term).await
}
