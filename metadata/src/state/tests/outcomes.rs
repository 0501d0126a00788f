//! Exactly once: whatever is sent again, however late and after whatever crash, is answered the same or `Expired`, and
//! never applied a second time.

use super::fixture::{BUCKET, GROUP, bucket_info, etag, if_absent, inline, key, metadata};
use crate::{
    command::{Command, Entry, Outcome, PartitionCommand, PutVersion, Refusal},
    encoding::decode_row,
    kv::{Direction, KeyRange, KvRead, MemKv, Table},
    query::{Answer, Query},
    state::{FLOOR_DISTANCE, StateMachine},
    tables,
};
use ashlar_runtime::sync::Arc;
use ashlar_types::{
    ListEntry, RequestId, SessionId, Timestamp, VersionQuery, VersionUid, Versioning, WriteCondition,
    WriteEpoch, service::DeleteKey,
};
use proptest::{collection::vec, prelude::*};
use std::ops::ControlFlow;

#[derive(Clone, Debug)]
enum Step {
    /// A request that was begun so many epochs ago.
    New {
        kind: Kind,
        key: usize,
        age: u64,
    },
    Again {
        which: usize,
    },
    Advance {
        epochs: u64,
    },
    Crash {
        kept: usize,
    },
    Persist,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    /// Its outcome depends on what is there.
    PutIfAbsent,
    Delete,
    CreateUpload,
}

const KEYS: [&str; 3] = ["a", "b", "c"];

struct Sent {
    entry: Entry,
    outcome: Outcome,
}

/// A replica, the log it can be brought up to date from, and what clients were told.
struct Replica {
    kv: MemKv,
    state: StateMachine,
    log: Vec<Entry>,
    sent: Vec<Sent>,
}

impl Replica {
    fn new() -> Self {
        let kv = MemKv::new();
        let state = StateMachine::open(GROUP, Arc::new(kv.clone())).unwrap();
        let mut replica = Self { kv, state, log: vec![], sent: vec![] };
        let create = PartitionCommand::CreateBucket { bucket: bucket_info(BUCKET) };
        let enable = PartitionCommand::SetVersioning { bucket: BUCKET, versioning: Versioning::Enabled };
        for command in [create, enable] {
            let command = Command::Partition(command);
            replica.apply(Entry { request: None, stamp: Timestamp(0), command }).unwrap();
        }
        replica
    }

    fn apply(&mut self, entry: Entry) -> Outcome {
        self.log.push(entry.clone());
        self.state.apply(&[entry], &self.log.len().to_be_bytes()).unwrap().remove(0)
    }

    fn request(&self, age: u64) -> RequestId {
        let now = self.state.group_state().write_epoch;
        let write_epoch = WriteEpoch(now.0.saturating_sub(age));
        RequestId { write_epoch, session: SessionId(1), sequence: self.sent.len() as u64 }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::New { kind, key, age } => {
                let entry = Entry {
                    request: Some(self.request(age)),
                    stamp: Timestamp(0),
                    command: Command::Partition(self.command(kind, KEYS[key])),
                };
                let outcome = self.apply(entry.clone());
                let is_late = entry.request.unwrap().write_epoch < self.state.group_state().floor;
                assert_eq!(outcome == Err(Refusal::Expired), is_late);
                self.sent.push(Sent { entry, outcome });
            }
            Step::Again { which } => {
                if self.sent.is_empty() {
                    return;
                }
                let Sent { entry, outcome } = &self.sent[which % self.sent.len()];
                let (entry, first) = (entry.clone(), outcome.clone());
                let before = self.content();
                let again = self.apply(entry.clone());
                assert_eq!(self.content(), before, "applied a second time");
                if entry.request.unwrap().write_epoch < self.state.group_state().floor {
                    assert_eq!(again, Err(Refusal::Expired));
                } else {
                    assert_eq!(again, first);
                }
            }
            Step::Advance { epochs } => {
                for _ in 0..epochs {
                    let from = self.state.group_state().write_epoch;
                    let command = Command::AdvanceWriteEpoch { from };
                    self.apply(Entry { request: None, stamp: Timestamp(0), command }).unwrap();
                }
            }
            Step::Crash { kept } => {
                self.kv.crash_keeping(kept);
                self.state = StateMachine::open(GROUP, Arc::new(self.kv.clone())).unwrap();
                let position = self.state.position().unwrap();
                let applied =
                    position.map_or(0, |bytes| usize::from_be_bytes(bytes.as_ref().try_into().unwrap()));
                // The log brings back what the tables lost.
                let rest = self.log[applied..].to_vec();
                self.state.apply(&rest, &self.log.len().to_be_bytes()).unwrap();
            }
            Step::Persist => self.state.persist().unwrap(),
        }
        self.check();
    }

    fn command(&self, kind: Kind, name: &str) -> PartitionCommand {
        let number = self.sent.len() as u64 + 1;
        let put = |condition| {
            PartitionCommand::PutVersion(Box::new(PutVersion {
                bucket: BUCKET,
                key: key(name),
                uid: VersionUid(u128::from(number)),
                salt: u128::from(number),
                condition,
                metadata: metadata(),
                size: 1,
                etag: etag(number),
                crc64: 5,
                checksum: None,
                content: inline(b"x"),
            }))
        };
        match kind {
            Kind::Put => put(WriteCondition::default()),
            Kind::PutIfAbsent => put(if_absent()),
            Kind::Delete => PartitionCommand::DeleteVersions {
                bucket: BUCKET,
                keys: vec![DeleteKey { key: key(name), version: None, condition: WriteCondition::default() }],
                owner: "me".into(),
                salt: u128::from(number),
            },
            Kind::CreateUpload => PartitionCommand::CreateUpload(Box::new(crate::command::CreateUpload {
                bucket: BUCKET,
                key: key(name),
                uid: VersionUid(u128::from(number)),
                salt: u128::from(number),
                metadata: metadata(),
                checksum: None,
                condition: WriteCondition::default(),
            })),
        }
    }

    /// All rows of objects and uploads.
    fn content(&self) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
        let mut rows = vec![];
        for table in
            [Table::Current, Table::Versions, Table::Uploads, Table::Counters, Table::Inline, Table::Gc]
        {
            self.kv
                .scan(table, &KeyRange::all(), Direction::Forward, &mut |key, value| {
                    rows.push((table, key.to_vec(), value.to_vec()));
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        rows
    }

    /// Each put that was told to be done is there once, and no other is; outcomes below the floor do not pile up.
    fn check(&self) {
        let query = VersionQuery { max_entries: 1000, ..VersionQuery::default() };
        let Answer::Versions(page) = self.state.query(&Query::Versions { bucket: BUCKET, query }).unwrap()
        else {
            panic!("no versions")
        };
        let mut seen: Vec<_> = page
            .entries
            .iter()
            .filter_map(|entry| match entry {
                ListEntry::Object(info) if !info.delete_marker => Some(info.uid),
                ListEntry::Object(_) | ListEntry::CommonPrefix(_) => None,
            })
            .collect();
        seen.sort_unstable();
        let mut told: Vec<_> = self
            .sent
            .iter()
            .filter(|sent| sent.outcome.is_ok())
            .filter_map(|sent| match &sent.entry.command {
                Command::Partition(PartitionCommand::PutVersion(put)) => Some(put.uid),
                _ => None,
            })
            .collect();
        told.sort_unstable();
        assert_eq!(seen, told);
    }

    fn outcomes_kept(&self) -> Vec<WriteEpoch> {
        let mut epochs = vec![];
        self.kv
            .scan(Table::Requests, &KeyRange::all(), Direction::Forward, &mut |row, value| {
                epochs.push(tables::parse_request_epoch(row).unwrap());
                assert!(decode_row::<Outcome>(value).is_ok());
                ControlFlow::Continue(())
            })
            .unwrap();
        epochs
    }
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![Kind::Put, Kind::PutIfAbsent, Kind::Delete, Kind::CreateUpload]);
    // Mostly begun now, sometimes just within and just beyond the floor.
    let age =
        prop_oneof![4 => Just(0), 1 => 0..FLOOR_DISTANCE + 3, 1 => FLOOR_DISTANCE - 1..FLOOR_DISTANCE + 2];
    let epochs =
        prop_oneof![3 => 1u64..3, 1 => 1..FLOOR_DISTANCE + 3, 1 => FLOOR_DISTANCE - 1..FLOOR_DISTANCE + 2];
    prop_oneof![
        6 => (kind, 0..KEYS.len(), age).prop_map(|(kind, key, age)| Step::New { kind, key, age }),
        6 => any::<usize>().prop_map(|which| Step::Again { which }),
        2 => epochs.prop_map(|epochs| Step::Advance { epochs }),
        1 => (0usize..6).prop_map(|kept| Step::Crash { kept }),
        1 => Just(Step::Persist),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_request_that_is_sent_again_is_answered_the_same_or_expired_and_never_applied_twice(
        steps in vec(step(), 1..50),
    ) {
        let mut replica = Replica::new();
        for step in &steps {
            replica.step(step);
        }
        // What nobody may ask for any more goes, a few rows with each entry.
        let floor = replica.state.group_state().floor;
        for _ in 0..replica.sent.len() + 2 {
            replica.apply(Entry { request: None, stamp: Timestamp(0), command: Command::Nothing }).unwrap();
        }
        prop_assert!(replica.outcomes_kept().iter().all(|epoch| *epoch >= floor));
        let kept = replica.sent.iter().filter(|sent| sent.entry.request.unwrap().write_epoch >= floor).count();
        prop_assert_eq!(replica.outcomes_kept().len(), kept);
    }
}

#[test]
fn a_refusal_is_remembered_like_any_outcome() {
    let mut replica = Replica::new();
    replica.step(&Step::New { kind: Kind::Put, key: 0, age: 0 });
    replica.step(&Step::New { kind: Kind::PutIfAbsent, key: 0, age: 0 });
    assert_eq!(replica.sent[1].outcome, Err(Refusal::PreconditionFailed));
    // By now it would succeed; but its client was told that it had not.
    replica.step(&Step::New { kind: Kind::Delete, key: 0, age: 0 });
    replica.step(&Step::Again { which: 1 });
    assert_eq!(replica.state.group_state().write_epoch, WriteEpoch(0));
}
