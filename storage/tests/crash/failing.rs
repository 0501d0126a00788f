//! Calls that fail: nothing is acknowledged after a failed write or flush, reads go on, and the drive that is opened
//! again holds all that was acknowledged before.

use super::{
    Counts, Failure, Limits, Run,
    content::{Contents, Dice},
    faulty_run::{Outcome, run},
    model::{Model, last_mark},
    sweep::{Plan, Rates, Sweep},
};
use ashlar_runtime::disk::sim::{Fault, FaultKind, FaultOn, Operation};
use ashlar_storage::DriveState;

/// Events around and after the failure at which the power is cut, beside the end of the run.
const CRASHES: usize = 24;

/// Calls, and whether their failure ends all acknowledgements.
const CALLS: [(Operation, bool); 8] = [
    (Operation::Write, true),
    (Operation::SyncFile, true),
    (Operation::SyncDir, true),
    (Operation::Open, false),
    (Operation::Truncate, false),
    (Operation::Rename, false),
    (Operation::Unlink, false),
    (Operation::Punch, false),
];

/// Each call of each kind fails once, in a run of its own.
pub(crate) fn failing_calls(limits: &Limits) -> Result<Counts, Failure> {
    let contents = Contents::default();
    let mut counts = Counts::default();
    for (operation, is_final) in CALLS {
        for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::SyncLosesPages] {
            if kind == FaultKind::SyncLosesPages
                && !matches!(operation, Operation::SyncFile | Operation::SyncDir)
            {
                continue;
            }
            let is_final = is_final && kind != FaultKind::Enospc;
            for nth in 0.. {
                let on = FaultOn { operation, path_contains: String::new(), nth };
                let fault = Fault { on, kind: kind.clone() };
                if counts.points >= limits.points_max || !fail(&fault, is_final, &contents, &mut counts)? {
                    break;
                }
            }
        }
    }
    Ok(counts)
}

/// `false` if there are no more such calls.
fn fail(fault: &Fault, is_final: bool, contents: &Contents, counts: &mut Counts) -> Result<bool, Failure> {
    let place = Run::part("a_failed_call", format!("{fault:?}"));
    let outcome = run(fault, contents).map_err(|what| place.failure(what))?;
    if !outcome.fired {
        return Ok(false);
    }
    judge(&outcome, is_final).map_err(|what| place.failure(what))?;
    let mut sweep = Sweep {
        run: &place,
        contents,
        plan: Plan::Sampled { random: 2 },
        rates: Rates { again: 64, kill: 0 },
        points_max: u64::MAX,
        dice: Dice::new(fault.on.nth),
        counts: Counts::default(),
    };
    let history = outcome.disk.history();
    let (mark, end) = (last_mark(&history), history.events.len());
    for ends in [mark..mark + CRASHES, end.saturating_sub(1)..end + 1] {
        sweep.walk(&history, ends, Model::default(), &mut |_, _| Ok(()))?;
    }
    counts.add(sweep.counts);
    Ok(true)
}

fn judge(outcome: &Outcome, is_final: bool) -> Result<(), String> {
    if outcome.acked_after_failure > 0 {
        return Err(format!("{} shards acknowledged by a failed drive", outcome.acked_after_failure));
    }
    if is_final && outcome.state == DriveState::Ok {
        return Err("a write or flush failed and the drive goes on".to_owned());
    }
    if !outcome.unreadable.is_empty() {
        return Err(format!("shards {:?} cannot be read though only writing failed", outcome.unreadable));
    }
    Ok(())
}
