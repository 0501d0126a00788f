//! Bugs that can be planted, to see the tests catch them.
//!
//! In the product every one of them is the constant `false`; only the package that runs the mutants compiles this
//! crate with a switch.

/// The drive store's rows of the table of mutants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(mutants),
    allow(dead_code, unreachable_pub, reason = "each is planted in the build for mutants")
)]
#[repr(u8)]
pub enum Plant {
    /// Jobs are answered before their batch is written.
    AckBeforeFlush = 1,
    /// Neither log nor extents are flushed.
    NoFlush,
    /// New segments' names are not flushed.
    NoDirectorySync,
    /// Units are returned unverified.
    NoChecksumOnRead,
    /// Only the first of the units read is verified.
    ChecksumOverWrongRange,
    /// Any batch that does not verify is taken for the end of the log.
    TornTailSwallowsMiddle,
    /// Compaction brings back what was deleted or replaced meanwhile.
    DeleteLostInCompaction,
    /// Batches of a segment's former use are accepted.
    StaleRecordAccepted,
    /// A large shard's record does not wait for its data.
    LargeBeforeItsData,
}

#[cfg(not(mutants))]
pub(crate) const fn planted(_plant: Plant) -> bool {
    false
}

#[cfg(mutants)]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

#[cfg(mutants)]
pub(crate) fn planted(plant: Plant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == plant as u8
}

/// Plants a bug in every drive of this process, or none.
#[cfg(mutants)]
pub fn plant(plant: Option<Plant>) {
    PLANTED.store(plant.map_or(0, |plant| plant as u8), std::sync::atomic::Ordering::Relaxed);
}
