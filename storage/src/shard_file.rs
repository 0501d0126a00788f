//! The bytes of a shard file: header, payload, description (`docs/formats/drive.md`).
//!
//! Owns encoding and decoding. Invariant: every byte of a file is covered by a CRC, and lengths are used only after
//! theirs was verified.

use ashlar_hashing::crc64nvme;
use ashlar_types::{BlobId, ChunkId, ShardId, ShardMeta, SlotIndex, UnitSum};

mod reading;

pub(crate) use reading::{OpenShard, ReadFault};

/// Where the payload begins.
pub(crate) const HEADER_LEN: usize = 72;
const HEADER_BODY_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"ASHLARSH";
/// Format of one shard file; goes with the format of the drive.
const FORMAT_VERSION: u32 = 1;
/// Bytes of a row of the unit table before its CRCs of data units.
const ROW_LEN: usize = 16;

/// A file that does not verify, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) &'static str);

/// What the header says of the rest of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: ShardId,
    pub(crate) units: u32,
    pub(crate) payload_len: u64,
    pub(crate) meta_len: u32,
    pub(crate) table_len: u32,
    pub(crate) description_crc: u64,
}

/// What follows the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) meta: ShardMeta,
    pub(crate) units: Vec<UnitSum>,
}

/// Reads little-endian numbers from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.units.to_le_bytes());
        out[16..24].copy_from_slice(&self.payload_len.to_le_bytes());
        out[24..28].copy_from_slice(&self.meta_len.to_le_bytes());
        out[28..32].copy_from_slice(&self.table_len.to_le_bytes());
        out[32..40].copy_from_slice(&self.description_crc.to_le_bytes());
        out[40..40 + ShardId::ENCODED_LEN].copy_from_slice(&self.id.encode());
        let crc = crc64nvme(&out[..HEADER_BODY_LEN]);
        out[HEADER_BODY_LEN..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Damage> {
        let (body, crc) = bytes.split_at(HEADER_BODY_LEN);
        if !body.starts_with(MAGIC) {
            return Err(Damage("the header does not begin with the magic number"));
        }
        if crc64nvme(body).to_le_bytes() != crc {
            return Err(Damage("the header does not match its checksum"));
        }
        Self::fields(&body[MAGIC.len()..]).ok_or(Damage("the header has a format that never existed"))
    }

    fn fields(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        if fields.u32()? != FORMAT_VERSION {
            return None;
        }
        Some(Self {
            units: fields.u32()?,
            payload_len: fields.u64()?,
            meta_len: fields.u32()?,
            table_len: fields.u32()?,
            description_crc: fields.u64()?,
            id: ShardId::decode(&fields.take::<{ ShardId::ENCODED_LEN }>()?)?,
        })
    }

    /// Length of the whole file; `None` if no file can be that long.
    pub(crate) fn file_len(&self) -> Option<u64> {
        (HEADER_LEN as u64)
            .checked_add(self.payload_len)?
            .checked_add(u64::from(self.meta_len))?
            .checked_add(u64::from(self.table_len))
    }
}

impl Description {
    /// The bytes after the payload, with the header that goes before it. `None` if a length does not fit its
    /// field.
    pub(crate) fn encode(&self) -> Option<(Header, Vec<u8>)> {
        let mut out = postcard::to_stdvec(&self.meta).ok()?;
        let meta_len = out.len();
        let mut payload_len = 0;
        for unit in &self.units {
            payload_len += u64::from(unit.len);
            out.extend(unit.len.to_le_bytes());
            out.extend(unit.crc64.to_le_bytes());
            out.extend(u32::try_from(unit.data.len()).ok()?.to_le_bytes());
            out.extend(unit.data.iter().flat_map(|crc| crc.to_le_bytes()));
        }
        let header = Header {
            id: self.meta.id,
            units: u32::try_from(self.units.len()).ok()?,
            payload_len,
            meta_len: u32::try_from(meta_len).ok()?,
            table_len: u32::try_from(out.len() - meta_len).ok()?,
            description_crc: crc64nvme(&out),
        };
        Some((header, out))
    }

    pub(crate) fn decode(header: &Header, bytes: &[u8]) -> Result<Self, Damage> {
        if crc64nvme(bytes) != header.description_crc {
            return Err(Damage("the description does not match its checksum"));
        }
        let meta_len = usize::try_from(header.meta_len).map_err(|_| Damage("the metadata is too long"))?;
        let (meta, table) =
            bytes.split_at_checked(meta_len).ok_or(Damage("the metadata does not fit the description"))?;
        let meta: ShardMeta = match postcard::take_from_bytes(meta) {
            Ok((meta, [])) => meta,
            Ok(_) | Err(_) => return Err(Damage("the metadata is not readable")),
        };
        let units = Self::table(header.units, table).ok_or(Damage("the unit table is not readable"))?;
        let payload_len: u64 = units.iter().map(|unit| u64::from(unit.len)).sum();
        if meta.id != header.id || payload_len != header.payload_len {
            return Err(Damage("header and description contradict each other"));
        }
        Ok(Self { meta, units })
    }

    fn table(units: u32, bytes: &[u8]) -> Option<Vec<UnitSum>> {
        let units = usize::try_from(units).ok()?;
        let mut fields = Fields(bytes);
        // Each row has at least its fixed part, so a false count does not reserve memory.
        let mut table = Vec::with_capacity(units.min(bytes.len() / ROW_LEN));
        for _ in 0..units {
            let (len, crc64, count) = (fields.u32()?, fields.u64()?, fields.u32()?);
            let data = (0..count).map(|_| fields.u64()).collect::<Option<Vec<_>>>()?;
            table.push(UnitSum { len, crc64, data });
        }
        fields.0.is_empty().then_some(table)
    }
}

/// Name of the file of a shard, within the directory of its first byte.
pub(crate) fn file_name(shard: ShardId) -> String {
    shard.to_string()
}

/// `None` for a name that is not exactly what [`file_name`] makes.
pub(crate) fn parse_file_name(name: &str) -> Option<ShardId> {
    let mut parts = name.split('.');
    let blob: BlobId = parts.next()?.parse().ok()?;
    let index = parts.next()?.parse().ok()?;
    let slot = parts.next()?.parse().ok()?;
    let shard = ShardId { chunk: ChunkId { blob, index }, slot: SlotIndex(slot) };
    // Rejects upper case, signs, leading zeros and what comes after the slot.
    (file_name(shard) == name).then_some(shard)
}

/// The directory that a shard is in.
pub(crate) fn first_byte(shard: ShardId) -> u8 {
    shard.chunk.blob.0.to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::{
        BucketId, FailureDomain, GroupId, Interval, ObjectKey, PgId, Profile, ShardOwner, VersionUid,
        WriteEpoch,
    };
    use proptest::prelude::*;

    fn shard(blob: u128, index: u32, slot: u8) -> ShardId {
        ShardId { chunk: ChunkId { blob: BlobId(blob), index }, slot: SlotIndex(slot) }
    }

    fn description(id: ShardId, units: Vec<UnitSum>) -> Description {
        let meta = ShardMeta {
            id,
            pg: PgId(7),
            interval: Interval(3),
            profile: Profile::new(4, 2, FailureDomain::Node).unwrap(),
            chunk_len: 1 << 20,
            group: GroupId(2),
            write_epoch: WriteEpoch(9),
            owner: ShardOwner::Version(VersionUid(5)),
            bucket: BucketId(11),
            key: ObjectKey::parse("a/b").unwrap(),
        };
        Description { meta, units }
    }

    proptest! {
        #[test]
        fn headers_and_descriptions_are_read_back(
            id: (u128, u32, u8),
            units in prop::collection::vec((0..1_u32 << 22, any::<u64>(), prop::collection::vec(any::<u64>(), 0..5)), 0..20),
        ) {
            let units = units.into_iter().map(|(len, crc64, data)| UnitSum { len, crc64, data }).collect();
            let description = description(shard(id.0, id.1, id.2), units);
            let (header, bytes) = description.encode().unwrap();
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
            prop_assert_eq!(Description::decode(&header, &bytes), Ok(description));
        }

        #[test]
        fn any_bytes_under_a_right_checksum_are_parsed_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300), units: u32, meta_len in 0..300_u32,
        ) {
            let header = Header {
                id: shard(1, 2, 3),
                units,
                payload_len: 0,
                meta_len,
                table_len: 0,
                description_crc: crc64nvme(&bytes),
            };
            prop_assert!(Description::decode(&header, &bytes).is_err());
        }

        #[test]
        fn file_names_are_read_back(id: (u128, u32, u8)) {
            let id = shard(id.0, id.1, id.2);
            prop_assert_eq!(parse_file_name(&file_name(id)), Some(id));
        }
    }

    #[test]
    fn names_that_only_look_like_shards_are_not_taken_for_one() {
        let name = file_name(shard(0xab, 1, 2));
        assert_eq!(name, "000000000000000000000000000000ab.1.2");
        assert!(parse_file_name(&name).is_some());
        for bad in [
            "000000000000000000000000000000AB.1.2",
            "ab.1.2",
            "000000000000000000000000000000ab.01.2",
            "000000000000000000000000000000ab.+1.2",
            "000000000000000000000000000000ab.1.256",
            "000000000000000000000000000000ab.1.2.3",
            "000000000000000000000000000000ab.1",
            "superblock",
            "",
        ] {
            assert_eq!(parse_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_bytes_of_the_header_do_not_change() {
        let header = Header {
            id: shard(0x0102, 3, 4),
            units: 5,
            payload_len: 6,
            meta_len: 7,
            table_len: 8,
            description_crc: 9,
        };
        let mut expected = b"ASHLARSH\x01\0\0\0\x05\0\0\0\x06\0\0\0\0\0\0\0\x07\0\0\0\x08\0\0\0".to_vec();
        expected.extend(b"\x09\0\0\0\0\0\0\0");
        expected.extend([0; 14]);
        expected.extend(b"\x01\x02\0\0\0\x03\x04\0\0\0");
        assert_eq!(header.encode()[..HEADER_BODY_LEN], expected);
    }
}
