//! What a log may hold: the calls in their order, and how many of them were answered.
//!
//! The log promises more than Raft needs: whatever a crash leaves is what all replicas together looked like after one of
//! the calls, one that is no earlier than the last that was answered. Only a purge may come later than that.

use super::node::Key;
use ashlar_metadata::{
    command::{Command, Entry},
    log::raft::{LeaderTerm, LogId, RaftEntry, Vote},
};
use ashlar_types::Timestamp;
use openraft::entry::RaftEntry as _;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderTerm { term, node_id: 1 }, index)
}

pub(crate) fn entry(id: LogId) -> RaftEntry {
    let stamp = Timestamp(id.index * 1000 + id.leader_id.term);
    RaftEntry::new_normal(id, Entry { request: None, stamp, command: Command::Nothing })
}

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Begin(Key),
    Append(Key, Vec<LogId>),
    Vote(Key, Vote),
    Commit(Key, LogId),
    /// Entries after this are gone.
    Truncate(Key, Option<LogId>),
    /// From now on the purge may happen.
    AskPurge(Key, LogId),
    /// From now on it has happened.
    Purge(Key, LogId),
    Remove(Key),
}

/// Moments in the history of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    Called(u64),
    Answered(u64),
    Persisted { key: Key, index: u64 },
}

impl Note {
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Called(call) => call << 2,
            Self::Answered(call) => call << 2 | 1,
            Self::Persisted { key: (group, raft_id), index } => {
                (u64::from(group) << 48 | raft_id << 32 | index) << 2 | 2
            }
        }
    }

    pub(crate) fn decode(raw: u64) -> Self {
        let value = raw >> 2;
        match raw & 3 {
            0 => Self::Called(value),
            1 => Self::Answered(value),
            _ => Self::Persisted {
                key: (u32::try_from(value >> 48).unwrap(), value >> 32 & 0xffff),
                index: value & u64::from(u32::MAX),
            },
        }
    }
}

/// Calls by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    pub(crate) fn add(&self, call: Call) -> u64 {
        let mut calls = self.0.lock().unwrap();
        calls.push(call);
        calls.len() as u64 - 1
    }

    fn get(&self, number: u64) -> Call {
        self.0.lock().unwrap()[usize::try_from(number).unwrap()].clone()
    }
}

/// One replica as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) asked: Vec<LogId>,
    pub(crate) entries: BTreeMap<u64, LogId>,
}

impl Replica {
    pub(crate) fn last(&self) -> Option<LogId> {
        let purged = self.asked.iter().copied().max().max(self.purged);
        self.entries.last_key_value().map(|(_, id)| *id).max(purged)
    }
}

/// One replica as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) entries: Vec<RaftEntry>,
}

pub(crate) type Replicas = BTreeMap<Key, Replica>;

pub(crate) fn apply(replicas: &mut Replicas, call: &Call) {
    match call {
        Call::Begin(key) => drop(replicas.entry(*key).or_default()),
        Call::Remove(key) => drop(replicas.remove(key)),
        Call::Append(key, ids) => {
            let replica = replicas.entry(*key).or_default();
            replica.entries.extend(ids.iter().map(|id| (id.index, *id)));
        }
        Call::Vote(key, vote) => replicas.entry(*key).or_default().vote = Some(*vote),
        Call::Commit(key, id) => replicas.entry(*key).or_default().committed = Some(*id),
        Call::Truncate(key, last) => {
            let from = last.map_or(0, |last| last.index + 1);
            drop(replicas.entry(*key).or_default().entries.split_off(&from));
        }
        Call::AskPurge(key, upto) => replicas.entry(*key).or_default().asked.push(*upto),
        Call::Purge(key, upto) => {
            let replica = replicas.entry(*key).or_default();
            replica.purged = replica.purged.max(Some(*upto));
            replica.asked.retain(|asked| asked > upto);
            replica.entries = replica.entries.split_off(&(upto.index + 1));
        }
    }
}

/// What is known at one moment of a history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    calls: Calls,
    /// After the last call that was answered.
    pub(crate) certain: Replicas,
    /// In their order, from the first that may not have happened.
    open: Vec<u64>,
    persisted: BTreeMap<Key, u64>,
}

impl Model {
    pub(crate) fn new(certain: Replicas, calls: Calls) -> Self {
        let persisted = certain
            .iter()
            .map(|(key, replica)| (*key, replica.purged.map_or(0, |purged| purged.index)))
            .collect();
        Self { calls, certain, open: Vec::new(), persisted }
    }

    pub(crate) fn note(&mut self, raw: u64) {
        match Note::decode(raw) {
            Note::Called(call) => self.open.push(call),
            Note::Answered(call) => {
                // What was called before is done as well.
                if let Some(at) = self.open.iter().position(|open| *open == call) {
                    for done in self.open.drain(..=at) {
                        apply(&mut self.certain, &self.calls.get(done));
                    }
                }
            }
            Note::Persisted { key, index } => drop(self.persisted.insert(key, index)),
        }
    }

    /// All calls have happened.
    pub(crate) fn settled(mut self) -> Replicas {
        for call in std::mem::take(&mut self.open) {
            apply(&mut self.certain, &self.calls.get(call));
        }
        self.certain
    }

    pub(crate) fn check(&self, found: &BTreeMap<Key, Found>) -> Result<(), String> {
        let mut replicas = self.certain.clone();
        let mut mismatch = self.differs(&replicas, found);
        let first = mismatch.clone();
        for call in &self.open {
            if mismatch.is_none() {
                break;
            }
            apply(&mut replicas, &self.calls.get(*call));
            mismatch = self.differs(&replicas, found);
        }
        match mismatch {
            None => Ok(()),
            Some(last) => Err(format!(
                "after none of {} calls that may have happened is the log like this\n  with none: {}\n  with all: {last}",
                self.open.len(),
                first.unwrap_or_default()
            )),
        }
    }

    fn differs(&self, replicas: &Replicas, found: &BTreeMap<Key, Found>) -> Option<String> {
        if let Some(key) = found.keys().find(|key| !replicas.contains_key(*key)) {
            return Some(format!("{key:?} should not be"));
        }
        replicas.iter().find_map(|(key, replica)| match found.get(key) {
            None => Some(format!("{key:?} is not there")),
            Some(found) => self.differs_in(*key, replica, found).map(|what| format!("{key:?}: {what}")),
        })
    }

    /// Whether one replica is as it should be.
    pub(crate) fn differs_in(&self, key: Key, replica: &Replica, found: &Found) -> Option<String> {
        if found.vote != replica.vote {
            return Some(format!("vote {:?} instead of {:?}", found.vote, replica.vote));
        }
        if found.purged != replica.purged && !replica.asked.iter().any(|asked| found.purged == Some(*asked)) {
            return Some(format!("purged {:?} instead of {:?}", found.purged, replica.purged));
        }
        let persisted = self.persisted.get(&key).copied().unwrap_or(0);
        if found.purged.is_some_and(|purged| purged.index > persisted) {
            return Some(format!("purged {:?}, the tables have {persisted}", found.purged));
        }
        let kept_from = found.purged.map_or(0, |purged| purged.index + 1);
        let expected: Vec<RaftEntry> = replica.entries.range(kept_from..).map(|(_, id)| entry(*id)).collect();
        if found.entries != expected {
            let ids = |entries: &[RaftEntry]| -> Vec<String> {
                entries.iter().map(|entry| entry.log_id().to_string()).collect()
            };
            return Some(format!("entries {:?} instead of {:?}", ids(&found.entries), ids(&expected)));
        }
        let last = expected.last().map(|entry| entry.log_id()).or(found.purged);
        if found.last != last {
            return Some(format!("last {:?} instead of {last:?}", found.last));
        }
        let committed = replica.committed.min(last);
        (found.committed != committed)
            .then(|| format!("committed {:?} instead of {committed:?}", found.committed))
    }
}
