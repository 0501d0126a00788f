//! Events: one for each change of a bucket that wants them, read by cursor, trimmed, capped.

use super::fixture::{BUCKET, Group, bucket_info, completion, if_absent, inline};
use crate::{
    command::{Command, Done, PartitionCommand, Refusal},
    encoding::encode_row,
    event::{Creation, Event, EventKind, EventRecording, OutboxLimits},
    query::{Answer, OutboxPage, Query},
    state::tests::fixture,
};
use ashlar_types::{BucketId, Timestamp, VersionId, Versioning, WriteCondition, WriteEpoch};
use proptest::{collection::vec, prelude::*};
use std::collections::VecDeque;

fn recording(group: &mut Group, recording: EventRecording) {
    group.run(PartitionCommand::SetEvents { bucket: BUCKET, recording }).unwrap();
}

fn page(group: &Group, after: u64) -> OutboxPage {
    match group.query(Query::Outbox { after, limit: u32::MAX }) {
        Answer::Outbox(page) => *page,
        other => panic!("{other:?}"),
    }
}

fn events(group: &Group) -> Vec<(String, EventKind)> {
    let events = page(group, 0).events.into_iter();
    events.map(|row| (row.event.key.as_str().to_owned(), row.event.kind)).collect()
}

fn trim(group: &mut Group, through: u64) -> Done {
    group.run(PartitionCommand::TrimOutbox { through }).unwrap()
}

#[test]
fn every_change_of_an_object_is_an_event_and_nothing_else_is() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put("before");
    recording(&mut group, EventRecording::On);
    let created = |by, version_id, size, etag| EventKind::Created { by, version_id, size, etag };
    let mut expected = vec![];
    let mut expect = |key: &str, kind| expected.push((key.to_owned(), kind));

    let a = group.put("a");
    expect("a", created(Creation::Put, None, 5, a.etag));
    group.try_put("a", inline(b"x"), if_absent()).unwrap_err();
    group.delete("a", None).unwrap();
    expect("a", EventKind::Deleted { version_id: None });
    group.delete("a", None).unwrap();
    group.delete("a", Some(VersionId::Null)).unwrap();

    group.set_versioning(Versioning::Enabled);
    let b = group.put("b");
    expect("b", created(Creation::Put, b.version_id, 5, b.etag));
    let marker = group.delete("b", None).unwrap().delete_marker.unwrap();
    expect("b", EventKind::DeleteMarkerCreated { version_id: marker });
    group.delete("b", Some(marker)).unwrap();
    expect("b", EventKind::Deleted { version_id: Some(marker) });

    let upload = group.create_upload("c");
    let part = group.put_part("c", upload, 1, inline(b"part")).unwrap();
    let complete = completion("c", upload, &[(1, part)]);
    let c = group.complete(complete.clone()).unwrap();
    expect("c", created(Creation::CompleteUpload, c.version_id, 4, c.etag));
    group.complete(complete).unwrap();

    recording(&mut group, EventRecording::Off);
    group.put("after");
    assert_eq!(events(&group), expected);
    let numbers: Vec<_> = page(&group, 0).events.iter().map(|row| row.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    assert_eq!(page(&group, 4).events.len(), 2);
    // A purge is no change of an object, and other buckets are not meant.
    let other = bucket_info(BucketId(8));
    group.run(PartitionCommand::CreateBucket { bucket: other }).unwrap();
    assert_eq!(page(&group, 6).events, []);
}

#[test]
fn a_reader_trims_what_it_has_passed_on() {
    let mut group = Group::new(Versioning::Unversioned);
    recording(&mut group, EventRecording::On);
    for key in ["a", "b", "c"] {
        group.put(key);
    }
    assert_eq!(trim(&mut group, 2), Done::Purged { more: false });
    assert_eq!(trim(&mut group, 1), Done::Purged { more: false }, "again, and late");
    let seen = page(&group, 0);
    assert_eq!((seen.events.len(), seen.trimmed, seen.last, seen.lost), (1, 2, 3, 0));
    assert_eq!(trim(&mut group, u64::MAX), Done::Purged { more: false });
    let seen = page(&group, 0);
    assert_eq!((seen.events.len(), seen.trimmed, seen.last, seen.lost), (0, 3, 3, 0));
    group.put("d");
    assert_eq!(page(&group, 3).events[0].number, 4);
}

#[test]
fn events_that_nobody_reads_for_a_day_are_dropped_and_counted() {
    let mut group = Group::new(Versioning::Unversioned);
    recording(&mut group, EventRecording::On);
    group.put("a");
    group.now += OutboxLimits::default().age_ms;
    group.run_any(Command::AdvanceWriteEpoch { from: WriteEpoch(0) }).unwrap();
    assert_eq!(page(&group, 0).lost, 1, "the clock is past the limit by the commands since");
    let seen = page(&group, 0);
    assert_eq!((seen.events.len(), seen.trimmed, seen.last), (0, 1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_outbox_is_a_queue_with_a_bound(
        steps in vec((0u8..4, 0u64..30), 1..40), bytes in 60u64..600, age in 1u64..60,
    ) {
        let mut group = Group::new(Versioning::Unversioned);
        recording(&mut group, EventRecording::On);
        let limits = OutboxLimits { bytes, age_ms: age };
        group.run(PartitionCommand::SetOutboxLimits(limits)).unwrap();
        let (mut kept, mut lost, mut last) = (VecDeque::<(u64, Event)>::new(), 0, 0);
        for (step, number) in steps {
            if step == 0 {
                trim(&mut group, number);
                kept.retain(|(known, _)| *known > number);
            } else if step == 1 {
                group.now += number;
            } else {
                let key = "k".repeat(usize::try_from(number).unwrap() + 1);
                let written = group.try_put(&key, inline(b"x"), WriteCondition::default()).unwrap();
                last += 1;
                let kind = EventKind::Created { by: Creation::Put, version_id: None, size: 1, etag: written.etag };
                let event = Event { bucket: BUCKET, key: fixture::key(&key), time: Timestamp(group.now), kind };
                kept.push_back((last, event));
                let size = |(_, event): &(u64, Event)| encode_row(event).len() as u64 + 8;
                for _ in 0..4 {
                    let Some((_, oldest)) = kept.front() else { break };
                    let old = oldest.time.0 + age < group.now;
                    if kept.iter().map(size).sum::<u64>() <= bytes && !old {
                        break;
                    }
                    kept.pop_front();
                    lost += 1;
                }
            }
            let seen = page(&group, 0);
            prop_assert_eq!((seen.last, seen.lost), (last, lost));
            prop_assert_eq!(seen.trimmed, kept.front().map_or(last, |(number, _)| number - 1));
            let rows: Vec<_> = seen.events.into_iter().map(|row| (row.number, row.event)).collect();
            prop_assert_eq!(rows, kept.iter().cloned().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_sealed_bucket_takes_no_settings() {
    let mut group = Group::new(Versioning::Unversioned);
    group.run(PartitionCommand::SealBucket { bucket: BUCKET }).unwrap();
    let set = PartitionCommand::SetEvents { bucket: BUCKET, recording: EventRecording::On };
    assert_eq!(group.run(set), Err(Refusal::BucketSealed));
}
