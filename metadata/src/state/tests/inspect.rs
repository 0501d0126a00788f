//! The questions of those who look after shards.

use super::{
    fixture::{Group, blob, completion, of_blob},
    model::Model,
    steps::step,
};
use crate::{
    command::{FencePg, PartitionCommand, SupersededSlot},
    kv::{Direction, KeyRange, KvRead, Table},
    query::{Answer, ChunkAnswer, Query, ReversePosition, ReverseRow},
    tables,
};
use ashlar_types::{BlobId, ChunkId, DriveId, Interval, PgId, ShardOwner, SlotIndex, Versioning};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeSet, ops::ControlFlow};

fn reverse(group: &Group, pg: u32, page: u32) -> Vec<ReverseRow> {
    let (mut all, mut after) = (vec![], None::<ReversePosition>);
    loop {
        let Answer::Reverse(rows) = group.query(Query::Reverse { pg: PgId(pg), after, limit: page }) else {
            panic!("no reverse answer")
        };
        let Some(last) = rows.last() else { return all };
        after = Some(last.position);
        all.extend(rows);
    }
}

fn chunk(group: &Group, row: &ReverseRow) -> Option<ChunkAnswer> {
    let ReverseRow { position: ReversePosition { owner, chunk }, bucket, key } = row.clone();
    match group.query(Query::Chunk { bucket, key, owner, chunk }) {
        Answer::Chunk(found) => found.map(|found| *found),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_placement_group_is_read_page_by_page_and_each_row_leads_to_its_chunk(
        steps in vec(step(), 1..50), page in 1u32..5,
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        let group = &model.group;
        let mut seen = BTreeSet::new();
        for pg in 0..4 {
            for row in reverse(group, pg, page) {
                let ReversePosition { owner, chunk: id } = row.position;
                prop_assert!(seen.insert(tables::reverse(PgId(pg), owner, id)), "a row twice");
                let found = chunk(group, &row).unwrap();
                prop_assert_eq!(found.chunk.pg, PgId(pg));
                let empty = found.chunk.slots.iter().zip(0u8..).filter(|(drive, _)| drive.is_none());
                for (_, slot) in empty {
                    prop_assert!(found.repairs.iter().any(|(bad, _)| *bad == SlotIndex(slot)));
                }
            }
        }
        let mut stored = BTreeSet::new();
        group.kv.scan(Table::Reverse, &KeyRange::all(), Direction::Forward, &mut |row, _| {
            stored.insert(row.to_vec());
            ControlFlow::Continue(())
        }).unwrap();
        prop_assert_eq!(seen, stored);
    }
}

#[test]
fn a_chunk_is_found_as_long_as_something_needs_it() {
    let mut group = Group::new(Versioning::Unversioned);
    let written = blob(1, 5 << 20, &[&[true, false, true], &[true, true, true]]);
    let upload = group.create_upload("a");
    let tag = group.put_part("a", upload, 1, of_blob(&written)).unwrap();
    let rows = [reverse(&group, 1, 9), reverse(&group, 2, 9)].concat();
    let owner = ShardOwner::Part { upload, part_number: 1 };
    let position = |index| ReversePosition { owner, chunk: ChunkId { blob: BlobId(1), index } };
    assert_eq!(rows.iter().map(|row| row.position).collect::<Vec<_>>(), [position(0), position(1)]);
    let first = ChunkAnswer {
        profile: written.profile,
        blob_len: 5 << 20,
        chunk: written.chunks[0].clone(),
        repairs: vec![(SlotIndex(1), Interval(3))],
    };
    assert_eq!(chunk(&group, &rows[0]), Some(first.clone()));
    assert_eq!(chunk(&group, &rows[1]).unwrap().repairs, []);
    group.complete(completion("a", upload, &[(1, tag)])).unwrap();
    assert_eq!(chunk(&group, &rows[0]), Some(first));
    let beyond = ReverseRow { position: position(2), ..rows[0].clone() };
    assert_eq!(chunk(&group, &beyond), None);
    let other = ReversePosition { owner, chunk: ChunkId { blob: BlobId(2), index: 0 } };
    assert_eq!(chunk(&group, &ReverseRow { position: other, ..rows[0].clone() }), None);
    group.delete("a", None).unwrap();
    assert_eq!(chunk(&group, &rows[0]), None);
    assert_eq!(reverse(&group, 1, 9), []);
}

#[test]
fn fences_can_be_asked_for() {
    let mut group = Group::new(Versioning::Unversioned);
    let ask = |group: &Group| match group.query(Query::Fence { pg: PgId(1) }) {
        Answer::Fence(fence) => fence,
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(&group), None);
    let slot = SupersededSlot { slot: SlotIndex(1), drive: DriveId(2) };
    let fence = FencePg { pg: PgId(1), interval: Interval(4), quorum: 2, superseded: vec![slot] };
    group.run(PartitionCommand::FencePg(fence)).unwrap();
    let record = ask(&group).unwrap();
    assert_eq!((record.interval, record.quorum, record.superseded.len()), (Interval(4), 2, 1));
}
