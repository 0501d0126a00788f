//! Buckets that are made and removed by several hands: nothing that comes late brings one back.

use super::fixture::{BUCKET, Group, bucket_info, inline};
use crate::{
    command::{Command, Done, PartitionCommand, Refusal},
    query::{Answer, DueRow, Query},
};
use ashlar_types::{Timestamp, Versioning, WriteEpoch, service::BucketInfo};

const HOUR_MS: u64 = 3_600_000;

fn create(group: &mut Group) -> Result<Done, Refusal> {
    group.run(PartitionCommand::CreateBucket { bucket: bucket_info(BUCKET) })
}

fn remove(group: &mut Group) {
    group.run(PartitionCommand::SealBucket { bucket: BUCKET }).unwrap();
    let purge = PartitionCommand::PurgeBucket { bucket: BUCKET, limit: 10 };
    while group.run(purge.clone()).unwrap() == (Done::Purged { more: true }) {}
}

fn sealed(group: &Group) -> Vec<BucketInfo> {
    match group.query(Query::SealedBuckets) {
        Answer::SealedBuckets(buckets) => buckets,
        other => panic!("{other:?}"),
    }
}

fn due(group: &Group) -> Vec<DueRow> {
    match group.query(Query::Due { limit: 10 }) {
        Answer::Due(rows) => rows,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bucket_that_is_being_deleted_is_not_made_again() {
    let mut group = Group::new(Versioning::Unversioned);
    assert_eq!(create(&mut group), Ok(Done::Bucket(bucket_info(BUCKET))));
    assert_eq!(sealed(&group), []);
    group.run(PartitionCommand::SealBucket { bucket: BUCKET }).unwrap();
    assert_eq!(create(&mut group), Err(Refusal::BucketSealed));
    assert_eq!(sealed(&group), [bucket_info(BUCKET)]);
    assert_eq!(group.try_put("a", inline(b"x"), Default::default()), Err(Refusal::BucketSealed));
    remove(&mut group);
    assert_eq!(sealed(&group), []);
    assert_eq!(create(&mut group), Err(Refusal::BucketGone));
}

#[test]
fn a_create_that_comes_days_late_does_not_bring_a_purged_bucket_back() {
    let mut group = Group::new(Versioning::Unversioned);
    remove(&mut group);
    let purged = Timestamp(group.now);
    assert_eq!(due(&group), [DueRow::PurgedBucket { purged, bucket: BUCKET }]);
    let mut epoch = 0;
    let mut pass = |group: &mut Group, hours: u64| {
        group.now += hours * HOUR_MS;
        group.run_any(Command::AdvanceWriteEpoch { from: WriteEpoch(epoch) }).unwrap();
        epoch += 1;
    };
    for _ in 0..5 {
        pass(&mut group, 12);
        assert_eq!(create(&mut group), Err(Refusal::BucketGone));
    }
    // By now it is forgotten, and too late.
    assert_eq!(due(&group), []);
    // A reservation of now is another matter.
    let fresh = BucketInfo { created: Timestamp(group.now), ..bucket_info(BUCKET) };
    assert!(group.run(PartitionCommand::CreateBucket { bucket: fresh }).is_ok());
}

#[test]
fn a_reservation_is_good_for_a_day() {
    for (hours, good) in [(23, true), (25, false)] {
        let mut group = Group::empty(super::fixture::GROUP);
        group.now += hours * HOUR_MS;
        assert_eq!(create(&mut group).is_ok(), good);
    }
}
