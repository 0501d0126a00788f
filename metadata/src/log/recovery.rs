//! Reads a log file from its beginning and settles where it ends.
//!
//! The writer starts a batch only after the one before it was flushed, so a crash can tear the last batch alone. A
//! record of a later batch behind an unreadable one therefore proves that flushed bytes were damaged; anything else
//! behind it is the rest of a torn batch, which nobody was told about.

use super::{
    LogError,
    cache::{Slot, Slots},
    reader::Window,
    record::{FILE_HEADER_LEN, HEADER_LEN, Head, Kind, MAGIC, Salt, parse_file_header},
};
use crate::{
    encoding::decode,
    raft::types::{LogId, RaftEntry, Vote},
};
use ashlar_runtime::DiskFile;
use openraft::entry::RaftEntry as _;
use std::{io, path::Path, sync::Arc};

/// What the valid records of a file add up to.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) salt: Salt,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) slots: Slots,
    /// End of the last valid record.
    pub(super) end: u64,
    pub(super) batch: u64,
    /// The last batch is there as a whole.
    pub(super) closed: bool,
}

pub(super) fn recover(path: &Path, file: &dyn DiskFile, cache_bytes: usize) -> Result<Recovered, LogError> {
    let failed = |source| LogError::Io { path: path.to_owned(), source };
    let mut window = Window::new(file).map_err(failed)?;
    let header = window.get(0, FILE_HEADER_LEN).map_err(failed)?;
    let salt = header
        .and_then(<[u8]>::first_chunk)
        .and_then(parse_file_header)
        .ok_or_else(|| LogError::NotALog { path: path.to_owned() })?;
    let mut recovered = Recovered {
        salt,
        vote: None,
        committed: None,
        purged: None,
        slots: Slots::new(cache_bytes),
        end: FILE_HEADER_LEN as u64,
        batch: 0,
        closed: true,
    };
    while let Some((head, payload)) = window.record(salt, recovered.end).map_err(failed)? {
        let offset = recovered.end;
        recovered
            .replay(head, payload)
            .ok_or_else(|| LogError::Inconsistent { path: path.to_owned(), offset })?;
    }
    let torn = recovered.batch + u64::from(recovered.closed);
    if later_batch_follows(&mut window, salt, recovered.end, torn).map_err(failed)? {
        return Err(LogError::Damaged { path: path.to_owned(), offset: recovered.end });
    }
    Ok(recovered)
}

impl Recovered {
    /// `None` if the record cannot come after those before it.
    fn replay(&mut self, head: Head, payload: &[u8]) -> Option<()> {
        let len = HEADER_LEN + payload.len();
        match head.kind {
            Kind::Entry => {
                let entry: RaftEntry = decode(payload).ok()?;
                let id = entry.log_id();
                let before = self.slots.last().map(|last| last.id).or(self.purged);
                if id.index != head.index || before.is_some_and(|before| before.index + 1 != id.index) {
                    return None;
                }
                self.slots.push(Slot::new(id, self.end, len, Arc::new(entry)));
                self.slots.evict(u64::MAX);
            }
            Kind::Vote => self.vote = Some(decode(payload).ok()?),
            Kind::Committed => self.committed = decode(payload).ok()?,
            Kind::Truncate => self.slots.truncate(head.index),
            Kind::Purge => {
                self.purged = Some(decode(payload).ok()?);
                self.slots.purge(head.index);
            }
            Kind::Mark => {}
        }
        self.end += len as u64;
        self.batch = head.batch;
        self.closed = head.closes;
        Some(())
    }
}

/// Whether a valid record of a batch after `torn` starts anywhere behind `from`.
fn later_batch_follows(window: &mut Window<'_>, salt: Salt, from: u64, torn: u64) -> io::Result<bool> {
    const STEP: usize = 64 * 1024;
    let mut offset = from;
    while offset + (HEADER_LEN as u64) <= window.file_len() {
        let left = usize::try_from(window.file_len() - offset).unwrap_or(usize::MAX);
        let Some(bytes) = window.get(offset, left.min(STEP))? else { return Ok(false) };
        let Some(at) = bytes.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) else {
            // The last three bytes may begin a magic.
            offset += (left.min(STEP) - (MAGIC.len() - 1)) as u64;
            continue;
        };
        let found = offset + at as u64;
        if window.record(salt, found)?.is_some_and(|(head, _)| head.batch > torn) {
            return Ok(true);
        }
        offset = found + 1;
    }
    Ok(false)
}
