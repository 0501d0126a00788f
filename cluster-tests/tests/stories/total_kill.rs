//! All six nodes are killed at the same moment while clients write. After the restart every acknowledged write is
//! there, and an upload whose parts had been acknowledged can be completed.
//!
//! SIGKILL leaves the page cache alone: this proves that logs are replayed, not that they were flushed. The power
//! cut story and the simulated disks prove flushing.

use anyhow::{Context, Result, bail, ensure};
use ashlar_cluster_tests::{
    client::{self, Answer, check_whole, get, put, told as sdk_error},
    cluster::Cluster,
    content::Content,
    ledger::Ledger,
    random::Random,
    story::Story,
    until::{Probe, pause, until},
    workers,
};
use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const BUCKET: &str = "total-kill";
const WRITERS: usize = 6;
/// Keys that each writer overwrites again and again.
const KEYS_PER_WRITER: u64 = 12;
const SIZES: [u64; 4] = [700, 12 << 10, 90 << 10, 1 << 20];
const ACKED_KEYS: usize = 60;
const PROGRESS_WITHIN: Duration = Duration::from_secs(60);
const MULTIPART_KEY: &str = "in parts";
/// The least that a part other than the last may have.
const PART_LEN: u64 = 5 << 20;
const PARTS_BEFORE: i32 = 3;

#[derive(Default)]
struct Progress {
    ledger: Ledger,
    /// Set right before the kill: answers after it may be anything.
    killed: AtomicBool,
}

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let mut cluster = Cluster::start(story, 6, 2).await?;
    let clients = Arc::new(cluster.exact_clients());
    client::create_bucket(&cluster.client(1), BUCKET).await?;

    let multipart = Content::new(random.next(), PART_LEN * u64::try_from(PARTS_BEFORE + 1)?);
    let create = cluster.client(2).create_multipart_upload().bucket(BUCKET).key(MULTIPART_KEY).send();
    let created = create.await.map_err(sdk_error).context("creating the upload")?;
    let upload = created.upload_id().context("an upload has an id")?.to_owned();
    let mut parts = Vec::new();
    for (number, id) in (1..=PARTS_BEFORE).zip(cluster.ids()) {
        parts.push(upload_part(&cluster.client(id), &upload, number, multipart).await?);
    }

    let progress = Arc::new(Progress::default());
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(n, Arc::clone(&clients), Arc::clone(&progress), random.fork()));
    }
    until("acknowledged writes", PROGRESS_WITHIN, async || {
        if let Some(ended) = writers.try_join_next() {
            ended??;
            bail!("a writer ended before the kill");
        }
        let acked = progress.ledger.acked_count();
        Ok(if acked >= ACKED_KEYS { Probe::Done(()) } else { Probe::NotYet(format!("{acked} keys are")) })
    })
    .await?;
    progress.killed.store(true, Ordering::SeqCst);
    cluster.kill_all().await?;
    workers::join_all(writers).await?;
    ensure!(progress.ledger.unknown_count() > 0, "nothing was under way at the kill: nothing was tested");

    cluster.restart_all().await?;
    check_ledger(&progress.ledger, &cluster).await?;

    parts.push(upload_part(&cluster.client(5), &upload, PARTS_BEFORE + 1, multipart).await?);
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = cluster.client(6).complete_multipart_upload().bucket(BUCKET).key(MULTIPART_KEY);
    let complete = complete.upload_id(upload).multipart_upload(parts).send();
    Box::pin(complete).await.map_err(sdk_error).context("completing the upload")?;
    for id in cluster.ids() {
        check_whole(&cluster.client(id), BUCKET, MULTIPART_KEY, multipart).await?;
    }
    cluster.stop().await
}

async fn upload_part(client: &Client, upload: &str, number: i32, content: Content) -> Result<CompletedPart> {
    let start = PART_LEN * u64::try_from(number - 1)?;
    let bytes = content.range(start, start + PART_LEN);
    let part = client.upload_part().bucket(BUCKET).key(MULTIPART_KEY).upload_id(upload);
    let part = part.part_number(number).body(ByteStream::from(bytes)).send();
    let output = part.await.map_err(sdk_error).with_context(|| format!("part {number}"))?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(output.e_tag)
        .set_checksum_crc32(output.checksum_crc32)
        .build())
}

/// Overwrites its own keys until an answer stays away after the kill.
async fn write(
    writer: usize,
    clients: Arc<BTreeMap<u32, Client>>,
    progress: Arc<Progress>,
    mut random: Random,
) -> Result<()> {
    let ids: Vec<u32> = clients.keys().copied().collect();
    loop {
        let key = format!("{writer}/{:02}", random.below(KEYS_PER_WRITER));
        let content = Content::new(random.next(), random.pick(&SIZES));
        match put(&clients[&random.pick(&ids)], BUCKET, &key, content).await? {
            Answer::Acked(()) => progress.ledger.acked(BUCKET, &key, content),
            Answer::Unknown(why) => {
                progress.ledger.unknown(BUCKET, &key, content);
                if progress.killed.load(Ordering::SeqCst) {
                    return Ok(());
                }
                // Overload is no reason to stop, but a healthy cluster should not fail.
                ensure!(progress.ledger.unknown_count() < WRITERS, "writes fail before the kill: {why}");
                pause().await;
            }
            other @ (Answer::Refused | Answer::Absent) => bail!("putting {key}: {other:?}"),
        }
    }
}

/// Each key holds its last acknowledged content or one whose outcome is unknown, through every node the same.
async fn check_ledger(ledger: &Ledger, cluster: &Cluster) -> Result<()> {
    let clients: Arc<Vec<Client>> = Arc::new(cluster.ids().iter().map(|id| cluster.client(*id)).collect());
    workers::for_each(ledger.records(), WRITERS, move |((bucket, key), record)| {
        let clients = Arc::clone(&clients);
        async move {
            let mut first = None;
            for client in clients.iter() {
                let sent = get(client, &bucket, &key).await?.found().with_context(|| key.clone())?;
                record.check(sent.as_ref()).with_context(|| key.clone())?;
                ensure!(
                    *first.get_or_insert(sent.clone()) == sent,
                    "{key}: two nodes give different contents"
                );
            }
            Ok(())
        }
    })
    .await
}
