//! Digests: replicas that hold the same rows have the same, and one changed bit is found.

use super::{
    fixture::{GROUP, Group, inline},
    model::Model,
    steps::step,
};
use crate::{
    command::{Command, Entry},
    kv::{Batch, Direction, KeyRange, Kv, KvRead, MemKv, Table},
    state::{InstallError, RescanStep, StateMachine},
    tables,
};
use ashlar_runtime::sync::Arc;
use ashlar_types::{Timestamp, Versioning};
use proptest::{collection::vec, prelude::*};
use std::{convert::Infallible, ops::ControlFlow};

fn mark(mark: u64) -> Entry {
    Entry { request: None, stamp: Timestamp(0), command: Command::DigestMark { mark } }
}

fn rescan(state: &StateMachine, rows: usize) -> RescanStep {
    let mut rescan = state.rescan().unwrap();
    loop {
        let step = rescan.step(rows).unwrap();
        if step != RescanStep::More {
            assert_eq!(rescan.step(rows).unwrap(), step, "it says the same again");
            return step;
        }
    }
}

/// Flips the last bit of the last value of a table, behind the state machine's back.
fn rot(kv: &MemKv, table: Table) {
    let mut row = None;
    kv.scan(table, &KeyRange::all(), Direction::Backward, &mut |key, value| {
        row = Some((key.to_vec(), value.to_vec()));
        ControlFlow::Break(())
    })
    .unwrap();
    let (key, mut value) = row.expect("the table has a row");
    *value.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(table, key, value);
    kv.write(batch).unwrap();
}

fn install(from: &StateMachine, to: &StateMachine) -> Result<(), InstallError<Infallible>> {
    let mut snapshot = from.snapshot().unwrap();
    to.install(&mut std::iter::from_fn(|| snapshot.next_piece().unwrap().map(Ok)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_mark_is_the_same_however_entries_are_cut_into_batches(
        steps in vec(step(), 1..30), cuts in vec(1usize..9, 1..4), at in any::<prop::sample::Index>(),
        restart_every in 1usize..5, rows in 1usize..20,
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        let mut entries = model.group.entries.clone();
        entries.insert(at.index(entries.len() + 1), mark(7));
        let marked = |entries: &[Entry], cuts: &[usize]| {
            let kv = MemKv::new();
            let open = || StateMachine::open(GROUP, Arc::new(kv.clone())).unwrap();
            let (mut state, mut rest) = (open(), entries);
            for (batch, cut) in cuts.iter().cycle().enumerate() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                state.apply(now, &batch.to_be_bytes()).unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
                if batch % restart_every == 0 {
                    state = open();
                }
            }
            assert_eq!(rescan(&state, rows), RescanStep::Sound);
            state
        };
        let one = marked(&entries, &[1]);
        let other = marked(&entries, &cuts);
        prop_assert!(one.digest_mark().is_some());
        prop_assert_eq!(one.digest_mark(), other.digest_mark());
        // A snapshot carries the mark.
        let third = Group::empty(GROUP);
        install(&other, &third.state).unwrap();
        prop_assert_eq!(third.state.digest_mark(), one.digest_mark());
    }
}

#[test]
fn marks_count_up() {
    let mut group = Group::new(Versioning::Unversioned);
    assert_eq!(group.state.digest_mark(), None);
    group.apply(mark(3)).unwrap();
    let first = group.state.digest_mark().unwrap();
    assert_eq!(first.mark, 3);
    group.put("a");
    group.apply(mark(3)).unwrap();
    group.apply(mark(2)).unwrap();
    assert_eq!(group.state.digest_mark(), Some(first.clone()), "a mark names one entry");
    group.apply(mark(4)).unwrap();
    let second = group.state.digest_mark().unwrap();
    assert_eq!(second.mark, 4);
    assert_ne!(second.digests, first.digests);
    let reopened = StateMachine::open(GROUP, Arc::new(group.kv.clone())).unwrap();
    assert_eq!(reopened.digest_mark(), Some(second));
}

#[test]
fn rows_that_change_at_rest_are_found_and_do_not_spread() {
    for table in [Table::Current, Table::Inline, Table::Counters, Table::Requests, Table::Meta] {
        let mut group = Group::new(Versioning::Unversioned);
        group.try_put("a", inline(b"aaaa"), Default::default()).unwrap();
        assert_eq!(rescan(&group.state, 2), RescanStep::Sound);
        if table == Table::Meta {
            // The last row of `Meta` is the position, which does not count.
            group.apply(mark(1)).unwrap();
            rot(&group.kv, table);
            assert_eq!(rescan(&group.state, 2), RescanStep::Sound);
            continue;
        }
        rot(&group.kv, table);
        for rows in [1, 3, 1000] {
            assert_eq!(rescan(&group.state, rows), RescanStep::Differs(vec![table]));
        }
        let other = Group::new(Versioning::Unversioned);
        let before = super::fixture::dump(&other.kv);
        let refused = install(&group.state, &other.state).unwrap_err();
        assert!(matches!(refused, InstallError::RowsDiffer { tables } if tables == [table]));
        assert_eq!(super::fixture::dump(&other.kv), before);
    }
}

#[test]
fn a_row_that_was_wrong_when_it_was_written_over_is_found_at_the_next_mark() {
    let mut sound = Group::new(Versioning::Unversioned);
    let mut rotten = Group::new(Versioning::Unversioned);
    for group in [&mut sound, &mut rotten] {
        group.put("a");
        group.apply(mark(1)).unwrap();
    }
    assert_eq!(sound.state.digest_mark(), rotten.state.digest_mark());
    rot(&rotten.kv, Table::Inline);
    for group in [&sound, &rotten] {
        group.state.apply(&[mark(2)], b"").unwrap();
    }
    assert_eq!(sound.state.digest_mark(), rotten.state.digest_mark(), "nobody has read the row yet");
    // Now the rows are the same again; the sum is not.
    for group in [&sound, &rotten] {
        let delete = crate::command::PartitionCommand::DeleteVersions {
            bucket: super::fixture::BUCKET,
            keys: vec![ashlar_types::service::DeleteKey {
                key: super::fixture::key("a"),
                version: None,
                condition: Default::default(),
            }],
            owner: String::new(),
            salt: 0,
        };
        let entry = Entry { request: None, stamp: Timestamp(0), command: Command::Partition(delete) };
        let outcomes = group.state.apply(&[entry, mark(3)], b"").unwrap();
        assert!(outcomes.iter().all(Result::is_ok));
    }
    let (sound, rotten) = (sound.state.digest_mark().unwrap(), rotten.state.digest_mark().unwrap());
    let differing: Vec<_> = Table::ALL
        .into_iter()
        .filter(|table| {
            let of = |digests: &[(Table, [u8; 32])]| digests.iter().find(|(t, _)| t == table).copied();
            of(&sound.digests) != of(&rotten.digests)
        })
        .collect();
    assert_eq!(differing, [Table::Inline]);
}

#[test]
fn tables_from_before_there_were_digests_are_added_up_when_they_are_opened() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put("a");
    let mut batch = Batch::default();
    batch.remove(Table::Meta, tables::DIGESTS);
    group.kv.write(batch).unwrap();
    let state = StateMachine::open(GROUP, Arc::new(group.kv.clone())).unwrap();
    state.set_position(b"later").unwrap();
    assert_eq!(rescan(&state, 100), RescanStep::Sound);
}
