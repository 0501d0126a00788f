//! The state machine of a metadata group: `(tables, entry) -> (tables, outcome)`.
//!
//! Owns what commands mean. Knows no Raft, no clock and no randomness: everything an outcome depends on is in the
//! entry or in the tables, so that every replica that applies the same entries holds the same rows, byte by byte,
//! however the entries were cut into batches.
//!
//! One file a step: `apply` dispatches and remembers outcomes, `put`, `delete`, `upload`, `complete`, `bucket`,
//! `quota`, `fence`, `repair`, `garbage` change partitions, `system`, `join`, `directory` change group 0; `query` and `listing` read;
//! `digest` and `install` compare and replace replicas.
//!
//! Invariants (`verify` checks them in tests):
//!  - counters equal a recount;
//!  - every blob is named once: by a manifest, a part or a garbage row;
//!  - every empty slot of a chunk has a repair row, and every repair row names a chunk that is there;
//!  - `Current` holds a key exactly if its newest version is not a delete marker;
//!  - `Null` names the null version of a key exactly if there is one outside `Current`.

mod apply;
mod bucket;
mod checksum;
mod complete;
mod delete;
mod digest;
mod directory;
mod fence;
mod garbage;
mod inspect;
mod install;
mod join;
mod listing;
mod outbox;
mod overlay;
mod put;
mod query;
mod quota;
mod repair;
mod system;
mod upload;

#[cfg(test)]
mod tests;

pub use self::{
    digest::{Marked, Rescan, RescanStep, TableDigest},
    install::{InstallError, StateSnapshot},
};
pub use crate::tables::record::FLOOR_DISTANCE;

use self::{apply::Apply, digest::Digests, overlay::Overlay, query::Reader};
use crate::{
    command::{Entry, FEATURE_LEVEL, Outcome},
    encoding::{self, DecodeError, Row},
    kv::{Kv, KvError, KvRead, Table},
    query::{Answer, GroupState, Query},
    tables::{self, record::GroupRecord},
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::sync::{Arc, Mutex, MutexGuard, RwLock};
use ashlar_types::GroupId;
use bytes::Bytes;
use std::sync::PoisonError;

/// One replica's tables. All methods may be called from any thread; applying is serialised.
pub struct StateMachine {
    group: GroupId,
    kv: Arc<dyn Kv>,
    /// Held while rows change. `true` after a failure, when what is cached may not be what is stored.
    applying: Mutex<bool>,
    cached: RwLock<Cached>,
}

/// What is asked too often to be read from the tables. Always as of the last batch written.
#[derive(Clone, Default)]
struct Cached {
    group: GroupRecord,
    map: Option<Arc<ClusterMap>>,
    digests: Digests,
    mark: Option<Marked>,
}

/// The replica cannot go on. Every one is final: restart it from what is durable, or from a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A row that this release did not write, or that the engine changed.
    #[error("a row of {table:?} does not decode")]
    Row {
        table: Table,
        #[source]
        source: DecodeError,
    },
    #[error("the key of a row of {table:?} is malformed")]
    Key { table: Table },
    /// A row that another one promises.
    #[error("a row of {table:?} is missing")]
    MissingRow { table: Table },
    /// The group has moved on to what this release does not understand.
    #[error("the group is at feature level {level}, this release understands {FEATURE_LEVEL}")]
    FeatureLevel { level: u32 },
    #[error("the state machine failed before")]
    Failed,
}

impl StateMachine {
    pub fn open(group: GroupId, kv: Arc<dyn Kv>) -> Result<Self, StateError> {
        let cached = Cached::read(group, &*kv)?;
        Ok(Self { group, kv, applying: Mutex::new(false), cached: RwLock::new(cached) })
    }

    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Applies entries in order and writes all their effects, and `position` (opaque: the id of the last entry and
    /// the membership), in one atomic batch. Not durable before `persist`: the log repeats what is lost.
    pub fn apply(&self, entries: &[Entry], position: &[u8]) -> Result<Vec<Outcome>, StateError> {
        self.change(|cached| {
            let mut apply = Apply::new(self.group, Overlay::new(&*self.kv), cached);
            let outcomes = entries.iter().map(|entry| apply.entry(entry)).collect::<Result<_, _>>()?;
            self.kv.write(apply.finish(position, cached)?)?;
            Ok(outcomes)
        })
    }

    /// Only the position: for entries that are not commands.
    pub fn set_position(&self, position: &[u8]) -> Result<(), StateError> {
        self.apply(&[], position).map(|_| ())
    }

    /// As of the last batch; not necessarily durable.
    pub fn position(&self) -> Result<Option<Bytes>, StateError> {
        Ok(self.kv.get(Table::Meta, tables::POSITION)?)
    }

    /// Makes everything applied so far durable: before the log lets go of it, and before a snapshot counts.
    pub fn persist(&self) -> Result<(), StateError> {
        Ok(self.kv.persist()?)
    }

    /// From one snapshot of the tables.
    pub fn query(&self, query: &Query) -> Result<Answer, StateError> {
        let snapshot = self.kv.snapshot()?;
        Reader::new(self.group, &*snapshot).answer(query)
    }

    pub fn group_state(&self) -> GroupState {
        group_state(&self.cached().group)
    }

    /// Group 0, once the cluster was formed: the newest map applied.
    pub fn map(&self) -> Option<Arc<ClusterMap>> {
        self.cached().map.clone()
    }

    fn cached(&self) -> std::sync::RwLockReadGuard<'_, Cached> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change alone; what it leaves cached counts only if it succeeds.
    fn change<T>(&self, change: impl FnOnce(&mut Cached) -> Result<T, StateError>) -> Result<T, StateError> {
        let mut failed: MutexGuard<'_, bool> = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(StateError::Failed);
        }
        // Set during the change too, so that a panic is a failure.
        *failed = true;
        let mut cached = self.cached().clone();
        let done = change(&mut cached)?;
        *self.cached.write().unwrap_or_else(PoisonError::into_inner) = cached;
        *failed = false;
        Ok(done)
    }
}

impl Cached {
    fn read(group: GroupId, kv: &dyn KvRead) -> Result<Self, StateError> {
        let group: GroupRecord =
            record(kv, Table::Meta, tables::GROUP)?.unwrap_or_else(|| GroupRecord::new(group));
        if group.feature_level > FEATURE_LEVEL {
            return Err(StateError::FeatureLevel { level: group.feature_level });
        }
        Ok(Self {
            group,
            map: record::<ClusterMap>(kv, Table::Map, tables::MAP)?.map(Arc::new),
            digests: digest::stored(kv)?,
            mark: Self::marked(kv)?,
        })
    }
}

fn group_state(group: &GroupRecord) -> GroupState {
    GroupState {
        write_epoch: group.write_epoch,
        floor: group.floor(),
        clock: group.clock,
        feature_level: group.feature_level,
    }
}

/// A decoded row.
fn record<T: Row>(kv: &dyn KvRead, table: Table, key: &[u8]) -> Result<Option<T>, StateError> {
    kv.get(table, key)?.map(|value| decode(table, &value)).transpose()
}

fn decode<T: Row>(table: Table, value: &[u8]) -> Result<T, StateError> {
    encoding::decode_row(value).map_err(|source| StateError::Row { table, source })
}

/// Sees the rows of a range in order until told to stop; ends at the first error.
fn for_each(
    kv: &dyn KvRead,
    table: Table,
    range: &crate::kv::KeyRange,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<std::ops::ControlFlow<()>, StateError>,
) -> Result<(), StateError> {
    let mut failed = None;
    kv.scan(table, range, crate::kv::Direction::Forward, &mut |key, value| match visit(key, value) {
        Ok(flow) => flow,
        Err(error) => {
            failed = Some(error);
            std::ops::ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}
