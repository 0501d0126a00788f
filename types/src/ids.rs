//! Identities and counters. Each is a newtype, so that two of them are never confused; wide random ids print as
//! hex, small assigned ones as decimal numbers.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident($repr:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

macro_rules! wide {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                u128::from_str_radix(text, 16).map(Self)
            }
        }
    )*};
}

counted! {
    /// A process of the cluster, assigned by the cluster map from 1.
    NodeId(u32);
    /// Number of a drive in the cluster map; a replaced drive gets a new number. Its on-disk identity is
    /// [`DriveUuid`].
    DriveId(u32);
    /// A bucket, assigned by group 0 and never reused, so a name deleted and created again is another bucket.
    BucketId(u64);
    /// A placement group.
    PgId(u32);
    /// A profile of the cluster map; its contents never change.
    ProfileId(u16);
    /// A metadata group: 0 is the system group, 1.. hold partitions.
    GroupId(u32);
    /// Raised by every change of one placement group.
    Interval(u64);
    /// Version of the cluster map.
    MapEpoch(u64);
    /// Replicated counter of one metadata group; decides which late commands are refused.
    WriteEpoch(u64);
    /// Counter of one partition: the order in which its versions and uploads were made.
    Sequence(u64);
    /// How often a node's replica of one group was made anew.
    Incarnation(u32);
    /// Position of a shard in its stripe: `0..k` carry data, `k..k + m` carry parity.
    SlotIndex(u8);
}

wide! {
    /// Identity of a cluster, made by `cluster init`.
    ClusterId;
    /// Identity of a formatted drive, written to its superblock.
    DriveUuid;
    /// The bytes of one PutObject, UploadPart or append.
    BlobId;
    /// Internal id of a version, allocated when its writing starts.
    VersionUid;
    /// One run of a gateway process; request sequences are unique within it.
    SessionId;
}

impl GroupId {
    /// The group of the cluster map, the bucket directory and the identities.
    pub const SYSTEM: Self = Self(0);
}

/// One replica of one metadata group. A replica whose log or vote was lost comes back under a new incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

impl ReplicaId {
    /// The Raft node id inside a group: node in the upper half, incarnation in the lower.
    pub fn raft_id(self) -> u64 {
        (u64::from(self.node.0) << 32) | u64::from(self.incarnation.0)
    }

    pub fn from_raft_id(raw: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = raw.to_be_bytes();
        Self {
            node: NodeId(u32::from_be_bytes([a, b, c, d])),
            incarnation: Incarnation(u32::from_be_bytes([e, f, g, h])),
        }
    }
}

/// Identifies one proposal, so that a retry is recognised. `write_epoch` is the group's at the time the request
/// began: outcomes are kept until it falls below the group's floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    pub write_epoch: WriteEpoch,
    pub session: SessionId,
    pub sequence: u64,
}

/// At most `chunk_size` consecutive bytes of a blob: the unit of placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId {
    pub blob: BlobId,
    pub index: u32,
}

/// The bytes of one slot of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    pub chunk: ChunkId,
    pub slot: SlotIndex,
}

impl ShardId {
    pub const ENCODED_LEN: usize = 21;

    /// Big-endian, so that encoded ids sort like ids.
    pub fn encode(self) -> [u8; Self::ENCODED_LEN] {
        let mut out = [0; Self::ENCODED_LEN];
        out[..16].copy_from_slice(&self.chunk.blob.0.to_be_bytes());
        out[16..20].copy_from_slice(&self.chunk.index.to_be_bytes());
        out[20] = self.slot.0;
        out
    }

    /// `None` unless `bytes` is exactly one encoded id.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::ENCODED_LEN] = bytes.try_into().ok()?;
        let (blob, rest) = bytes.split_first_chunk::<16>()?;
        let (index, slot) = rest.split_first_chunk::<4>()?;
        Some(Self {
            chunk: ChunkId { blob: BlobId(u128::from_be_bytes(*blob)), index: u32::from_be_bytes(*index) },
            slot: SlotIndex(*slot.first()?),
        })
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.blob, self.index)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.chunk, self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard(blob: u128, index: u32, slot: u8) -> ShardId {
        ShardId { chunk: ChunkId { blob: BlobId(blob), index }, slot: SlotIndex(slot) }
    }

    proptest! {
        #[test]
        fn encoded_shard_ids_sort_like_ids(a: (u128, u32, u8), b: (u128, u32, u8)) {
            let (a, b) = (shard(a.0, a.1, a.2), shard(b.0, b.1, b.2));
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
            prop_assert_eq!(ShardId::decode(&a.encode()), Some(a));
        }

        #[test]
        fn raft_ids_carry_node_and_incarnation(node: u32, incarnation: u32) {
            let id = ReplicaId { node: NodeId(node), incarnation: Incarnation(incarnation) };
            prop_assert_eq!(ReplicaId::from_raft_id(id.raft_id()), id);
        }
    }

    #[test]
    fn a_short_shard_id_is_refused() {
        assert_eq!(ShardId::decode(&[0; 20]), None);
    }
}
