//! Records of a batch that is damaged in the middle: what still verifies there.

use super::{
    RECORD_ALIGN,
    batch::BatchHeader,
    fields::Fields,
    record::{Body, RecordHeader},
    segment::Epoch,
};

/// Records are at multiples of this.
const STEP: usize = 8;
const _: () = assert!(STEP as u64 == RECORD_ALIGN);

/// A record whose header verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SalvagedRecord {
    pub(crate) header: RecordHeader,
    /// Of the record in the bytes that were searched.
    pub(crate) offset: u32,
    /// `None` for a delete, and if the body does not verify.
    pub(crate) body: Option<Body>,
    /// Whether the whole record verifies, a small payload included.
    pub(crate) sound: bool,
}

/// The records of `epoch` whose headers verify, in the order they were written. `bytes` begins with a batch, whose
/// header may be damaged, and may go on behind it. Only the batch's header tells the number of the first record; the
/// numbers ascend from there, with gaps that are not known where records are missing.
pub(crate) fn salvage_batch(bytes: &[u8], epoch: Epoch) -> Vec<SalvagedRecord> {
    let mut rest = Fields(bytes);
    let mut salvaged = Vec::new();
    // A batch begins with its header; damaged or not, no record is in its place.
    let mut skip = BatchHeader::LEN;
    while rest.slice(skip).is_some() {
        skip = STEP;
        let Some(header) = RecordHeader::decode(rest.0).filter(|header| header.epoch == epoch) else {
            continue;
        };
        let Ok(offset) = u32::try_from(bytes.len() - rest.len()) else { break };
        let (body, sound) = header.read_record(rest.0);
        salvaged.push(SalvagedRecord { header, offset, body, sound });
        // A right header tells the length, so that nothing in its payload is taken for a record.
        skip = usize::try_from(header.stored_len()).unwrap_or(usize::MAX);
    }
    salvaged
}
