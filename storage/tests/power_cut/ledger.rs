//! What the drive promised: for every id, the operations tried, the last one acknowledged or seen, and what may be
//! there after a cut.
//!
//! Invariant: an id has one operation in flight at most, so operations on it have an order, and one that was
//! acknowledged or seen ends all doubt about those before it.

use ashlar_runtime::{Rng, RngExt};
use std::sync::{Mutex, MutexGuard};

/// Number of an operation on one id; 0 stands for its state before all of them.
pub(crate) type OperationNumber = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put { len: usize },
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) number: OperationNumber,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
struct Record {
    /// The state that is certain.
    certain: Operation,
    /// Tried after it, not acknowledged: any of them may have happened.
    doubtful: Vec<Operation>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acked_puts: u64,
    pub(crate) acked_deletes: u64,
    /// Reads that returned bytes.
    pub(crate) seen: u64,
    /// Operations that were in doubt at a cut.
    pub(crate) in_doubt: u64,
}

#[derive(Debug)]
pub(crate) struct Ledger(Mutex<(Vec<Record>, Counts)>);

impl Ledger {
    pub(crate) fn new(ids: usize) -> Self {
        let nothing = Operation { number: 0, kind: Kind::Delete };
        Self(Mutex::new((vec![Record { certain: nothing, doubtful: Vec::new() }; ids], Counts::default())))
    }

    fn locked(&self) -> MutexGuard<'_, (Vec<Record>, Counts)> {
        self.0.lock().unwrap()
    }

    /// Notes an operation before it is sent to the drive.
    pub(crate) fn begin(&self, id: usize, kind: Kind) -> Operation {
        let record = &mut self.locked().0[id];
        let number = record.doubtful.last().unwrap_or(&record.certain).number + 1;
        let operation = Operation { number, kind };
        record.doubtful.push(operation);
        operation
    }

    /// The drive did nothing, and said so.
    pub(crate) fn refused(&self, id: usize, operation: Operation) {
        self.locked().0[id].doubtful.retain(|doubtful| *doubtful != operation);
    }

    /// Returns how many were acknowledged in all.
    pub(crate) fn acked(&self, id: usize, operation: Operation) -> u64 {
        let (records, counts) = &mut *self.locked();
        match operation.kind {
            Kind::Put { .. } => counts.acked_puts += 1,
            Kind::Delete => counts.acked_deletes += 1,
        }
        records[id].make_certain(operation.number);
        counts.acked_puts + counts.acked_deletes
    }

    /// A read returned the bytes of this put. What is visible is durable.
    pub(crate) fn seen(&self, id: usize, number: OperationNumber) {
        let (records, counts) = &mut *self.locked();
        counts.seen += 1;
        records[id].make_certain(number);
    }

    /// Holds what was found after a cut against what was promised, and takes it for certain from now on. `Err` says
    /// what was lost.
    pub(crate) fn check(&self, id: usize, found: Option<&[u8]>) -> Result<(), String> {
        let (records, counts) = &mut *self.locked();
        let record = &mut records[id];
        counts.in_doubt += record.doubtful.len() as u64;
        let matches = |operation: &Operation| match operation.kind {
            Kind::Put { len } => found == Some(content(id, operation.number, len).as_slice()),
            Kind::Delete => found.is_none(),
        };
        let possible = record.doubtful.iter().rev().chain([&record.certain]);
        let Some(happened) = possible.copied().find(matches) else {
            let found = found.map(|bytes| (bytes.len(), number_in(bytes)));
            return Err(format!("shard {id}: {record:?}, found (length, number) {found:?}"));
        };
        *record = Record { certain: happened, doubtful: Vec::new() };
        Ok(())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.locked().1
    }
}

impl Record {
    fn make_certain(&mut self, number: OperationNumber) {
        if let Some(operation) = self.doubtful.iter().find(|operation| operation.number == number) {
            self.certain = *operation;
        }
        let certain = self.certain.number;
        self.doubtful.retain(|operation| operation.number > certain);
    }
}

/// The bytes that a put writes: its number, then what follows from it and the id. At least 8.
pub(crate) fn content(id: usize, number: OperationNumber, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Seeded::new(((id as u64) << 40) ^ number).fill(&mut bytes);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The number of the put that wrote these bytes.
pub(crate) fn number_in(bytes: &[u8]) -> Option<OperationNumber> {
    bytes.first_chunk().copied().map(u64::from_le_bytes)
}

/// A repeatable source of bytes (splitmix64).
#[derive(Debug)]
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    pub(crate) fn index(&self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

impl Rng for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}
