//! Makes sure that what was read is what any later opening reads.

use super::{
    super::{
        format::{BLOCK, BLOCK_BYTES, memory},
        segment::Files,
        window::Window,
    },
    replay::Replay,
    scan::{Found, Scanned, Segment},
};
use ashlar_runtime::AlignedBuf;
use std::{io, sync::Arc};

/// Erases a torn batch, so that its number can be given to another one; writes the newest batch once more, behind itself or,
/// where that has no room, to a segment of `new_len` bytes, because a process that failed before its flush returned leaves it visible though nothing will ever make it durable, and
/// a crash must not tear the one that may be durable; flushes all. Segments that never held a batch are deleted: their
/// names may not be durable.
pub(super) fn settle(
    files: &Files,
    scanned: &mut Scanned,
    replay: &mut Replay,
    new_len: u64,
) -> io::Result<()> {
    for torn in &replay.torn {
        write(scanned, torn, &AlignedBuf::zeroed(BLOCK), torn.head.offset)?;
    }
    if !replay.lossy {
        copy_newest(files, scanned, replay, new_len)?;
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

fn copy_newest(files: &Files, scanned: &mut Scanned, replay: &mut Replay, new_len: u64) -> io::Result<()> {
    let Some(mut copy) = replay.newest.clone() else { return Ok(()) };
    let Some(segment) = scanned.segments.get(copy.segment) else { return Ok(()) };
    let (from, len) = (copy.head.offset, u64::from(copy.head.len));
    let mut batch = AlignedBuf::with_capacity(memory(len));
    let mut window = Window::new(&segment.file);
    batch.extend_from_slice(window.at(from, len).get(..memory(len)).unwrap_or_default());
    copy.head.offset = replay.tail;
    if copy.head.offset + len > segment.file.len {
        let file = files.create(scanned.next_id, scanned.salt, new_len.max(BLOCK_BYTES + len))?;
        scanned.next_id.0 += 1;
        copy.segment = scanned.segments.len();
        (copy.head.segment, copy.head.offset) = (file.id, BLOCK_BYTES);
        scanned.segments.push(Segment { file: Arc::new(file), was_used: true });
        replay.begin_use(&copy);
    }
    let crc = copy.head.encode(scanned.salt, &mut batch);
    write(scanned, &copy, &batch, copy.head.offset)?;
    replay.last.1 = crc;
    replay.tail = copy.head.offset + len;
    Ok(())
}

fn write(scanned: &Scanned, found: &Found, bytes: &[u8], offset: u64) -> io::Result<()> {
    match scanned.segments.get(found.segment) {
        Some(segment) => segment.file.write(bytes, offset),
        None => Ok(()),
    }
}
