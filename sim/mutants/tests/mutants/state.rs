//! A group's state machine under random calls from one seed, seen only through what it answers.
//!
//! The calls are a history like any other and are judged as one. Beside it stand replicas that apply the same entries cut
//! otherwise, or go on from a snapshot of the first; requests that come again; a bucket's counters; blobs that are named
//! and garbage at once; a request that comes after its time; a row that changed by itself.

mod calls;
mod fence;
mod group;

use self::{calls::Client, group::Replica};
use crate::mutants::check::{self, counters, history::Violation};

/// What is counted for the reader: calls that were judged.
pub(super) type Judged = Result<u64, String>;

const CALLS: u64 = 250;

/// All that one seed has to say.
pub(super) fn run(seed: u64) -> Judged {
    let mut client = Client::new(seed);
    for _ in 0..CALLS {
        client.call();
        client.retry()?;
        garbage_is_not_named(&client)?;
    }
    let judged = check::judge(&client.history());
    if let Some(violation) = judged.violations.first() {
        return Err(violation.to_string());
    }
    if !judged.undecided.is_empty() {
        return Err(format!("undecided: {:?}", judged.undecided));
    }
    for bucket in calls::BUCKETS {
        let (kept, recounted) = client.counters(bucket);
        counters::agree(calls::name(bucket), kept, recounted).map_err(|violation| violation.to_string())?;
    }
    same_entries_same_rows(&mut client)?;
    client.group.changed_row_is_found()?;
    client.late_request_is_refused()?;
    fence::old_intervals_do_not_count()?;
    Ok(CALLS)
}

fn garbage_is_not_named(client: &Client) -> Result<(), String> {
    let garbage = client.group.garbage();
    match client.named_blobs().into_iter().find(|blob| garbage.contains(blob)) {
        Some(blob) => Err(format!("blob {blob} is named by a version or a part, and garbage")),
        None => Ok(()),
    }
}

/// Replicas that begin with nothing, and with a snapshot, and are given what the first was given.
fn same_entries_same_rows(client: &mut Client) -> Result<(), String> {
    let batched = Replica::replay(&client.group, |dice| 1 + dice.below(20), &mut client.dice)?;
    let installed = Replica::from_snapshot(&client.group)?;
    let dumps = [
        ("one by one".to_owned(), client.group.rows()),
        ("in batches".to_owned(), batched.rows()),
        ("from a snapshot".to_owned(), installed.rows()),
    ];
    check::replicas::identical(1, &dumps).map_err(|violation: Violation| violation.to_string())
}
