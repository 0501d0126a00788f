//! A piece of a segment in memory while the log is read.

use crate::{
    format::BLOCK,
    segment_file::{Access, SegmentFile},
    width,
};

/// Bytes read at once: more than the longest batch of the usual kind.
const WINDOW: u64 = 8 << 20;

pub(super) struct Window<'a> {
    file: &'a SegmentFile,
    /// Bytes of the segment.
    end: u64,
    start: u64,
    bytes: Vec<u8>,
    /// End of the last block that the device would not give.
    unreadable_end: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a SegmentFile, end: u64) -> Self {
        Self { file, end, start: 0, bytes: Vec::new(), unreadable_end: 0 }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether something from `offset` on, as far as was looked, could not be read.
    pub(super) fn is_unreadable_after(&self, offset: u64) -> bool {
        self.unreadable_end > offset
    }

    /// At least `len` bytes from `offset` on, or up to the end of the segment.
    pub(super) fn at(&mut self, offset: u64, len: u64) -> &[u8] {
        let wanted = offset..offset.saturating_add(len).min(self.end).max(offset);
        let held = self.start..self.start + width::file(self.bytes.len());
        if wanted.start < held.start || wanted.end > held.end {
            let upto = wanted.end.max(offset.saturating_add(WINDOW).min(self.end));
            self.load(offset, upto);
        }
        self.bytes.get(width::memory(offset - self.start)..).unwrap_or_default()
    }

    fn load(&mut self, start: u64, end: u64) {
        self.start = start;
        self.bytes = vec![0; width::memory(end.saturating_sub(start))];
        if self.file.read(&mut self.bytes, start, Access::Device).is_ok() {
            return;
        }
        // What cannot be read is zeros: it does not verify, and what is around it may.
        let mut offset = start;
        for block in self.bytes.chunks_mut(width::memory(BLOCK)) {
            if self.file.read(block, offset, Access::Device).is_err() {
                block.fill(0);
                self.unreadable_end = self.unreadable_end.max(offset + BLOCK);
            }
            offset += BLOCK;
        }
    }
}
