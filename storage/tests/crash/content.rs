//! What the shards of a test hold: bytes, lengths and descriptions that follow from a number, the *round*.
//!
//! Shares nothing with the product, not even the CRC: a fault of the product's own would not show otherwise.

use ashlar_storage::{ShardUnit, UnitRead};
use ashlar_types::{
    BlobId, BucketId, ChunkId, FailureDomain, GroupId, Interval, ObjectKey, PgId, Profile, ShardId,
    ShardMeta, ShardOwner, ShardStat, SlotIndex, UnitSum, VersionUid, WriteEpoch,
};
use bytes::Bytes;
use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// How large a shard is. The small lane of a drive with segments of 64 KiB ends at 8192 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    NoUnits,
    EmptyUnit,
    Tiny,
    Odd,
    ManyUnits,
    /// The longest of the small lane.
    Limit,
    /// The shortest beyond it.
    OverLimit,
    /// Several units in extents.
    Large,
    /// More than a segment of 64 KiB holds.
    Huge,
}

pub(crate) const CLASSES: [Class; 9] = [
    Class::NoUnits,
    Class::EmptyUnit,
    Class::Tiny,
    Class::Odd,
    Class::ManyUnits,
    Class::Limit,
    Class::OverLimit,
    Class::Large,
    Class::Huge,
];

/// Names one content; no two writes of a run have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Round(pub(crate) u64);

impl Round {
    pub(crate) fn new(sequence: u64, class: Class) -> Self {
        let class = CLASSES.iter().position(|known| *known == class).expect("the list has all classes");
        Self(sequence * 16 + class as u64)
    }

    fn class(self) -> Class {
        CLASSES[usize::try_from(self.0 % 16).expect("it is below 16") % CLASSES.len()]
    }

    fn unit_lens(self) -> Vec<u64> {
        let mut dice = Dice::new(self.0);
        match self.class() {
            Class::NoUnits => Vec::new(),
            Class::EmptyUnit => vec![0],
            Class::Tiny => vec![1 + dice.below(40)],
            Class::Odd => (0..1 + dice.below(3)).map(|_| dice.below(2000)).collect(),
            Class::ManyUnits => (0..20 + dice.below(20)).map(|_| dice.below(150)).collect(),
            Class::Limit => vec![4096, 4000, 96],
            Class::OverLimit => vec![4096, 4097],
            Class::Large => (0..2 + dice.below(3)).map(|_| 5000 + dice.below(9000)).collect(),
            Class::Huge => (0..5).map(|_| 14_000 + dice.below(1500)).collect(),
        }
    }

    /// Half of the shards are parity, whose units carry the CRCs of a stripe.
    fn is_parity(self) -> bool {
        (self.0 / 16) % 2 == 1
    }
}

/// The contents of one run, made once each.
#[derive(Debug, Default)]
pub(crate) struct Contents(RefCell<HashMap<Round, Rc<[ShardUnit]>>>);

impl Contents {
    pub(crate) fn units(&self, round: Round) -> Rc<[ShardUnit]> {
        Rc::clone(self.0.borrow_mut().entry(round).or_insert_with(|| units(round).into()))
    }

    /// Which round a shard is of, or how it differs from what that round wrote.
    pub(crate) fn identify(
        &self,
        number: u8,
        stat: &ShardStat,
        read: &[UnitRead],
    ) -> Result<Round, &'static str> {
        let round = Round(stat.meta.chunk_len);
        let units = self.units(round);
        let len: u64 = units.iter().map(|unit| unit.bytes.len() as u64).sum();
        if stat.meta != meta(number, round) {
            return Err("its description is of no shard that was written");
        }
        if (stat.units as usize, stat.len) != (units.len(), len) {
            return Err("its length is wrong");
        }
        let same = |(read, unit): (&UnitRead, &ShardUnit)| read.sum == unit.sum && read.bytes == unit.bytes;
        if read.len() != units.len() || !read.iter().zip(units.iter()).all(same) {
            return Err("its bytes are wrong");
        }
        Ok(round)
    }
}

fn units(round: Round) -> Vec<ShardUnit> {
    let mut dice = Dice::new(!round.0);
    let unit = |len: u64| {
        let mut bytes = vec![0; usize::try_from(len).expect("units of a test are small")];
        dice.fill(&mut bytes);
        let data = if round.is_parity() { (0..4).map(|_| dice.next()).collect() } else { Vec::new() };
        let len = u32::try_from(len).expect("units of a test are small");
        ShardUnit { sum: UnitSum { len, crc64: crc64(&bytes), data }, bytes: Bytes::from(bytes) }
    };
    round.unit_lens().into_iter().map(unit).collect()
}

/// Ids whose order is not the order of their numbers.
pub(crate) fn shard_id(number: u8) -> ShardId {
    let blob = (u128::from(number.reverse_bits()) << 100) | u128::from(number);
    ShardId {
        chunk: ChunkId { blob: BlobId(blob), index: u32::from(number % 3) },
        slot: SlotIndex(number % 6),
    }
}

/// The inverse of [`shard_id`], for ids that a drive lists.
pub(crate) fn number_of(id: ShardId) -> Option<u8> {
    let number = u8::try_from(id.chunk.blob.0 & 0xff).ok()?;
    (shard_id(number) == id).then_some(number)
}

/// Descriptions differ in length, so that records do.
pub(crate) fn meta(number: u8, round: Round) -> ShardMeta {
    let key = "k".repeat(1 + usize::try_from(round.0 % 50).expect("it is below 50"));
    ShardMeta {
        id: shard_id(number),
        pg: PgId(1),
        interval: Interval(2),
        profile: Profile::new(4, 2, FailureDomain::Node).expect("4+2 is a profile"),
        chunk_len: round.0,
        group: GroupId(1),
        write_epoch: WriteEpoch(4),
        owner: ShardOwner::Version(VersionUid(u128::from(round.0))),
        bucket: BucketId(5),
        key: ObjectKey::parse(&key).expect("letters are a key"),
    }
}

/// splitmix64: a repeatable source of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is small and not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

const CRC_TABLE: [u64; 256] = crc_table();

const fn crc_table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x9a6c_9329_ac4b_c9b5 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// CRC-64/NVME, by the book.
fn crc64(bytes: &[u8]) -> u64 {
    let step = |crc: u64, byte: &u8| CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_the_published_one() {
        assert_eq!(crc64(b"123456789"), 0xae8b_1486_0a79_9888);
    }

    #[test]
    fn rounds_cover_what_the_lanes_tell_apart() {
        let len = |class| units(Round::new(3, class)).iter().map(|unit| unit.bytes.len()).sum::<usize>();
        assert_eq!((len(Class::NoUnits), len(Class::Limit), len(Class::OverLimit)), (0, 8192, 8193));
        assert!(len(Class::Huge) > 65_536 && units(Round::new(3, Class::Huge)).len() == 5);
        assert_eq!(number_of(shard_id(200)), Some(200));
    }
}
