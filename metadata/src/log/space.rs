//! Which segments the log lies in, and which are free.
//!
//! ```text
//! made or recycled -> spare -begin_use-> in use (the last one takes batches) -release-> released -settle-> spare
//!                                                                                               or surplus (deleted)
//! ```
//!
//! Invariants:
//!  - segments are used in the order of their batches;
//!  - one is released once a flushed batch says that its batches are not needed, and is used again once no reader holds it;
//!  - `live_bytes` of a use are those of kept entries whose newest record lies there.

use super::{
    format::{BLOCK_BYTES, BatchNumber, SegmentId},
    segment::SegmentFile,
    slots::{Place, UseNumber},
};
use std::{collections::VecDeque, io, sync::Arc};

/// Spare segments kept; more are deleted.
const SPARES: usize = 2;
/// With fewer segments in use nothing is moved to free one.
const USES_MIN: usize = 4;

#[derive(Debug)]
pub(super) struct Use {
    pub(super) file: Arc<SegmentFile>,
    pub(super) first: BatchNumber,
    pub(super) live_records: u64,
    pub(super) live_bytes: u64,
}

impl Use {
    pub(super) fn new(file: Arc<SegmentFile>, first: BatchNumber) -> Self {
        Self { file, first, live_records: 0, live_bytes: 0 }
    }
}

/// Sizes of segments that are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) largest: u64,
    /// Of the next one: small logs stay small, busy ones come to the largest within a few.
    pub(super) next: u64,
}

#[derive(Debug)]
pub(super) struct Space {
    uses: VecDeque<Use>,
    /// Number of the first of `uses`.
    first_use: UseNumber,
    /// Where the next batch begins in the last of `uses`.
    tail: u64,
    /// The last of `uses` takes no more batches.
    sealed: bool,
    spares: Vec<Arc<SegmentFile>>,
    released: Vec<Arc<SegmentFile>>,
    surplus: Vec<SegmentId>,
    next_id: SegmentId,
    sizes: Sizes,
    /// Length of the segment that is to be made.
    wanted: Option<u64>,
    /// Why the last one could not be.
    refusal: Option<io::ErrorKind>,
}

impl Space {
    pub(super) fn new(sizes: Sizes, next_id: SegmentId) -> Self {
        Self {
            uses: VecDeque::new(),
            first_use: UseNumber(0),
            tail: 0,
            sealed: false,
            spares: Vec::new(),
            released: Vec::new(),
            surplus: Vec::new(),
            next_id,
            sizes,
            wanted: None,
            refusal: None,
        }
    }

    /// The log as it was found: goes on at `tail` of the last use.
    pub(super) fn found(&mut self, uses: Vec<Use>, tail: u64, spares: Vec<Arc<SegmentFile>>) {
        let largest = uses.iter().map(|used| used.file.len).max().unwrap_or(0);
        self.sizes.next = (2 * largest).clamp(self.sizes.next, self.sizes.largest);
        (self.uses, self.tail) = (uses.into(), tail);
        self.released = spares;
        self.settle_released();
    }

    /// The next batch begins another segment.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
    }

    pub(super) fn use_count(&self) -> usize {
        self.uses.len()
    }

    pub(super) fn spare_count(&self) -> usize {
        self.spares.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.uses.iter().map(|used| used.file.len).sum()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.uses.iter().map(|used| used.live_bytes).sum()
    }

    pub(super) fn file(&self, used: UseNumber) -> Option<&Arc<SegmentFile>> {
        self.uses.get(self.place_of(used)?).map(|used| &used.file)
    }

    fn place_of(&self, used: UseNumber) -> Option<usize> {
        usize::try_from(used.0.checked_sub(self.first_use.0)?).ok()
    }

    /// The segment that takes the next batch of this length, its number and where the batch begins.
    pub(super) fn tail(&self, len: u64) -> Option<(Arc<SegmentFile>, UseNumber, u64)> {
        let last = self.uses.back().filter(|last| !self.sealed && self.tail + len <= last.file.len)?;
        let number = UseNumber(self.first_use.0 + self.uses.len() as u64 - 1);
        Some((Arc::clone(&last.file), number, self.tail))
    }

    pub(super) fn advance_tail(&mut self, len: u64) {
        self.tail += len;
    }

    pub(super) fn add_live(&mut self, place: Place) {
        if let Some(used) = self.place_of(place.used).and_then(|at| self.uses.get_mut(at)) {
            used.live_records += 1;
            used.live_bytes += u64::from(place.len);
        }
    }

    pub(super) fn drop_live(&mut self, place: Place) {
        if let Some(used) = self.place_of(place.used).and_then(|at| self.uses.get_mut(at)) {
            used.live_records -= 1;
            used.live_bytes -= u64::from(place.len);
        }
    }

    /// Goes on in a spare segment that takes a batch of `len` bytes as its first, if there is one; else asks for one.
    pub(super) fn begin_use(&mut self, first: BatchNumber, len: u64) -> bool {
        self.settle_released();
        let needed = len + BLOCK_BYTES;
        let Some(at) = self.spares.iter().position(|spare| spare.len >= needed) else {
            self.wanted = Some(self.wanted.unwrap_or(0).max(needed));
            return false;
        };
        self.uses.push_back(Use::new(self.spares.remove(at), first));
        (self.tail, self.sealed) = (BLOCK_BYTES, false);
        true
    }

    /// The first batch that is needed, if the states of all replicas lie in or after `oldest_state`.
    pub(super) fn oldest(&self, oldest_state: Option<UseNumber>) -> Option<BatchNumber> {
        let state = oldest_state.and_then(|used| self.place_of(used)).unwrap_or(usize::MAX);
        let last = self.uses.len().checked_sub(1)?;
        let entries = self.uses.iter().position(|used| used.live_records > 0).unwrap_or(last);
        self.uses.get(entries.min(state).min(last)).map(|used| used.first)
    }

    /// Lets go of the segments before a batch; a flushed batch says that they are not needed.
    pub(super) fn release(&mut self, oldest: BatchNumber) {
        while self.uses.len() > 1 && self.uses.front().is_some_and(|used| used.first < oldest) {
            if let Some(used) = self.uses.pop_front() {
                self.first_use.0 += 1;
                self.released.push(used.file);
            }
        }
        self.settle_released();
    }

    /// Released segments that nobody reads any more are spares, or surplus.
    fn settle_released(&mut self) {
        for file in std::mem::take(&mut self.released) {
            if Arc::strong_count(&file) > 1 {
                self.released.push(file);
            } else if self.spares.len() < SPARES && file.len >= self.sizes.next {
                self.spares.push(file);
            } else {
                self.surplus.push(file.id);
            }
        }
    }

    /// The use to be emptied, if so much of the log is dead that it pays.
    pub(super) fn to_empty(&self) -> Option<UseNumber> {
        (self.uses.len() >= USES_MIN && self.bytes() > 2 * self.live_bytes()).then_some(self.first_use)
    }

    pub(super) fn live_records(&self, used: UseNumber) -> u64 {
        self.place_of(used).and_then(|at| self.uses.get(at)).map_or(0, |used| used.live_records)
    }

    /// Asks for a spare segment while there is time to make one. Whether anything is to be made or deleted.
    pub(super) fn look_ahead(&mut self) -> bool {
        let half_full =
            self.refusal.is_none() && self.uses.back().is_some_and(|last| 2 * self.tail > last.file.len);
        if half_full && self.spares.is_empty() && self.released.is_empty() {
            self.wanted.get_or_insert(0);
        }
        self.wanted.is_some() || !self.surplus.is_empty()
    }

    /// Id and length of the segment to be made.
    pub(super) fn order(&mut self) -> Option<(SegmentId, u64)> {
        let needed = self.wanted?;
        let (id, len) = (self.next_id, needed.max(self.sizes.next));
        self.next_id.0 += 1;
        Some((id, len))
    }

    pub(super) fn delivered(&mut self, file: Arc<SegmentFile>) {
        (self.wanted, self.refusal) = (None, None);
        self.sizes.next = (2 * file.len).clamp(self.sizes.next, self.sizes.largest);
        self.spares.push(file);
    }

    /// The segment cannot be made. Whoever has no room without it is told; else it is tried again when there is none.
    pub(super) fn refused(&mut self, kind: io::ErrorKind) {
        self.wanted = None;
        self.refusal = Some(kind);
    }

    pub(super) fn take_refusal(&mut self) -> Option<io::ErrorKind> {
        self.refusal.take()
    }

    /// Nothing is to be made.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_none()
    }

    pub(super) fn take_surplus(&mut self) -> Vec<SegmentId> {
        std::mem::take(&mut self.surplus)
    }
}
