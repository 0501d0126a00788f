//! Both engines judge the same random histories, and both have to find what is planted.

use super::{
    history::Moment,
    register::{self, Access, RegisterCall},
    search::{Model, Span, Verdict, search},
};

/// The register again, for the search.
struct Register;

impl Model for Register {
    type State = Option<u64>;
    type Call = Access;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, call: &Access) -> Vec<Self::State> {
        match *call {
            Access::Write(value) => vec![Some(value)],
            Access::Read(value) if value == *state => vec![value],
            Access::Read(_) => vec![],
        }
    }
}

/// SplitMix64: histories are made from a number, whatever crates come and go.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// How a history is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    /// A register that each call meets at one moment between invocation and return, or never if it has no answer.
    Honest,
    /// Whatever value was written at any time, or not yet, for a read.
    Anyhow,
    /// Honest but for one read that is answered with the value before.
    OneStaleRead,
}

/// Calls of a few clients, each with one after the other.
fn history(seed: u64, made: Made) -> Vec<RegisterCall> {
    let mut dice = Dice(seed);
    let count = 3 + dice.below(10);
    let mut calls: Vec<(RegisterCall, u64)> = Vec::new();
    let mut free = [1u64; 3];
    for number in 0..count {
        let client = usize::try_from(dice.below(3)).unwrap();
        let invoked = free[client] + 1 + dice.below(6);
        let returned = invoked + 1 + dice.below(8);
        let effect = invoked * 100 + 50 + dice.below((returned - invoked) * 100 - 60);
        free[client] = returned;
        let is_write = dice.below(5) < 2;
        let lost = is_write && dice.below(6) == 0;
        // Every moment is one event's: the number tells apart what falls together.
        let moment = |at: u64| Moment(at * 100 + number);
        let access = if is_write { Access::Write(number + 1) } else { Access::Read(None) };
        let call =
            RegisterCall { access, invoked: moment(invoked), returned: (!lost).then(|| moment(returned)) };
        let late = if lost { dice.below(3) * 700 } else { 0 };
        calls.push((call, effect + late));
    }
    calls.sort_by_key(|(_, effect)| *effect);
    let stale = usize::try_from(dice.below(count)).unwrap();
    let (mut value, mut before) = (None, None);
    for (place, (call, _)) in calls.iter_mut().enumerate() {
        match &mut call.access {
            // Some that are lost never happen.
            Access::Write(_) if call.returned.is_none() && dice.below(2) == 0 => {}
            Access::Write(written) => {
                before = value;
                value = Some(*written);
            }
            Access::Read(read) => {
                *read = match made {
                    Made::Honest => value,
                    Made::OneStaleRead if place == stale => before,
                    Made::OneStaleRead => value,
                    Made::Anyhow => Some(dice.below(count + 1)).filter(|number| *number > 0),
                }
            }
        }
    }
    calls.into_iter().map(|(call, _)| call).collect()
}

fn searched(calls: &[RegisterCall]) -> Verdict {
    let calls: Vec<_> = calls
        .iter()
        .map(|call| (Span { invoked: call.invoked, returned: call.returned }, call.access))
        .collect();
    search(&Register, &calls, 1_000_000)
}

fn both_agree(seed: u64, made: Made) -> bool {
    let calls = history(seed, made);
    let zones = register::linearizable(&calls);
    match searched(&calls) {
        Verdict::Linearizable => assert_eq!(zones, Ok(()), "seed {seed}: {calls:?}"),
        Verdict::NoOrder { .. } => assert!(zones.is_err(), "seed {seed}: {calls:?}"),
        Verdict::Undecided => panic!("seed {seed}: a short history is always decided"),
    }
    zones.is_ok()
}

#[test]
fn the_engines_agree_on_three_hundred_thousand_histories() {
    let count = |made| (0..100_000).filter(|seed| both_agree(*seed, made)).count();
    assert_eq!(count(Made::Honest), 100_000, "a register is linearizable");
    let (stale, anyhow) = (count(Made::OneStaleRead), count(Made::Anyhow));
    // Both kinds of answer are common, or agreeing would mean little.
    assert!((10_000..90_000).contains(&stale), "{stale}");
    assert!((1_000..90_000).contains(&anyhow), "{anyhow}");
}

#[test]
fn a_search_says_what_it_cannot_explain_and_when_it_gave_up() {
    let call = |access, invoked, returned| RegisterCall {
        access,
        invoked: Moment(invoked),
        returned: Some(Moment(returned)),
    };
    let calls =
        [call(Access::Write(1), 1, 2), call(Access::Read(Some(1)), 3, 4), call(Access::Read(None), 5, 6)];
    assert_eq!(searched(&calls), Verdict::NoOrder { unexplained: vec![2] });
    let spans: Vec<_> = calls
        .iter()
        .map(|call| (Span { invoked: call.invoked, returned: call.returned }, call.access))
        .collect();
    assert_eq!(search(&Register, &spans, 1), Verdict::Undecided);
    let many: Vec<_> = (0..200).map(|_| spans[0]).collect();
    assert_eq!(search(&Register, &many, 1_000_000), Verdict::Undecided);
}

/// A long history of one register, as a run of hours makes it.
#[test]
fn zones_judge_two_hundred_thousand_calls() {
    let mut dice = Dice(7);
    let mut calls = Vec::new();
    let mut now = 1;
    let mut value = None;
    for number in 1..=200_000u64 {
        let access = if dice.below(3) == 0 {
            value = Some(number);
            Access::Write(number)
        } else {
            Access::Read(value)
        };
        calls.push(RegisterCall { access, invoked: Moment(now), returned: Some(Moment(now + 1)) });
        now += 2;
    }
    assert_eq!(register::linearizable(&calls), Ok(()));
    let last_write = calls.iter().rposition(|call| matches!(call.access, Access::Write(_))).unwrap();
    calls.remove(last_write);
    calls.push(RegisterCall {
        access: Access::Read(None),
        invoked: Moment(now),
        returned: Some(Moment(now + 1)),
    });
    assert!(register::linearizable(&calls).is_err());
}
