//! One open file of a simulated disk.

use super::{
    Operation, SimDisk,
    fault::FaultKind,
    history::{Change, Event},
    image::NodeId,
    state::{State, check_end, errno},
};
use crate::disk::{DiskFile, OpenMode, aligned};
use bytes::Bytes;
use std::{
    io,
    path::{Path, PathBuf},
};

const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Buffered,
    Direct,
}

#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    id: NodeId,
    /// As it was opened; faults go by it.
    path: PathBuf,
    access: Access,
    mode: OpenMode,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.state().closed(self.id);
    }
}

impl SimFile {
    /// The caller has counted the handle with [`State::opened`].
    pub(super) fn new(disk: SimDisk, id: NodeId, path: &Path, access: Access, mode: OpenMode) -> Self {
        Self { disk, id, path: path.to_owned(), access, mode }
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn unlock(&self) {
        self.disk.state().locks.remove(&self.id);
    }

    fn check_aligned(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.access {
            Access::Buffered => Ok(()),
            Access::Direct => aligned(bytes, offset),
        }
    }

    /// Fails with what Linux says of this call when the file was opened for reading only.
    fn check_writable(&self, code: i32) -> io::Result<()> {
        if self.mode == OpenMode::Read { Err(errno(code)) } else { Ok(()) }
    }

    fn fill(&self, state: &State, out: &mut [u8], offset: u64) -> io::Result<()> {
        let content = state.now.file(self.id).ok_or_else(|| errno(libc::EIO))?;
        if content.read(out, offset) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn read_with(&self, fault: Option<FaultKind>, out: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        self.fill(&state, out, offset)?;
        match fault {
            None => {}
            Some(FaultKind::BitFlip { bit }) => flip(out, bit),
            Some(FaultKind::StaleRead) => {
                super::stale::read(&state.base, &state.events, self.id, out, offset)
            }
            Some(fault) => return Err(failure(&fault)),
        }
        if self.access == Access::Buffered {
            state.cache(self.id, offset, out.len());
        }
        Ok(())
    }

    fn write_with(&self, fault: Option<FaultKind>, mut bytes: Vec<u8>, mut offset: u64) -> io::Result<()> {
        let mut outcome = Ok(());
        match fault {
            None => {}
            Some(FaultKind::LostWrite) => return Ok(()),
            Some(FaultKind::BitFlip { bit }) => flip(&mut bytes, bit),
            Some(FaultKind::Misdirected { by }) => offset = offset.saturating_add_signed(by),
            Some(fault) => {
                bytes.truncate(bytes.len() / 2 / SECTOR * SECTOR);
                outcome = Err(failure(&fault));
            }
        }
        if !bytes.is_empty() {
            check_end(offset, bytes.len() as u64)?;
            let mut state = self.disk.state();
            state.check_space(self.id, offset, bytes.len())?;
            match self.access {
                Access::Buffered => state.cache(self.id, offset, bytes.len()),
                Access::Direct => state.evict(self.id, offset, bytes.len()),
            }
            state.change(Change::Write { file: self.id, offset, bytes: Bytes::from(bytes) });
        }
        outcome
    }
}

/// The error that a fault means which has no effect of its own on this call.
pub(super) fn failure(fault: &FaultKind) -> io::Error {
    match fault {
        FaultKind::Enospc => errno(libc::ENOSPC),
        FaultKind::Eio
        | FaultKind::SyncLosesPages
        | FaultKind::LostWrite
        | FaultKind::Misdirected { .. }
        | FaultKind::BitFlip { .. }
        | FaultKind::StaleRead
        | FaultKind::Slow(_) => errno(libc::EIO),
    }
}

fn flip(bytes: &mut [u8], bit: u64) {
    if !bytes.is_empty() {
        let bit = bit % (bytes.len() as u64 * 8);
        let at = usize::try_from(bit / 8).expect("less than the length");
        bytes[at] ^= 1 << (bit % 8);
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.check_aligned(out, offset)?;
        let fault = self.disk.begin(Operation::Read, &[&self.path]);
        self.read_with(fault, out, offset)
    }

    fn read_cached_at(&self, out: &mut [u8], offset: u64) -> io::Result<bool> {
        let in_memory = {
            let state = self.disk.state();
            let inside = state.now.file(self.id).is_some_and(|content| {
                offset.checked_add(out.len() as u64).is_some_and(|end| end <= content.len())
            });
            inside && self.access == Access::Buffered && state.is_cached(self.id, offset, out.len())
        };
        if in_memory {
            let fault = self.disk.begin(Operation::Read, &[&self.path]);
            self.read_with(fault, out, offset)?;
        }
        Ok(in_memory)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_parts_at(&[bytes], offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        for part in parts {
            self.check_aligned(part, offset)?;
        }
        self.check_writable(libc::EBADF)?;
        let fault = self.disk.begin(Operation::Write, &[&self.path]);
        self.write_with(fault, parts.concat(), offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let fault = self.disk.begin(Operation::SyncFile, &[&self.path]);
        self.disk.sync(fault, self.id, Event::SyncFile(self.id))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable(libc::EINVAL)?;
        self.disk.begin_or_fail(Operation::Truncate, &[&self.path])?;
        check_end(len, 0)?;
        let mut state = self.disk.state();
        state.evict(self.id, len, usize::MAX);
        state.change(Change::Truncate { file: self.id, len });
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.check_writable(libc::EBADF)?;
        self.disk.begin_or_fail(Operation::Punch, &[&self.path])?;
        if offset.checked_add(len).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(errno(libc::EFBIG));
        }
        let mut state = self.disk.state();
        state.evict(self.id, offset, usize::try_from(len).unwrap_or(usize::MAX));
        state.change(Change::Punch { file: self.id, offset, len });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.now.file(self.id).map(super::content::Content::len).ok_or_else(|| errno(libc::EIO))
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.now.file(self.id).map(super::content::Content::allocated_bytes).ok_or_else(|| errno(libc::EIO))
    }
}
