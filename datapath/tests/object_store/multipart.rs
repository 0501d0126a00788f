//! Uploads in parts, inline ones and blobs mixed.

use crate::world::{GROUP, World, body, collect, get, key, ms, world};
use ashlar_hashing::{EtagHasher, checksum, composite_checksum, multipart_etag};
use ashlar_metadata::command::{Command, PartitionCommand};
use ashlar_types::{
    BucketName, ByteRange, ChecksumAlgorithm, ChecksumKind, CompletedPart, ObjectError, ObjectMetadata,
    PartInfo, RangeRequest, ReadCondition, UploadId, UploadQuery, WriteCondition,
    service::{
        CompleteUpload, CopySource, CreateUpload, DeclaredChecksum, ExpectedChecksum, ListParts, Selection,
        UploadPart, UploadPartCopy, Written,
    },
};
use bytes::Bytes;

const MIB: usize = 1 << 20;

fn bucket() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

async fn create(world: &World, checksum: Option<(ChecksumAlgorithm, ChecksumKind)>) -> UploadId {
    let create = CreateUpload {
        bucket: bucket(),
        key: key("k"),
        metadata: ObjectMetadata::default(),
        checksum,
        condition: WriteCondition::default(),
    };
    world.store.create_upload(&world.bucket, create).await.unwrap().upload
}

fn part(upload: UploadId, part_number: u16, bytes: &Bytes) -> UploadPart {
    UploadPart {
        bucket: bucket(),
        key: key("k"),
        upload,
        part_number,
        payload: body(vec![bytes.clone()], Some(bytes.len())),
    }
}

async fn complete(world: &World, upload: UploadId, parts: &[PartInfo]) -> Result<Written, ObjectError> {
    let parts = parts
        .iter()
        .map(|part| CompletedPart {
            part_number: part.part_number,
            etag: part.etag.clone(),
            checksum: part.checksum.clone(),
        })
        .collect();
    let complete = CompleteUpload {
        bucket: bucket(),
        key: key("k"),
        upload,
        parts,
        condition: WriteCondition::default(),
        checksum: None,
        checksum_kind: None,
        size: None,
    };
    world.store.complete_upload(&world.bucket, complete).await
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    let mut hasher = EtagHasher::new();
    hasher.update(bytes);
    hasher.finish()
}

#[tokio::test]
async fn parts_become_one_object_and_can_be_read_one_by_one() {
    let world = world();
    let upload = create(&world, Some((ChecksumAlgorithm::Sha256, ChecksumKind::Composite))).await;
    // 5 MiB is the least for all parts but the last, which is inline.
    let pieces = [world.bytes(5 * MIB), world.bytes(5 * MIB + 12_345), world.bytes(700)];
    let mut parts = Vec::new();
    for (piece, number) in pieces.iter().zip([1, 4, 9]) {
        let info = world.store.upload_part(&world.bucket, part(upload, number, piece)).await.unwrap();
        assert_eq!(info.checksum, Some(checksum(ChecksumAlgorithm::Sha256, piece)));
        parts.push(info);
    }
    let list = ListParts { bucket: bucket(), key: key("k"), upload, part_number_after: 1, max_parts: 1 };
    let page = world.store.list_parts(&world.bucket, list).await.unwrap();
    assert_eq!((page.parts.as_slice(), page.truncated), (&parts[1..2], true));

    let written = complete(&world, upload, &parts).await.unwrap();
    assert_eq!(complete(&world, upload, &parts).await.unwrap().etag, written.etag);
    let whole = Bytes::from(pieces.concat());
    assert_eq!(written.etag, multipart_etag(pieces.iter().map(|piece| md5(piece))));
    let sums: Vec<_> = pieces.iter().map(|piece| checksum(ChecksumAlgorithm::Sha256, piece)).collect();
    assert_eq!(written.checksum.unwrap().checksum, composite_checksum(&sums).unwrap());

    let read = world.open("k", Selection::Whole).await.unwrap();
    assert_eq!(read.info.parts_count, Some(3));
    assert_eq!(collect(read.body.unwrap()).await.unwrap(), whole);
    let seam = RangeRequest::Between { first: 5 * MIB as u64 - 10, last: 10 * MIB as u64 + 12_345 + 99 };
    let seam = world.read_range("k", seam).await.unwrap();
    assert_eq!(seam, whole.slice(5 * MIB - 10..10 * MIB + 12_345 + 100));

    let read = world.open("k", Selection::Part(4)).await.unwrap();
    assert_eq!(read.range, ByteRange { start: 5 * MIB as u64, end: 10 * MIB as u64 + 12_345 });
    assert_eq!(read.part.unwrap().checksum, Some(sums[1].clone()));
    assert_eq!(collect(read.body.unwrap()).await.unwrap(), pieces[1]);
    let mut head = get("k", Selection::Part(9));
    head.head = true;
    assert_eq!(world.store.get_object(&world.bucket, head).await.unwrap().range.len(), 700);
    let absent = world.open("k", Selection::Part(2)).await.err();
    assert_eq!(absent, Some(ObjectError::InvalidPartNumber { part_number: 2 }));
}

#[tokio::test]
async fn an_upload_that_is_aborted_leaves_nothing() {
    let world = world();
    let upload = create(&world, None).await;
    for number in 1..=3 {
        world.store.upload_part(&world.bucket, part(upload, number, &world.bytes(20_000))).await.unwrap();
    }
    // Replaced: the old bytes are garbage at once.
    world.store.upload_part(&world.bucket, part(upload, 2, &world.bytes(30_000))).await.unwrap();
    world.store.abort_upload(&world.bucket, &key("k"), upload).await.unwrap();
    let late = world.store.upload_part(&world.bucket, part(upload, 1, &world.bytes(20_000))).await;
    assert_eq!(late, Err(ObjectError::NoSuchUpload));
    let query = UploadQuery { max_entries: 10, ..Default::default() };
    assert_eq!(world.store.list_uploads(&world.bucket, query).await.unwrap().uploads, []);
    world.store.collect_garbage(GROUP, ms(0)).await.unwrap();
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_part_of_another_algorithm_is_refused_before_its_body_is_read() {
    let world = world();
    let upload = create(&world, Some((ChecksumAlgorithm::Crc32c, ChecksumKind::Composite))).await;
    let mut other = part(upload, 1, &world.bytes(20_000));
    other.payload.checksum =
        Some(DeclaredChecksum { algorithm: ChecksumAlgorithm::Sha1, expected: ExpectedChecksum::Compute });
    let refused = world.store.upload_part(&world.bucket, other).await;
    assert!(matches!(refused, Err(ObjectError::InvalidChecksum(_))), "{refused:?}");
    assert_eq!(world.drives.shards(), []);
}

#[tokio::test]
async fn parts_can_be_copied_from_ranges_of_objects() {
    let world = world();
    let source = world.bytes(50_000);
    world.put("source", &source).await.unwrap();
    let upload = create(&world, None).await;
    let copy = |range| UploadPartCopy {
        bucket: bucket(),
        key: key("k"),
        upload,
        part_number: 1,
        source: CopySource {
            bucket: bucket(),
            key: key("source"),
            version: None,
            condition: ReadCondition::default(),
        },
        range,
    };
    let beyond = RangeRequest::Between { first: 0, last: 50_000 };
    let refused = world.store.upload_part_copy(&world.bucket, &world.bucket, copy(Some(beyond))).await;
    assert_eq!(refused, Err(ObjectError::InvalidRange));
    let middle = RangeRequest::Between { first: 1_000, last: 40_999 };
    let copied =
        world.store.upload_part_copy(&world.bucket, &world.bucket, copy(Some(middle))).await.unwrap();
    assert_eq!(copied.size, 40_000);
    complete(&world, upload, &[copied]).await.unwrap();
    assert_eq!(world.read("k").await.unwrap(), source.slice(1_000..41_000));
}

#[tokio::test]
async fn a_damaged_slot_of_a_part_is_reported_for_the_object_that_it_became() {
    let world = world();
    let upload = create(&world, None).await;
    let bytes = world.bytes(30_000);
    let info = world.store.upload_part(&world.bucket, part(upload, 1, &bytes)).await.unwrap();
    complete(&world, upload, &[info]).await.unwrap();
    let (drive, shard) = world.drives.shards().into_iter().find(|(_, shard)| shard.slot.0 == 0).unwrap();
    world.drives.flip(drive, shard, 0, 5);
    assert_eq!(world.read("k").await.unwrap(), bytes);
    let is_report =
        |command: &Command| matches!(command, Command::Partition(PartitionCommand::ReportSlots { .. }));
    world.metadata.until_proposed(is_report, 1).await;
    let rows = world.repairs();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].slot.chunk, rows[0].slot.slot), (shard.chunk, shard.slot));
}
