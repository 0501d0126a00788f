//! Bugs that can be planted, to see the tests catch them.
//!
//! In the product every one of them is the constant `false`; only the package that runs the mutants compiles this
//! crate with a switch.

/// The metadata plane's rows of the table of mutants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(mutants),
    allow(dead_code, unreachable_pub, reason = "each is planted in the build for mutants")
)]
#[repr(u8)]
pub enum Plant {
    /// A vote is answered before it is durable.
    VoteNotSynced = 1,
    /// Entries are acknowledged before their batch is written.
    AckBeforeFlush,
    /// Any batch of the log that does not verify is taken for its end.
    TornTailSwallowsMiddle,
    /// Batches of a log segment's former use are accepted.
    StaleRecordAccepted,
    /// The log lets go of entries whose effects are not durable yet.
    PurgePastPersisted,
    /// A replica whose log lost records goes on under its old name.
    WipedVoterVotes,
    /// A leader answers queries without asking whether it still leads.
    LocalLeaderRead,
    /// The leader's wall clock alone says what time it is.
    LeaderClockDecides,
    /// A completed upload makes its version and stays open.
    CompleteNotAtomic,
    /// A precondition is not evaluated where the write is applied.
    ConditionOutsideLog,
    /// A snapshot leaves out the outcomes of requests.
    SnapshotWithoutTable,
    /// The bytes of a part are garbage while its upload is open.
    GarbageIgnoresUpload,
    /// Only so many outcomes are kept, however young they are.
    OutcomesEvictedByCount,
    /// A request whose write epoch is below the floor is applied like any other.
    ExpiredCommandApplied,
    /// Deletes leave the counters for somebody else to correct.
    CountersOutsideApply,
    /// Shards acknowledged on a superseded drive count as if the slot had not moved.
    FenceIgnored,
    /// Rows that are not those that the digests were kept of pass.
    DigestMismatchIgnored,
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

/// Plants a bug in every node of this process, or none.
#[cfg(mutants)]
pub fn plant(plant: Option<Plant>) {
    PLANTED.store(plant.map_or(0, |plant| plant as u8), std::sync::atomic::Ordering::Relaxed);
}
