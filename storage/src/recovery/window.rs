//! A piece of a segment in memory while the log is read.

use crate::{format::BLOCK, segment_file::SegmentFile, width};
use ashlar_runtime::AlignedBuf;

/// Bytes read at once: more than the longest batch of the usual kind.
const WINDOW: u64 = 8 << 20;

pub(super) struct Window<'a> {
    file: &'a SegmentFile,
    /// Bytes of the segment, in whole blocks.
    end: u64,
    start: u64,
    bytes: AlignedBuf,
    /// End of the last block that the device would not give.
    unreadable_end: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a SegmentFile, end: u64) -> Self {
        let end = end / BLOCK * BLOCK;
        Self { file, end, start: 0, bytes: AlignedBuf::zeroed(0), unreadable_end: 0 }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether something from `offset` on, as far as was looked, could not be read.
    pub(super) fn is_unreadable_after(&self, offset: u64) -> bool {
        self.unreadable_end > offset
    }

    /// At least `len` bytes from `offset`, which begins a block, or up to the end of the segment.
    pub(super) fn at(&mut self, offset: u64, len: u64) -> &[u8] {
        let wanted = offset..offset.saturating_add(len).min(self.end).max(offset);
        let held = self.start..self.start + width::file(self.bytes.len());
        if wanted.start < held.start || wanted.end > held.end {
            let upto = wanted.end.next_multiple_of(BLOCK).max(offset.saturating_add(WINDOW)).min(self.end);
            self.load(offset, upto);
        }
        self.bytes.get(width::memory(offset - self.start)..).unwrap_or_default()
    }

    fn load(&mut self, start: u64, end: u64) {
        let len = width::memory(end.saturating_sub(start));
        self.start = start;
        if self.bytes.len() != len {
            self.bytes = AlignedBuf::zeroed(len);
        }
        if self.file.read_blocks(&mut self.bytes, start).is_ok() {
            return;
        }
        // What cannot be read is zeros: it does not verify, and what is around it may.
        let mut offset = start;
        for block in self.bytes.chunks_mut(width::memory(BLOCK)) {
            if self.file.read_blocks(block, offset).is_err() {
                block.fill(0);
                self.unreadable_end = self.unreadable_end.max(offset + BLOCK);
            }
            offset += BLOCK;
        }
    }
}
