//! `ashlar dev` keeps what it holds over a restart, and what is deleted leaves the drives.

use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{
    client::{self, Answer, check_whole, get},
    content::Content,
    dev::{Dev, files_with, until_gone},
    process::Signal,
    story::Story,
};
use std::time::Duration;

const BUCKET: &str = "dev";
const LEN: u64 = 1 << 20;
/// In the middle of a stripe unit of the middle of the object: plain bytes of one data shard.
const CANARY: (u64, u64) = (500_000, 500_064);
/// The grace is a second; deletion works in batches behind it.
const GONE_WITHIN: Duration = Duration::from_secs(60);

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let [kept, deleted, old, new] = [(); 4].map(|()| Content::new(random.next(), LEN));
    let small = Content::new(random.next(), 4000);
    let dev = Dev::prepare(story.dir().join("data"), &story.dir().join("dev"), &["--read-grace", "1s"])?;

    let running = dev.start().await?;
    let client = running.client()?;
    client::create_bucket(&client, BUCKET).await?;
    for (key, content) in [("kept", kept), ("deleted", deleted), ("replaced", old), ("small", small)] {
        client::put_now(&client, BUCKET, key, content).await?;
    }
    running.stop(Signal::Term).await?;

    let running = dev.start().await?;
    let client = running.client()?;
    for (key, content) in [("kept", kept), ("deleted", deleted), ("replaced", old), ("small", small)] {
        check_whole(&client, BUCKET, key, content).await.context("after the restart")?;
    }
    let drives = running.node()?.drives.clone();
    ensure!(drives.len() == 6, "one node has six drives: {drives:?}");
    for content in [kept, deleted, old] {
        let found = files_with(&content.range(CANARY.0, CANARY.1), &drives)?;
        ensure!(!found.is_empty(), "the canary of an object cannot be found on the drives at all");
    }
    client.delete_object().bucket(BUCKET).key("deleted").send().await.map_err(client::told)?;
    client::put_now(&client, BUCKET, "replaced", new).await?;
    for content in [deleted, old] {
        until_gone(&content.range(CANARY.0, CANARY.1), &drives, GONE_WITHIN).await?;
    }
    running.stop(Signal::Interrupt).await?;

    let running = dev.start().await?;
    let client = running.client()?;
    check_whole(&client, BUCKET, "kept", kept).await?;
    check_whole(&client, BUCKET, "replaced", new).await?;
    check_whole(&client, BUCKET, "small", small).await?;
    let answer = get(&client, BUCKET, "deleted").await?;
    ensure!(answer == Answer::Absent, "a deleted object came back: {answer:?}");
    running.stop(Signal::Term).await
}
