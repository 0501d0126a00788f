//! The state machine as openraft sees it: entries in, outcomes out, snapshots both ways.
//!
//! The tables carry the position they stand at, written with the rows it covers. A snapshot is a view of the tables
//! taken when it is asked for; what counts as built is flushed first. All engine calls run on a pool.

use super::{
    catch_up::CatchUp,
    spool::Spool,
    types::{LogId, RaftTypes, SnapshotMeta, StoredMembership},
};
use crate::{
    command::{Done, Entry},
    encoding::{decode, encode},
    state::{StateError, StateMachine, StateSnapshot},
};
use ashlar_runtime::Pool;
use futures_util::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot,
    storage::{EntryResponder, RaftStateMachine},
};
use serde::{Deserialize, Serialize};
use std::{error::Error, io, sync::Arc};

/// Entries applied in one batch of the engine: its flush-free write costs the same for one as for many.
const APPLY_ENTRIES: usize = 256;

/// What the tables cover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) last_applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

/// A snapshot to be sent, or one that was received.
pub(crate) enum SnapshotData {
    Outgoing(Box<Outgoing>),
    Incoming(Spool),
}

/// A view of the tables, and who wants to know that it is being read.
pub(crate) struct Outgoing {
    snapshot: StateSnapshot,
    catch_up: Arc<CatchUp>,
}

impl Outgoing {
    /// The next piece; `None` after the last. Blocks.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StateError> {
        self.catch_up.sent();
        self.snapshot.next_piece()
    }
}

/// Told after entries were applied or a snapshot was installed.
pub(crate) type OnChange = Arc<dyn Fn(&StateMachine) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Machine {
    state: Arc<StateMachine>,
    pool: Pool,
    position: Position,
    on_change: OnChange,
    catch_up: Arc<CatchUp>,
}

impl Machine {
    /// Blocks.
    pub(crate) fn new(state: Arc<StateMachine>, pool: Pool, on_change: OnChange) -> io::Result<Self> {
        let position = match state.position().map_err(failed)? {
            Some(bytes) => decode(&bytes).map_err(failed)?,
            None => Position::default(),
        };
        on_change(&state);
        Ok(Self { state, pool, position, on_change, catch_up: Arc::new(CatchUp::new(u64::MAX, u64::MAX)) })
    }

    /// Makes no snapshot, and so keeps the log, while members have to be brought up.
    pub(crate) fn waits_for(self, catch_up: Arc<CatchUp>) -> Self {
        Self { catch_up, ..self }
    }

    pub(crate) fn applied_index(&self) -> Option<u64> {
        self.position.last_applied.map(|id| id.index)
    }

    /// Runs a call of the engine on the pool.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&StateMachine) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let state = Arc::clone(&self.state);
        self.pool.run(move || call(&state)).await.map_err(failed)?
    }

    async fn apply_chunk(&mut self, chunk: Vec<EntryResponder<RaftTypes>>) -> io::Result<()> {
        let mut commands: Vec<Entry> = Vec::with_capacity(chunk.len());
        // Which of them answers whom: entries without a command are answered with nothing.
        let mut answers = Vec::with_capacity(chunk.len());
        for (entry, responder) in chunk {
            self.position.last_applied = Some(entry.log_id);
            let place = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => {
                    commands.push(command);
                    Some(commands.len() - 1)
                }
                EntryPayload::Membership(membership) => {
                    self.position.membership = StoredMembership::new(Some(entry.log_id), membership);
                    None
                }
            };
            answers.extend(responder.map(|responder| (place, responder)));
        }
        let position = encode(&self.position);
        let outcomes = self.blocking(move |state| state.apply(&commands, &position).map_err(failed)).await?;
        (self.on_change)(&self.state);
        let mut outcomes: Vec<_> = outcomes.into_iter().map(Some).collect();
        for (place, responder) in answers {
            let outcome = place.and_then(|place| outcomes.get_mut(place)?.take());
            responder.send(outcome.unwrap_or(Ok(Done::Nothing)));
        }
        Ok(())
    }
}

/// Keeps the cause: openraft carries an `io::Error`.
fn failed(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Takes a view of the tables, with what it covers. Blocks.
fn take_snapshot(state: &StateMachine, catch_up: Arc<CatchUp>) -> io::Result<(SnapshotMeta, SnapshotData)> {
    let snapshot = state.snapshot().map_err(failed)?;
    let position = snapshot.position().map(|bytes| decode::<Position>(bytes)).transpose().map_err(failed)?;
    let Position { last_applied, membership } = position.unwrap_or_default();
    let meta = SnapshotMeta { last_log_id: last_applied, last_membership: membership };
    Ok((meta, SnapshotData::Outgoing(Box::new(Outgoing { snapshot, catch_up }))))
}

impl RaftStateMachine<RaftTypes> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.position.last_applied, self.position.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<RaftTypes>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(APPLY_ENTRIES);
        while let Some(chunk) = chunks.next().await {
            self.apply_chunk(chunk.into_iter().collect::<Result<_, _>>()?).await?;
        }
        Ok(())
    }

    /// One that nobody asked for can wait: the log behind it is purged.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self> {
        (force || !self.catch_up.holds()).then(|| self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let position = self
            .blocking(move |state| {
                match snapshot {
                    SnapshotData::Incoming(spool) => state.install(&mut spool.pieces()).map_err(failed)?,
                    SnapshotData::Outgoing(mut snapshot) => state
                        .install(&mut std::iter::from_fn(|| snapshot.next_piece().transpose()))
                        .map_err(failed)?,
                }
                state.position().map_err(failed)
            })
            .await?;
        self.position = position.map(|bytes| decode(&bytes)).transpose().map_err(failed)?.unwrap_or_default();
        let Position { last_applied, membership } = &self.position;
        if (*last_applied, membership) != (meta.last_log_id, &meta.last_membership) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a snapshot stands elsewhere than it says",
            ));
        }
        (self.on_change)(&self.state);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::alias::SnapshotOf<RaftTypes, SnapshotData>>, io::Error> {
        if self.position.last_applied.is_none() {
            return Ok(None);
        }
        let catch_up = Arc::clone(&self.catch_up);
        let (meta, snapshot) = self.blocking(move |state| take_snapshot(state, catch_up)).await?;
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<RaftTypes> for Machine {
    type SnapshotData = SnapshotData;

    /// Taken first, flushed then: what it covers is durable when it counts as built.
    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::alias::SnapshotOf<RaftTypes, SnapshotData>, io::Error> {
        let catch_up = Arc::clone(&self.catch_up);
        self.blocking(move |state| {
            let (meta, snapshot) = take_snapshot(state, catch_up)?;
            state.persist().map_err(failed)?;
            Ok(Snapshot { meta, snapshot })
        })
        .await
    }
}
