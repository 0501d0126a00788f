//! Multipart uploads: what Complete takes, makes and remembers.

use super::fixture::{BUCKET, Group, blob, completion, if_absent, if_match, inline, key, of_blob};
use crate::{
    command::{Command, CompleteUpload, Done, PartitionCommand, Refusal, WrittenVersion},
    query::{Answer, Query, VersionAnswer},
    state::FLOOR_DISTANCE,
};
use ashlar_types::{
    BlobId, Checksum, ChecksumAlgorithm, ChecksumKind, Content, ETag, ExtentSource, PartInfo, UploadId,
    VersionInfo, Versioning, WriteCondition, WriteEpoch,
    limits::{PART_MIN_LEN, PUT_MAX_LEN},
};
use md5::{Digest, Md5};

const ACKED: &[&[bool]] = &[&[true, true, true]];

fn large(id: u64) -> Content {
    of_blob(&blob(id, PART_MIN_LEN, ACKED))
}

/// An upload of two large parts and an inline one.
fn three_parts(group: &mut Group, key: &str) -> (UploadId, Vec<(u16, ETag)>) {
    let upload = group.create_upload(key);
    let mut parts = vec![];
    for (number, content) in [(2, large(1)), (5, large(2)), (9, inline(b"tail"))] {
        parts.push((number, group.put_part(key, upload, number, content).unwrap()));
    }
    (upload, parts)
}

fn version(group: &Group, key: &str) -> (VersionInfo, Content, Vec<PartInfo>) {
    match group.get(key, None) {
        VersionAnswer::Found { info, content: Some(content), parts, .. } => (*info, content, parts),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_completed_object_is_its_parts_in_order() {
    let mut group = Group::new(Versioning::Unversioned);
    let (upload, parts) = three_parts(&mut group, "a");
    let written = group.complete(completion("a", upload, &parts)).unwrap();
    let mut md5 = Md5::new();
    for (_, etag) in &parts {
        md5.update(etag.md5().unwrap());
    }
    assert_eq!(written.etag, ETag::from_parts_md5(md5.finalize().into(), 3));
    assert_eq!(written.size, 2 * PART_MIN_LEN + 4);
    let (info, content, infos) = version(&group, "a");
    assert_eq!(
        (info.parts_count, info.size, info.metadata),
        (Some(3), written.size, super::fixture::metadata())
    );
    assert_eq!(info.last_modified.0, group.now);
    let entries: Vec<_> =
        content.manifest.entries.iter().map(|entry| (entry.part_number, entry.len)).collect();
    assert_eq!(entries, [(2, PART_MIN_LEN), (5, PART_MIN_LEN), (9, 4)]);
    assert_eq!(content.inline, "tail");
    let shown: Vec<_> = infos.iter().map(|part| (part.part_number, part.etag.clone())).collect();
    assert_eq!(shown, parts);
    assert_eq!((group.counters().uploads, group.counters().upload_bytes), (0, 0));
    assert_eq!(group.query(Query::Upload { bucket: BUCKET, key: key("a"), upload }), Answer::Upload(None));
}

#[test]
fn the_crc_of_the_object_follows_from_those_of_its_parts() {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.create_upload("a");
    let mut first = group.part("a", upload, 1, large(1));
    first.crc64 = 0x1234;
    let mut second = group.part("a", upload, 2, inline(b"tail"));
    second.crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, b"tail");
    let parts = [(1, ETag::from_md5(first.md5)), (2, ETag::from_md5(second.md5))];
    let whole = crc_fast::checksum_combine(crc_fast::CrcAlgorithm::Crc64Nvme, 0x1234, second.crc64, 4);
    for part in [first, second] {
        group.run(PartitionCommand::PutPart(Box::new(part))).unwrap();
    }
    let declared = Checksum::new(ChecksumAlgorithm::Crc64Nvme, &whole.to_be_bytes());
    let complete = CompleteUpload { checksum: declared.clone(), ..completion("a", upload, &parts) };
    let written = group.complete(complete).unwrap();
    assert_eq!(version(&group, "a").0.crc64, Some(whole));
    let kept = written.checksum.unwrap();
    assert_eq!((Some(kept.checksum), kept.kind, kept.parts), (declared, ChecksumKind::FullObject, None));
}

#[test]
fn inline_parts_of_one_object_share_its_inline_row() {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.create_upload("a");
    // A part of two entries, so that offsets within a part are moved too.
    let mut content = inline(b"onetwo");
    content.manifest.entries[0].len = 3;
    let mut second = content.manifest.entries[0].clone();
    second.source = ExtentSource::Inline { offset: 3 };
    content.manifest.entries.push(second);
    let etag = group.put_part("a", upload, 1, content).unwrap();
    group.complete(completion("a", upload, &[(1, etag)])).unwrap();
    let (_, content, _) = version(&group, "a");
    assert_eq!(content.inline, "onetwo");
    let offsets: Vec<_> = content.manifest.entries.iter().map(|entry| entry.source.clone()).collect();
    assert_eq!(offsets, [ExtentSource::Inline { offset: 0 }, ExtentSource::Inline { offset: 3 }]);
}

#[test]
fn unlisted_and_replaced_parts_are_garbage() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_blob("a", &blob(9, 20_000, ACKED));
    let (upload, mut parts) = three_parts(&mut group, "a");
    parts[0].1 = group.put_part("a", upload, 2, large(3)).unwrap();
    assert_eq!(group.garbage(), [[BlobId(1)]]);
    assert_eq!(group.counters().upload_bytes, 2 * PART_MIN_LEN + 4);
    parts.remove(1);
    group.complete(completion("a", upload, &parts)).unwrap();
    // One row: what was not listed and what was overwritten.
    assert_eq!(group.garbage(), [vec![BlobId(1)], vec![BlobId(2), BlobId(9)]]);
}

#[test]
fn parts_that_do_not_fit_are_refused_and_the_upload_stays() {
    let mut group = Group::new(Versioning::Unversioned);
    let (upload, parts) = three_parts(&mut group, "a");
    let mut refused = |parts: &[(u16, ETag)]| group.complete(completion("a", upload, parts)).unwrap_err();
    assert_eq!(refused(&[]), Refusal::InvalidPart { part_number: 0 });
    let swapped = [parts[1].clone(), parts[0].clone()];
    assert_eq!(refused(&swapped), Refusal::InvalidPartOrder);
    let twice = [parts[1].clone(), parts[1].clone()];
    assert_eq!(refused(&twice), Refusal::InvalidPartOrder);
    assert_eq!(refused(&[(2, parts[1].1.clone())]), Refusal::InvalidPart { part_number: 2 });
    assert_eq!(refused(&[(3, parts[1].1.clone())]), Refusal::InvalidPart { part_number: 3 });
    let tail = group.put_part("a", upload, 10, inline(b"x")).unwrap();
    let small = [parts[2].clone(), (10, tail)];
    let refused = group.complete(completion("a", upload, &small)).unwrap_err();
    assert_eq!(refused, Refusal::EntityTooSmall { part_number: 9 });
    let sized = CompleteUpload { size: Some(1), ..completion("a", upload, &parts) };
    assert_eq!(group.complete(sized), Err(Refusal::SizeMismatch));
    assert_eq!(group.garbage(), Vec::<Vec<BlobId>>::new());
    let size = Some(2 * PART_MIN_LEN + 4);
    group.complete(CompleteUpload { size, ..completion("a", upload, &parts) }).unwrap();
}

#[test]
fn part_numbers_and_sizes_have_limits() {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.create_upload("a");
    for number in [0, 10_001] {
        let refused = group.put_part("a", upload, number, inline(b"x"));
        assert_eq!(refused, Err(Refusal::InvalidPart { part_number: number }));
    }
    let refused = group.put_part("a", upload, 1, of_blob(&blob(1, PUT_MAX_LEN + 1, ACKED)));
    assert_eq!(refused, Err(Refusal::EntityTooLarge));
    let mut part = group.part("a", upload, 1, inline(b"four"));
    part.size = 3;
    assert_eq!(group.run(PartitionCommand::PutPart(Box::new(part))), Err(Refusal::SizeMismatch));
    group.put_part("a", upload, 10_000, inline(b"x")).unwrap();
}

#[test]
fn ten_thousand_parts_make_an_object() {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.create_upload("a");
    let parts: Vec<_> = (1..=10_000)
        .map(|number| {
            let content = of_blob(&blob(u64::from(number), PUT_MAX_LEN, ACKED));
            group.part("a", upload, number, content)
        })
        .collect();
    let listed: Vec<_> = parts.iter().map(|part| (part.part_number, ETag::from_md5(part.md5))).collect();
    let entry = |part| crate::command::Entry {
        request: None,
        stamp: ashlar_types::Timestamp(0),
        command: Command::Partition(PartitionCommand::PutPart(Box::new(part))),
    };
    let entries: Vec<_> = parts.into_iter().map(entry).collect();
    assert!(group.state.apply(&entries, b"").unwrap().iter().all(Result::is_ok));
    let written = group.complete(completion("a", upload, &listed)).unwrap();
    assert_eq!(written.size, 10_000 * PUT_MAX_LEN);
    assert!(written.etag.as_str().ends_with("-10000"));
}

#[test]
fn an_aborted_upload_is_gone_with_its_parts() {
    let mut group = Group::new(Versioning::Unversioned);
    let (upload, parts) = three_parts(&mut group, "a");
    assert_eq!(group.abort("a", upload), Ok(Done::Nothing));
    assert_eq!(group.garbage(), [[BlobId(1), BlobId(2)]]);
    assert_eq!(group.abort("a", upload), Err(Refusal::NoSuchUpload));
    assert_eq!(group.complete(completion("a", upload, &parts)), Err(Refusal::NoSuchUpload));
    assert_eq!(group.counters(), crate::query::Counters::default());
}

#[test]
fn conditions_of_the_creation_and_of_the_completion_both_count() {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.try_create_upload("a", None, if_absent()).unwrap();
    let etag = group.put_part("a", upload, 1, inline(b"x")).unwrap();
    let parts = [(1, etag)];
    let other = group.put("a").etag;
    assert_eq!(group.complete(completion("a", upload, &parts)), Err(Refusal::PreconditionFailed));
    assert_eq!(group.try_create_upload("a", None, if_absent()), Err(Refusal::PreconditionFailed));
    group.delete("a", None).unwrap();
    let matching = CompleteUpload { condition: if_match(&other), ..completion("a", upload, &parts) };
    assert_eq!(group.complete(matching), Err(Refusal::NoSuchKey { delete_marker: None }));
    group.complete(completion("a", upload, &parts)).unwrap();
}

#[test]
fn a_repeated_completion_answers_the_same_until_its_epoch_is_over() {
    let mut group = Group::new(Versioning::Enabled);
    let (upload, parts) = three_parts(&mut group, "a");
    let complete = completion("a", upload, &parts);
    let written = group.complete(complete.clone()).unwrap();
    // Whatever has happened since.
    group.delete("a", written.version_id).unwrap();
    assert_eq!(group.complete(complete.clone()), Ok(written.clone()));
    assert_eq!(group.complete(completion("a", upload, &parts[..1])), Err(Refusal::NoSuchUpload));
    for epoch in 0..FLOOR_DISTANCE {
        group.run_any(Command::AdvanceWriteEpoch { from: WriteEpoch(epoch) }).unwrap();
    }
    assert_eq!(group.complete(complete.clone()), Ok(written));
    group.run_any(Command::AdvanceWriteEpoch { from: WriteEpoch(FLOOR_DISTANCE) }).unwrap();
    assert_eq!(group.complete(complete), Err(Refusal::NoSuchUpload));
    let kv = super::fixture::dump(&group.kv);
    assert!(
        !kv.keys().any(|(table, _)| matches!(table, crate::kv::Table::Completed | crate::kv::Table::Due))
    );
}

/// Completes an upload of two parts with checksums.
fn with_checksums(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumKind,
    checksums: [Option<Checksum>; 2],
    change: impl FnOnce(&mut CompleteUpload),
) -> Result<WrittenVersion, Refusal> {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.try_create_upload("a", Some((algorithm, kind)), WriteCondition::default())?;
    let mut listed = vec![];
    for ((number, content), checksum) in [(1, large(1)), (2, inline(b"tail"))].into_iter().zip(checksums) {
        let mut part = group.part("a", upload, number, content);
        part.checksum = checksum;
        listed.push((number, ETag::from_md5(part.md5)));
        group.run(PartitionCommand::PutPart(Box::new(part)))?;
    }
    let mut complete = completion("a", upload, &listed);
    change(&mut complete);
    group.complete(complete)
}

fn sha256(byte: u8) -> Checksum {
    Checksum::new(ChecksumAlgorithm::Sha256, &[byte; 32]).unwrap()
}

#[test]
fn composite_checksums_are_made_from_those_of_the_parts_and_compared() {
    let parts = || [Some(sha256(1)), Some(sha256(2))];
    let (algorithm, kind) = (ChecksumAlgorithm::Sha256, ChecksumKind::Composite);
    let whole = sha2::Sha256::digest([[1; 32], [2; 32]].concat());
    let whole = Checksum::new(algorithm, &whole).unwrap();
    let written = with_checksums(algorithm, kind, parts(), |_| {}).unwrap();
    let kept = written.checksum.unwrap();
    assert_eq!((&kept.checksum, kept.kind, kept.parts), (&whole, kind, Some(2)));
    let result = with_checksums(algorithm, kind, parts(), |complete| {
        complete.checksum = Some(whole);
        complete.checksum_kind = Some(kind);
        complete.parts[0].checksum = Some(sha256(1));
    });
    assert!(result.is_ok());
    let result = with_checksums(algorithm, kind, parts(), |complete| complete.checksum = Some(sha256(3)));
    assert_eq!(result, Err(Refusal::BadChecksum(algorithm)));
    let result = with_checksums(algorithm, kind, parts(), |c| c.parts[1].checksum = Some(sha256(1)));
    assert_eq!(result, Err(Refusal::InvalidPart { part_number: 2 }));
    let result =
        with_checksums(algorithm, kind, parts(), |c| c.checksum_kind = Some(ChecksumKind::FullObject));
    assert_eq!(result, Err(Refusal::InvalidChecksum));
    let result = with_checksums(algorithm, kind, [Some(sha256(1)), None], |_| {});
    assert_eq!(result, Err(Refusal::InvalidChecksum));
    let crc = Checksum::new(ChecksumAlgorithm::Crc32, &[0; 4]);
    let result = with_checksums(algorithm, kind, [Some(sha256(1)), crc], |_| {});
    assert_eq!(result, Err(Refusal::InvalidChecksum), "a part of another algorithm");
    let result = with_checksums(algorithm, ChecksumKind::FullObject, parts(), |_| {});
    assert_eq!(result, Err(Refusal::InvalidChecksum), "SHA-256 does not combine");
}

#[test]
fn full_object_checksums_combine() {
    let (algorithm, kind) = (ChecksumAlgorithm::Crc32c, ChecksumKind::FullObject);
    let crc = |bytes: &[u8]| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    let checksum = |crc: u64| Checksum::new(algorithm, &crc.to_be_bytes()[4..]);
    let zeroes = vec![0; usize::try_from(PART_MIN_LEN).unwrap()];
    let whole = checksum(crc(&[zeroes.as_slice(), b"tail"].concat()));
    let parts = [checksum(crc(&zeroes)), checksum(crc(b"tail"))];
    let written =
        with_checksums(algorithm, kind, parts, |complete| complete.checksum = whole.clone()).unwrap();
    assert_eq!(written.checksum.map(|kept| kept.checksum), whole);
}

#[test]
fn parts_are_listed_by_number() {
    let mut group = Group::new(Versioning::Unversioned);
    let (upload, parts) = three_parts(&mut group, "a");
    let page = |after, limit| match group.query(Query::Parts {
        bucket: BUCKET,
        key: key("a"),
        upload,
        after,
        limit,
    }) {
        Answer::Parts(Some(answer)) => {
            (answer.parts.iter().map(|part| part.part_number).collect::<Vec<_>>(), answer.truncated)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(page(0, 2), (vec![2, 5], true));
    assert_eq!(page(5, 2), (vec![9], false));
    assert_eq!(page(2, 2), (vec![5, 9], false));
    assert_eq!(page(u16::MAX, 2), (vec![], false));
    let gone = UploadId { salt: upload.salt ^ 1, ..upload };
    let query = Query::Parts { bucket: BUCKET, key: key("a"), upload: gone, after: 0, limit: 2 };
    assert_eq!(group.query(query), Answer::Parts(None));
    assert_eq!(parts.len(), 3);
}
