//! When a write goes on: with all slots, or without those that lag or failed.
//!
//! Pure. The same judgement serves each row (has every slot room for its unit?) and the end of a chunk (has every
//! slot flushed?). Rules (DESIGN, section 5):
//!  - all slots are waited for, unless they failed;
//!  - a slot is left behind only when a quorum is there without it, and it has taken longer than `min` and than
//!    `factor` times the median of those that are done;
//!  - with fewer than a quorum alive nothing is acknowledged.

use std::time::Duration;

/// How long one slot may lag behind the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) min: Duration,
    pub(crate) factor: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotProgress {
    /// Not done, for so long.
    Waiting(Duration),
    /// Done, after so long.
    Done(Duration),
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody is waited for, and a quorum is done.
    Settled,
    /// Judge again after a slot made progress, or after this time if there is a limit yet.
    Wait(Option<Duration>),
    /// These positions have used up their time; a quorum is there without anybody who waits.
    Leave(Vec<usize>),
    /// Too many are lost.
    TooFew,
}

pub(crate) fn judge(slots: &[SlotProgress], quorum: usize, patience: Patience) -> Verdict {
    let mut done = Vec::with_capacity(slots.len());
    let mut waiting = Vec::with_capacity(slots.len());
    for (position, slot) in slots.iter().enumerate() {
        match slot {
            SlotProgress::Waiting(so_far) => waiting.push((position, *so_far)),
            SlotProgress::Done(after) => done.push(*after),
            SlotProgress::Lost => {}
        }
    }
    if done.len() + waiting.len() < quorum {
        return Verdict::TooFew;
    }
    if waiting.is_empty() {
        return Verdict::Settled;
    }
    if done.len() < quorum {
        return Verdict::Wait(None);
    }
    let limit = patience.limit(&mut done);
    let over: Vec<usize> =
        waiting.iter().filter(|(_, so_far)| *so_far >= limit).map(|(position, _)| *position).collect();
    if !over.is_empty() {
        return Verdict::Leave(over);
    }
    Verdict::Wait(waiting.iter().map(|(_, so_far)| limit.saturating_sub(*so_far)).min())
}

impl Patience {
    /// `times` is sorted here; its median is the upper one.
    pub(crate) fn limit(self, times: &mut [Duration]) -> Duration {
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        self.min.max(median.saturating_mul(self.factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SlotProgress::{Done, Lost, Waiting};
    use proptest::prelude::*;

    const PATIENCE: Patience = Patience { min: Duration::from_secs(1), factor: 20 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn all_slots_settle_a_write() {
        assert_eq!(judge(&[Done(ms(1)); 6], 5, PATIENCE), Verdict::Settled);
    }

    #[test]
    fn a_quorum_waits_for_the_rest_up_to_a_second() {
        let slots = [Done(ms(1)), Done(ms(1)), Done(ms(1)), Done(ms(2)), Done(ms(2)), Waiting(ms(400))];
        assert_eq!(judge(&slots, 5, PATIENCE), Verdict::Wait(Some(ms(600))));
        let slots = [Done(ms(1)), Done(ms(1)), Done(ms(1)), Done(ms(2)), Done(ms(2)), Waiting(ms(1000))];
        assert_eq!(judge(&slots, 5, PATIENCE), Verdict::Leave(vec![5]));
    }

    #[test]
    fn slow_company_gives_a_straggler_more_time() {
        let slots = [Done(ms(100)), Done(ms(100)), Done(ms(90)), Waiting(ms(1000))];
        assert_eq!(judge(&slots, 3, PATIENCE), Verdict::Wait(Some(ms(1000))));
        let slots = [Done(ms(100)), Done(ms(100)), Done(ms(90)), Waiting(ms(2000))];
        assert_eq!(judge(&slots, 3, PATIENCE), Verdict::Leave(vec![3]));
    }

    #[test]
    fn without_a_quorum_nobody_is_left_behind_however_long_it_takes() {
        let slots = [Done(ms(1)), Done(ms(1)), Waiting(ms(1_000_000)), Waiting(ms(1_000_000))];
        assert_eq!(judge(&slots, 3, PATIENCE), Verdict::Wait(None));
    }

    #[test]
    fn lost_slots_are_not_waited_for_but_count_against_the_quorum() {
        assert_eq!(judge(&[Done(ms(1)), Done(ms(1)), Done(ms(1)), Lost], 3, PATIENCE), Verdict::Settled);
        assert_eq!(judge(&[Done(ms(1)), Waiting(ms(1)), Lost, Lost], 3, PATIENCE), Verdict::TooFew);
    }

    fn any_slot() -> impl Strategy<Value = SlotProgress> {
        prop_oneof![
            (0u64..5000).prop_map(|t| Waiting(ms(t))),
            (0u64..5000).prop_map(|t| Done(ms(t))),
            Just(Lost),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_settled_or_left_behind_below_the_quorum(
            slots in proptest::collection::vec(any_slot(), 1..12),
            quorum in 1usize..12,
        ) {
            let done = slots.iter().filter(|slot| matches!(slot, Done(_))).count();
            let lost = slots.iter().filter(|slot| **slot == Lost).count();
            match judge(&slots, quorum, PATIENCE) {
                Verdict::Settled => prop_assert!(done >= quorum && done + lost == slots.len()),
                Verdict::Leave(late) => {
                    prop_assert!(done >= quorum && !late.is_empty());
                    for position in late {
                        prop_assert!(matches!(slots[position], Waiting(so_far) if so_far >= PATIENCE.min));
                    }
                }
                Verdict::Wait(limit) => {
                    prop_assert!(done + lost < slots.len());
                    prop_assert_eq!(limit.is_some(), done >= quorum);
                }
                Verdict::TooFew => prop_assert!(slots.len() - lost < quorum),
            }
        }
    }
}
