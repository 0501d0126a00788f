//! Versions, delete markers and conditions, case by case.

use super::fixture::{BUCKET, Group, blob, bucket_info, if_absent, if_match, inline, key, of_blob};
use crate::{
    command::{Done, PartitionCommand, Refusal},
    query::{Answer, ContentWanted, Query, VersionAnswer},
};
use ashlar_types::{
    BlobId, BucketId, Content, ETag, Sequence, VersionId, Versioning, WriteCondition,
    limits::PUT_MAX_LEN,
    service::{DeleteKey, Deleted, Quota},
};

const ACKED: &[&[bool]] = &[&[true, true, true]];

fn found(answer: VersionAnswer) -> (ashlar_types::VersionInfo, Option<Content>) {
    match answer {
        VersionAnswer::Found { info, content, .. } => (*info, content),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_overwrite_of_an_unversioned_object_frees_its_blobs_in_the_same_apply() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_blob("a", &blob(1, 20_000, ACKED));
    assert_eq!(group.garbage(), Vec::<Vec<BlobId>>::new());
    let written = group.put_blob("a", &blob(2, 30_000, ACKED));
    assert_eq!(written.version_id, None);
    assert_eq!(group.garbage(), [[BlobId(1)]]);
    assert_eq!(group.counters().bytes, 30_000);
}

#[test]
fn small_objects_come_back_with_their_bytes() {
    let mut group = Group::new(Versioning::Unversioned);
    let written = group.try_put("a", inline(b"hello"), WriteCondition::default()).unwrap();
    let (info, content) = found(group.get("a", None));
    assert_eq!(content, Some(inline(b"hello")));
    assert_eq!((info.size, info.etag, info.crc64), (5, written.etag, Some(5)));
    assert_eq!(info.metadata, super::fixture::metadata());
    assert!(info.is_latest && !info.delete_marker);
    assert_eq!(info.last_modified.0, group.now);
    let query = Query::Version { bucket: BUCKET, key: key("a"), version: None, content: ContentWanted::No };
    let Answer::Version(answer) = group.query(query) else { panic!("no version answer") };
    assert_eq!(found(*answer).1, None);
}

#[test]
fn the_null_version_of_a_suspended_bucket_replaces_the_one_before_and_keeps_the_others() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_blob("a", &blob(1, 20_000, ACKED));
    group.set_versioning(Versioning::Enabled);
    let kept = group.put_blob("a", &blob(2, 20_000, ACKED)).version_id;
    assert!(found(group.get("a", Some(VersionId::Null))).0.version_id == VersionId::Null);
    group.set_versioning(Versioning::Suspended);
    let written = group.put_blob("a", &blob(3, 20_000, ACKED));
    assert_eq!(written.version_id, Some(VersionId::Null));
    assert_eq!(group.garbage(), [[BlobId(1)]]);
    assert!(!found(group.get("a", kept)).0.is_latest);
    assert_eq!(found(group.get("a", None)).1.unwrap().manifest.blobs().next().unwrap().id, BlobId(3));
}

#[test]
fn a_delete_in_a_suspended_bucket_replaces_the_null_version_by_a_null_marker() {
    let mut group = Group::new(Versioning::Suspended);
    group.put_blob("a", &blob(1, 20_000, ACKED));
    let deleted = group.delete("a", None).unwrap();
    assert_eq!(deleted, Deleted { key: key("a"), version_id: None, delete_marker: Some(VersionId::Null) });
    assert_eq!(group.garbage(), [[BlobId(1)]]);
    assert_eq!(group.counters().delete_markers, 1);
    // Again: still one marker.
    group.delete("a", None).unwrap();
    assert_eq!(group.counters().delete_markers, 1);
    assert_eq!(group.get("a", None), VersionAnswer::NoSuchKey { delete_marker: Some(VersionId::Null) });
    assert!(found(group.get("a", Some(VersionId::Null))).0.delete_marker);
}

#[test]
fn deleting_the_latest_version_promotes_the_next() {
    let mut group = Group::new(Versioning::Enabled);
    let first = group.put("a").version_id;
    let second = group.put("a").version_id;
    let marker = group.delete("a", None).unwrap().delete_marker;
    assert_eq!(group.get("a", None), VersionAnswer::NoSuchKey { delete_marker: marker });
    let deleted = group.delete("a", marker).unwrap();
    assert_eq!(deleted, Deleted { key: key("a"), version_id: marker, delete_marker: marker });
    assert_eq!(found(group.get("a", None)).0.version_id, second.unwrap());
    group.delete("a", second).unwrap();
    assert_eq!(found(group.get("a", None)).0.version_id, first.unwrap());
    group.delete("a", first).unwrap();
    assert_eq!(group.get("a", None), VersionAnswer::NoSuchKey { delete_marker: None });
    assert_eq!(group.counters(), crate::query::Counters::default());
}

#[test]
fn a_version_id_with_another_salt_is_another_version() {
    let mut group = Group::new(Versioning::Enabled);
    let Some(VersionId::Id { sequence, salt }) = group.put("a").version_id else { panic!("no id") };
    let guess = VersionId::Id { sequence, salt: salt ^ 1 };
    group.put("a");
    assert_eq!(group.get("a", Some(guess)), VersionAnswer::NoSuchVersion);
    assert_eq!(group.delete("a", Some(guess)).unwrap().delete_marker, None);
    assert_eq!(group.counters().noncurrent, 1);
}

#[test]
fn conditions_are_evaluated_where_the_write_is_applied() {
    let mut group = Group::new(Versioning::Enabled);
    let absent = Refusal::NoSuchKey { delete_marker: None };
    let other = ETag::parse("other");
    assert_eq!(group.try_put("a", inline(b"x"), if_match(&other)), Err(absent));
    let written = group.try_put("a", inline(b"x"), if_absent()).unwrap();
    assert_eq!(group.try_put("a", inline(b"x"), if_absent()), Err(Refusal::PreconditionFailed));
    assert_eq!(group.try_put("a", inline(b"x"), if_match(&other)), Err(Refusal::PreconditionFailed));
    assert_eq!(group.delete_if("a", None, if_match(&other)), Err(Refusal::PreconditionFailed));
    assert_eq!(group.delete_if("missing", None, if_match(&other)).unwrap().delete_marker, None);
    group.try_put("a", inline(b"x"), if_match(&written.etag)).unwrap();
    // A delete marker counts as absent.
    let marker = group.delete("a", None).unwrap().delete_marker;
    let absent = Refusal::NoSuchKey { delete_marker: marker };
    assert_eq!(group.try_put("a", inline(b"x"), if_match(&written.etag)), Err(absent));
    group.try_put("a", inline(b"x"), if_absent()).unwrap();
    assert_eq!(group.counters().delete_markers, 1);
}

#[test]
fn a_batch_of_deletes_goes_on_after_a_refusal() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put("a");
    group.put("b");
    group.put("c");
    let delete = |name: &str, condition| DeleteKey { key: key(name), version: None, condition };
    let keys = vec![
        delete("a", WriteCondition::default()),
        delete("b", if_match(&ETag::parse("other"))),
        delete("c", WriteCondition::default()),
        delete("a", WriteCondition::default()),
    ];
    let command = PartitionCommand::DeleteVersions { bucket: BUCKET, keys, owner: "me".into(), salt: 1 };
    let Ok(Done::Deleted(results)) = group.run(command) else { panic!("no results") };
    let refused: Vec<_> = results.iter().map(|result| result.clone().err()).collect();
    assert_eq!(refused, [None, Some(Refusal::PreconditionFailed), None, None]);
    assert_eq!(group.counters().objects, 1);
}

#[test]
fn two_deletes_of_a_key_in_one_batch_make_two_markers() {
    let mut group = Group::new(Versioning::Enabled);
    let delete = || DeleteKey { key: key("a"), version: None, condition: WriteCondition::default() };
    let keys = vec![delete(), delete()];
    let command = PartitionCommand::DeleteVersions { bucket: BUCKET, keys, owner: "me".into(), salt: 1 };
    let Ok(Done::Deleted(results)) = group.run(command) else { panic!("no results") };
    let markers: Vec<_> = results.into_iter().map(|result| result.unwrap().delete_marker.unwrap()).collect();
    assert_ne!(markers[0], markers[1]);
    assert_eq!(group.counters().delete_markers, 2);
}

#[test]
fn sizes_beyond_the_limit_and_sizes_that_are_not_the_content_are_refused() {
    let mut group = Group::new(Versioning::Unversioned);
    let large = blob(1, PUT_MAX_LEN + 1, ACKED);
    let result = group.try_put("a", of_blob(&large), WriteCondition::default());
    assert_eq!(result, Err(Refusal::EntityTooLarge));
    let mut put = group.put_command("a", inline(b"four"), WriteCondition::default());
    put.size = 5;
    assert_eq!(group.run(PartitionCommand::PutVersion(Box::new(put))), Err(Refusal::SizeMismatch));
}

#[test]
fn versioning_is_never_switched_off() {
    let mut group = Group::new(Versioning::Enabled);
    group.set_versioning(Versioning::Unversioned);
    let Answer::BucketState(Some(state)) = group.query(Query::BucketState { bucket: BUCKET }) else {
        panic!("no bucket state")
    };
    assert_eq!(state.versioning, Versioning::Suspended);
}

#[test]
fn only_an_empty_bucket_is_sealed_and_a_sealed_one_takes_nothing() {
    let mut group = Group::new(Versioning::Enabled);
    let seal = PartitionCommand::SealBucket { bucket: BUCKET };
    let purge = PartitionCommand::PurgeBucket { bucket: BUCKET, limit: 2 };
    let marker = group.delete("a", None).unwrap().delete_marker;
    assert_eq!(group.run(seal.clone()), Err(Refusal::BucketNotEmpty), "a delete marker counts");
    group.delete("a", marker).unwrap();
    assert_eq!(group.run(purge.clone()), Err(Refusal::BucketNotEmpty), "it is not sealed");
    let upload = group.create_upload("u");
    for number in 1..=3 {
        let part = blob(u64::from(number), 20_000, &[&[true, false, true]]);
        group.put_part("u", upload, number, of_blob(&part)).unwrap();
    }
    group.run(seal.clone()).unwrap();
    group.run(seal).unwrap();
    let refused = group.try_put("a", of_blob(&blob(9, 20_000, ACKED)), WriteCondition::default());
    assert_eq!(refused, Err(Refusal::BucketSealed));
    assert_eq!(group.put_part("u", upload, 4, inline(b"x")), Err(Refusal::BucketSealed));
    // Back and forth, and to its end.
    group.run(PartitionCommand::UnsealBucket { bucket: BUCKET }).unwrap();
    group.put_part("u", upload, 4, inline(b"x")).unwrap();
    group.run(PartitionCommand::SealBucket { bucket: BUCKET }).unwrap();
    let mut rounds = 0;
    while group.run(purge.clone()) == Ok(Done::Purged { more: true }) {
        rounds += 1;
        assert!(rounds < 10);
    }
    assert_eq!(rounds, 3, "four parts, one upload, two rows a round");
    let garbage: Vec<_> = group.garbage().into_iter().flatten().collect();
    assert_eq!(garbage, [BlobId(9), BlobId(1), BlobId(2), BlobId(3)]);
    assert_eq!(group.query(Query::BucketState { bucket: BUCKET }), Answer::BucketState(None));
    assert_eq!(group.run(purge), Ok(Done::Purged { more: false }));
    assert_eq!(group.delete("a", None), Err(Refusal::NoSuchBucket));
    assert_eq!(group.get("a", None), VersionAnswer::NoSuchBucket);
}

#[test]
fn a_bucket_is_made_once_and_only_in_its_own_group() {
    let mut group = Group::new(Versioning::Enabled);
    let again = group.run(PartitionCommand::CreateBucket { bucket: bucket_info(BUCKET) });
    assert_eq!(again, Ok(Done::Bucket(bucket_info(BUCKET))));
    let Answer::BucketState(Some(state)) = group.query(Query::BucketState { bucket: BUCKET }) else {
        panic!("no bucket state")
    };
    assert_eq!(state.versioning, Versioning::Enabled, "its configuration stays");
    let elsewhere =
        ashlar_types::service::BucketInfo { group: ashlar_types::GroupId(2), ..bucket_info(BucketId(8)) };
    let refused = group.run(PartitionCommand::CreateBucket { bucket: elsewhere });
    assert_eq!(refused, Err(Refusal::NotUnderstood));
}

#[test]
fn sequences_are_those_of_the_bucket_and_never_repeat() {
    let mut group = Group::new(Versioning::Enabled);
    let sequence = |id: Option<VersionId>| match id {
        Some(VersionId::Id { sequence, .. }) => sequence,
        other => panic!("{other:?}"),
    };
    let first = group.put("a").version_id;
    group.delete("a", first).unwrap();
    assert_eq!(sequence(first), Sequence(0));
    assert_eq!(sequence(group.put("b").version_id), Sequence(1));
    assert_eq!(group.create_upload("c").sequence, Sequence(2));
}

#[test]
fn a_quota_refuses_what_grows_and_nothing_else() {
    let mut group = Group::new(Versioning::Unversioned);
    let stats = |group: &Group| match group.query(crate::query::Query::BucketStats { bucket: BUCKET }) {
        crate::query::Answer::BucketStats(stats) => stats,
        other => panic!("{other:?}"),
    };
    let set = |group: &mut Group, bytes, objects| {
        let quota = Quota { bytes, objects };
        group.run(PartitionCommand::SetQuota { bucket: BUCKET, quota }).unwrap();
        assert_eq!(stats(group).quota, quota);
    };
    set(&mut group, Some(10), Some(2));
    let put = |group: &mut Group, key, bytes| group.try_put(key, inline(bytes), Default::default());
    put(&mut group, "a", b"12345678").unwrap();
    assert_eq!(put(&mut group, "b", b"123"), Err(Refusal::QuotaExceeded));
    put(&mut group, "b", b"12").unwrap();
    assert_eq!(put(&mut group, "c", b""), Err(Refusal::QuotaExceeded), "a third object");
    // What takes the place of others counts for what it adds.
    put(&mut group, "a", b"abcdefgh").unwrap();
    assert_eq!(put(&mut group, "a", b"123456789"), Err(Refusal::QuotaExceeded));
    // Over the quota: smaller and equal overwrites, and deletes.
    set(&mut group, Some(3), Some(1));
    put(&mut group, "a", b"1234567").unwrap();
    assert_eq!(put(&mut group, "a", b"12345678"), Err(Refusal::QuotaExceeded));
    let upload = group.create_upload("a");
    let part = group.put_part("a", upload, 1, inline(b"p"));
    assert_eq!(part, Err(Refusal::QuotaExceeded), "parts count before they are completed");
    group.delete("b", None).unwrap();
    assert_eq!((stats(&group).counters.objects, stats(&group).counters.bytes), (1, 7));
}
