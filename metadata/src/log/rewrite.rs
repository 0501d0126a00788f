//! Gives space back: copies the live end of the log into a new file and puts that in place of the old one.
//!
//! The head of the new file states vote, commit point and purge point; records copied after it may be older than
//! the head, but the newest record of each kind is either among them, then it comes last and wins, or before them,
//! then the head alone has it.

use super::{
    record::{self, FILE_HEADER_LEN, HEADER_LEN, Head, Kind, file_header},
    state::{Placed, Shared},
};
use crate::encoding::encode;
use ashlar_runtime::{Disk, OpenMode};
use std::{io, sync::Arc};

const COPY_BYTES: usize = 1024 * 1024;

/// Rewrites if at least `threshold` bytes are dead. Called by the writer alone, between two batches.
pub(super) fn if_worth_it(shared: &Shared, disk: &dyn Disk, threshold: u64) -> io::Result<()> {
    let (placed, start, end, head) = {
        let state = shared.lock();
        // A purge that waits is not durable yet, and the head must not state it.
        if state.queue.iter().any(|pending| pending.kind == Kind::Purge) {
            return Ok(());
        }
        let live = state.slots.first().map_or(state.flushed, |slot| slot.offset.min(state.flushed));
        if state.file.physical(live) < threshold {
            return Ok(());
        }
        let mut head = Vec::new();
        head.extend_from_slice(&file_header(shared.salt));
        let mut put = |kind, index, payload: &[u8]| {
            // Batch 0 comes before all others; the whole file is flushed before it counts.
            record::write(&mut head, shared.salt, Head { kind, batch: 0, index, closes: true }, payload);
        };
        if let Some(vote) = state.vote {
            put(Kind::Vote, 0, &encode(&vote));
        }
        if let Some(purged) = state.purged {
            put(Kind::Purge, purged.index, &encode(&purged));
        }
        put(Kind::Committed, 0, &encode(&state.committed));
        (state.file.clone(), live, state.flushed, head)
    };

    let path = shared.path.with_extension("new");
    let file = disk.open(&path, OpenMode::Create)?;
    file.truncate(0)?;
    file.write_all_at(&head, 0)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = start;
    while offset < end {
        let len = usize::try_from(end - offset).unwrap_or(usize::MAX).min(COPY_BYTES);
        placed.file.read_exact_at(&mut buffer[..len], placed.physical(offset))?;
        file.write_all_at(&buffer[..len], head.len() as u64 + (offset - start))?;
        offset += len as u64;
    }
    file.sync_data()?;
    disk.rename(&path, &shared.path)?;
    if let Some(dir) = shared.path.parent() {
        disk.sync_dir(dir)?;
    }
    debug_assert!(head.len() >= FILE_HEADER_LEN + HEADER_LEN);
    // Readers that hold the old file read on in it: its bytes stay until they close it.
    shared.lock().file = Placed { file: Arc::from(file), base: start - head.len() as u64 };
    Ok(())
}
