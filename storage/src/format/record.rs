//! Records of the log: a header, and the body that describes a shard.

use super::{
    BLOCK, EXTENTS_MAX, RECORD_ALIGN, SEGMENT_BYTES_MAX, SMALL_PAYLOAD_MAX,
    fields::{CRC_LEN, Fields, Sealed, seal, verified},
    segment::{Epoch, SegmentId},
};
use ashlar_hashing::crc64nvme;
use ashlar_types::{ShardId, ShardMeta, UnitSum};

const MAGIC: &[u8; 4] = b"ASLR";
const VERSION: u8 = 1;
const RESERVED: usize = 2;
const ID_PADDING: usize = 3;
/// Lengths before the metadata, and the CRC.
const BODY_LEN_MIN: u64 = 16;
/// A row of the unit table before its CRCs of data units.
const UNIT_LEN: usize = 16;
/// One extent, here and in a checkpoint.
pub(super) const EXTENT_LEN: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RecordKind {
    /// The payload is in the record.
    Small,
    /// The payload is in extents.
    Large,
    Delete,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            Self::Small => 1,
            Self::Large => 2,
            Self::Delete => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Small),
            2 => Some(Self::Large),
            3 => Some(Self::Delete),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) shard: ShardId,
    /// Bytes of all units, unpadded; 0 for a delete.
    pub(crate) payload_len: u64,
    pub(crate) body_len: u32,
    pub(crate) units: u32,
    pub(crate) epoch: Epoch,
}

impl RecordHeader {
    pub(crate) const LEN: usize = 64;

    pub(crate) fn delete(shard: ShardId, epoch: Epoch) -> Self {
        Self { kind: RecordKind::Delete, shard, payload_len: 0, body_len: 0, units: 0, epoch }
    }

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        Sealed::new()
            .put(MAGIC)
            .put(&[VERSION, self.kind.code()])
            .zeros(RESERVED)
            .put(&self.shard.encode())
            .zeros(ID_PADDING)
            .u64(self.payload_len)
            .u32(self.body_len)
            .u32(self.units)
            .u64(self.epoch.0)
            .seal()
    }

    /// Reads the header at the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::LEN }>()?;
        // Before the CRC, which a search for records would else compute at every step.
        Fields(bytes).magic(MAGIC)?;
        let mut fields = Fields(verified(bytes)?);
        fields.magic(MAGIC)?;
        if fields.u8()? != VERSION {
            return None;
        }
        let kind = RecordKind::from_code(fields.u8()?)?;
        fields.zeros(RESERVED)?;
        let shard = fields.shard()?;
        fields.zeros(ID_PADDING)?;
        let header = Self {
            kind,
            shard,
            payload_len: fields.u64()?,
            body_len: fields.u32()?,
            units: fields.u32()?,
            epoch: Epoch(fields.u64()?),
        };
        header.is_sound().then_some(header)
    }

    fn is_sound(&self) -> bool {
        let body_len = u64::from(self.body_len);
        // Each unit has a row in the body, so that a count of units is believed no further than the body goes.
        let describes = body_len >= BODY_LEN_MIN + UNIT_LEN as u64 * u64::from(self.units)
            && body_len <= SEGMENT_BYTES_MAX;
        match self.kind {
            RecordKind::Small => describes && self.payload_len <= SMALL_PAYLOAD_MAX,
            RecordKind::Large => describes && self.payload_len > 0,
            RecordKind::Delete => self.payload_len == 0 && self.body_len == 0 && self.units == 0,
        }
    }

    /// Bytes of the record in the log, padding included.
    pub(crate) fn stored_len(&self) -> u64 {
        let payload = match self.kind {
            RecordKind::Small => self.payload_len,
            RecordKind::Large | RecordKind::Delete => 0,
        };
        stored_len(self.body_len, payload)
    }

    /// Where the payload of a small shard begins in the record.
    #[cfg(test)]
    pub(crate) fn payload_offset(&self) -> u64 {
        Self::LEN as u64 + u64::from(self.body_len)
    }

    /// The body behind this header, if it verifies, and whether the whole record does; a delete does without a body.
    /// `record` begins with the header and may go on behind the record.
    pub(crate) fn read_record(&self, record: &[u8]) -> (Option<Body>, bool) {
        if self.kind == RecordKind::Delete {
            return (None, true);
        }
        let mut fields = Fields(record);
        let _header = fields.slice(Self::LEN);
        let bytes = usize::try_from(self.body_len).ok().and_then(|len| fields.slice(len));
        let Some(body) = bytes.and_then(|bytes| Body::decode(bytes, self)) else { return (None, false) };
        let sound = match self.kind {
            RecordKind::Small => {
                let payload = usize::try_from(self.payload_len).ok().and_then(|len| fields.slice(len));
                payload.is_some_and(|payload| payload_matches(&body.units, payload))
            }
            RecordKind::Large | RecordKind::Delete => true,
        };
        (Some(body), sound)
    }
}

/// Bytes of a record in the log with so much of payload behind its body; `u64::MAX` if none can be that long.
pub(super) fn stored_len(body_len: u32, payload_len: u64) -> u64 {
    (RecordHeader::LEN as u64 + u64::from(body_len))
        .checked_add(payload_len)
        .and_then(|len| len.checked_next_multiple_of(RECORD_ALIGN))
        .unwrap_or(u64::MAX)
}

/// A run of bytes of one shard in an extent segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Extent {
    pub(crate) segment: SegmentId,
    /// Of the segment's use, so that an extent is not looked for in another one.
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
    /// Bytes of payload: the last extent of a shard may end within a block.
    pub(crate) len: u64,
}

impl Extent {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for field in [self.segment.0, self.epoch.0, self.offset, self.len] {
            out.extend(field.to_le_bytes());
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            segment: SegmentId(fields.u64()?),
            epoch: Epoch(fields.u64()?),
            offset: fields.u64()?,
            len: fields.u64()?,
        })
    }

    /// Whether it lies behind the header of a segment, on whole blocks.
    fn is_placed(&self) -> bool {
        let end = self.offset.checked_add(self.len);
        self.len > 0
            && self.offset >= BLOCK
            && self.offset.is_multiple_of(BLOCK)
            && end.is_some_and(|end| end <= SEGMENT_BYTES_MAX)
    }
}

/// Whether these extents, one after another, can be a payload of this length.
pub(super) fn extents_hold(extents: &[Extent], payload_len: u64) -> bool {
    let Some((last, before)) = extents.split_last() else { return payload_len == 0 };
    let sum = extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.len));
    extents.len() <= EXTENTS_MAX
        && before.iter().all(|extent| extent.is_placed() && extent.len.is_multiple_of(BLOCK))
        && last.is_placed()
        && sum == Some(payload_len)
}

/// What a record says of its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) meta: ShardMeta,
    pub(crate) units: Vec<UnitSum>,
    /// None in a small shard.
    pub(crate) extents: Vec<Extent>,
}

impl Body {
    /// `None` if a length or a count exceeds its field.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        if self.extents.len() > EXTENTS_MAX {
            return None;
        }
        let meta = postcard::to_stdvec(&self.meta).ok()?;
        let table: usize = self.units.iter().map(|unit| UNIT_LEN + 8 * unit.data.len()).sum();
        let mut out = Vec::with_capacity(8 + meta.len() + table + EXTENT_LEN * self.extents.len() + CRC_LEN);
        out.extend(u32::try_from(meta.len()).ok()?.to_le_bytes());
        out.extend(u32::try_from(self.extents.len()).ok()?.to_le_bytes());
        out.extend(meta);
        for unit in &self.units {
            out.extend(unit.len.to_le_bytes());
            out.extend(u32::try_from(unit.data.len()).ok()?.to_le_bytes());
            out.extend(unit.crc64.to_le_bytes());
            out.extend(unit.data.iter().flat_map(|crc| crc.to_le_bytes()));
        }
        for extent in &self.extents {
            extent.put(&mut out);
        }
        seal(&mut out);
        (out.len() as u64 <= SEGMENT_BYTES_MAX).then_some(out)
    }

    /// Reads the body that `header` announces; `bytes` is exactly it.
    pub(crate) fn decode(bytes: &[u8], header: &RecordHeader) -> Option<Self> {
        if bytes.len() != usize::try_from(header.body_len).ok()? {
            return None;
        }
        let mut fields = Fields(verified(bytes)?);
        let meta_len = usize::try_from(fields.u32()?).ok()?;
        let extent_count = usize::try_from(fields.u32()?).ok()?;
        let meta: ShardMeta = match postcard::take_from_bytes(fields.slice(meta_len)?) {
            Ok((meta, [])) => meta,
            Ok(_) | Err(_) => return None,
        };
        let units = take_units(&mut fields, usize::try_from(header.units).ok()?)?;
        let mut extents = Vec::with_capacity(fields.plausible(extent_count, EXTENT_LEN));
        for _ in 0..extent_count {
            extents.push(Extent::take(&mut fields)?);
        }
        let body = Self { meta, units, extents };
        (fields.is_empty() && body.agrees(header)).then_some(body)
    }

    fn agrees(&self, header: &RecordHeader) -> bool {
        // At most 2^26 units fit a body, of less than 2^32 bytes each.
        let payload_len: u64 = self.units.iter().map(|unit| u64::from(unit.len)).sum();
        let placed = match header.kind {
            RecordKind::Small => self.extents.is_empty(),
            RecordKind::Large => extents_hold(&self.extents, payload_len),
            RecordKind::Delete => false,
        };
        placed && payload_len == header.payload_len && self.meta.id == header.shard
    }
}

fn take_units(fields: &mut Fields<'_>, count: usize) -> Option<Vec<UnitSum>> {
    let mut units = Vec::with_capacity(fields.plausible(count, UNIT_LEN));
    for _ in 0..count {
        let (len, data_count, crc64) = (fields.u32()?, usize::try_from(fields.u32()?).ok()?, fields.u64()?);
        let mut data = Vec::with_capacity(fields.plausible(data_count, 8));
        for _ in 0..data_count {
            data.push(fields.u64()?);
        }
        units.push(UnitSum { len, crc64, data });
    }
    Some(units)
}

/// Whether `payload` is these units, one after another, and each is what its CRC says.
pub(crate) fn payload_matches(units: &[UnitSum], payload: &[u8]) -> bool {
    let mut rest = Fields(payload);
    let sound = units.iter().all(|unit| {
        let bytes = usize::try_from(unit.len).ok().and_then(|len| rest.slice(len));
        bytes.is_some_and(|bytes| crc64nvme(bytes) == unit.crc64)
    });
    sound && rest.is_empty()
}
