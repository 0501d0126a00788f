//! Linearizability by search, after Wing, Gong and Lowe.
//!
//! J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects", JPDC 17, 1993; G. Lowe, "Testing for
//! Linearizability", CCPE 29(4), 2017: take a call that nothing unexplained precedes, let the model do it, go on; where the
//! model objects, go back. A set of calls that led to a state is looked at once. It takes any model, and exponential time in
//! the number of calls that overlap, so histories are short: one key each.

use super::history::Moment;
use std::{
    collections::{BTreeSet, HashSet},
    fmt::Debug,
    hash::{BuildHasherDefault, DefaultHasher, Hash},
};

/// What an object does, one call after the other.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Call: Debug;

    fn initial(&self) -> Self::State;

    /// The states that the call can leave behind when it is answered as it was; none: it cannot be answered so. A call
    /// whose outcome is not known gives only states in which it took effect.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Vec<Self::State>;
}

/// When a call was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub invoked: Moment,
    /// `None`: it takes effect at any time later, or never.
    pub returned: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// The indices of the calls that the longest explanation leaves: the first of them are what nothing explains.
    NoOrder {
        unexplained: Vec<usize>,
    },
    /// The search was given up.
    Undecided,
}

/// A bit for each call.
pub const CALLS_MAX: usize = 128;

/// Searches at most `budget` steps.
pub fn search<M: Model>(model: &M, calls: &[(Span, M::Call)], budget: usize) -> Verdict {
    if calls.len() > CALLS_MAX {
        return Verdict::Undecided;
    }
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|index| calls[*index].0.invoked);
    let mut search = Search {
        model,
        calls: &order.iter().map(|index| &calls[*index]).collect::<Vec<_>>(),
        seen: HashSet::default(),
        left: budget,
        best: BTreeSet::new(),
        best_len: 0,
    };
    search.best = (0..calls.len()).collect();
    match search.explain(0, &model.initial()) {
        Some(true) => Verdict::Linearizable,
        Some(false) => {
            let unexplained = search.best.iter().map(|place| order[*place]).collect();
            Verdict::NoOrder { unexplained }
        }
        None => Verdict::Undecided,
    }
}

/// No two runs look at different things.
type Seen<S> = HashSet<(u128, S), BuildHasherDefault<DefaultHasher>>;

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [&'a (Span, M::Call)],
    seen: Seen<M::State>,
    left: usize,
    /// Places that the longest explanation did not reach.
    best: BTreeSet<usize>,
    best_len: u32,
}

impl<M: Model> Search<'_, M> {
    /// Whether an order of the rest explains it; `None` when the budget is used up.
    fn explain(&mut self, done: u128, state: &M::State) -> Option<bool> {
        let open = |place: &usize| done & (1 << place) == 0;
        // What has returned before the invocation of another comes first.
        let deadline =
            (0..self.calls.len()).filter(open).filter_map(|place| self.calls[place].0.returned).min();
        let Some(deadline) = deadline else { return Some(true) };
        if done.count_ones() > self.best_len {
            self.best_len = done.count_ones();
            self.best = (0..self.calls.len()).filter(open).collect();
        }
        for place in (0..self.calls.len()).filter(open) {
            let (span, call) = self.calls[place];
            if span.invoked > deadline {
                break;
            }
            for next in self.model.step(state, call) {
                self.left = self.left.checked_sub(1)?;
                let reached = (done | 1 << place, next);
                if self.seen.contains(&reached) {
                    continue;
                }
                if self.explain(reached.0, &reached.1)? {
                    return Some(true);
                }
                self.seen.insert(reached);
            }
        }
        Some(false)
    }
}
