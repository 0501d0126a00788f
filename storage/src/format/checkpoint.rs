//! Checkpoints: the index at a position of the log, with the segments of the drive.
//!
//! Owns the bytes. A checkpoint decodes only if all of it verifies.

use super::{
    BLOCK, DecodeError, FORMAT_VERSION, RECORD_ALIGN, RECORD_NUMBER_MAX, SEGMENT_BYTES_MAX,
    SMALL_PAYLOAD_MAX, check_version,
    fields::{CRC_LEN, Fields, seal, verified},
    record::{EXTENT_LEN, Extent, extents_hold, stored_len},
    segment::{Epoch, SegmentId, SegmentKind},
};
use ashlar_hashing::Crc64Nvme;
use ashlar_types::{DriveUuid, ShardId};

const MAGIC: &[u8; 8] = b"ASHLARCK";
/// The header without its rows and its CRC.
const HEADER_LEN: usize = 96;
const ROW_LEN: usize = 40;
const ROW_RESERVED: usize = 8;
/// An entry without its extents.
const ENTRY_LEN: usize = 68;
/// A block is handed out when its entries have this many bytes or more: few enough to hold twice, enough to write at
/// the speed of the drive.
const BLOCK_LEN: usize = 256 * 1024;
/// Before the entries of a block: their length and their count.
const BLOCK_PREFIX: usize = 8;
const FOOTER_LEN: usize = 24;
const FLAG_DAMAGED: u8 = 1;

/// Where the next batch of the log goes, and what it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPosition {
    pub(crate) segment: SegmentId,
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
    pub(crate) next_record: u64,
    /// CRC field of the last batch's header; 0 if there is none.
    pub(crate) previous: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentState {
    Open,
    /// Nothing is written to it until it is recycled.
    Sealed,
}

impl SegmentState {
    fn code(self) -> u32 {
        match self {
            Self::Open => 1,
            Self::Sealed => 2,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Sealed),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) id: SegmentId,
    pub(crate) epoch: Epoch,
    pub(crate) kind: SegmentKind,
    pub(crate) state: SegmentState,
    /// Bytes from the segment's begin on, its header included.
    pub(crate) written: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointHeader {
    pub(crate) drive: DriveUuid,
    pub(crate) number: u64,
    pub(crate) position: LogPosition,
    pub(crate) next_segment: SegmentId,
    pub(crate) segments: Vec<SegmentRow>,
}

/// Where a shard is, as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Number of the record.
    pub(crate) record: u64,
    /// Log segment and offset of the record.
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
    /// Length of the record with padding.
    pub(crate) stored_len: u32,
    pub(crate) body_len: u32,
    pub(crate) payload_len: u64,
    pub(crate) units: u32,
    /// The record was found damaged; then the extents may be unknown.
    pub(crate) damaged: bool,
    /// None if the payload is in the record.
    pub(crate) extents: Box<[Extent]>,
}

impl Entry {
    /// Whether a record can be as this entry says.
    pub(crate) fn is_sound(&self) -> bool {
        let stored = u64::from(self.stored_len);
        let end = self.offset.checked_add(stored);
        let placed = self.offset > BLOCK
            && self.offset.is_multiple_of(RECORD_ALIGN)
            && end.is_some_and(|end| end <= SEGMENT_BYTES_MAX);
        let small = self.payload_len <= SMALL_PAYLOAD_MAX
            && stored == stored_len(self.body_len, self.payload_len)
            && self.extents.is_empty();
        let large = stored == stored_len(self.body_len, 0)
            && self.payload_len > 0
            && (extents_hold(&self.extents, self.payload_len) || (self.damaged && self.extents.is_empty()));
        placed && (small || large)
    }

    fn put(&self, shard: ShardId, out: &mut Vec<u8>) {
        let extents =
            u16::try_from(self.extents.len()).expect("a sound entry has as many as the field holds");
        out.extend(shard.encode());
        out.push(if self.damaged { FLAG_DAMAGED } else { 0 });
        out.extend(extents.to_le_bytes());
        out.extend(self.units.to_le_bytes());
        out.extend(self.record.to_le_bytes());
        out.extend(self.segment.0.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.stored_len.to_le_bytes());
        out.extend(self.body_len.to_le_bytes());
        out.extend(self.payload_len.to_le_bytes());
        for extent in &self.extents {
            extent.put(out);
        }
    }

    fn take(fields: &mut Fields<'_>) -> Option<(ShardId, Self)> {
        let shard = fields.shard()?;
        let damaged = match fields.u8()? {
            0 => false,
            FLAG_DAMAGED => true,
            _ => return None,
        };
        let extent_count = usize::from(fields.u16()?);
        let units = fields.u32()?;
        let mut entry = Self {
            record: fields.u64()?,
            segment: SegmentId(fields.u64()?),
            offset: fields.u64()?,
            stored_len: fields.u32()?,
            body_len: fields.u32()?,
            payload_len: fields.u64()?,
            units,
            damaged,
            extents: Box::default(),
        };
        let mut extents = Vec::with_capacity(fields.plausible(extent_count, EXTENT_LEN));
        for _ in 0..extent_count {
            extents.push(Extent::take(fields)?);
        }
        entry.extents = extents.into();
        entry.is_sound().then_some((shard, entry))
    }
}

impl CheckpointHeader {
    fn encode(&self) -> Vec<u8> {
        let len = HEADER_LEN + ROW_LEN * self.segments.len() + CRC_LEN;
        let len_field = u32::try_from(len).expect("a drive has fewer than 2^26 segments");
        let mut out = Vec::with_capacity(len);
        out.extend(MAGIC);
        out.extend(FORMAT_VERSION.to_le_bytes());
        out.extend(len_field.to_le_bytes());
        out.extend(self.drive.0.to_le_bytes());
        for field in [
            self.number,
            self.position.segment.0,
            self.position.epoch.0,
            self.position.offset,
            self.position.next_record,
            self.position.previous,
            self.next_segment.0,
            self.segments.len() as u64,
        ] {
            out.extend(field.to_le_bytes());
        }
        for row in &self.segments {
            out.extend(row.id.0.to_le_bytes());
            out.extend(row.epoch.0.to_le_bytes());
            out.extend(row.kind.code().to_le_bytes());
            out.extend(row.state.code().to_le_bytes());
            out.extend(row.written.to_le_bytes());
            out.extend([0; ROW_RESERVED]);
        }
        seal(&mut out);
        out
    }

    /// Takes the header off the front, and gives its CRC field with it.
    fn take(file: &mut Fields<'_>) -> Result<(Self, u64), DecodeError> {
        let mut fields = file.clone();
        fields.magic(MAGIC).ok_or(DecodeError::Damaged("it does not begin with the magic number"))?;
        let len = (fields.u32(), fields.u32());
        let (Some(version), Some(len)) = len else { return Err(DecodeError::Damaged("it is too short")) };
        let bytes = usize::try_from(len).ok().and_then(|len| file.slice(len));
        let bytes = bytes.ok_or(DecodeError::Damaged("it is too short"))?;
        let content = verified(bytes).ok_or(DecodeError::Damaged("the header's checksum does not match"))?;
        check_version(version)?;
        let crc = bytes.last_chunk::<CRC_LEN>().map_or(0, |crc| u64::from_le_bytes(*crc));
        let header = Self::fields(Fields(content));
        Ok((header.ok_or(DecodeError::Damaged("the header has a value that never existed"))?, crc))
    }

    fn fields(mut fields: Fields<'_>) -> Option<Self> {
        // Magic number, version and length, which are right.
        fields.slice(16)?;
        let drive = DriveUuid(fields.u128()?);
        let number = fields.u64()?;
        let position = LogPosition {
            segment: SegmentId(fields.u64()?),
            epoch: Epoch(fields.u64()?),
            offset: fields.u64()?,
            next_record: fields.u64()?,
            previous: fields.u64()?,
        };
        let next_segment = SegmentId(fields.u64()?);
        let count = usize::try_from(fields.u64()?).ok()?;
        if count.checked_mul(ROW_LEN)? != fields.len() {
            return None;
        }
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let row = SegmentRow {
                id: SegmentId(fields.u64()?),
                epoch: Epoch(fields.u64()?),
                kind: SegmentKind::from_code(fields.u32()?)?,
                state: SegmentState::from_code(fields.u32()?)?,
                written: fields.u64()?,
            };
            fields.zeros(ROW_RESERVED)?;
            if row.written > SEGMENT_BYTES_MAX {
                return None;
            }
            segments.push(row);
        }
        let placed = position.offset <= SEGMENT_BYTES_MAX
            && position.offset.is_multiple_of(BLOCK)
            && position.next_record <= RECORD_NUMBER_MAX;
        placed.then_some(Self { drive, number, position, next_segment, segments })
    }
}

/// Makes the bytes of a checkpoint, from the front to the end, without ever holding all of them: first
/// [`Self::header_bytes`], then each block that [`Self::push`] gives, then [`Self::finish`].
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    header: Vec<u8>,
    /// The block being filled, with room for its prefix.
    block: Vec<u8>,
    block_count: u32,
    count: u64,
    last: Option<ShardId>,
    /// Over the CRC fields of the header and the blocks.
    chain: Crc64Nvme,
}

impl CheckpointWriter {
    pub(crate) fn new(header: &CheckpointHeader) -> Self {
        let header = header.encode();
        let mut chain = Crc64Nvme::new();
        chain.update(header.last_chunk::<CRC_LEN>().expect("the header ends with its CRC"));
        Self { header, block: vec![0; BLOCK_PREFIX], block_count: 0, count: 0, last: None, chain }
    }

    pub(crate) fn header_bytes(&self) -> &[u8] {
        &self.header
    }

    /// Adds an entry, and gives a block once one is full. Entries come in the order of their ids.
    ///
    /// # Panics
    /// If the order is broken or no record can be as the entry says: such a checkpoint would be found damaged only
    /// when it is needed.
    pub(crate) fn push(&mut self, shard: ShardId, entry: &Entry) -> Option<Vec<u8>> {
        assert!(self.last.is_none_or(|last| last < shard), "entries come in the order of their ids");
        assert!(entry.is_sound(), "no record can be as the entry of {shard} says: {entry:?}");
        self.last = Some(shard);
        entry.put(shard, &mut self.block);
        self.block_count += 1;
        self.count += 1;
        (self.block.len() >= BLOCK_PREFIX + BLOCK_LEN).then(|| self.seal_block())
    }

    /// The last block, if there is one, and the footer.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut out = if self.block_count > 0 { self.seal_block() } else { Vec::new() };
        out.extend([0; 8]);
        out.extend(self.count.to_le_bytes());
        out.extend(self.chain.finish().to_le_bytes());
        out
    }

    fn seal_block(&mut self) -> Vec<u8> {
        let room = BLOCK_LEN + BLOCK_LEN / 64;
        let mut next = Vec::with_capacity(room);
        next.extend([0; BLOCK_PREFIX]);
        let mut block = std::mem::replace(&mut self.block, next);
        let len =
            u32::try_from(block.len() - BLOCK_PREFIX).expect("one entry ends a block, and has 2 MiB at most");
        let (len_field, rest) = block.split_first_chunk_mut::<4>().expect("a block begins with its prefix");
        *len_field = len.to_le_bytes();
        let (count_field, _) = rest.split_first_chunk_mut::<4>().expect("a block begins with its prefix");
        *count_field = self.block_count.to_le_bytes();
        self.block_count = 0;
        self.chain.update(&seal(&mut block).to_le_bytes());
        block
    }
}

/// Reads a whole checkpoint. The entries are in the order of their ids, each of which is there once.
pub(crate) fn decode_checkpoint(
    bytes: &[u8],
) -> Result<(CheckpointHeader, Vec<(ShardId, Entry)>), DecodeError> {
    let mut file = Fields(bytes);
    let (header, crc) = CheckpointHeader::take(&mut file)?;
    let mut chain = Crc64Nvme::new();
    chain.update(&crc.to_le_bytes());
    let mut entries = Vec::new();
    while file.len() > FOOTER_LEN {
        let crc =
            take_block(&mut file, &mut entries).ok_or(DecodeError::Damaged("a block does not verify"))?;
        chain.update(&crc.to_le_bytes());
    }
    take_footer(file, entries.len(), chain).ok_or(DecodeError::Damaged("the footer does not verify"))?;
    Ok((header, entries))
}

/// Takes a block off the front and gives its CRC field.
fn take_block(file: &mut Fields<'_>, entries: &mut Vec<(ShardId, Entry)>) -> Option<u64> {
    let len = usize::try_from(file.clone().u32()?).ok()?;
    let bytes = file.slice(len.checked_add(BLOCK_PREFIX + CRC_LEN)?)?;
    let mut fields = Fields(verified(bytes)?);
    fields.u32()?;
    let count = usize::try_from(fields.u32()?).ok()?;
    if count == 0 {
        return None;
    }
    entries.reserve(fields.plausible(count, ENTRY_LEN));
    for _ in 0..count {
        let (shard, entry) = Entry::take(&mut fields)?;
        if entries.last().is_some_and(|(last, _)| *last >= shard) {
            return None;
        }
        entries.push((shard, entry));
    }
    let crc = bytes.last_chunk::<CRC_LEN>()?;
    fields.is_empty().then(|| u64::from_le_bytes(*crc))
}

/// Of what no block can be in, which is the footer or less.
fn take_footer(mut file: Fields<'_>, count: usize, chain: Crc64Nvme) -> Option<()> {
    file.zeros(8)?;
    (file.u64()? == count as u64 && file.u64()? == chain.finish()).then_some(())
}
