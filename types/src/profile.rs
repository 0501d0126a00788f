//! Profiles: how the bytes of a storage class are coded and spread.

use crate::limits::{KIB, MIB, SLOTS_MAX};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What may fail together, from the smallest up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureDomain {
    /// One node holds everything: only drives fail independently.
    Drive,
    #[default]
    Node,
    Rack,
    Zone,
}

/// k data and m parity slots with their geometry. Immutable once it is in the cluster map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Profile {
    k: u8,
    m: u8,
    stripe_unit: u32,
    chunk_size: u64,
    pub domain: FailureDomain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("a profile is written k+m, for example 4+2")]
    Syntax,
    #[error("a profile has at least one data slot and at most {SLOTS_MAX} slots in all")]
    Slots,
    #[error("a stripe unit is a positive multiple of 64 bytes")]
    StripeUnit,
    #[error("a chunk has 1 byte to 4 GiB")]
    ChunkSize,
}

/// Bytes of a chunk: large enough that placement rows stay few, small enough to spread one object.
pub const CHUNK_SIZE: u64 = 64 * MIB;

impl Profile {
    /// The stripe unit is 64 KiB, 32 KiB when k+m > 12, so that a row of units stays in the L2 cache.
    pub fn new(k: u8, m: u8, domain: FailureDomain) -> Result<Self, ProfileError> {
        if k == 0 || u16::from(k) + u16::from(m) > u16::from(SLOTS_MAX) {
            return Err(ProfileError::Slots);
        }
        let unit = if k + m > 12 { 32 * KIB } else { 64 * KIB };
        let stripe_unit = u32::try_from(unit).expect("a stripe unit is far below 4 GiB");
        Ok(Self { k, m, stripe_unit, chunk_size: CHUNK_SIZE, domain })
    }

    /// The same code over other units, for clusters of small drives and for tests. `stripe_unit` is a positive
    /// multiple of 64 bytes.
    pub fn with_stripe_unit(self, stripe_unit: u32) -> Result<Self, ProfileError> {
        if stripe_unit == 0 || !stripe_unit.is_multiple_of(64) {
            return Err(ProfileError::StripeUnit);
        }
        Ok(Self { stripe_unit, ..self })
    }

    /// The same code over other chunks, of 1 byte to 4 GiB.
    pub fn with_chunk_size(self, chunk_size: u64) -> Result<Self, ProfileError> {
        if !(1..=1 << 32).contains(&chunk_size) {
            return Err(ProfileError::ChunkSize);
        }
        Ok(Self { chunk_size, ..self })
    }

    /// Data slots.
    pub fn k(&self) -> u8 {
        self.k
    }

    /// Parity slots: how many may be lost.
    pub fn m(&self) -> u8 {
        self.m
    }

    pub fn slots(&self) -> u8 {
        self.k + self.m
    }

    /// Bytes of a stripe in one shard, but in a chunk's last stripe.
    pub fn stripe_unit(&self) -> u32 {
        self.stripe_unit
    }

    /// Bytes of a blob placed together.
    pub fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// Data bytes of a full stripe.
    pub fn row_len(&self) -> u64 {
        u64::from(self.stripe_unit) * u64::from(self.k)
    }

    /// Shards that must be flushed before a write is acknowledged: k + ceil(m/2), at least k+1 when m > 0.
    pub fn ack_quorum(&self) -> u8 {
        self.k + self.m.div_ceil(2)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (k, m) = text.split_once('+').ok_or(ProfileError::Syntax)?;
        let number = |text: &str| text.parse().map_err(|_| ProfileError::Syntax);
        Self::new(number(k)?, number(m)?, FailureDomain::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_parse_and_bound_their_slots() {
        let profile: Profile = "8+4".parse().unwrap();
        assert_eq!(
            (profile.k(), profile.m(), profile.stripe_unit(), profile.ack_quorum()),
            (8, 4, 65536, 10)
        );
        assert_eq!("12+4".parse::<Profile>().unwrap().stripe_unit(), 32768);
        assert_eq!("1+0".parse::<Profile>().unwrap().ack_quorum(), 1);
        for bad in ["", "4", "4+", "0+2", "30+3", "255+255", "a+b"] {
            assert!(bad.parse::<Profile>().is_err(), "{bad}");
        }
    }
}
