//! What the device can do: direct writes into a file whose blocks are all there.

use crate::sample::{Quota, Sample, crew};
use anyhow::Result;
use ashlar_runtime::{AlignedBuf, DiskFile, Env, OpenMode};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) const WRITE_LEN: usize = 1 << 20;
/// Writes between two flushes: as many as the writers that share one in the row that this is held against.
const GROUP: u64 = 16;

/// A file written in full once.
#[derive(Debug)]
pub(crate) struct RawFile {
    file: Arc<Box<dyn DiskFile>>,
    slots: u64,
}

impl RawFile {
    pub(crate) fn make(env: &Env, place: &Path, bytes: u64) -> Result<Self> {
        let file = env.disk.open_direct(&place.join("raw"), OpenMode::CreateNew)?;
        let (buffer, slots) = (filled(), bytes / WRITE_LEN as u64);
        for slot in 0..slots {
            file.write_all_at(&buffer, slot * WRITE_LEN as u64)?;
        }
        file.sync_data()?;
        Ok(Self { file: Arc::new(file), slots })
    }

    /// `depth` writes in flight. The thread that completes a group flushes; the others go on meanwhile.
    pub(crate) fn write(&self, env: &Env, depth: usize, quota: Arc<Quota>) -> Result<Sample> {
        let (file, slots) = (Arc::clone(&self.file), self.slots);
        let (begun, done) = (AtomicU64::new(0), AtomicU64::new(0));
        crew(env, depth, move |_| {
            let buffer = filled();
            let latencies = quota.spend(|| {
                let slot = begun.fetch_add(1, Ordering::Relaxed) % slots;
                file.write_all_at(&buffer, slot * WRITE_LEN as u64)?;
                if (done.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(GROUP) {
                    file.sync_data()?;
                }
                Ok(())
            });
            file.sync_data()?;
            latencies
        })
    }
}

fn filled() -> AlignedBuf {
    let mut buffer = AlignedBuf::zeroed(WRITE_LEN);
    buffer.fill(0x5a);
    buffer
}
