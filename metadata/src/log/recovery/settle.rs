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

/// Erases a torn batch, so that its number can be given to another one; writes the newest batch once more, behind itself,
/// because a process that failed before its flush returned leaves it visible though nothing will ever make it durable, and
/// a crash must not tear the one that may be durable; flushes all. Segments that never held a batch are deleted: their
/// names may not be durable.
pub(super) fn settle(files: &Files, scanned: &Scanned, replay: &mut Replay) -> io::Result<()> {
    for torn in &replay.torn {
        write(scanned, torn, &AlignedBuf::zeroed(BLOCK), torn.head.offset)?;
    }
    if !replay.lossy {
        copy_newest(scanned, replay)?;
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

/// If there is room for it; the segment is full otherwise, and so has been flushed many times since it was begun.
fn copy_newest(scanned: &Scanned, replay: &mut Replay) -> io::Result<()> {
    let Some(found) = &replay.newest else { return Ok(()) };
    let Some(segment) = scanned.segments.get(found.segment) else { return Ok(()) };
    let len = u64::from(found.head.len);
    let mut head = found.head.clone();
    head.offset = replay.tail;
    if head.offset + len > segment.file.len {
        return Ok(());
    }
    let mut batch = AlignedBuf::with_capacity(memory(len));
    let mut window = Window::new(&segment.file);
    batch.extend_from_slice(window.at(found.head.offset, len).get(..memory(len)).unwrap_or_default());
    let crc = head.encode(scanned.salt, &mut batch);
    write(scanned, found, &batch, head.offset)?;
    replay.last.1 = crc;
    replay.tail += len;
    Ok(())
}

fn write(scanned: &Scanned, found: &Found, bytes: &[u8], offset: u64) -> io::Result<()> {
    match scanned.segments.get(found.segment) {
        Some(segment) => segment.file.write(bytes, offset),
        None => Ok(()),
    }
}
