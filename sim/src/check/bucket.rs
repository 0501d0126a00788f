//! What a bucket's name means: made, found, deleted, and made again as another bucket.

use super::{
    history::{Call, History, Operation, Place, Reply, Violation},
    linearizability::{Judged, span},
    search::{Model, Verdict, search},
};
use std::{collections::BTreeMap, fmt::Write as _};

const BUDGET: usize = 1_000_000;

/// One name.
struct Name;

/// The bucket of that name, by its number; a number that nobody was told of yet is `None`.
type State = Option<Option<u64>>;

#[derive(Clone, Copy, Debug)]
enum NameCall {
    Create {
        told: Option<u64>,
    },
    Delete,
    Found {
        number: u64,
    },
    NotFound,
    /// It was asked to go and holds something.
    NotEmpty,
    Impossible,
}

impl Model for Name {
    type State = State;
    type Call = NameCall;

    fn initial(&self) -> State {
        None
    }

    fn step(&self, state: &State, call: &NameCall) -> Vec<State> {
        let same = |told: u64| match state {
            Some(Some(number)) if *number == told => vec![*state],
            Some(None) => vec![Some(Some(told))],
            Some(Some(_)) | None => vec![],
        };
        match (call, state) {
            (NameCall::Create { told }, None) => vec![Some(*told)],
            (NameCall::Create { told: Some(told) }, Some(_)) | (NameCall::Found { number: told }, _) => {
                same(*told)
            }
            // One without an answer that finds the bucket changes nothing.
            (NameCall::Create { told: None }, Some(_)) => vec![],
            (NameCall::Delete, Some(_)) => vec![None],
            (NameCall::NotFound, None) => vec![None],
            (NameCall::NotEmpty, Some(_)) => vec![*state],
            (NameCall::Delete, None)
            | (NameCall::NotFound, Some(_))
            | (NameCall::NotEmpty, None)
            | (NameCall::Impossible, _) => {
                vec![]
            }
        }
    }
}

/// `None`: it tells nothing.
fn translate(call: &Call) -> Option<NameCall> {
    Some(match (&call.operation, call.reply()) {
        // Somebody else is at it, and may finish what this one began.
        (Operation::CreateBucket { .. }, None | Some(Reply::BucketBusy)) => NameCall::Create { told: None },
        (Operation::CreateBucket { .. }, Some(Reply::Bucket { number })) => {
            NameCall::Create { told: Some(*number) }
        }
        (Operation::DeleteBucket { .. }, None | Some(Reply::BucketBusy | Reply::BucketDeleted)) => {
            NameCall::Delete
        }
        (Operation::DeleteBucket { .. }, Some(Reply::BucketNotEmpty)) => NameCall::NotEmpty,
        (Operation::HeadBucket { .. }, Some(Reply::Bucket { number })) => NameCall::Found { number: *number },
        (Operation::HeadBucket { .. }, None | Some(Reply::BucketBusy)) => return None,
        (Operation::DeleteBucket { .. } | Operation::HeadBucket { .. }, Some(Reply::NoSuchBucket)) => {
            NameCall::NotFound
        }
        _ => NameCall::Impossible,
    })
}

pub(super) fn judge(history: &History, judged: &mut Judged) {
    let mut names: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &history.calls {
        if call.outcome == super::history::Outcome::NotDone {
            continue;
        }
        if let Operation::CreateBucket { name }
        | Operation::DeleteBucket { name }
        | Operation::HeadBucket { name } = &call.operation
        {
            names.entry(name).or_default().push(call);
        }
    }
    for (name, calls) in names {
        judged.histories += 1;
        judged.by_search += 1;
        let translated: Vec<_> = calls
            .iter()
            .filter_map(|call| {
                let mut span = span(call);
                if call.reply() == Some(&Reply::BucketBusy) {
                    span.returned = None;
                }
                Some((span, translate(call)?))
            })
            .collect();
        match search(&Name, &translated, BUDGET) {
            Verdict::Linearizable => {}
            Verdict::NoOrder { .. } => {
                let mut what = format!("bucket {name:?}: no order explains it");
                for call in calls {
                    write!(what, "\n  {call}").expect("a string takes all text");
                }
                judged.violations.push(Violation::new("bucket", what));
            }
            Verdict::Undecided => judged.undecided.push(Place::new(name, "")),
        }
    }
}
