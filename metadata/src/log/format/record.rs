//! Records: what one replica's log went through, one step each.

use super::{BatchNumber, ReplicaKey, Salt, checksum, memory, u32_at, u64_at};
use crate::raft::types::{LeaderTerm, LogId, Vote};

const HEAD: usize = 40;
const STATE: usize = 72;
/// Records begin at multiples of this within a section.
const ALIGN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) enum Kind {
    /// The replica begins, with nothing.
    Begin = 1,
    /// Vote, commit point and purge point as they are now.
    State = 2,
    Entry = 3,
    /// An entry that is kept, once more.
    Moved = 4,
    /// Entries from the index on are gone.
    Truncate = 5,
    /// Flushed records of the replica were unreadable.
    Condemned = 6,
    /// The replica is forgotten.
    Removed = 7,
    /// The replica is forgotten, but for its having been condemned.
    Retired = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Begin,
            Self::State,
            Self::Entry,
            Self::Moved,
            Self::Truncate,
            Self::Condemned,
            Self::Removed,
            Self::Retired,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct RecordHead {
    pub(in crate::log) kind: Kind,
    /// Of an entry; of a truncation its index alone; else zeros.
    pub(in crate::log) id: LogId,
}

impl RecordHead {
    pub(in crate::log) fn of(kind: Kind) -> Self {
        Self::at(kind, 0)
    }

    pub(in crate::log) fn at(kind: Kind, index: u64) -> Self {
        Self { kind, id: log_id(0, 0, index) }
    }
}

/// What a record's checksum begins with: the same bytes are no record in another log, batch or replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct Seed {
    pub(in crate::log) salt: Salt,
    pub(in crate::log) batch: BatchNumber,
    pub(in crate::log) key: ReplicaKey,
}

impl Seed {
    fn checksum(self, head: &[u8], payload: &[u8]) -> u64 {
        let numbers = [self.salt.0, self.batch.0, self.key.group.0.into(), self.key.raft_id];
        checksum(&numbers, &[head, payload])
    }
}

/// Bytes of a record with a payload of this length.
pub(in crate::log) fn record_len(payload: usize) -> usize {
    HEAD + payload.next_multiple_of(ALIGN)
}

/// A record that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct Record<'a> {
    pub(in crate::log) head: RecordHead,
    pub(in crate::log) payload: &'a [u8],
    pub(in crate::log) crc: u64,
}

impl<'a> Record<'a> {
    /// Writes a record to the front of `out`, which is as long as the record, and returns its checksum.
    pub(in crate::log) fn encode(seed: Seed, head: RecordHead, payload: &[u8], out: &mut [u8]) -> u64 {
        let len = u32::try_from(payload.len()).expect("appends of more are refused");
        out[8..12].copy_from_slice(&len.to_le_bytes());
        out[12..16].copy_from_slice(&[head.kind as u8, 0, 0, 0]);
        out[16..24].copy_from_slice(&head.id.index.to_le_bytes());
        out[24..32].copy_from_slice(&head.id.leader_id.term.to_le_bytes());
        out[32..40].copy_from_slice(&head.id.leader_id.node_id.to_le_bytes());
        out[HEAD..HEAD + payload.len()].copy_from_slice(payload);
        out[HEAD + payload.len()..].fill(0);
        let crc = seed.checksum(&out[8..HEAD], payload);
        out[..8].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The record at the front of `bytes` if it verifies.
    pub(in crate::log) fn decode(seed: Seed, bytes: &'a [u8]) -> Option<Self> {
        let len = memory(u32_at(bytes, 8)?.into());
        let payload = bytes.get(HEAD..)?.get(..len)?;
        let crc = u64_at(bytes, 0)?;
        if crc != seed.checksum(&bytes[8..HEAD], payload) {
            return None;
        }
        let kind = Kind::from_byte(*bytes.get(12)?)?;
        let id = log_id(u64_at(bytes, 24)?, u64_at(bytes, 32)?, u64_at(bytes, 16)?);
        Some(Self { head: RecordHead { kind, id }, payload, crc })
    }

    pub(in crate::log) fn stored_len(&self) -> usize {
        record_len(self.payload.len())
    }
}

/// The payload of a state record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::log) struct State {
    pub(in crate::log) vote: Option<Vote>,
    pub(in crate::log) committed: Option<LogId>,
    pub(in crate::log) purged: Option<LogId>,
}

impl State {
    pub(in crate::log) const LEN: usize = STATE;

    pub(in crate::log) fn encode(&self) -> Vec<u8> {
        let vote = self.vote.unwrap_or(Vote::new(0, 0));
        let present = [self.vote.is_some(), vote.committed, self.committed.is_some(), self.purged.is_some()];
        let mut out = Vec::with_capacity(STATE);
        out.extend(present.map(u8::from));
        out.resize(8, 0);
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        put(vote.leader_id.term);
        put(vote.leader_id.node_id);
        for id in [self.committed, self.purged] {
            let id = id.unwrap_or(log_id(0, 0, 0));
            put(id.leader_id.term);
            put(id.leader_id.node_id);
            put(id.index);
        }
        out
    }

    pub(in crate::log) fn decode(bytes: &[u8]) -> Option<Self> {
        let [has_vote, vote_committed, has_committed, has_purged, 0, 0, 0, 0, ..] = *bytes else {
            return None;
        };
        if bytes.len() != STATE || bytes[..4].iter().any(|flag| *flag > 1) {
            return None;
        }
        let id = |at| Some(log_id(u64_at(bytes, at)?, u64_at(bytes, at + 8)?, u64_at(bytes, at + 16)?));
        let vote = Vote {
            leader_id: LeaderTerm { term: u64_at(bytes, 8)?, node_id: u64_at(bytes, 16)? },
            committed: vote_committed == 1,
        };
        Some(Self {
            vote: (has_vote == 1).then_some(vote),
            committed: id(24).filter(|_| has_committed == 1),
            purged: id(48).filter(|_| has_purged == 1),
        })
    }
}

fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    LogId::new(LeaderTerm { term, node_id }, index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::GroupId;
    use proptest::prelude::*;

    fn seed() -> Seed {
        Seed { salt: Salt(1), batch: BatchNumber(2), key: ReplicaKey { group: GroupId(3), raft_id: 4 } }
    }

    proptest! {
        #[test]
        fn records_are_read_back_and_a_wrong_bit_is_seen(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            (term, node, index) in any::<(u64, u64, u64)>(),
            bit in any::<prop::sample::Index>(),
        ) {
            let head = RecordHead { kind: Kind::Entry, id: log_id(term, node, index) };
            let mut bytes = vec![9; record_len(payload.len())];
            let crc = Record::encode(seed(), head, &payload, &mut bytes);
            let record = Record { head, payload: &payload, crc };
            prop_assert_eq!(Record::decode(seed(), &bytes), Some(record));
            prop_assert_eq!(record.stored_len(), bytes.len());
            let others = [
                Seed { salt: Salt(9), ..seed() },
                Seed { batch: BatchNumber(9), ..seed() },
                Seed { key: ReplicaKey { group: GroupId(9), raft_id: 4 }, ..seed() },
                Seed { key: ReplicaKey { group: GroupId(3), raft_id: 9 }, ..seed() },
            ];
            for other in others {
                prop_assert_eq!(Record::decode(other, &bytes), None);
            }
            let mut wrong = bytes.clone();
            let bit = bit.index(8 * (HEAD + payload.len()));
            wrong[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::decode(seed(), &wrong), None);
        }

        #[test]
        fn states_are_read_back(
            vote in any::<Option<(u64, u64, bool)>>(),
            committed in any::<Option<(u64, u64, u64)>>(),
            purged in any::<Option<(u64, u64, u64)>>(),
        ) {
            let id = |(term, node, index)| log_id(term, node, index);
            let vote = vote.map(|(term, node_id, committed)| {
                Vote { leader_id: LeaderTerm { term, node_id }, committed }
            });
            let state = State { vote, committed: committed.map(id), purged: purged.map(id) };
            prop_assert_eq!(State::decode(&state.encode()), Some(state));
            prop_assert_eq!(state.encode().len(), State::LEN);
        }
    }

    #[test]
    fn a_state_of_another_length_or_with_other_flags_is_none() {
        let bytes = State::default().encode();
        assert_eq!(State::decode(&bytes[..STATE - 1]), None);
        let mut wrong = bytes.clone();
        wrong[2] = 2;
        assert_eq!(State::decode(&wrong), None);
        wrong = bytes;
        wrong[5] = 1;
        assert_eq!(State::decode(&wrong), None);
    }
}
