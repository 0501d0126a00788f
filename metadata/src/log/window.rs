//! A piece of a segment in memory, moved by reading.

use super::{
    format::{BLOCK, BLOCK_BYTES, memory},
    segment::SegmentFile,
};
use std::io;

/// Bytes read at once.
const WINDOW: u64 = 1 << 20;

pub(super) struct Window<'a> {
    file: &'a SegmentFile,
    start: u64,
    bytes: Vec<u8>,
    /// Blocks that the device would not give, as offsets.
    unreadable: Vec<u64>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a SegmentFile) -> Self {
        Self { file, start: 0, bytes: Vec::new(), unreadable: Vec::new() }
    }

    /// Blocks that could not be read; [`Self::at`] gave zeros for them.
    pub(super) fn unreadable(&self) -> &[u64] {
        &self.unreadable
    }

    /// At least `len` bytes from `offset` on, or as many as there are.
    pub(super) fn at(&mut self, offset: u64, len: u64) -> &[u8] {
        let end = offset.saturating_add(len).min(self.file.len).max(offset);
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            self.load(offset, end);
        }
        self.bytes.get(memory(offset - self.start)..).unwrap_or_default()
    }

    fn load(&mut self, offset: u64, end: u64) {
        self.start = offset / BLOCK_BYTES * BLOCK_BYTES;
        let end = end.max(self.start + WINDOW).min(self.file.len).next_multiple_of(BLOCK_BYTES);
        self.bytes.resize(memory(end.saturating_sub(self.start)), 0);
        if read(self.file, &mut self.bytes, self.start).is_ok() {
            return;
        }
        // What cannot be read is zeros: it does not verify, and what is around it may.
        for (block, at) in self.bytes.chunks_mut(BLOCK).zip((self.start..).step_by(BLOCK)) {
            if read(self.file, block, at).is_err() {
                block.fill(0);
                if !self.unreadable.contains(&at) {
                    self.unreadable.push(at);
                }
            }
        }
    }
}

/// Asks twice: a device may refuse once.
fn read(file: &SegmentFile, out: &mut [u8], offset: u64) -> io::Result<()> {
    file.reader().read_exact_at(out, offset).or_else(|_| file.reader().read_exact_at(out, offset))
}
