//! What was written is what is read: at every edge, in any range, through copies.

use crate::world::{Choice, World, body, collect, get, key, profile, put, world, world_of};
use ashlar_hashing::{EtagHasher, checksum};
use ashlar_types::{
    BodyFrame, ChecksumAlgorithm, ChecksumKind, ETag, EtagCondition, ObjectError, ObjectMetadata, Profile,
    RangeRequest, ReadCondition, VersionId, Versioning, WriteCondition,
    service::{CopyObject, CopySource, Selection},
};
use bytes::Bytes;
use futures_util::stream;
use proptest::prelude::*;

const INLINE: usize = 16 * 1024;

fn md5(bytes: &[u8]) -> ETag {
    let mut hasher = EtagHasher::new();
    hasher.update(bytes);
    ETag::from_md5(hasher.finish())
}

/// Lengths around the edges of units, stripes and chunks above the inline limit, and those of inline objects.
fn edges(profile: &Profile) -> Vec<usize> {
    let of = |len: u64| usize::try_from(len).unwrap();
    let (unit, row, chunk) =
        (of(profile.stripe_unit().into()), of(profile.row_len()), of(profile.chunk_size()));
    let mut edges = vec![0, 1, INLINE - 1, INLINE, INLINE + 1];
    for step in [unit, row, chunk] {
        let first = (INLINE / step + 1) * step;
        for at in [first, first + step, first + 7 * step] {
            edges.extend([at - 1, at, at + 1]);
        }
    }
    edges.extend([INLINE / chunk * chunk + chunk + unit + 1, INLINE / chunk * chunk + chunk + 65]);
    edges
}

#[tokio::test]
async fn objects_of_every_edge_size_come_back_whole() {
    for profile in [profile(1, 0, 3, 0), profile(1, 1, 5, 1), profile(2, 1, 3, 700), profile(4, 2, 2, 2048)] {
        let world = world_of(profile);
        for len in edges(&profile) {
            let bytes = world.bytes(len);
            let written = world.put("k", &bytes).await.unwrap();
            assert_eq!((written.size, &written.etag), (len as u64, &md5(&bytes)), "{profile} {len}");
            assert_eq!(world.read("k").await.unwrap(), bytes, "{profile} {len}");
        }
        world.until_memory_is_free().await;
        assert_eq!(world.repairs(), []);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_in_odd_pieces_is_the_same_object() {
    let world = world();
    for len in edges(&world.profile) {
        let bytes = world.bytes(len);
        let mut pieces: Vec<Bytes> = bytes.chunks(777).map(Bytes::copy_from_slice).collect();
        pieces.push(Bytes::new());
        world.store.put_object(&world.bucket, put("k", body(pieces, None))).await.unwrap();
        assert_eq!(world.read("k").await.unwrap(), bytes, "{len}");
    }
    world.until_memory_is_free().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_range_of_any_object_is_a_slice_of_it(
        k in 1u8..5, m in 0u8..3, more in 0u64..2000, len in 0usize..60_000, seed: u64,
        ranges in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 12),
    ) {
        let profile = profile(k, m, 2, more);
        let choice = Choice { drives: 8, seed, ..Choice::of(profile) };
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let world = World::new(choice);
            let bytes = world.bytes(len);
            world.put("k", &bytes).await.unwrap();
            for (a, b) in &ranges {
                let (a, b) = (a.index(len + 1), b.index(len + 1));
                let (first, end) = (a.min(b), a.max(b));
                if first < end {
                    let request = RangeRequest::Between { first: first as u64, last: end as u64 - 1 };
                    assert_eq!(world.read_range("k", request).await.unwrap(), bytes.slice(first..end));
                } else if first == len {
                    let request = RangeRequest::From(first as u64);
                    assert_eq!(world.read_range("k", request).await, Err(ObjectError::InvalidRange));
                }
            }
        });
    }
}

#[tokio::test]
async fn a_small_range_asks_one_drive_alone() {
    let world = world();
    let bytes = world.bytes(40_000);
    world.put("k", &bytes).await.unwrap();
    let before = world.drives.gets();
    let range = RangeRequest::Between { first: 5000, last: 5099 };
    assert_eq!(world.read_range("k", range).await.unwrap(), bytes.slice(5000..5100));
    assert_eq!(world.drives.gets() - before, 1);
}

#[tokio::test]
async fn head_and_failed_conditions_touch_no_drive() {
    let world = world();
    let bytes = world.bytes(40_000);
    let etag = world.put("k", &bytes).await.unwrap().etag;
    let head = ashlar_types::service::GetObject { head: true, ..get("k", Selection::Whole) };
    let read = world.store.get_object(&world.bucket, head).await.unwrap();
    assert!(read.body.is_none() && read.info.size == 40_000 && !read.show_version_id);

    let mut known = get("k", Selection::Whole);
    known.condition =
        ReadCondition { if_none_match: Some(EtagCondition::OneOf(vec![etag])), ..Default::default() };
    let read = world.store.get_object(&world.bucket, known).await.unwrap();
    assert!(read.not_modified && read.body.is_none());

    let mut other = get("k", Selection::Whole);
    other.condition = ReadCondition { if_match: Some(EtagCondition::parse("other")), ..Default::default() };
    let refused = world.store.get_object(&world.bucket, other).await.err();
    assert_eq!(refused, Some(ObjectError::PreconditionFailed));
    assert_eq!(world.drives.gets(), 0);
    assert_eq!(world.memory.available(), world.memory.limit());
}

#[tokio::test]
async fn a_put_without_a_checksum_keeps_crc64nvme_of_the_whole() {
    let world = world();
    for len in [10, 40_000] {
        let bytes = world.bytes(len);
        let kept = world.put("k", &bytes).await.unwrap().checksum.unwrap();
        assert_eq!(kept.checksum, checksum(ChecksumAlgorithm::Crc64Nvme, &bytes));
        assert_eq!((kept.kind, kept.parts), (ChecksumKind::FullObject, None));
    }
}

#[tokio::test]
async fn versions_and_delete_markers_are_told_apart() {
    let world = world();
    world.set_versioning(Versioning::Enabled);
    let (old, new) = (world.bytes(30_000), world.bytes(20_000));
    let first = world.put("k", &old).await.unwrap().version_id;
    world.put("k", &new).await.unwrap();
    world.delete("k").await;
    let latest = world.open("k", Selection::Whole).await.err();
    let Some(ObjectError::NoSuchKey { delete_marker: Some(marker) }) = latest else { panic!("{latest:?}") };
    let version = |version: VersionId| {
        let mut get = get("k", Selection::Whole);
        get.version = Some(version);
        get
    };
    let read = world.store.get_object(&world.bucket, version(first.unwrap())).await.unwrap();
    assert!(read.show_version_id);
    assert_eq!(collect(read.body.unwrap()).await.unwrap(), old);
    let of_marker = world.store.get_object(&world.bucket, version(marker)).await.err();
    assert_eq!(of_marker, Some(ObjectError::IsDeleteMarker { version_id: marker }));
}

fn copy(from: &str, to: &str) -> CopyObject {
    let bucket = ashlar_types::BucketName::parse("bucket").unwrap();
    CopyObject {
        source: CopySource {
            bucket: bucket.clone(),
            key: key(from),
            version: None,
            condition: ReadCondition::default(),
        },
        bucket,
        key: key(to),
        replace_metadata: None,
        owner: "copier".to_owned(),
        condition: WriteCondition::default(),
        checksum: None,
    }
}

#[tokio::test]
async fn copies_copy_bytes_and_outlive_their_source() {
    let world = world();
    for len in [0, 100, 50_000] {
        let bytes = world.bytes(len);
        let source = world.put("from", &bytes).await.unwrap();
        let copied = world.store.copy_object(&world.bucket, &world.bucket, copy("from", "to")).await.unwrap();
        assert_eq!((copied.written.etag, copied.source_version_id), (source.etag, None));
        world.delete("from").await;
        world.metadata.pass(std::time::Duration::from_secs(7200));
        world.store.collect_garbage(world.bucket.group, std::time::Duration::from_secs(3600)).await.unwrap();
        let read = world.open("to", Selection::Whole).await.unwrap();
        assert_eq!(read.info.metadata.owner, "copier");
        assert_eq!(collect(read.body.unwrap()).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_copy_takes_new_metadata_and_another_checksum() {
    let world = world();
    let bytes = world.bytes(50_000);
    world.put("k", &bytes).await.unwrap();
    let replaced =
        ObjectMetadata { owner: "me".to_owned(), user: vec![("a".into(), "b".into())], ..Default::default() };
    let mut onto_itself = copy("k", "k");
    onto_itself.replace_metadata = Some(replaced.clone());
    onto_itself.checksum = Some(ChecksumAlgorithm::Sha256);
    let copied = world.store.copy_object(&world.bucket, &world.bucket, onto_itself).await.unwrap();
    assert_eq!(copied.written.checksum.unwrap().checksum, checksum(ChecksumAlgorithm::Sha256, &bytes));
    let read = world.open("k", Selection::Whole).await.unwrap();
    assert_eq!(read.info.metadata, replaced);
    assert_eq!(collect(read.body.unwrap()).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_failed_condition_on_the_source_is_a_failed_precondition() {
    let world = world();
    let etag = world.put("k", &world.bytes(50_000)).await.unwrap().etag;
    let mut unchanged = copy("k", "to");
    unchanged.source.condition.if_none_match = Some(EtagCondition::OneOf(vec![etag]));
    let refused = world.store.copy_object(&world.bucket, &world.bucket, unchanged).await.err();
    assert_eq!(refused, Some(ObjectError::PreconditionFailed));
}

#[tokio::test]
async fn a_checksum_in_the_trailer_is_verified_against_the_bytes() {
    use ashlar_types::service::{DeclaredChecksum, ExpectedChecksum};
    let world = world();
    let algorithm = ChecksumAlgorithm::Crc32c;
    for len in [100, 50_000] {
        let bytes = world.bytes(len);
        let right = checksum(algorithm, &bytes);
        for (value, wanted) in [
            (Some(right.to_base64()), Ok(Some(right.clone()))),
            (Some(checksum(algorithm, b"other").to_base64()), Err(ObjectError::BadChecksum(algorithm))),
            (None, Err(ObjectError::InvalidChecksum("The trailer promised by x-amz-trailer is missing."))),
        ] {
            let mut frames = vec![Ok(BodyFrame::Data(bytes.clone()))];
            if let Some(value) = value {
                frames.push(Ok(BodyFrame::Trailers(vec![(algorithm.header().to_owned(), value)])));
            }
            let mut payload = crate::world::payload(Box::pin(stream::iter(frames)), Some(len));
            payload.checksum = Some(DeclaredChecksum { algorithm, expected: ExpectedChecksum::Trailer });
            let written = world.store.put_object(&world.bucket, put("k", payload)).await;
            assert_eq!(written.map(|written| written.checksum.map(|kept| kept.checksum)), wanted);
        }
    }
}
