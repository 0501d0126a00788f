//! What happens to blobs that nothing needs, and to slots without a shard.

use super::fixture::{BUCKET, GROUP, Group, blob, completion, if_absent, key, of_blob};
use crate::{
    command::{Command, Done, Entry, FillSlot, PartitionCommand, PutVersion, Refusal},
    query::{Answer, Query},
};
use ashlar_types::{
    Blob, BlobId, ChunkId, DriveId, Interval, MissingSlot, PgId, RequestId, SessionId, ShardOwner, SlotIndex,
    Timestamp, Versioning, WriteCondition, WriteEpoch, limits::PART_MIN_LEN,
};

const ACKED: &[&[bool]] = &[&[true, true, true]];
/// The middle slot was not acknowledged.
const SHORT: &[&[bool]] = &[&[true, false, true]];

#[test]
fn a_refused_write_leaves_its_blobs_as_garbage() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put("a");
    let refused = group.try_put("a", of_blob(&blob(1, 20_000, SHORT)), if_absent());
    assert_eq!(refused, Err(Refusal::PreconditionFailed));
    let upload = ashlar_types::UploadId { sequence: ashlar_types::Sequence(9), salt: 9 };
    let refused = group.put_part("a", upload, 1, of_blob(&blob(2, 20_000, SHORT)));
    assert_eq!(refused, Err(Refusal::NoSuchUpload));
    assert_eq!(group.garbage(), [[BlobId(1)], [BlobId(2)]]);
    assert_eq!(group.repairs(), []);
}

#[test]
fn an_expired_write_is_not_touched() {
    let mut group = Group::new(Versioning::Unversioned);
    for epoch in 0..=super::super::FLOOR_DISTANCE {
        let command = Command::AdvanceWriteEpoch { from: WriteEpoch(epoch) };
        assert_eq!(group.run_any(command), Ok(Done::WriteEpoch(WriteEpoch(epoch + 1))));
    }
    let state = group.state.group_state();
    assert_eq!((state.write_epoch, state.floor), (WriteEpoch(145), WriteEpoch(1)));
    let written = |write_epoch| Blob { write_epoch: WriteEpoch(write_epoch), ..blob(1, 20_000, ACKED) };
    let put = group.put_command("a", of_blob(&written(1)), WriteCondition::default());
    let stale = PutVersion { content: of_blob(&written(0)), ..put.clone() };
    let command = Command::Partition(PartitionCommand::PutVersion(Box::new(put)));
    let request = |write_epoch| {
        Some(RequestId { write_epoch: WriteEpoch(write_epoch), session: SessionId(9), sequence: 1 })
    };
    let entry = Entry { request: request(0), stamp: Timestamp(0), command };
    assert_eq!(group.apply(entry.clone()), Err(Refusal::Expired));
    assert_eq!(group.garbage(), Vec::<Vec<BlobId>>::new());
    assert_eq!(group.counters().objects, 0);
    // The blob is too old, whatever the request says of itself.
    let stale = Command::Partition(PartitionCommand::PutVersion(Box::new(stale)));
    assert_eq!(group.run_any(stale), Err(Refusal::Expired));
    assert_eq!(group.garbage(), Vec::<Vec<BlobId>>::new());
    assert!(group.apply(Entry { request: request(1), ..entry }).is_ok());
}

#[test]
fn a_stale_advance_changes_nothing() {
    let mut group = Group::new(Versioning::Unversioned);
    let advance = |from| Command::AdvanceWriteEpoch { from: WriteEpoch(from) };
    assert_eq!(group.run_any(advance(0)), Ok(Done::WriteEpoch(WriteEpoch(1))));
    assert_eq!(group.run_any(advance(0)), Ok(Done::WriteEpoch(WriteEpoch(1))));
    assert_eq!(group.run_any(advance(7)), Ok(Done::WriteEpoch(WriteEpoch(1))));
}

#[test]
fn garbage_is_listed_by_age_and_goes_when_it_is_done() {
    let mut group = Group::new(Versioning::Unversioned);
    for id in 1..=3 {
        group.put_blob("a", &blob(id, 20_000, ACKED));
    }
    group.run(PartitionCommand::QueueGarbage { blobs: vec![blob(7, 1, ACKED), blob(8, 1, ACKED)] }).unwrap();
    assert_eq!(group.garbage(), [vec![BlobId(1)], vec![BlobId(2)], vec![BlobId(7), BlobId(8)]]);
    let first = Timestamp(group.now - 2);
    let Answer::Garbage(rows) = group.query(Query::Garbage { before: first, limit: 10 }) else {
        panic!("no garbage answer")
    };
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].id.since, first);
    let Answer::Garbage(all) = group.query(Query::Garbage { before: Timestamp(u64::MAX), limit: 2 }) else {
        panic!("no garbage answer")
    };
    assert_eq!(all.len(), 2);
    let done = PartitionCommand::GarbageDone { rows: vec![rows[0].id] };
    group.run(done.clone()).unwrap();
    group.run(done).unwrap();
    assert_eq!(group.garbage(), [vec![BlobId(2)], vec![BlobId(7), BlobId(8)]]);
}

fn fill(owner: ShardOwner, blob: u64, interval: u64, drive: u32) -> PartitionCommand {
    PartitionCommand::FillSlot(FillSlot {
        bucket: BUCKET,
        key: key("a"),
        owner,
        chunk: ChunkId { blob: BlobId(u128::from(blob)), index: 0 },
        slot: SlotIndex(1),
        interval: Interval(interval),
        drive: DriveId(drive),
    })
}

fn drive_of(group: &Group, version: Option<ashlar_types::VersionId>) -> Option<DriveId> {
    let crate::query::VersionAnswer::Found { content: Some(content), .. } = group.get("a", version) else {
        panic!("not found")
    };
    content.manifest.blobs().next().unwrap().chunks[0].slots[1]
}

#[test]
fn a_missing_slot_is_known_at_the_commit_and_filled_once() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_blob("a", &blob(1, 20_000, SHORT));
    let rows = group.repairs();
    let slot = MissingSlot {
        chunk: ChunkId { blob: BlobId(1), index: 0 },
        slot: SlotIndex(1),
        pg: PgId(1),
        interval: Interval(3),
    };
    assert_eq!((rows.len(), rows[0].slot, rows[0].bucket), (1, slot, BUCKET));
    let owner = rows[0].owner;
    assert_eq!(group.run(fill(owner, 1, 2, 40)), Err(Refusal::NoSuchVersion), "older than the row");
    assert_eq!(group.run(fill(owner, 2, 3, 40)), Err(Refusal::NoSuchVersion), "another blob");
    assert_eq!(group.run(fill(owner, 1, 3, 40)), Ok(Done::Nothing));
    assert_eq!(drive_of(&group, None), Some(DriveId(40)));
    assert_eq!(group.repairs(), []);
    assert_eq!(group.run(fill(owner, 1, 3, 40)), Ok(Done::Nothing), "a repetition");
    assert_eq!(group.run(fill(owner, 1, 3, 41)), Err(Refusal::NoSuchVersion), "another drive is late");
    // The version goes while a shard is on its way.
    group.put("a");
    assert_eq!(group.run(fill(owner, 1, 3, 40)), Err(Refusal::NoSuchVersion));
}

#[test]
fn a_noncurrent_version_is_repaired_too() {
    let mut group = Group::new(Versioning::Enabled);
    let version = group.put_blob("a", &blob(1, 20_000, SHORT)).version_id;
    group.put("a");
    let owner = group.repairs()[0].owner;
    group.run(fill(owner, 1, 3, 40)).unwrap();
    assert_eq!(drive_of(&group, version), Some(DriveId(40)));
}

#[test]
fn a_part_is_repaired_before_and_after_its_upload_is_completed() {
    let mut group = Group::new(Versioning::Unversioned);
    let upload = group.create_upload("a");
    let first = group.put_part("a", upload, 1, of_blob(&blob(1, PART_MIN_LEN, SHORT))).unwrap();
    let second = group.put_part("a", upload, 2, of_blob(&blob(2, 1, SHORT))).unwrap();
    let owner = |part_number| ShardOwner::Part { upload, part_number };
    assert_eq!(group.repairs().iter().map(|row| row.owner).collect::<Vec<_>>(), [owner(1), owner(2)]);
    group.run(fill(owner(2), 2, 3, 42)).unwrap();
    group.complete(completion("a", upload, &[(1, first), (2, second)])).unwrap();
    assert_eq!(group.repairs().len(), 1, "the rows of the parts stay as they are");
    group.run(fill(owner(1), 1, 3, 41)).unwrap();
    assert_eq!(drive_of(&group, None), Some(DriveId(41)));
    group.delete("a", None).unwrap();
    assert_eq!(group.garbage(), [[BlobId(1), BlobId(2)]]);
    assert_eq!(group.run(fill(owner(1), 1, 3, 41)), Err(Refusal::NoSuchVersion));
}

#[test]
fn a_reported_slot_keeps_its_drive_until_it_is_repaired() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_blob("a", &blob(1, 20_000, ACKED));
    let crate::query::VersionAnswer::Found { info, .. } = group.get("a", None) else { panic!("not found") };
    let owner = ShardOwner::Version(info.uid);
    let slot = |blob, slot, pg| MissingSlot {
        chunk: ChunkId { blob: BlobId(blob), index: 0 },
        slot: SlotIndex(slot),
        pg: PgId(pg),
        interval: Interval(4),
    };
    let report = |slots| PartitionCommand::ReportSlots { bucket: BUCKET, key: key("a"), owner, slots };
    // Another blob, a slot too far, another group: passed over.
    group.run(report(vec![slot(9, 1, 1), slot(1, 3, 1), slot(1, 1, 2)])).unwrap();
    assert_eq!(group.repairs(), []);
    group.run(report(vec![slot(1, 1, 1)])).unwrap();
    group.run(report(vec![slot(1, 1, 1)])).unwrap();
    assert_eq!(group.repairs().len(), 1);
    assert_eq!(drive_of(&group, None), Some(DriveId(2)));
    assert_eq!(group.run(fill(owner, 1, 3, 40)), Err(Refusal::NoSuchVersion), "written before the report");
    group.run(fill(owner, 1, 4, 40)).unwrap();
    assert_eq!(drive_of(&group, None), Some(DriveId(40)));
    group.delete("a", None).unwrap();
    assert_eq!(group.run(report(vec![slot(1, 1, 1)])), Err(Refusal::NoSuchVersion));
}

#[test]
fn repair_rows_are_paged_in_order() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_blob("a", &blob(2, 20_000, &[&[false, false, true], &[true, true, false]]));
    group.put_blob("b", &blob(1, 20_000, SHORT));
    let all = group.repairs();
    let mut slots: Vec<_> = all.iter().map(|row| row.slot).collect();
    assert_eq!(slots.len(), 4);
    assert!(slots.is_sorted());
    let mut after = None;
    while let Answer::Repairs(page) = group.query(Query::Repairs { after, limit: 1 })
        && let [row] = page.as_slice()
    {
        assert_eq!(slots.remove(0), row.slot);
        after = Some(row.slot);
    }
    assert_eq!(slots, []);
}

#[test]
fn commands_of_another_kind_of_group_are_refused() {
    let mut system = Group::empty(ashlar_types::GroupId::SYSTEM);
    let put = system.put_command("a", of_blob(&blob(1, 20_000, ACKED)), WriteCondition::default());
    let refused = system.run(PartitionCommand::PutVersion(Box::new(put)));
    assert_eq!(refused, Err(Refusal::NotUnderstood));
    assert_eq!(system.garbage(), [[BlobId(1)]]);
    let mut partition = Group::empty(GROUP);
    let command = crate::command::SystemCommand::DeleteAccessKey { id: "k".into() };
    assert_eq!(partition.run_any(Command::System(command)), Err(Refusal::NotUnderstood));
}
