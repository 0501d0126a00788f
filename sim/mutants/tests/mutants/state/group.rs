//! State machines in memory, and the entries they were given.

use super::calls::{BUCKETS, Dice, VERSIONED, name};
use crate::mutants::check::replicas::Rows;
use ashlar_metadata::{
    command::{Command, Entry, Outcome, PartitionCommand, Refusal},
    kv::{Batch, Direction, KeyRange, Kv, KvRead, MemKv, Table},
    query::{Answer, Query},
    state::{RescanStep, StateMachine},
};
use ashlar_types::{BucketName, GroupId, RequestId, SessionId, Timestamp, Versioning, service::BucketInfo};
use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

pub(super) const GROUP: GroupId = GroupId(1);
/// A snapshot is taken after so many entries.
const SNAPSHOT_AFTER: usize = 120;

pub(super) struct Replica {
    kv: MemKv,
    pub(super) state: StateMachine,
}

impl Replica {
    fn empty() -> Self {
        let kv = MemKv::new();
        let state = StateMachine::open(GROUP, Arc::new(kv.clone())).unwrap();
        Self { kv, state }
    }

    fn apply(&self, entries: &[Entry], position: usize) -> Vec<Outcome> {
        self.state.apply(entries, &position.to_be_bytes()).unwrap()
    }

    pub(super) fn rows(&self) -> Rows {
        let mut rows = Rows::new();
        for table in Table::ALL {
            self.kv
                .scan(table, &KeyRange::all(), Direction::Forward, &mut |key, value| {
                    rows.insert((table.number(), key.to_vec()), value.to_vec());
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        rows
    }

    /// One that applies all entries of a group in batches.
    pub(super) fn replay(
        group: &Group,
        batch: impl Fn(&mut Dice) -> u64,
        dice: &mut Dice,
    ) -> Result<Self, String> {
        let replica = Self::empty();
        replica.catch_up(group, 0, |_| usize::try_from(batch(dice)).unwrap())?;
        Ok(replica)
    }

    /// One that was away for so long that it gets a snapshot, and the entries after it.
    pub(super) fn from_snapshot(group: &Group) -> Result<Self, String> {
        let replica = Self::empty();
        let Some(pieces) = &group.snapshot else { return Err("no snapshot was taken".to_owned()) };
        replica
            .state
            .install(&mut pieces.iter().map(|piece| Ok::<_, std::convert::Infallible>(piece.clone())))
            .map_err(|error| format!("a snapshot cannot be installed: {error}"))?;
        replica.catch_up(group, SNAPSHOT_AFTER, |_| 1)?;
        Ok(replica)
    }

    fn catch_up(
        &self,
        group: &Group,
        from: usize,
        mut batch: impl FnMut(usize) -> usize,
    ) -> Result<(), String> {
        let mut at = from;
        while at < group.entries.len() {
            let end = (at + batch(at)).min(group.entries.len());
            let outcomes = self.apply(&group.entries[at..end], end);
            if outcomes != group.outcomes[at..end] {
                return Err(format!("entries {at}..{end} come out otherwise on another replica"));
            }
            at = end;
        }
        Ok(())
    }
}

/// The first replica, and all that it was given.
pub(super) struct Group {
    pub(super) replica: Replica,
    pub(super) entries: Vec<Entry>,
    pub(super) outcomes: Vec<Outcome>,
    snapshot: Option<Vec<Vec<u8>>>,
    next_request: u64,
}

impl Group {
    pub(super) fn with_buckets() -> Self {
        let mut group = Self {
            replica: Replica::empty(),
            entries: Vec::new(),
            outcomes: Vec::new(),
            snapshot: None,
            next_request: 1,
        };
        for bucket in BUCKETS {
            let info = BucketInfo {
                id: bucket,
                name: BucketName::parse(name(bucket)).unwrap(),
                owner: "me".to_owned(),
                created: Timestamp(1),
                location: String::new(),
                group: GROUP,
            };
            group.run(Command::Partition(PartitionCommand::CreateBucket { bucket: info })).unwrap();
        }
        let versioning =
            PartitionCommand::SetVersioning { bucket: VERSIONED, versioning: Versioning::Enabled };
        group.run(Command::Partition(versioning)).unwrap();
        group
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        let write_epoch = self.replica.state.group_state().write_epoch;
        RequestId { write_epoch, session: SessionId(1), sequence: self.next_request }
    }

    pub(super) fn run(&mut self, command: Command) -> Outcome {
        let request = Some(self.request());
        self.apply(request, command)
    }

    pub(super) fn apply(&mut self, request: Option<RequestId>, command: Command) -> Outcome {
        let stamp = Timestamp(1_000 + self.entries.len() as u64);
        let entry = Entry { request, stamp, command };
        self.entries.push(entry.clone());
        let outcome = self.replica.apply(&[entry], self.entries.len()).remove(0);
        self.outcomes.push(outcome.clone());
        if self.entries.len() == SNAPSHOT_AFTER {
            let mut snapshot = self.replica.state.snapshot().unwrap();
            self.snapshot = Some(std::iter::from_fn(|| snapshot.next_piece().unwrap()).collect());
        }
        outcome
    }

    pub(super) fn query(&self, query: &Query) -> Answer {
        self.replica.state.query(query).unwrap()
    }

    pub(super) fn rows(&self) -> Rows {
        self.replica.rows()
    }

    pub(super) fn garbage(&self) -> BTreeSet<u128> {
        match self.query(&Query::Garbage { before: Timestamp(u64::MAX), limit: u32::MAX }) {
            Answer::Garbage(rows) => {
                rows.into_iter().flat_map(|row| row.blobs).map(|blob| blob.id.0).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn rescan(&self) -> RescanStep {
        let mut rescan = self.replica.state.rescan().unwrap();
        loop {
            let step = rescan.step(100).unwrap();
            if step != RescanStep::More {
                return step;
            }
        }
    }

    /// The engine loses a bit of one value, and puts it back.
    pub(super) fn changed_row_is_found(&self) -> Result<(), String> {
        if self.rescan() != RescanStep::Sound {
            return Err(format!("rows are not what the digests were kept of: {:?}", self.rescan()));
        }
        let rows = self.rows();
        let is_object = |((table, _), _): &(&(u8, Vec<u8>), &Vec<u8>)| *table == Table::Requests.number();
        let Some(((_, key), value)) = rows.iter().find(is_object) else { return Ok(()) };
        let write = |value: Vec<u8>| {
            let mut batch = Batch::default();
            batch.put(Table::Requests, key.clone(), value);
            self.replica.kv.write(batch).unwrap();
        };
        let mut changed = value.clone();
        *changed.last_mut().unwrap() ^= 1;
        write(changed);
        let found = self.rescan();
        write(value.clone());
        match found {
            RescanStep::Differs(tables) if tables == [Table::Requests] => Ok(()),
            other => Err(format!("a changed row passes: {other:?}")),
        }
    }

    /// Raises the write epoch until requests of the present one are below the floor.
    pub(super) fn pass_the_floor(&mut self) {
        let begin = self.replica.state.group_state().write_epoch;
        while self.replica.state.group_state().floor <= begin {
            let from = self.replica.state.group_state().write_epoch;
            self.run(Command::AdvanceWriteEpoch { from }).unwrap();
        }
    }

    /// A repetition, and what it was answered at first if it is not told to be expired.
    pub(super) fn repeat(&mut self, index: usize) -> (Outcome, Outcome) {
        let Entry { request, command, .. } = self.entries[index].clone();
        let first = self.outcomes[index].clone();
        (first, self.apply(request, command))
    }

    pub(super) fn is_expired(outcome: &Outcome) -> bool {
        matches!(outcome, Err(Refusal::Expired))
    }
}
