//! A tree of files is uploaded through all nodes and read back through others: the same keys, the same bytes.

use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{
    client::{self, check_range, check_whole, told as sdk_error},
    cluster::Cluster,
    content::Content,
    story::Story,
    tree::{self, File},
    workers,
};
use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use std::{path::Path, sync::Arc};

const BUCKET: &str = "tree";
const CONCURRENCY: usize = 16;
const MIB: u64 = 1 << 20;
/// Larger files are streamed from disk, in the transfer coding with a trailing checksum; smaller ones are sent from
/// memory with a checksum in a header.
const STREAMED_FROM: u64 = MIB;
const MULTIPART_KEY: &str = "multipart/300 MiB";
const MULTIPART_LEN: u64 = 300 * MIB;
const PART_LEN: u64 = 16 * MIB;
/// Not a divisor of the number of keys, so that the last page is short.
const PAGE: i32 = 333;

pub(crate) async fn told(story: &Story) -> Result<()> {
    let mut random = story.random();
    let cluster = Cluster::start(story, 6, 2).await?;
    let clients: Arc<Vec<Client>> = Arc::new(cluster.ids().iter().map(|id| cluster.client(*id)).collect());
    client::create_bucket(&clients[0], BUCKET).await?;

    let mut files = tree::grow(&mut random);
    upload(story.dir(), &files, &clients).await?;
    let multipart = Content::new(random.next(), MULTIPART_LEN);
    upload_in_parts(multipart, &clients).await?;
    files.push(File { key: MULTIPART_KEY.to_owned(), content: multipart });

    check_listing(&files, &clients).await?;

    let reads = files.clone().into_iter().enumerate();
    let readers = Arc::clone(&clients);
    workers::for_each(reads, CONCURRENCY, move |(n, file)| {
        // Another node than the one that took it.
        let client = readers[(n + 1 + n / readers.len() % (readers.len() - 1)) % readers.len()].clone();
        async move { check_whole(&client, BUCKET, &file.key, file.content).await }
    })
    .await?;

    let mut ranges = Vec::new();
    for (n, file) in files.iter().enumerate() {
        if file.content.len > STREAMED_FROM || n % 12 == 0 || !file.key.starts_with("mass/") {
            let chosen = tree::ranges(&mut random, file.content.len, 3);
            ranges.extend(chosen.into_iter().map(|range| (file.clone(), range)));
        }
    }
    let readers = Arc::clone(&clients);
    workers::for_each(ranges.into_iter().enumerate(), CONCURRENCY, move |(n, (file, range))| {
        let client = readers[n % readers.len()].clone();
        async move { check_range(&client, BUCKET, &file.key, file.content, range).await }
    })
    .await?;
    cluster.stop().await
}

async fn upload(dir: &Path, files: &[File], clients: &Arc<Vec<Client>>) -> Result<()> {
    let (dir, clients) = (dir.to_owned(), Arc::clone(clients));
    workers::for_each(files.iter().cloned().enumerate().collect::<Vec<_>>(), CONCURRENCY, move |(n, file)| {
        let client = clients[n % clients.len()].clone();
        let path = dir.join(format!("upload-{n}"));
        async move {
            if file.content.len < STREAMED_FROM {
                return client::put_now(&client, BUCKET, &file.key, file.content).await;
            }
            file.content.write_to(&path)?;
            let put = client.put_object().bucket(BUCKET).key(&file.key);
            let put = put.body(ByteStream::from_path(&path).await?).send();
            Box::pin(put).await.map_err(sdk_error).with_context(|| format!("putting {:?}", file.key))?;
            std::fs::remove_file(&path)?;
            Ok(())
        }
    })
    .await
}

/// Every part through another node, and the completion through yet another.
async fn upload_in_parts(content: Content, clients: &Arc<Vec<Client>>) -> Result<()> {
    let create = clients[0].create_multipart_upload().bucket(BUCKET).key(MULTIPART_KEY);
    let created = create.send().await.map_err(sdk_error).context("creating the upload")?;
    let upload = created.upload_id().context("an upload has an id")?.to_owned();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, start) in (1i32..).zip((0..content.len).step_by(usize::try_from(PART_LEN)?)) {
        let client = clients[usize::try_from(number)? % clients.len()].clone();
        let upload = upload.clone();
        let bytes = content.range(start, content.len.min(start + PART_LEN));
        tasks.spawn(async move {
            let part = client.upload_part().bucket(BUCKET).key(MULTIPART_KEY).upload_id(upload);
            let part = part.part_number(number).body(ByteStream::from(bytes));
            let output = part.send().await.map_err(sdk_error).with_context(|| format!("part {number}"))?;
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(output.e_tag)
                .set_checksum_crc32(output.checksum_crc32)
                .build())
        });
    }
    let mut parts = workers::join_all(tasks).await?;
    parts.sort_by_key(|part| part.part_number);
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let last = clients.last().context("there are clients")?;
    let complete = last.complete_multipart_upload().bucket(BUCKET).key(MULTIPART_KEY);
    let complete = complete.upload_id(upload).multipart_upload(parts).send();
    Box::pin(complete).await.map_err(sdk_error).context("completing the upload")?;
    Ok(())
}

/// Page by page, each from another node: exactly the keys, in the order of their bytes, with their sizes.
async fn check_listing(files: &[File], clients: &[Client]) -> Result<()> {
    let mut expected: Vec<(String, u64)> =
        files.iter().map(|file| (file.key.clone(), file.content.len)).collect();
    expected.sort();
    let mut listed: Vec<(String, u64)> = Vec::new();
    let mut token = None;
    for client in clients.iter().cycle() {
        let list = client.list_objects_v2().bucket(BUCKET).max_keys(PAGE).set_continuation_token(token);
        let page = list.send().await.map_err(sdk_error).context("listing")?;
        for object in page.contents() {
            let key = object.key().context("a listed object has a key")?;
            listed.push((key.to_owned(), u64::try_from(object.size().context("and a size")?)?));
        }
        ensure!(listed.len() <= expected.len(), "{} of {} keys are listed", listed.len(), expected.len());
        token = page.next_continuation_token().map(str::to_owned);
        ensure!(token.is_some() == page.is_truncated().unwrap_or(false), "a truncated page has a token");
        if token.is_none() {
            break;
        }
    }
    if let Some((listed, expected)) =
        listed.iter().zip(&expected).find(|(listed, expected)| listed != expected)
    {
        anyhow::bail!("the listing has {listed:?} where {expected:?} belongs");
    }
    ensure!(listed.len() == expected.len(), "{} of {} keys are listed", listed.len(), expected.len());
    Ok(())
}
