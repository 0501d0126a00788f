//! Keeps a leader's log for members that are being brought up.
//!
//! A member that lacks more than the log keeps is sent a snapshot, and then the entries after it. Were these purged in
//! the meantime, it would need another snapshot, and under load another one after that. So while a member that makes
//! progress is far behind, the leader makes no new snapshot, without which nothing is purged. If the log grows beyond its limit all
//! the same, proposals are let through one at a time with pauses, until the member has caught up or has stopped making
//! progress.

use ashlar_runtime::sync::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// A member that got nothing for so long is not waited for.
const STALL: Duration = Duration::from_secs(60);

/// Of one replica.
#[derive(Debug)]
pub(crate) struct CatchUp {
    kept_entries: u64,
    pinned_entries: u64,
    /// Pieces of snapshots that were sent.
    sent: AtomicU64,
    members: Mutex<BTreeMap<u64, Member>>,
    holds: AtomicBool,
    slows: AtomicBool,
    /// Those that pass while proposals are slow: one at a time.
    gate: Semaphore,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    matched: Option<u64>,
    sent: u64,
    since: Duration,
}

/// What a leader knows of its log and its members.
pub(crate) struct Progress {
    pub(crate) last: u64,
    pub(crate) purged: u64,
    pub(crate) members: BTreeMap<u64, Option<u64>>,
}

impl CatchUp {
    pub(crate) fn new(kept_entries: u64, pinned_entries: u64) -> Self {
        Self {
            kept_entries,
            pinned_entries,
            sent: AtomicU64::new(0),
            members: Mutex::default(),
            holds: AtomicBool::new(false),
            slows: AtomicBool::new(false),
            gate: Semaphore::new(1),
        }
    }

    /// A piece of a snapshot went to some member.
    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks at the members again; `None`: the replica does not lead.
    pub(crate) fn observe(&self, now: Duration, progress: Option<&Progress>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(progress) = progress else {
            members.clear();
            self.holds.store(false, Ordering::Relaxed);
            self.slows.store(false, Ordering::Relaxed);
            return;
        };
        members.retain(|id, _| progress.members.contains_key(id));
        let sent = self.sent.load(Ordering::Relaxed);
        let mut holds = false;
        for (id, matched) in &progress.members {
            let member = members.entry(*id).or_insert(Member { matched: *matched, sent, since: now });
            if (member.matched, member.sent) != (*matched, sent) {
                *member = Member { matched: *matched, sent, since: now };
            }
            let behind = progress.last.saturating_sub(matched.unwrap_or(0)) > self.kept_entries;
            holds |= behind && now.saturating_sub(member.since) < STALL;
        }
        let long = progress.last.saturating_sub(progress.purged) > self.pinned_entries;
        self.holds.store(holds, Ordering::Relaxed);
        self.slows.store(holds && long, Ordering::Relaxed);
    }

    /// Whether the log has to be kept.
    pub(crate) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// Whether proposals have to be slow, and where they wait for their turn.
    pub(crate) fn slows(&self) -> Option<&Semaphore> {
        self.slows.load(Ordering::Relaxed).then_some(&self.gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(last: u64, matched: u64) -> Progress {
        Progress { last, purged: 0, members: BTreeMap::from([(1, Some(last)), (2, Some(matched))]) }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_log_is_kept_while_a_member_that_is_far_behind_makes_progress() {
        let catch_up = CatchUp::new(100, 1_000);
        catch_up.observe(seconds(0), Some(&progress(500, 450)));
        assert!(!catch_up.holds());
        catch_up.observe(seconds(1), Some(&progress(500, 0)));
        assert!(catch_up.holds() && catch_up.slows().is_none());
        // Nothing but pieces of a snapshot for a long time.
        for now in 2..200 {
            catch_up.sent();
            catch_up.observe(seconds(now), Some(&progress(500 + now, 0)));
            assert!(catch_up.holds());
        }
        catch_up.observe(seconds(200), Some(&progress(700, 650)));
        assert!(!catch_up.holds());
    }

    #[test]
    fn a_member_that_stands_still_is_not_waited_for() {
        let catch_up = CatchUp::new(100, 1_000);
        catch_up.observe(seconds(0), Some(&progress(5_000, 10)));
        assert!(catch_up.holds() && catch_up.slows().is_some());
        catch_up.observe(seconds(59), Some(&progress(6_000, 10)));
        assert!(catch_up.holds());
        catch_up.observe(seconds(60), Some(&progress(6_000, 10)));
        assert!(!catch_up.holds() && catch_up.slows().is_none());
        catch_up.observe(seconds(61), Some(&progress(6_000, 11)));
        assert!(catch_up.holds());
        catch_up.observe(seconds(62), None);
        assert!(!catch_up.holds() && catch_up.slows().is_none());
    }

    #[test]
    fn proposals_are_slow_only_when_the_kept_log_is_long() {
        let catch_up = CatchUp::new(100, 1_000);
        catch_up.observe(seconds(0), Some(&progress(1_000, 0)));
        assert!(catch_up.slows().is_none());
        catch_up.observe(seconds(1), Some(&progress(1_001, 0)));
        assert!(catch_up.slows().is_some());
        catch_up.observe(seconds(2), Some(&progress(9_001, 9_000)));
        assert!(catch_up.slows().is_none());
    }
}
