//! Batches: the records that one write and one flush make durable, and how a whole one is told from any other bytes.

use super::{
    BLOCK, RECORD_NUMBER_MAX, SEGMENT_BYTES_MAX,
    fields::{CRC_LEN, Fields, Sealed, verified},
    record::{Body, RecordHeader},
    segment::Epoch,
};
use ashlar_hashing::Crc64Nvme;

const MAGIC: &[u8; 8] = b"ASHLARBA";
const RESERVED: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Of the segment's use.
    pub(crate) epoch: Epoch,
    pub(crate) first_record: u64,
    /// Records, at least 1.
    pub(crate) count: u32,
    /// Bytes, this header and padding included: a multiple of [`BLOCK`].
    pub(crate) len: u32,
    /// [`Self::crc`] of the batch before this one in the log; 0 for the very first.
    pub(crate) previous: u64,
    /// [`records_crc`] of the records' headers.
    pub(crate) headers_crc: u64,
}

impl BatchHeader {
    pub(crate) const LEN: usize = 64;

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        Sealed::new()
            .put(MAGIC)
            .u64(self.epoch.0)
            .u64(self.first_record)
            .u32(self.count)
            .u32(self.len)
            .u64(self.previous)
            .u64(self.headers_crc)
            .zeros(RESERVED)
            .seal()
    }

    /// Reads the header at the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::LEN }>()?;
        // Before the CRC, which a search for batches would else compute at every step.
        Fields(bytes).magic(MAGIC)?;
        let mut fields = Fields(verified(bytes)?);
        fields.magic(MAGIC)?;
        let header = Self {
            epoch: Epoch(fields.u64()?),
            first_record: fields.u64()?,
            count: fields.u32()?,
            len: fields.u32()?,
            previous: fields.u64()?,
            headers_crc: fields.u64()?,
        };
        fields.zeros(RESERVED)?;
        header.is_sound().then_some(header)
    }

    fn is_sound(&self) -> bool {
        let len = u64::from(self.len);
        let headers = (Self::LEN + RecordHeader::LEN * self.count as usize) as u64;
        self.count > 0
            && self.first_record > 0
            && self.first_record <= RECORD_NUMBER_MAX
            && len.is_multiple_of(BLOCK)
            && (headers..=SEGMENT_BYTES_MAX).contains(&len)
    }

    /// The CRC field of the encoded header, by which the next batch names this one.
    pub(crate) fn crc(&self) -> u64 {
        let encoded = self.encode();
        encoded.last_chunk::<CRC_LEN>().map_or(0, |crc| u64::from_le_bytes(*crc))
    }

    /// Number of the record after the last of this batch.
    pub(crate) fn next_record(&self) -> u64 {
        self.first_record + u64::from(self.count)
    }
}

/// Ties a batch to the headers of its records, in their order. It is a CRC over the CRC fields alone: bytes that end
/// with their own CRC bring any CRC to the same state, whatever they are, so one over whole headers would say nothing.
pub(crate) fn records_crc<'a>(headers: impl IntoIterator<Item = &'a [u8; RecordHeader::LEN]>) -> u64 {
    let mut crc = Crc64Nvme::new();
    for header in headers {
        crc.update(crc_field(header));
    }
    crc.finish()
}

fn crc_field(header: &[u8; RecordHeader::LEN]) -> &[u8; CRC_LEN] {
    header.last_chunk().expect("a record header is longer than its CRC")
}

/// A batch of which everything verified: its header, all records, their bodies and small payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParsedBatch {
    pub(crate) header: BatchHeader,
    pub(crate) records: Vec<ParsedRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParsedRecord {
    pub(crate) header: RecordHeader,
    /// Of the record in the batch.
    pub(crate) offset: u32,
    /// `None` for a delete.
    pub(crate) body: Option<Body>,
}

/// Why there is no whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchFault {
    #[error("no header of a batch is here")]
    NoHeader,
    /// Left by an earlier use of the segment.
    #[error("the batch is of {:?}", header.epoch)]
    OtherEpoch { header: BatchHeader },
    /// The header is right, the bytes end before the batch does.
    #[error("the batch of {} bytes is cut off", header.len)]
    Cut { header: BatchHeader },
    /// The header is right, the record at `offset` (0: their headers together) is not.
    #[error("the record at {offset} in the batch does not verify")]
    Damaged { header: BatchHeader, offset: u32 },
}

/// Reads the batch at the front of `bytes`, which may go on behind it. What follows the last record is not looked
/// at, nor is whether number and `previous` continue the log.
pub(crate) fn parse_batch(bytes: &[u8], epoch: Epoch) -> Result<ParsedBatch, BatchFault> {
    let header = BatchHeader::decode(bytes).ok_or(BatchFault::NoHeader)?;
    if header.epoch != epoch {
        return Err(BatchFault::OtherEpoch { header });
    }
    let batch = usize::try_from(header.len).ok().and_then(|len| bytes.get(..len));
    let batch = batch.ok_or(BatchFault::Cut { header })?;
    let mut rest = Fields(batch);
    let _header = rest.slice(BatchHeader::LEN);
    // The header's count was checked against its length, and that against the bytes.
    let mut records = Vec::with_capacity(rest.plausible(header.count as usize, RecordHeader::LEN));
    let mut crc = Crc64Nvme::new();
    for _ in 0..header.count {
        let offset =
            u32::try_from(batch.len() - rest.len()).expect("a batch is shorter than its length field");
        let damaged = BatchFault::Damaged { header, offset };
        crc.update(crc_field(rest.0.first_chunk().ok_or(damaged)?));
        let (record, body) = take_record(&mut rest, epoch).ok_or(damaged)?;
        records.push(ParsedRecord { header: record, offset, body });
    }
    if crc.finish() != header.headers_crc {
        return Err(BatchFault::Damaged { header, offset: 0 });
    }
    Ok(ParsedBatch { header, records })
}

/// The record at the front, with padding, if all of it verifies.
fn take_record(rest: &mut Fields<'_>, epoch: Epoch) -> Option<(RecordHeader, Option<Body>)> {
    let header = RecordHeader::decode(rest.0).filter(|header| header.epoch == epoch)?;
    let record = rest.slice(usize::try_from(header.stored_len()).ok()?)?;
    let (body, sound) = header.read_record(record);
    sound.then_some((header, body))
}
