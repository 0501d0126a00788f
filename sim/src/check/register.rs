//! Linearizability of a register whose values are written once each: zones, after Gibbons and Korach.
//!
//! P. B. Gibbons and E. Korach, "Testing Shared Memories", SIAM Journal on Computing 26(4), 1997: all calls of one value
//! (its write and the reads of it) have to be adjacent in any order that explains them. From the first return to the last
//! invocation of such a cluster is its zone: *forward* where that return comes first, the value being the register's then
//! without a doubt; *backward* otherwise. The history is linearizable exactly if no read ends before its write begins, no
//! two forward zones overlap, and no backward zone lies within a forward one. In O(n log n).

use super::history::Moment;
use std::collections::BTreeMap;

/// A call on one register that may have had an effect, or told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisterCall {
    pub access: Access,
    pub invoked: Moment,
    /// `None`: nothing was answered, so that it takes effect at any time later, or never. Writes only: a read
    /// without an answer tells nothing.
    pub returned: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// No value is written twice.
    Write(u64),
    /// `None`: as it was in the beginning.
    Read(Option<u64>),
}

/// Why there is no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOrder {
    NeverWritten(u64),
    ReadBeforeWritten(u64),
    /// The register surely holds the one and the other at the same time.
    BothAtOnce(Option<u64>, Option<u64>),
    /// `inner` is there at some time, and `outer` before and after.
    BackAgain {
        inner: Option<u64>,
        outer: Option<u64>,
    },
}

/// The calls of one value.
#[derive(Clone, Copy)]
struct Cluster {
    value: Option<u64>,
    written: Option<Moment>,
    first_return: Moment,
    last_invocation: Moment,
    reads: usize,
    first_read_return: Moment,
}

const BEFORE_ALL: Moment = Moment(0);
const AFTER_ALL: Moment = Moment(u64::MAX);

/// Whether some order of the calls explains them all.
pub fn linearizable(calls: &[RegisterCall]) -> Result<(), NoOrder> {
    let mut forward = Vec::new();
    let mut backward = Vec::new();
    for cluster in clusters(calls) {
        if cluster.reads > 0 && cluster.first_read_return < check_written(&cluster)? {
            return Err(NoOrder::ReadBeforeWritten(cluster.value.unwrap_or_default()));
        }
        // A write without an answer that nobody saw may never have happened.
        if cluster.reads == 0 && cluster.first_return == AFTER_ALL {
            continue;
        }
        if cluster.first_return < cluster.last_invocation {
            forward.push(cluster);
        } else {
            backward.push(cluster);
        }
    }
    forward.sort_by_key(|cluster| cluster.first_return);
    for pair in forward.windows(2) {
        if pair[1].first_return < pair[0].last_invocation {
            return Err(NoOrder::BothAtOnce(pair[0].value, pair[1].value));
        }
    }
    for inner in backward {
        // Forward zones do not overlap: the last one that begins before is the only one that can hold it.
        let place = forward.partition_point(|outer| outer.first_return < inner.last_invocation);
        let outer = place.checked_sub(1).and_then(|place| forward.get(place));
        if let Some(outer) = outer
            && inner.first_return < outer.last_invocation
        {
            return Err(NoOrder::BackAgain { inner: inner.value, outer: outer.value });
        }
    }
    Ok(())
}

fn check_written(cluster: &Cluster) -> Result<Moment, NoOrder> {
    cluster.written.ok_or(NoOrder::NeverWritten(cluster.value.unwrap_or_default()))
}

fn clusters(calls: &[RegisterCall]) -> impl Iterator<Item = Cluster> {
    let mut clusters: BTreeMap<Option<u64>, Cluster> = BTreeMap::new();
    for call in calls {
        let (value, is_write) = match call.access {
            Access::Write(value) => (Some(value), true),
            Access::Read(value) => (value, false),
        };
        let returned = call.returned.unwrap_or(AFTER_ALL);
        let cluster = clusters.entry(value).or_insert_with(|| {
            // The register holds its first value before anything is called.
            let begin = value.is_none().then_some(BEFORE_ALL);
            Cluster {
                value,
                written: begin,
                first_return: begin.unwrap_or(AFTER_ALL),
                last_invocation: BEFORE_ALL,
                reads: 0,
                first_read_return: AFTER_ALL,
            }
        });
        cluster.first_return = cluster.first_return.min(returned);
        cluster.last_invocation = cluster.last_invocation.max(call.invoked);
        if is_write {
            cluster.written = Some(call.invoked);
        } else {
            cluster.reads += 1;
            cluster.first_read_return = cluster.first_read_return.min(returned);
        }
    }
    clusters.into_values()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(access: Access, invoked: u64, returned: u64) -> RegisterCall {
        RegisterCall { access, invoked: Moment(invoked), returned: Some(Moment(returned)) }
    }

    fn lost(access: Access, invoked: u64) -> RegisterCall {
        RegisterCall { access, invoked: Moment(invoked), returned: None }
    }

    #[test]
    fn what_an_order_explains_passes() {
        use Access::{Read, Write};
        let histories = [
            vec![],
            vec![call(Read(None), 1, 2), call(Write(1), 3, 4), call(Read(Some(1)), 5, 6)],
            // Overlapping writes may go either way, but for all readers alike.
            vec![
                call(Write(1), 1, 5),
                call(Write(2), 2, 6),
                call(Read(Some(2)), 7, 8),
                call(Read(Some(2)), 9, 10),
            ],
            // A write without an answer shows late, and not before.
            vec![
                lost(Write(1), 1),
                call(Write(2), 2, 3),
                call(Read(Some(2)), 4, 5),
                call(Read(Some(1)), 6, 7),
            ],
            // Or never.
            vec![lost(Write(1), 1), call(Write(2), 2, 3), call(Read(Some(2)), 4, 5)],
            vec![call(Write(1), 1, 10), call(Read(None), 2, 3), call(Read(Some(1)), 4, 5)],
        ];
        for history in histories {
            assert_eq!(linearizable(&history), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn what_no_order_explains_is_told() {
        use Access::{Read, Write};
        let histories = [
            (vec![call(Read(Some(1)), 1, 2)], NoOrder::NeverWritten(1)),
            (vec![call(Read(Some(1)), 1, 2), call(Write(1), 3, 4)], NoOrder::ReadBeforeWritten(1)),
            // An acknowledged write is lost.
            (
                vec![call(Write(1), 1, 2), call(Read(None), 3, 4)],
                NoOrder::BackAgain { inner: Some(1), outer: None },
            ),
            // A reader sees the past.
            (
                vec![
                    call(Write(1), 1, 2),
                    call(Write(2), 3, 4),
                    call(Read(Some(2)), 5, 6),
                    call(Read(Some(1)), 7, 8),
                ],
                NoOrder::BothAtOnce(Some(1), Some(2)),
            ),
            // Two readers disagree about the order of two writes.
            (
                vec![
                    call(Write(1), 1, 6),
                    call(Write(2), 2, 5),
                    call(Read(Some(1)), 7, 8),
                    call(Read(Some(2)), 9, 10),
                    call(Read(Some(1)), 11, 12),
                ],
                NoOrder::BothAtOnce(Some(2), Some(1)),
            ),
            (
                vec![call(Write(1), 1, 2), call(Write(2), 3, 4), call(Read(Some(1)), 5, 6)],
                NoOrder::BackAgain { inner: Some(2), outer: Some(1) },
            ),
        ];
        for (history, why) in histories {
            let found = linearizable(&history);
            assert!(found.is_err(), "{history:?}");
            if !matches!(why, NoOrder::BothAtOnce(..)) {
                assert_eq!(found, Err(why), "{history:?}");
            }
        }
    }
}
