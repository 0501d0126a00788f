//! Applies the batches that are needed, in their order.

use super::{
    super::{
        format::{BLOCK_BYTES, BatchNumber, Kind, Record, ReplicaKey, Section, Seed, State, memory},
        replica::{Condition, ReplicaLog},
        segment::SegmentFile,
        slots::{Place, Slot, Slots, UseNumber},
        space::Use,
        window::Window,
    },
    scan::{Found, Scanned, Segment},
};
use crate::{
    planted::{Plant, planted},
    raft::types::LogId,
};
use std::{collections::BTreeMap, sync::Arc};

/// A replica as far as it was read.
#[derive(Debug, Default)]
struct Replaying {
    /// A record said that it begins, or what its state is.
    is_stated: bool,
    state: State,
    state_at: UseNumber,
    entries: BTreeMap<u64, (LogId, Place)>,
    condemned: Option<&'static str>,
    /// A record says so already.
    is_noted: bool,
    retired: bool,
}

/// A segment that holds needed batches.
#[derive(Clone, Copy, Debug)]
struct Used {
    segment: usize,
    first: BatchNumber,
}

#[derive(Debug, Default)]
pub(super) struct Replay {
    replicas: BTreeMap<ReplicaKey, Replaying>,
    uses: Vec<Used>,
    /// End of the newest whole batch.
    pub(super) tail: u64,
    /// Number and header checksum of that batch.
    pub(super) last: (BatchNumber, u64),
    /// A batch that a crash has torn, wherever it lies.
    pub(super) torn: Vec<Found>,
    /// The newest whole batch.
    pub(super) newest: Option<Found>,
    /// Whole batches are missing.
    pub(super) lossy: bool,
}

impl Replay {
    pub(super) fn run(scanned: &Scanned) -> Self {
        let mut replay = Self::default();
        let mut newest = scanned.batches.last_key_value();
        if let Some((number, found)) = newest
            && !is_whole(scanned, found)
        {
            replay.torn.push(found.clone());
            let same = scanned.copies.iter().filter(|copy| copy.head.number == *number);
            let (whole, torn): (Vec<&Found>, Vec<&Found>) = same.partition(|copy| is_whole(scanned, copy));
            replay.torn.extend(torn.into_iter().cloned());
            newest = whole.first().map(|copy| (number, *copy));
        }
        if newest.is_none()
            && let Some(number) = replay.torn.first().map(|torn| torn.head.number)
        {
            tracing::info!(batch = number.0, "the newest batch of the Raft log was torn by a crash");
            newest = scanned.batches.range(..number).next_back();
            // The batch before a torn one is there, or it is damaged.
            replay.lossy = newest.map_or(0, |(before, _)| before.0) + 1 != number.0;
        }
        replay.newest = newest.map(|(_, found)| found.clone());
        if let Some((number, found)) = newest {
            replay.last = (*number, found.crc);
            replay.tail = found.head.offset + u64::from(found.head.len);
            replay.batches(scanned, found.head.oldest);
            if planted(Plant::StaleRecordAccepted) {
                replay.accept_stale(scanned);
            }
        } else if let Some(torn) = replay.torn.first() {
            replay.last = (BatchNumber(torn.head.number.0 - 1), 0);
        }
        if replay.lossy || scanned.unreadable {
            replay.condemn_all("whole batches of the log are unreadable");
        }
        replay.settle_replicas();
        replay
    }

    fn batches(&mut self, scanned: &Scanned, oldest: BatchNumber) {
        let mut next = (oldest, None);
        if planted(Plant::TornTailSwallowsMiddle) {
            self.end_at_damage(scanned, oldest);
        }
        for (number, found) in scanned.batches.range(oldest..=self.last.0) {
            let continues = next.1.is_none_or(|crc| crc == found.head.previous);
            if *number != next.0 || !continues {
                tracing::error!(
                    from = next.0.0,
                    to = number.0,
                    "log damaged: batches of the Raft log are unreadable"
                );
                self.lossy = true;
                self.condemn_all("whole batches of the log are unreadable");
            }
            // Of the newest one there may be a copy that is whole where this one is not.
            let found =
                self.newest.clone().filter(|newest| newest.head.number == *number).unwrap_or(found.clone());
            next = (number.next(), Some(found.crc));
            self.batch(scanned, &found);
        }
    }

    /// Takes the first batch that is not whole for the end of the log.
    fn end_at_damage(&mut self, scanned: &Scanned, oldest: BatchNumber) {
        let mut whole = None;
        for (number, found) in scanned.batches.range(oldest..=self.last.0) {
            let follows = whole.is_none_or(|(before, _): (BatchNumber, &Found)| before.next() == *number);
            if !follows || !is_whole(scanned, found) {
                break;
            }
            whole = Some((*number, found));
        }
        if let Some((number, found)) = whole {
            self.last = (number, found.crc);
            self.tail = found.head.offset + u64::from(found.head.len);
        }
    }

    /// Goes on with whatever batch lies where the log ends.
    fn accept_stale(&mut self, scanned: &Scanned) {
        let Some(segment) = self.uses.last().map(|used| used.segment) else { return };
        for found in scanned.batches.values() {
            if found.segment == segment && found.head.offset == self.tail {
                self.tail += u64::from(found.head.len);
                self.batch(scanned, found);
            }
        }
    }

    fn condemn_all(&mut self, reason: &'static str) {
        for replica in self.replicas.values_mut() {
            replica.condemned.get_or_insert(reason);
        }
    }

    fn batch(&mut self, scanned: &Scanned, found: &Found) {
        let number = found.head.number;
        if self.uses.last().is_none_or(|used| used.segment != found.segment) {
            self.uses.push(Used { segment: found.segment, first: number });
        }
        let used = UseNumber(self.uses.len() as u64 - 1);
        let bytes = bytes_of(scanned, found);
        for (start, section) in found.head.sections_at() {
            let known = self.replicas.contains_key(&section.key);
            let lossy = self.lossy;
            let replica = self.replicas.entry(section.key).or_default();
            let seed = Seed { salt: scanned.salt, batch: number, key: section.key };
            let records = records_of(section, seed, bytes.get(start..).unwrap_or_default());
            let Some(records) = records else {
                replica.condemned.get_or_insert("records are unreadable");
                continue;
            };
            if lossy && !known && records.first().is_none_or(|(_, record)| record.head.kind != Kind::Begin) {
                replica.condemned.get_or_insert("whole batches of the log are unreadable");
            }
            let mut removed = false;
            for (at, record) in &records {
                let offset = found.head.offset + (start + at) as u64;
                let offset = u32::try_from(offset).expect("segments are shorter than 4 GiB");
                let len = u32::try_from(record.stored_len()).expect("records are shorter than segments");
                removed = replica.apply(record, Place { used, batch: number, offset, len });
            }
            if removed {
                self.replicas.remove(&section.key);
            }
        }
    }

    /// The log goes on in the segment of this batch.
    pub(super) fn begin_use(&mut self, found: &Found) {
        self.uses.push(Used { segment: found.segment, first: found.head.number });
    }

    /// Condemns replicas whose records do not add up.
    fn settle_replicas(&mut self) {
        for (key, replica) in &mut self.replicas {
            if replica.condemned.is_none() && !replica.is_consistent() {
                replica.condemned = Some("records are missing");
            }
            if let Some(reason) = replica.condemned
                && !replica.is_noted
            {
                tracing::error!("log damaged: {key}: {reason}; this replica is condemned");
            }
        }
    }

    /// What the log goes on with: replicas, segments in use, the end of the last one, spare segments.
    pub(super) fn into_parts(
        self,
        segments: Vec<Segment>,
    ) -> (BTreeMap<ReplicaKey, ReplicaLog>, Vec<Use>, u64, Vec<Arc<SegmentFile>>) {
        let file = |used: &Used| segments.get(used.segment).map(|segment| Arc::clone(&segment.file));
        let uses: Vec<_> =
            self.uses.iter().filter_map(|used| Some(Use::new(file(used)?, used.first))).collect();
        let is_used = |at: usize| self.uses.iter().any(|used| used.segment == at);
        let spare = segments.iter().enumerate().filter(|(at, segment)| !is_used(*at) && segment.was_used);
        let spares: Vec<_> = spare.map(|(_, segment)| Arc::clone(&segment.file)).collect();
        drop(segments);
        let replicas = self.replicas.into_iter().map(|(key, replica)| (key, replica.into_log())).collect();
        (replicas, uses, self.tail.max(BLOCK_BYTES), spares)
    }
}

impl Replaying {
    /// Whether the replica is to be forgotten.
    fn apply(&mut self, record: &Record<'_>, place: Place) -> bool {
        let id = record.head.id;
        let mut removed = false;
        match record.head.kind {
            Kind::Begin => {
                *self = Self { is_stated: true, state_at: place.used, ..Self::default() };
            }
            Kind::State => match State::decode(record.payload) {
                Some(state) => {
                    self.is_stated = true;
                    self.state = state;
                    self.state_at = place.used;
                    let from = state.purged.map_or(0, |purged| purged.index + 1);
                    self.entries = self.entries.split_off(&from);
                }
                None => self.condemned = Some("a state is malformed"),
            },
            Kind::Entry | Kind::Moved => drop(self.entries.insert(id.index, (id, place))),
            Kind::Truncate => drop(self.entries.split_off(&id.index)),
            Kind::Condemned | Kind::Retired => {
                self.is_stated = true;
                self.state_at = place.used;
                self.is_noted = true;
                self.retired = record.head.kind == Kind::Retired;
                self.condemned.get_or_insert("it was condemned before");
            }
            Kind::Removed => removed = true,
        }
        removed
    }

    fn is_consistent(&self) -> bool {
        let purged = self.state.purged.map(|purged| purged.index);
        let first = self.entries.first_key_value().map(|(index, _)| *index);
        let last = self.entries.last_key_value().map(|(index, _)| *index);
        let follows = first.is_none_or(|first| purged.is_none_or(|purged| purged + 1 == first));
        let whole = first.zip(last).is_none_or(|(first, last)| last - first + 1 == self.entries.len() as u64);
        self.is_stated && follows && whole
    }

    fn into_log(self) -> ReplicaLog {
        if planted(Plant::WipedVoterVotes) && self.condemned.is_some() {
            return ReplicaLog::found(
                Condition::Sound,
                State::default(),
                Slots::default(),
                Some(self.state_at),
            );
        }
        let condition = match (self.condemned, self.retired) {
            (None, _) => Condition::Sound,
            (Some(_), false) => Condition::Condemned,
            (Some(_), true) => Condition::Retired,
        };
        let slot =
            |(id, place): (LogId, Place)| Slot { id, place: Some(place), cached: None, len: place.len };
        let (state, slots) = match condition {
            Condition::Sound => (self.state, Slots::found(self.entries.into_values().map(slot))),
            Condition::Condemned | Condition::Retired => (State::default(), Slots::default()),
        };
        let mut replica = ReplicaLog::found(condition, state, slots, Some(self.state_at));
        replica.dirty = condition != Condition::Sound && !self.is_noted;
        replica
    }
}

fn bytes_of(scanned: &Scanned, found: &Found) -> Vec<u8> {
    let Some(segment) = scanned.segments.get(found.segment) else { return Vec::new() };
    let len = u64::from(found.head.len);
    let mut window = Window::new(&segment.file);
    let bytes = window.at(found.head.offset, len);
    bytes.get(..memory(len)).unwrap_or(bytes).to_vec()
}

/// Whether all records of a batch verify.
fn is_whole(scanned: &Scanned, found: &Found) -> bool {
    let bytes = bytes_of(scanned, found);
    bytes.len() == memory(found.head.len.into())
        && found.head.sections_at().all(|(start, section)| {
            let seed = Seed { salt: scanned.salt, batch: found.head.number, key: section.key };
            records_of(section, seed, bytes.get(start..).unwrap_or_default()).is_some()
        })
}

/// The records of a section, with their places in it, if all verify.
fn records_of<'a>(section: &Section, seed: Seed, bytes: &'a [u8]) -> Option<Vec<(usize, Record<'a>)>> {
    let bytes = bytes.get(..memory(section.len.into()))?;
    let mut records = Vec::new();
    let mut at = 0;
    for _ in 0..section.records {
        let record = Record::decode(seed, bytes.get(at..)?)?;
        records.push((at, record));
        at += record.stored_len();
    }
    let crc = Section::checksum(records.iter().map(|(_, record)| record.crc));
    (at == bytes.len() && crc == section.crc).then_some(records)
}
