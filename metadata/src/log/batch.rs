//! A batch on its way to the disk: laid out under the lock, made into bytes outside of it.

use super::{
    format::{
        BLOCK, BatchHead, BatchNumber, Record, RecordHead, ReplicaKey, Salt, Section, Seed, record_len,
    },
    segment::SegmentFile,
    slots::Place,
    state::Done,
};
use ashlar_runtime::AlignedBuf;
use std::{collections::BTreeMap, sync::Arc};

/// A record that waits or is being written.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) head: RecordHead,
    pub(super) payload: Vec<u8>,
}

impl Queued {
    pub(super) fn stored_len(&self) -> usize {
        record_len(self.payload.len())
    }
}

/// Records by replica, in the order in which each replica queued them.
pub(super) type Sections = BTreeMap<ReplicaKey, Vec<Queued>>;

/// A record that is written once more so that its segment can be freed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    pub(super) key: ReplicaKey,
    pub(super) index: u64,
    pub(super) from: Place,
    pub(super) to: Place,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: BatchNumber,
    pub(super) previous: u64,
    pub(super) oldest: BatchNumber,
    pub(super) file: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) sections: Sections,
    pub(super) moved: Vec<Moved>,
    /// In the order of the calls.
    pub(super) answers: Vec<Done>,
}

/// Bytes of a batch with these sections.
pub(super) fn batch_len(sections: usize, records: usize) -> usize {
    (BatchHead::encoded_len(sections) + records).next_multiple_of(BLOCK)
}

impl Batch {
    /// Lays the batch out in the buffer and returns the checksum of its header.
    pub(super) fn encode(&self, salt: Salt, buffer: &mut AlignedBuf) -> u64 {
        // Everything is overwritten below but for the padding.
        if buffer.len() != self.len {
            buffer.resize(self.len);
        }
        let mut at = BatchHead::encoded_len(self.sections.len());
        let mut heads = Vec::with_capacity(self.sections.len());
        for (key, records) in &self.sections {
            let seed = Seed { salt, batch: self.number, key: *key };
            let (start, mut crcs) = (at, Vec::with_capacity(records.len()));
            for record in records {
                let end = at + record.stored_len();
                crcs.push(Record::encode(seed, record.head, &record.payload, &mut buffer[at..end]));
                at = end;
            }
            let len = u32::try_from(at - start).expect("a batch is shorter than a segment");
            let records = u32::try_from(crcs.len()).expect("a batch has fewer records than bytes");
            heads.push(Section { key: *key, records, len, crc: Section::checksum(crcs) });
        }
        buffer[at..].fill(0);
        let head = BatchHead {
            number: self.number,
            previous: self.previous,
            oldest: self.oldest,
            segment: self.file.id,
            offset: self.offset,
            len: u32::try_from(self.len).expect("a batch is shorter than a segment"),
            sections: heads,
        };
        head.encode(salt, buffer)
    }
}
