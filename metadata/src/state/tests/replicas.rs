//! Replicas of one group: same rows whatever the engine, the batches, the restarts and the way the rows came.

use super::{
    fixture::{Dump, GROUP, Group, dump},
    model::Model,
    steps::step,
};
use crate::{
    command::{Command, Entry, PartitionCommand},
    kv::{FjallKv, FjallOptions, Kv, MemKv, Table},
    state::{InstallError, StateError, StateMachine},
    tables,
};
use ashlar_runtime::sync::Arc;
use ashlar_types::{Timestamp, Versioning};
use proptest::{collection::vec, prelude::*};
use std::convert::Infallible;

/// Rows without the position, which counts batches.
fn rows(kv: &dyn crate::kv::KvRead) -> Dump {
    let mut rows = dump(kv);
    rows.remove(&(Table::Meta, tables::POSITION.to_vec()));
    rows
}

fn pieces(state: &StateMachine) -> Vec<Vec<u8>> {
    let mut snapshot = state.snapshot().unwrap();
    assert_eq!(snapshot.position().cloned(), state.position().unwrap());
    let mut pieces = vec![];
    while let Some(piece) = snapshot.next_piece().unwrap() {
        pieces.push(piece);
    }
    assert!(snapshot.next_piece().unwrap().is_none());
    pieces
}

fn install(state: &StateMachine, pieces: Vec<Vec<u8>>) -> Result<(), InstallError<Infallible>> {
    state.install(&mut pieces.into_iter().map(Ok))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn replicas_that_apply_the_same_entries_hold_the_same_rows(
        steps in vec(step(), 1..40), cuts in vec(1usize..9, 1..4), restart_every in 1usize..5,
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        let entries = &model.group.entries;
        let expected = rows(&model.group.kv);

        // In batches of other sizes, on disk, restarted now and then.
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let kv: Arc<dyn Kv> = Arc::new(FjallKv::open(dir.path(), FjallOptions::default()).unwrap());
            (StateMachine::open(GROUP, Arc::clone(&kv)).unwrap(), kv)
        };
        let (mut state, mut kv) = open();
        let mut rest = entries.as_slice();
        for (batch, cut) in cuts.iter().cycle().enumerate() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            state.apply(now, b"position").unwrap();
            rest = later;
            if batch % restart_every == 0 {
                state.persist().unwrap();
                drop((state, kv));
                (state, kv) = open();
            }
        }
        prop_assert_eq!(rows(&*kv), expected.clone());
        prop_assert_eq!(state.group_state(), model.group.state.group_state());

        // By a snapshot, over other rows.
        let mut other = Group::new(Versioning::Unversioned);
        other.put("gone");
        install(&other.state, pieces(&state)).unwrap();
        prop_assert_eq!(dump(&other.kv), dump(&*kv));
        prop_assert_eq!(other.state.group_state(), state.group_state());
        install(&state, pieces(&model.group.state)).unwrap();
        prop_assert_eq!(dump(&*kv), dump(&model.group.kv));
    }

    #[test]
    fn a_replica_that_lost_power_catches_up_from_its_position(
        steps in vec(step(), 1..30), persist_at in any::<prop::sample::Index>(), kept in 0usize..5,
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        let entries = &model.group.entries;
        let kv = MemKv::new();
        let state = StateMachine::open(GROUP, Arc::new(kv.clone())).unwrap();
        let persist_at = persist_at.index(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            state.apply(std::slice::from_ref(entry), &(index + 1).to_be_bytes()).unwrap();
            if index == persist_at {
                state.persist().unwrap();
            }
        }
        drop(state);
        kv.crash_keeping(kept);
        let state = StateMachine::open(GROUP, Arc::new(kv.clone())).unwrap();
        let position = state.position().unwrap().unwrap();
        let applied = usize::from_be_bytes(position.as_ref().try_into().unwrap());
        prop_assert_eq!(applied, (persist_at + 1 + kept).min(entries.len()));
        super::verify::verify(&kv);
        state.apply(&entries[applied..], b"").unwrap();
        prop_assert_eq!(rows(&kv), rows(&model.group.kv));
    }
}

fn filled() -> Group {
    let mut group = Group::new(Versioning::Unversioned);
    // More than one piece of rows.
    for _ in 0..4 {
        let upload = group.create_upload("big");
        for number in 1..=9 {
            group.put_part("big", upload, number, super::fixture::inline(&[7; 16 << 10])).unwrap();
        }
    }
    group
}

#[test]
fn a_snapshot_comes_in_bounded_pieces() {
    let pieces = pieces(&filled().state);
    assert!(pieces.iter().filter(|piece| piece.len() >= 256 << 10).count() >= 2);
    assert!(pieces.iter().all(|piece| piece.len() < (256 << 10) + (20 << 10)));
}

#[test]
fn a_snapshot_that_is_damaged_or_cut_changes_nothing() {
    let good = pieces(&filled().state);
    let mut target = Group::new(Versioning::Unversioned);
    target.put("kept");
    let before = dump(&target.kv);
    let refuse = |pieces: Vec<Vec<u8>>| {
        let error = install(&target.state, pieces).unwrap_err();
        assert_eq!(dump(&target.kv), before);
        error
    };
    assert!(matches!(refuse(vec![]), InstallError::Truncated));
    assert!(matches!(refuse(good[..good.len() - 1].to_vec()), InstallError::Truncated));
    let mut missing = good.clone();
    missing.remove(1);
    assert!(matches!(refuse(missing), InstallError::BadDigest));
    let mut flipped = good.clone();
    *flipped[0].last_mut().unwrap() ^= 1;
    assert!(matches!(refuse(flipped), InstallError::BadDigest));
    let mut cut = good.clone();
    cut[0].pop();
    assert!(matches!(refuse(cut), InstallError::Malformed));
    let mut newer = good.clone();
    newer[0][0] = 2;
    assert!(matches!(refuse(newer), InstallError::UnknownVersion(2)));
    assert!(matches!(refuse(vec![vec![]]), InstallError::Malformed));
    let mut failing = good.iter().take(2).cloned().map(Ok).chain([Err("gone")]);
    assert!(matches!(target.state.install(&mut failing), Err(InstallError::Source("gone"))));
    assert_eq!(dump(&target.kv), before);
    // And it still works.
    target.put("more");
    install(&target.state, good).unwrap();
    assert_eq!(target.counters().objects, 0);
}

#[test]
fn an_installed_snapshot_is_durable() {
    let source = filled();
    let target = Group::new(Versioning::Unversioned);
    install(&target.state, pieces(&source.state)).unwrap();
    target.kv.crash();
    assert_eq!(dump(&target.kv), dump(&source.kv));
}

#[test]
fn a_snapshot_is_of_the_moment_it_was_taken() {
    let mut group = filled();
    let before = pieces(&group.state);
    let mut snapshot = group.state.snapshot().unwrap();
    let mut seen = vec![snapshot.next_piece().unwrap().unwrap()];
    group.put("later");
    while let Some(piece) = snapshot.next_piece().unwrap() {
        seen.push(piece);
    }
    assert_eq!(seen, before);
}

#[test]
fn a_state_machine_whose_store_failed_applies_nothing_more() {
    let group = Group::new(Versioning::Unversioned);
    group.kv.fail();
    let entry = Entry { request: None, stamp: Timestamp(0), command: Command::Nothing };
    assert!(matches!(group.state.apply(std::slice::from_ref(&entry), b""), Err(StateError::Kv(_))));
    // Not even if the store should come back: it may have lost what was applied.
    group.kv.crash();
    assert!(matches!(group.state.apply(&[entry], b""), Err(StateError::Failed)));
    assert!(matches!(group.state.set_position(b""), Err(StateError::Failed)));
}

#[test]
fn a_row_of_a_newer_format_stops_the_replica() {
    let group = Group::new(Versioning::Unversioned);
    let mut batch = crate::kv::Batch::default();
    batch.put(Table::Meta, tables::GROUP, vec![2, 0, 0, 0]);
    group.kv.write(batch).unwrap();
    let opened = StateMachine::open(GROUP, Arc::new(group.kv.clone()));
    assert!(matches!(opened, Err(StateError::Row { table: Table::Meta, .. })));
}

#[test]
fn entries_of_one_batch_see_each_other() {
    let mut group = Group::new(Versioning::Enabled);
    let first = group.put_command("a", super::fixture::inline(b"1"), Default::default());
    let second = group.put_command("a", super::fixture::inline(b"2"), super::fixture::if_match(&first.etag));
    let third = group.put_command("a", super::fixture::inline(b"3"), super::fixture::if_absent());
    let request = Some(group.request());
    let entry = |request, put| Entry {
        request,
        stamp: Timestamp(9_000),
        command: Command::Partition(PartitionCommand::PutVersion(Box::new(put))),
    };
    let entries =
        [entry(None, first), entry(request, second.clone()), entry(request, second), entry(None, third)];
    let outcomes = group.state.apply(&entries, b"").unwrap();
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok());
    assert_eq!(outcomes[1], outcomes[2], "a retry in the same batch");
    assert_eq!(outcomes[3], Err(crate::command::Refusal::PreconditionFailed));
    assert_eq!((group.counters().objects, group.counters().noncurrent), (1, 1));
    assert_eq!(group.state.group_state().clock, Timestamp(9_000));
}

#[test]
fn the_clock_never_goes_back() {
    let mut group = Group::new(Versioning::Unversioned);
    let put = group.put_command("a", super::fixture::inline(b"1"), Default::default());
    let clock = group.state.group_state().clock;
    let command = Command::Partition(PartitionCommand::PutVersion(Box::new(put)));
    let outcome = group.apply(Entry { request: None, stamp: Timestamp(1), command });
    assert_eq!(super::fixture::written(outcome).unwrap().last_modified, clock);
    assert_eq!(group.state.group_state().clock, clock);
}
