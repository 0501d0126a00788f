//! A slot has moved, and a writer that does not know it commits.

use super::{
    calls::{PLAIN, blob_content, put_of},
    group::Group,
};
use ashlar_metadata::{
    command::{Command, FencePg, PartitionCommand, Refusal, SupersededSlot},
    query::{Answer, Query},
};
use ashlar_types::{DriveId, Interval, PgId, SlotIndex};

const MOVED: Interval = Interval(5);
const BEFORE: Interval = Interval(4);
/// Of slot 0, to another drive.
const LEFT: DriveId = DriveId(1);

/// Shards on the drive that the slot has left do not count: a repair row each, or no commit.
pub(super) fn old_intervals_do_not_count() -> Result<(), String> {
    let mut group = Group::with_buckets();
    let fence = FencePg {
        pg: PgId(1),
        interval: MOVED,
        quorum: 2,
        superseded: vec![SupersededSlot { slot: SlotIndex(0), drive: LEFT }],
    };
    group.run(Command::Partition(PartitionCommand::FencePg(fence))).unwrap();
    let drives = |drives: [Option<u32>; 3]| drives.map(|drive| drive.map(DriveId)).to_vec();
    let whole = drives([Some(1), Some(2), Some(3)]);

    let mut put = |value, interval, slots| {
        let content = blob_content(value, 1 << 20, interval, slots);
        group.run(Command::Partition(put_of(PLAIN, &value.to_string(), value, content)))
    };
    put(1, MOVED, whole.clone()).unwrap();
    put(2, BEFORE, whole).unwrap();
    let too_few = put(3, BEFORE, drives([Some(1), Some(2), None]));
    if too_few != Err(Refusal::Retry) {
        return Err(format!("a write with too few shards where they belong is answered {too_few:?}"));
    }
    let Answer::Repairs(rows) = group.query(&Query::Repairs { after: None, limit: 10 }) else {
        return Err("repair rows cannot be asked for".to_owned());
    };
    let missing: Vec<_> = rows.iter().map(|row| (row.slot.chunk.blob.0, row.slot.slot.0)).collect();
    if missing != [(2, 0)] {
        return Err(format!("repair rows are of {missing:?}"));
    }
    if !group.garbage().contains(&3) {
        return Err("the shards of the write that was refused are nobody's".to_owned());
    }
    Ok(())
}
