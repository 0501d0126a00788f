//! Reads the segments of a log and settles what it holds.
//!
//! ```text
//! scan    every block of every segment that begins a batch          which batches there are
//! replay  the batches from the oldest that is needed to the newest  what each replica's log is
//! settle  erase a torn batch, make the rest surely durable          where the log goes on
//! ```
//!
//! The writer starts a batch only after the one before it was flushed. So a crash can tear the newest batch alone, and
//! nobody was told of that one. Any other batch that is missing or does not verify was flushed and is damaged: a section
//! that does not verify condemns its replica; a batch that is missing as a whole, because its header is unreadable, condemns
//! every replica that may have had records in it, which is each one that was known before or shows up later without a
//! beginning.

mod replay;
mod scan;
mod settle;

use self::{
    replay::Replay,
    scan::{Scanned, scan},
};
use super::{
    LogError,
    format::{BatchNumber, ReplicaKey, Salt},
    node_log::LogOptions,
    replica::ReplicaLog,
    segment::Files,
    space::{Sizes, Space},
};
use ashlar_runtime::Rng;
use std::collections::BTreeMap;

/// Batch numbers that are left out where batches may be that the device does not give: should it do so later, they are
/// none of those that follow.
const UNREADABLE_GAP: u64 = 1 << 20;

/// A log as it goes on.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) salt: Salt,
    pub(super) replicas: BTreeMap<ReplicaKey, ReplicaLog>,
    pub(super) space: Space,
    /// Number and header checksum of the newest batch.
    pub(super) last: (BatchNumber, u64),
}

/// Blocks.
pub(super) fn recover(files: &Files, rng: &dyn Rng, options: &LogOptions) -> Result<Recovered, LogError> {
    let failed = |source| files.failed(source);
    files.create_dir().map_err(failed)?;
    let mut scanned = scan(files, rng)?;
    let mut replay = Replay::run(&scanned);
    let largest = options.segment_bytes;
    let sizes = Sizes { largest, next: options.first_segment_bytes.min(largest) };
    settle::settle(files, &mut scanned, &mut replay, sizes.next).map_err(failed)?;
    let mut space = Space::new(sizes, scanned.next_id);
    let Scanned { salt, unreadable, .. } = scanned;
    let mut last = replay.last;
    let lossy = replay.lossy || unreadable;
    if unreadable {
        last = (BatchNumber(last.0.0 + UNREADABLE_GAP), last.1);
    }
    let (mut replicas, uses, tail, spares) = replay.into_parts(scanned.segments);
    space.found(uses, tail, spares);
    if lossy {
        // What is damaged is left behind as soon as the replicas' states are written elsewhere.
        space.seal();
        replicas.values_mut().for_each(|replica| replica.dirty = true);
    }
    let mut recovered = Recovered { salt, replicas, space, last };
    recovered.account();
    Ok(recovered)
}

impl Recovered {
    /// Tells the space which of it is live.
    fn account(&mut self) {
        for replica in self.replicas.values() {
            for place in replica.slots.range(0..u64::MAX).filter_map(|slot| slot.place) {
                self.space.add_live(place);
            }
        }
    }
}
