//! Writing a checkpoint of the index while the drive works.
//!
//! The log position is taken first, the entries after it, some at a time: what changes meanwhile is in the log behind the
//! position, and reading it again changes nothing.

use crate::{
    drive::Drive,
    error::{FileOperation, StoreError},
    format::{CheckpointHeader, CheckpointWriter, Entry, SegmentId, SegmentRow, SegmentState, Superblock},
    layout,
    sync::{atomic::Ordering, locked},
    tables::{Tables, Use},
    width,
};
use ashlar_runtime::{DiskFile, OpenMode};
use ashlar_types::ShardId;
use std::io;

/// Entries copied while the tables are held still.
const ENTRIES_AT_ONCE: usize = 2048;

/// Writes a checkpoint and makes the superblock name it. Blocks, but never on the commit thread, which may call it too.
pub(crate) fn write(drive: &Drive) -> Result<(), StoreError> {
    drive.check()?;
    let _one = locked(&drive.checkpointing);
    let log_bytes = drive.log_bytes.load(Ordering::Relaxed);
    let number = locked(&drive.checkpoints).newest + 1;
    let header = drive.read_tables(|tables| header(drive, tables, number));
    let failed = |(operation, error)| drive.write_error(operation, None, error);
    let bytes = match write_file(drive, &header) {
        Ok(bytes) => bytes,
        Err(error) => {
            // The next one is written under the same name; what is left now is removed when that is made.
            let _ = drive.opener.disk().unlink(&drive.layout.checkpoint_draft(number));
            return Err(failed(error));
        }
    };
    let generation = locked(&drive.checkpoints).generation + 1;
    let superblock = Superblock {
        identity: drive.identity,
        generation,
        segment_bytes: drive.segment_bytes,
        checkpoint: number,
    };
    // From here on the new checkpoint is the newest, even if the superblock could not be written: its name is durable.
    {
        let mut checkpoints = locked(&drive.checkpoints);
        checkpoints.older_from = checkpoints.newest_from;
        checkpoints.newest_from = header.position.next_record;
        checkpoints.newest = number;
        checkpoints.bytes = bytes;
    }
    layout::write_superblock(drive.opener.disk().as_ref(), &drive.layout, &superblock).map_err(failed)?;
    // Only now: a write that was refused may have damaged that file, so the next one goes to it again and not over the
    // other, which may be the only sound one.
    locked(&drive.checkpoints).generation = generation;
    drive.log_bytes.fetch_sub(log_bytes.min(drive.log_bytes.load(Ordering::Relaxed)), Ordering::Relaxed);
    mark_sealed(drive, &header);
    forget_old(drive, number)
}

fn header(drive: &Drive, tables: &Tables, number: u64) -> CheckpointHeader {
    let row = |(id, segment): (&SegmentId, &crate::tables::Segment)| {
        let state = match segment.using {
            Use::Open => SegmentState::Open,
            Use::Sealed => SegmentState::Sealed,
            Use::Spare | Use::Junk => return None,
        };
        // A segment whose shards are still being written may be sealed, but is not done.
        let state = if segment.pending > 0 { SegmentState::Open } else { state };
        let (kind, epoch, written) = (segment.kind, segment.epoch, segment.written);
        Some(SegmentRow { id: *id, epoch, kind, state, written })
    };
    CheckpointHeader {
        drive: drive.identity.drive,
        number,
        position: tables.applied,
        next_segment: tables.next_segment,
        segments: tables.segments.iter().filter_map(row).collect(),
    }
}

/// Writes the draft, flushes it and gives it its name. Returns its length.
fn write_file(drive: &Drive, header: &CheckpointHeader) -> Result<u64, (FileOperation, io::Error)> {
    let disk = drive.opener.disk();
    let draft = drive.layout.checkpoint_draft(header.number);
    let file = disk.open(&draft, OpenMode::Create).map_err(|error| (FileOperation::Create, error))?;
    file.truncate(0).map_err(|error| (FileOperation::Write, error))?;
    let mut at = 0;
    let mut put = |file: &dyn DiskFile, bytes: &[u8]| {
        let written = file.write_all_at(bytes, at);
        at += width::file(bytes.len());
        written.map_err(|error| (FileOperation::Write, error))
    };
    let mut writer = CheckpointWriter::new(header);
    put(file.as_ref(), writer.header_bytes())?;
    let mut after: Option<ShardId> = None;
    loop {
        let entries: Vec<(ShardId, Entry)> = drive.read_tables(|tables| {
            let entries = tables.after(after).take(ENTRIES_AT_ONCE);
            entries.map(|(shard, entry)| (*shard, entry.clone())).collect()
        });
        let Some((last, _)) = entries.last() else { break };
        after = Some(*last);
        for (shard, entry) in &entries {
            if let Some(block) = writer.push(*shard, entry) {
                put(file.as_ref(), &block)?;
            }
        }
    }
    put(file.as_ref(), &writer.finish())?;
    file.sync_data().map_err(|error| (FileOperation::Flush, error))?;
    disk.rename(&draft, &drive.layout.checkpoint(header.number))
        .map_err(|error| (FileOperation::Rename, error))?;
    disk.sync_dir(&drive.layout.index()).map_err(|error| (FileOperation::FlushDirectory, error))?;
    Ok(at)
}

/// Segments that the checkpoint calls sealed may be punched from now on.
fn mark_sealed(drive: &Drive, header: &CheckpointHeader) {
    drive.change_tables(|tables| {
        for row in header.segments.iter().filter(|row| row.state == SegmentState::Sealed) {
            if let Some(segment) =
                tables.segments.get_mut(&row.id).filter(|segment| segment.epoch == row.epoch)
            {
                segment.sealed_durably = true;
            }
        }
    });
}

/// Removes all but the newest two.
fn forget_old(drive: &Drive, newest: u64) -> Result<(), StoreError> {
    let disk = drive.opener.disk();
    let Ok(numbers) = crate::recovery::checkpoint_numbers(disk.as_ref(), &drive.layout) else {
        return Ok(());
    };
    for number in numbers.into_iter().filter(|number| number + 1 < newest) {
        match disk.unlink(&drive.layout.checkpoint(number)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(drive.write_error(FileOperation::Unlink, None, error)),
        }
    }
    Ok(())
}
