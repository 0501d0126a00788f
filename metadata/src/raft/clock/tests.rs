use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Voters 1.., with clocks this far ahead of the timer in milliseconds.
fn voters(offsets: &[Option<i64>]) -> VoterClocks {
    let number = |place: usize| NodeId(u32::try_from(place + 1).unwrap());
    VoterClocks(
        offsets.iter().enumerate().map(|(place, offset)| (number(place), offset.map(Offset))).collect(),
    )
}

#[test]
fn a_clock_is_read_half_way_between_question_and_answer() {
    let mut clocks = WallClocks::default();
    clocks.learn(NodeId(2), Timestamp(50_000), millis(1_000), millis(1_300));
    assert_eq!(clocks.of(NodeId(2)), Some(Offset(48_850)));
    let settings = ClockSettings::default();
    clocks.expire(settings, millis(1_150) + settings.fresh());
    assert!(clocks.of(NodeId(2)).is_some());
    clocks.expire(settings, millis(1_151) + settings.fresh());
    assert_eq!(clocks.of(NodeId(2)), None);
}

#[test]
fn the_median_is_that_of_a_majority_or_none() {
    assert_eq!(voters(&[Some(7)]).median(), Some(Offset(7)));
    assert_eq!(voters(&[Some(7), None]).median(), None);
    assert_eq!(voters(&[Some(7), Some(3)]).median(), Some(Offset(3)));
    assert_eq!(voters(&[Some(7), None, None]).median(), None);
    assert_eq!(voters(&[Some(7), Some(9), None]).median(), Some(Offset(7)));
    assert_eq!(voters(&[Some(1_000_000), Some(9), Some(8)]).median(), Some(Offset(9)));
    assert_eq!(voters(&[]).median(), None);
}

#[test]
fn a_leader_outside_the_bound_is_seen_and_the_nearest_voter_comes_first() {
    let settings = ClockSettings::default();
    let clocks = voters(&[Some(-5_001), Some(0), Some(40), Some(-5_000), Some(5_001)]);
    let outside: Vec<u32> = (1..=5).filter(|number| clocks.outside(NodeId(*number), settings)).collect();
    assert_eq!(outside, [1, 5]);
    assert_eq!(clocks.candidates(settings), [NodeId(2), NodeId(3), NodeId(4)]);
    // Nobody is accused before a majority is known.
    let few = voters(&[Some(-50_000), Some(0), None, None]);
    assert!(!few.outside(NodeId(1), settings));
    assert!(few.candidates(settings).is_empty());
}

#[test]
fn before_a_majority_is_known_the_clock_runs_on_from_the_last_stamp() {
    let mut clock = GroupClock::default();
    let applied = Timestamp(1_000);
    assert_eq!(clock.stamp(1, 70 * SECOND, applied, None), Timestamp(1_000));
    assert_eq!(clock.stamp(1, 71 * SECOND, applied, None), Timestamp(2_000));
    // Readings more often than the resolution lose no time.
    for step in 0..1_000 {
        clock.stamp(1, 71 * SECOND + Duration::from_micros(step * 500), applied, None);
    }
    assert_eq!(clock.stamp(1, 72 * SECOND, applied, None), Timestamp(3_000));
    // Another leader stamped in between, whatever the timer says.
    assert_eq!(clock.stamp(3, 90 * SECOND, Timestamp(3_500), None), Timestamp(3_500));
}

#[test]
fn with_a_majority_known_the_clock_is_the_median() {
    let mut clock = GroupClock::default();
    clock.stamp(1, SECOND, Timestamp(5), None);
    let median = Some(Offset(1_000_000));
    assert_eq!(clock.stamp(1, 2 * SECOND, Timestamp(5), median), Timestamp(1_002_000));
    assert_eq!(clock.stamp(1, 3 * SECOND, Timestamp(5), median), Timestamp(1_003_000));
    // It is lost again, and found behind: the clock goes on, then stands still.
    assert_eq!(clock.stamp(1, 4 * SECOND, Timestamp(5), None), Timestamp(1_004_000));
    let behind = Some(Offset(998_000));
    assert_eq!(clock.stamp(1, 5 * SECOND, Timestamp(5), behind), Timestamp(1_004_000));
    assert_eq!(clock.stamp(1, 6 * SECOND, Timestamp(5), behind), Timestamp(1_004_000));
    assert_eq!(clock.stamp(1, 7 * SECOND, Timestamp(5), behind), Timestamp(1_005_000));
}

proptest! {
    /// Whatever clocks do: stamps never go back, never lie below what was applied, and with a majority known they are at
    /// the median or stand still.
    #[test]
    fn stamps_are_monotone_and_held_within_the_median(
        steps in prop::collection::vec(
            (0u64..3_000, 0u64..4_000_000, prop::option::of(-1_000_000i64..4_000_000), any::<bool>()),
            1..60,
        ),
    ) {
        let mut clock = GroupClock::default();
        let (mut now, mut term, mut last, mut applied) = (Duration::ZERO, 1, Timestamp(0), Timestamp(0));
        for (ran, stamped, median, other_leader) in steps {
            now += millis(ran);
            if other_leader {
                term += 2;
                applied = applied.max(Timestamp(stamped));
                last = last.max(applied);
            }
            // A new leader has applied what is committed before it stamps for the first time in earnest.
            applied = if other_leader { last } else { applied };
            let stamp = clock.stamp(term, now, applied, median.map(Offset));
            prop_assert!(stamp >= last && stamp >= applied);
            if let Some(median) = median {
                prop_assert_eq!(stamp, last.max(applied).max(Offset(median).at(now)));
            } else if !other_leader {
                prop_assert!(stamp <= last.max(applied).plus(millis(ran + 1)));
            }
            last = stamp;
        }
    }

    /// Fewer than half of the voters lie as they like: the median stays among the honest ones' clocks.
    #[test]
    fn a_minority_of_wrong_clocks_moves_nothing(
        honest in prop::collection::vec(-1_000i64..1_000, 3..6),
        wrong in prop::collection::vec(any::<i64>(), 0..3),
    ) {
        let wrong = &wrong[..wrong.len().min(honest.len() - 1)];
        let all: Vec<_> = honest.iter().chain(wrong).map(|offset| Some(*offset)).collect();
        let median = voters(&all).median().unwrap();
        let (least, most) = (honest.iter().min().unwrap(), honest.iter().max().unwrap());
        prop_assert!(Offset(*least) <= median && median <= Offset(*most));
    }
}
