//! Metrics of the metadata plane: of replicas, labelled with node and group, and of the clocks that a node sees.

use crate::raft::status::{Condition, GroupStatus, Role};
use ashlar_runtime::sync::Mutex;
use ashlar_types::{GroupId, NodeId};
use metrics::{Counter, Gauge, Histogram};
use std::{sync::PoisonError, time::Duration};

pub(crate) struct GroupMetrics {
    /// Seconds from a proposal at the leader to its outcome.
    proposal_seconds: Histogram,
    /// Seconds of a linearizable read.
    read_seconds: Histogram,
    /// Comparisons of replicas, or of rows with what was applied, that found a difference.
    pub(crate) digest_mismatches: Counter,
    /// Tables that were replaced by those of another replica.
    pub(crate) reinstalls: Counter,
    applied_entries: Counter,
    term: Gauge,
    commit_index: Gauge,
    applied_index: Gauge,
    /// Entries: see `GroupStatus::lag`.
    lag_entries: Gauge,
    log_bytes: Gauge,
    snapshot_age_seconds: Gauge,
    /// 1 where the replica leads.
    leads: Gauge,
    /// 1 unless the replica is sound.
    unsound: Gauge,
    proposals: Recent,
    reads: Recent,
}

impl GroupMetrics {
    /// Binds to the recorder installed now.
    pub(crate) fn new(node: NodeId, group: GroupId) -> Self {
        let (node, group) = (node.to_string(), group.to_string());
        let gauge =
            |name: &'static str| metrics::gauge!(name, "node" => node.clone(), "group" => group.clone());
        let histogram =
            |name: &'static str| metrics::histogram!(name, "node" => node.clone(), "group" => group.clone());
        let counter =
            |name: &'static str| metrics::counter!(name, "node" => node.clone(), "group" => group.clone());
        Self {
            proposal_seconds: histogram("metadata_proposal_seconds"),
            read_seconds: histogram("metadata_read_seconds"),
            digest_mismatches: counter("metadata_digest_mismatches_total"),
            reinstalls: counter("metadata_reinstalls_total"),
            applied_entries: counter("metadata_applied_entries_total"),
            term: gauge("metadata_term"),
            commit_index: gauge("metadata_commit_index"),
            applied_index: gauge("metadata_applied_index"),
            lag_entries: gauge("metadata_lag_entries"),
            log_bytes: gauge("metadata_log_bytes"),
            snapshot_age_seconds: gauge("metadata_snapshot_age_seconds"),
            leads: gauge("metadata_leads"),
            unsound: gauge("metadata_unsound"),
            proposals: Recent::default(),
            reads: Recent::default(),
        }
    }

    pub(crate) fn proposed(&self, took: Duration) {
        self.proposal_seconds.record(took);
        self.proposals.record(took);
    }

    pub(crate) fn read(&self, took: Duration) {
        self.read_seconds.record(took);
        self.reads.record(took);
    }

    /// Fills in what is measured here, and shows the rest.
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 is exact")]
    pub(crate) fn complete(&self, status: GroupStatus) -> GroupStatus {
        let status = GroupStatus {
            proposal_p50_us: self.proposals.quantile_us(50),
            proposal_p99_us: self.proposals.quantile_us(99),
            read_p50_us: self.reads.quantile_us(50),
            read_p99_us: self.reads.quantile_us(99),
            ..status
        };
        self.applied_entries.absolute(status.applied_entries);
        self.term.set(status.term as f64);
        self.commit_index.set(status.committed.unwrap_or(0) as f64);
        self.applied_index.set(status.last_applied.unwrap_or(0) as f64);
        self.lag_entries.set(status.lag as f64);
        self.log_bytes.set(status.log_bytes.unwrap_or(0) as f64);
        self.snapshot_age_seconds.set(status.snapshot_age_ms.unwrap_or(0) as f64 / 1000.0);
        self.leads.set(f64::from(u8::from(status.role == Role::Leader)));
        self.unsound.set(f64::from(u8::from(status.condition != Condition::Sound)));
        status
    }
}

/// How far a voter's wall clock is ahead of the median of its group's voters, as a leader sees it.
#[allow(clippy::cast_precision_loss, reason = "skews that matter are far below 2^52 ms")]
pub(crate) fn clock_skew(node: NodeId, voter: NodeId, skew_ms: i64) {
    let gauge = metrics::gauge!(
        "metadata_clock_skew_seconds", "node" => node.to_string(), "voter" => voter.to_string()
    );
    gauge.set(skew_ms as f64 / 1000.0);
}

/// Two classes for each doubling, from 1 us to about 70 minutes.
const CLASSES: usize = 64;
/// Beyond so many, old ones weigh half: quantiles follow what happens now.
const WEIGHT_MAX: u32 = 4_096;

/// How long things took lately.
struct Recent(Mutex<[u32; CLASSES]>);

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new([0; CLASSES]))
    }
}

impl Recent {
    fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.iter().sum::<u32>() >= WEIGHT_MAX {
            counts.iter_mut().for_each(|count| *count /= 2);
        }
        if let Some(count) = counts.get_mut(class(us)) {
            *count += 1;
        }
    }

    /// The upper end of the class in which so many of 100 end; none if there was nothing.
    fn quantile_us(&self, percent: u32) -> Option<u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counts.iter().sum::<u32>();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        counts
            .iter()
            .position(|count| {
                seen += count;
                seen >= wanted
            })
            .map(end_us)
    }
}

/// Twice the logarithm, by halves: the second half of a doubling is a class of its own.
fn class(us: u64) -> usize {
    let us = us.max(1);
    let doubling = us.ilog2();
    let upper = us >= (1 << doubling) + ((1 << doubling) >> 1) && doubling > 0;
    (doubling as usize * 2 + usize::from(upper)).min(CLASSES - 1)
}

fn end_us(class: usize) -> u64 {
    let whole = 1_u64 << (class / 2);
    if class.is_multiple_of(2) { whole + (whole >> 1).max(1) - 1 } else { 2 * whole - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_lies_in_the_class_that_ends_after_it(us in 1_u64..1 << 31) {
            let class = class(us);
            prop_assert!(us <= end_us(class), "{us} {class} {}", end_us(class));
            prop_assert!(class < 2 || us > end_us(class - 2));
        }
    }

    #[test]
    fn quantiles_follow_what_happens_now() {
        let recent = Recent::default();
        assert_eq!(recent.quantile_us(50), None);
        for _ in 0..100 {
            recent.record(Duration::from_micros(100));
        }
        assert_eq!(recent.quantile_us(99), Some(127));
        for _ in 0..2 {
            recent.record(Duration::from_millis(10));
        }
        assert_eq!(recent.quantile_us(50), Some(127));
        assert_eq!(recent.quantile_us(99), Some(12_287));
        for _ in 0..20_000 {
            recent.record(Duration::from_millis(10));
        }
        assert_eq!(recent.quantile_us(50), Some(12_287));
    }
}
