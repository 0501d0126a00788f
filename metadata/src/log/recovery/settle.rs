//! Makes sure that what was read is what any later opening reads.

use super::{
    super::{
        format::{BLOCK, memory},
        segment::Files,
        window::Window,
    },
    replay::Replay,
    scan::{Found, Scanned},
};
use ashlar_runtime::AlignedBuf;
use std::io;

/// Erases a torn batch, so that its number can be given to another one; writes the newest batch once more, because a
/// process that failed before its flush returned leaves it visible though nothing will ever make it durable; flushes all.
/// Segments that never held a batch are deleted: their names may not be durable.
pub(super) fn settle(files: &Files, scanned: &Scanned, replay: &Replay) -> io::Result<()> {
    if let Some(found) = replay.torn.and_then(|torn| scanned.batches.get(&torn)) {
        write(scanned, found, &AlignedBuf::zeroed(BLOCK))?;
    }
    if let Some(found) = scanned.batches.get(&replay.last.0)
        && let Some(segment) = scanned.segments.get(found.segment)
        && !replay.lossy
    {
        let len = memory(found.head.len.into());
        let mut batch = AlignedBuf::with_capacity(len);
        let mut window = Window::new(&segment.file);
        batch.extend_from_slice(window.at(found.head.offset, len as u64).get(..len).unwrap_or_default());
        write(scanned, found, &batch)?;
    }
    for segment in &scanned.segments {
        if segment.was_used {
            segment.file.sync()?;
        } else {
            files.unlink(segment.file.id)?;
        }
    }
    files.sync_dir()
}

fn write(scanned: &Scanned, found: &Found, bytes: &[u8]) -> io::Result<()> {
    match scanned.segments.get(found.segment) {
        Some(segment) => segment.file.write(bytes, found.head.offset),
        None => Ok(()),
    }
}
