//! What the log holds in memory, and what waits to be written.
//!
//! A call changes the state at once and queues the records that say so. A batch takes the whole queue, so the state at that
//! moment is what the disk holds once the batch is durable: which segments are needed is decided then.

use super::{
    batch::{Batch, Moved, Queued, Sections, batch_len},
    format::{BatchNumber, Kind, RecordHead, ReplicaKey, State as ReplicaState, record_len},
    replica::{Condition, ReplicaLog},
    slots::{Place, Slot, UseNumber},
    space::Space,
    stats::Counts,
};
use crate::raft::types::{LogId, RaftEntry, RaftTypes, Vote};
use openraft::storage::IOFlushed;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::Arc,
};
use tokio::sync::oneshot;

/// No entry is larger: proposals are limited far below.
const PAYLOAD_MAX: usize = 64 << 20;
/// Bytes moved with one batch, to free a segment without holding up what waits.
const MOVE_BYTES: u64 = 512 << 10;
/// Entries looked at for that.
const MOVE_SEARCH: usize = 20_000;

#[derive(Debug)]
pub(super) struct State {
    pub(super) replicas: BTreeMap<ReplicaKey, ReplicaLog>,
    queue: Vec<Pending>,
    /// Of the records in the queue.
    pub(super) queued_bytes: usize,
    /// States are to be written although nothing else asks for a batch.
    states_due: bool,
    pub(super) space: Space,
    /// Number and header checksum of the newest batch, flushed or not.
    pub(super) last: (BatchNumber, u64),
    pub(super) flushed: BatchNumber,
    search: Option<Search>,
    pub(super) counts: Counts,
    pub(super) closing: bool,
    /// The commit thread has ended and wants no more segments.
    pub(super) committed: bool,
    pub(super) failed: Option<&'static str>,
}

/// Where the search for entries to be moved goes on.
#[derive(Clone, Copy, Debug)]
struct Search {
    used: UseNumber,
    from: (ReplicaKey, u64),
}

/// A call on its way.
#[derive(Debug)]
struct Pending {
    key: ReplicaKey,
    /// `None`: what the call says is in the replica's state.
    record: Option<Queued>,
    done: Done,
}

/// Who is told once a call is durable.
pub(super) enum Done {
    Nobody,
    Appended(IOFlushed<RaftTypes>),
    Saved(oneshot::Sender<io::Result<()>>),
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Appended(_) => "Appended",
            Self::Saved(_) => "Saved",
        })
    }
}

impl Done {
    pub(super) fn tell(self, result: io::Result<()>) {
        match self {
            Self::Nobody => {}
            Self::Appended(callback) => callback.io_completed(result),
            // A replica that was stopped meanwhile does not wait any more.
            Self::Saved(answer) => drop(answer.send(result)),
        }
    }
}

/// An entry that lies in the segment to be emptied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) key: ReplicaKey,
    pub(super) id: LogId,
    pub(super) place: Place,
}

/// What the commit thread does next.
#[derive(Debug)]
pub(super) enum Take {
    Batch(Box<Batch>),
    /// A batch of so many bytes waits and the segment in use has no room for it.
    Room(u64),
    Nothing,
    /// Everything is written and nothing will follow.
    Closed,
}

impl State {
    pub(super) fn new(
        replicas: BTreeMap<ReplicaKey, ReplicaLog>,
        space: Space,
        last: (BatchNumber, u64),
    ) -> Self {
        Self {
            states_due: replicas.values().any(|replica| replica.dirty),
            replicas,
            queue: Vec::new(),
            queued_bytes: 0,
            space,
            last,
            flushed: last.0,
            search: None,
            counts: Counts::default(),
            closing: false,
            committed: false,
            failed: None,
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match (self.failed, self.closing) {
            (Some(reason), _) => Err(io::Error::other(reason)),
            (None, true) => Err(io::Error::other("the log is closed")),
            (None, false) => Ok(()),
        }
    }

    /// A replica that takes calls.
    pub(super) fn replica(&mut self, key: ReplicaKey) -> io::Result<&mut ReplicaLog> {
        self.check()?;
        let forgotten = || io::Error::other("the log has forgotten this replica");
        let replica = self.replicas.get_mut(&key).ok_or_else(forgotten)?;
        replica.check().map(|()| replica)
    }

    fn enqueue(&mut self, key: ReplicaKey, head: RecordHead, payload: Vec<u8>, done: Done) {
        let record = Queued { head, payload };
        self.queued_bytes += record.stored_len();
        self.queue.push(Pending { key, record: Some(record), done });
    }

    /// Makes a replica known.
    pub(super) fn begin(&mut self, key: ReplicaKey, done: Done) {
        self.replicas.insert(key, ReplicaLog::new());
        self.enqueue(key, RecordHead::of(Kind::Begin), Vec::new(), done);
    }

    /// Tells once everything that was queued before is durable, the state of the replica included.
    pub(super) fn barrier(&mut self, key: ReplicaKey, answer: oneshot::Sender<io::Result<()>>) {
        self.queue.push(Pending { key, record: None, done: Done::Saved(answer) });
    }

    pub(super) fn append(
        &mut self,
        key: ReplicaKey,
        entry: Arc<RaftEntry>,
        payload: Vec<u8>,
        done: Done,
    ) -> io::Result<()> {
        use openraft::entry::RaftEntry as _;
        let replica = self.replica(key)?;
        let id = entry.log_id();
        let follows = replica.last().is_none_or(|last| last.index + 1 == id.index);
        if !follows || payload.len() > PAYLOAD_MAX {
            let reason =
                if follows { "an entry is too large" } else { "an entry would leave a gap in the log" };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let len = u32::try_from(record_len(payload.len())).expect("limited above");
        replica.slots.push(id, len, entry);
        self.enqueue(key, RecordHead { kind: Kind::Entry, id }, payload, done);
        Ok(())
    }

    pub(super) fn vote(
        &mut self,
        key: ReplicaKey,
        vote: Vote,
        answer: oneshot::Sender<io::Result<()>>,
    ) -> io::Result<()> {
        let replica = self.replica(key)?;
        replica.state.vote = Some(vote);
        replica.dirty = true;
        self.barrier(key, answer);
        Ok(())
    }

    /// Not worth a flush of its own: it goes along with the next batch, or is learned again from the leader.
    pub(super) fn commit(&mut self, key: ReplicaKey, committed: Option<LogId>) -> io::Result<()> {
        let replica = self.replica(key)?;
        replica.dirty |= replica.state.committed != committed;
        replica.state.committed = committed;
        Ok(())
    }

    /// Drops the entries after `last`.
    pub(super) fn truncate(
        &mut self,
        key: ReplicaKey,
        last: Option<LogId>,
        answer: oneshot::Sender<io::Result<()>>,
    ) -> io::Result<()> {
        let index = last.map_or(0, |last| last.index + 1);
        self.replica(key)?;
        self.drop_slots(key, |replica, dropped| replica.slots.truncate(index, dropped));
        self.enqueue(key, RecordHead::at(Kind::Truncate, index), Vec::new(), Done::Saved(answer));
        Ok(())
    }

    /// Drops the entries up to and with `upto`, which the state machine has made durable.
    pub(super) fn purge(&mut self, key: ReplicaKey, upto: LogId) -> io::Result<()> {
        let replica = self.replica(key)?;
        if replica.state.purged >= Some(upto) {
            return Ok(());
        }
        replica.state.purged = Some(upto);
        replica.dirty = true;
        self.drop_slots(key, |replica, dropped| replica.slots.purge(upto.index, dropped));
        Ok(())
    }

    /// Flushed records of the replica are unreadable.
    pub(super) fn condemn(&mut self, key: ReplicaKey) {
        self.drop_slots(key, |replica, dropped| replica.slots.truncate(0, dropped));
        if let Some(replica) = self.replicas.get_mut(&key) {
            replica.condition = Condition::Condemned;
            replica.state = ReplicaState::default();
            replica.dirty = true;
            self.states_due = true;
        }
    }

    /// Forgets a replica; one that was condemned is remembered as such.
    pub(super) fn remove(&mut self, key: ReplicaKey, done: Done) {
        self.drop_slots(key, |replica, dropped| replica.slots.truncate(0, dropped));
        match self.replicas.get_mut(&key) {
            Some(replica) if replica.condition != Condition::Sound => {
                replica.condition = Condition::Retired;
                replica.dirty = true;
                self.queue.push(Pending { key, record: None, done });
            }
            Some(_) => {
                self.replicas.remove(&key);
                self.enqueue(key, RecordHead::of(Kind::Removed), Vec::new(), done);
            }
            None => self.queue.push(Pending { key, record: None, done }),
        }
    }

    /// Keeps account of the space of the entries that `change` drops.
    fn drop_slots(&mut self, key: ReplicaKey, change: impl FnOnce(&mut ReplicaLog, &mut dyn FnMut(&Slot))) {
        let space = &mut self.space;
        if let Some(replica) = self.replicas.get_mut(&key) {
            change(replica, &mut |slot| {
                if let Some(place) = slot.place {
                    space.drop_live(place);
                }
            });
        }
    }

    /// Looks for entries that keep the oldest segment, if that one is to be emptied, and marks the states there.
    pub(super) fn moves(&mut self) -> Vec<Move> {
        let mut moves = Vec::new();
        let Some(used) = self.space.to_empty() else { return moves };
        for replica in self.replicas.values_mut().filter(|replica| replica.state_at == Some(used)) {
            replica.dirty = true;
            self.states_due = true;
        }
        if self.space.live_records(used) == 0 {
            // What says that the segment is free goes with the states, or with the next batch.
            return moves;
        }
        let start = ReplicaKey { group: ashlar_types::GroupId(0), raft_id: 0 };
        let from = self.search.filter(|search| search.used == used).map_or((start, 0), |search| search.from);
        let (mut bytes, mut looked_at) = (0, 0);
        for (key, replica) in self.replicas.range(from.0..) {
            let first = if *key == from.0 { from.1 } else { 0 };
            for slot in replica.slots.range(first..u64::MAX) {
                if bytes >= MOVE_BYTES || looked_at >= MOVE_SEARCH {
                    self.search = Some(Search { used, from: (*key, slot.id.index) });
                    return moves;
                }
                looked_at += 1;
                if let Some(place) = slot.place.filter(|place| place.used == used) {
                    bytes += u64::from(place.len);
                    moves.push(Move { key: *key, id: slot.id, place });
                }
            }
        }
        self.search = None;
        moves
    }

    /// Whether the search for entries to be moved goes on though nothing waits.
    pub(super) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Takes all that waits, with the states that have changed and the entries to be moved, and lays it out.
    pub(super) fn take(&mut self, moved: Vec<(Move, Vec<u8>)>) -> Take {
        if self.queue.is_empty() && moved.is_empty() && !self.states_due {
            let dirty = self.replicas.values().any(|replica| replica.dirty);
            return match (self.closing, dirty) {
                (false, _) => Take::Nothing,
                (true, false) => Take::Closed,
                (true, true) => self.take_all(moved),
            };
        }
        self.take_all(moved)
    }

    fn take_all(&mut self, moved: Vec<(Move, Vec<u8>)>) -> Take {
        let len = self.batch_len(&moved);
        let Some((file, used, offset)) = self.space.tail(len as u64) else { return Take::Room(len as u64) };
        let mut sections = Sections::new();
        let mut answers = Vec::new();
        for Pending { key, record, done } in self.queue.drain(..) {
            if let Some(record) = record {
                sections.entry(key).or_default().push(record);
            }
            if !matches!(done, Done::Nobody) {
                answers.push(done);
            }
        }
        (self.queued_bytes, self.states_due) = (0, false);
        let mut from = BTreeMap::new();
        for (Move { key, id, place }, payload) in moved {
            let current = self.replicas.get_mut(&key).and_then(|replica| replica.slots.get_mut(id.index));
            if current.is_some_and(|slot| slot.place == Some(place)) {
                from.insert((key, id.index), place);
                let head = RecordHead { kind: Kind::Moved, id };
                sections.entry(key).or_default().push(Queued { head, payload });
            }
        }
        for (key, replica) in self.replicas.iter_mut().filter(|(_, replica)| replica.dirty) {
            replica.dirty = false;
            let (head, payload) = replica.state_record();
            sections.entry(*key).or_default().push(Queued { head, payload });
        }
        let number = self.last.0.next();
        let records = sections.values().flatten().map(Queued::stored_len).sum();
        // No longer than what room was found for: entries that were not moved after all are left out.
        let len = batch_len(sections.len(), records);
        let moved = self.place(&sections, used, number, offset, &from);
        let oldest = self.oldest(number);
        self.space.advance_tail(len as u64);
        let previous = self.last.1;
        self.last.0 = number;
        Take::Batch(Box::new(Batch { number, previous, oldest, file, offset, len, sections, moved, answers }))
    }

    /// Length of the next batch, or a little more.
    fn batch_len(&self, moved: &[(Move, Vec<u8>)]) -> usize {
        let dirty = self.replicas.iter().filter(|(_, replica)| replica.dirty).map(|(key, _)| *key);
        let states = record_len(ReplicaState::LEN) * dirty.clone().count();
        let moves: usize = moved.iter().map(|(_, payload)| record_len(payload.len())).sum();
        let keys = self.queue.iter().map(|pending| pending.key).chain(dirty);
        let sections: BTreeSet<_> = keys.chain(moved.iter().map(|(to_move, _)| to_move.key)).collect();
        batch_len(sections.len(), self.queued_bytes + moves + states)
    }

    /// Says of every record of a batch where it will lie.
    fn place(
        &mut self,
        sections: &Sections,
        used: UseNumber,
        batch: BatchNumber,
        offset: u64,
        from: &BTreeMap<(ReplicaKey, u64), Place>,
    ) -> Vec<Moved> {
        let mut moved = Vec::new();
        let mut at = offset + super::format::BatchHead::encoded_len(sections.len()) as u64;
        for (key, records) in sections {
            for record in records {
                let offset = u32::try_from(at).expect("segments are shorter than 4 GiB");
                let len = u32::try_from(record.stored_len()).expect("records are shorter than segments");
                let place = Place { used, batch, offset, len };
                at += u64::from(len);
                let Some(replica) = self.replicas.get_mut(key) else { continue };
                let id = record.head.id;
                match record.head.kind {
                    Kind::Entry => {
                        // It may have been dropped since, and another one be in its place.
                        let slot = replica.slots.get_mut(id.index);
                        if let Some(slot) = slot.filter(|slot| slot.id == id && slot.place.is_none()) {
                            slot.place = Some(place);
                            self.space.add_live(place);
                        }
                    }
                    Kind::Moved => {
                        if let Some(from) = from.get(&(*key, id.index)) {
                            moved.push(Moved { key: *key, index: id.index, from: *from, to: place });
                        }
                    }
                    Kind::Begin | Kind::State | Kind::Condemned | Kind::Retired => {
                        replica.state_at = Some(used);
                    }
                    Kind::Truncate | Kind::Removed => {}
                }
            }
        }
        moved
    }

    /// What is needed once everything queued so far is durable.
    fn oldest(&self, number: BatchNumber) -> BatchNumber {
        let state = self.replicas.values().filter_map(|replica| replica.state_at).min();
        self.space.oldest(state).unwrap_or(number)
    }

    /// A batch is durable.
    pub(super) fn flushed(&mut self, batch: &Batch, cache_bytes: usize) {
        self.flushed = batch.number;
        for Moved { key, index, from, to } in &batch.moved {
            let slot = self.replicas.get_mut(key).and_then(|replica| replica.slots.get_mut(*index));
            if let Some(slot) = slot.filter(|slot| slot.place == Some(*from)) {
                slot.place = Some(*to);
                self.space.drop_live(*from);
                self.space.add_live(*to);
            }
        }
        let limit = cache_bytes / self.replicas.len().max(1);
        for key in batch.sections.keys() {
            if let Some(replica) = self.replicas.get_mut(key) {
                replica.slots.evict(batch.number, limit);
            }
        }
        self.space.release(batch.oldest);
    }

    /// Everyone who waits, to be told that the log has failed.
    pub(super) fn fail(&mut self, reason: &'static str) -> Vec<Done> {
        self.failed = Some(reason);
        self.queued_bytes = 0;
        self.queue.drain(..).map(|pending| pending.done).collect()
    }
}
