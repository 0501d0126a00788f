//! Small calls between metadata nodes: their numbers, and what they carry.
//!
//! ```text
//! Raft messages   address, message    -> Raft's own reply, taken apart in `raft`
//! READ_INDEX      address             -> Answered<u64>
//! PROBE           address, raft id    -> Probed
//! PROPOSE, QUERY  Proposal, Question  -> Answered<Outcome>, Answered<Answer>
//! CLOCK           nothing             -> Timestamp
//! ```
//!
//! An address is group and Raft id, 12 bytes big-endian: an older incarnation does not answer for a newer one. All
//! else is the encoding of our own types. Both sides are of one protocol version, which `rpc` sees to.

use crate::{
    command::Command,
    encoding::{decode, encode_after},
    query::Query,
    raft::replica::Refused,
};
use ashlar_rpc::Method;
use ashlar_types::{GroupId, NodeId, RequestId, WriteEpoch};
use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ops::RangeInclusive;
use tonic::Status;

/// Those of this crate.
pub(crate) const METHODS: RangeInclusive<u16> = 0x100..=0x1ff;

pub(crate) const APPEND: Method = Method(0x100);
pub(crate) const VOTE: Method = Method(0x101);
pub(crate) const PRE_VOTE: Method = Method(0x102);
pub(crate) const TRANSFER_LEADER: Method = Method(0x103);
pub(crate) const READ_INDEX: Method = Method(0x110);
pub(crate) const PROPOSE: Method = Method(0x111);
pub(crate) const QUERY: Method = Method(0x112);
/// What a replica knows of its group: asked before a new group is begun and before a replica is made.
pub(crate) const PROBE: Method = Method(0x113);
/// The wall clock of a node.
pub(crate) const CLOCK: Method = Method(0x114);

/// The replica that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) group: GroupId,
    pub(crate) raft_id: u64,
}

impl Address {
    const LEN: usize = 12;

    /// A payload for this replica.
    pub(crate) fn with<T: Serialize>(self, message: &T) -> Bytes {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.group.0.to_be_bytes());
        bytes.extend_from_slice(&self.raft_id.to_be_bytes());
        Bytes::from(encode_after(bytes, message))
    }

    /// Who is meant, and what is left: the message, still encoded.
    pub(crate) fn take(mut payload: Bytes) -> Result<(Self, Bytes), Status> {
        if payload.len() < Self::LEN {
            return Err(Status::invalid_argument("a call without an address"));
        }
        let address = Self { group: GroupId(payload.get_u32()), raft_id: payload.get_u64() };
        Ok((address, payload))
    }
}

/// The leader adds its stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) group: GroupId,
    pub(crate) request: Option<RequestId>,
    pub(crate) command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) group: GroupId,
    pub(crate) query: Query,
}

/// What a replica says of itself and of the one that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probed {
    /// Has voted or holds entries.
    pub(crate) initialized: bool,
    /// The asker is a voter of the group: it has had a log.
    pub(crate) asker_votes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered<T> {
    /// The group's, as far as the replica has applied: for the caller's next request ids.
    pub(crate) write_epoch: WriteEpoch,
    pub(crate) reply: Reply<T>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply<T> {
    Done(T),
    NotLeader(Option<NodeId>),
    Busy,
    /// A proposal may have been applied or may be yet.
    Unknown,
}

impl<T> From<Result<T, Refused>> for Reply<T> {
    fn from(result: Result<T, Refused>) -> Self {
        match result {
            Ok(done) => Self::Done(done),
            Err(Refused::NotLeader(leader)) => Self::NotLeader(leader),
            Err(Refused::Busy) => Self::Busy,
            Err(Refused::Unknown(_)) => Self::Unknown,
        }
    }
}

/// What a call carries, on the side that is called.
pub(crate) fn understand<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Status> {
    decode(payload).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_off_its_message() {
        let address = Address { group: GroupId(7), raft_id: u64::MAX - 1 };
        let (found, message) = Address::take(address.with(&"message")).unwrap();
        assert_eq!(found, address);
        assert_eq!(understand::<String>(&message).unwrap(), "message");
        assert!(Address::take(Bytes::from_static(b"too short")).is_err());
    }

    #[test]
    fn the_numbers_are_in_the_range_and_distinct() {
        let all = [APPEND, VOTE, PRE_VOTE, TRANSFER_LEADER, READ_INDEX, PROPOSE, QUERY, PROBE, CLOCK];
        assert!(all.iter().all(|method| METHODS.contains(&method.0)));
        assert!(all.is_sorted_by(|a, b| a < b));
    }
}
